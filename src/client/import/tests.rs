//! Addresses of caches over HTTP, and what ends an import.

use super::*;

#[test]
fn caches_over_http_are_named_by_host_and_prefix() {
    let read = |text: &str| HttpCache::parse(text, &[]).map(|it| format!("{it:?}"));
    assert_eq!(read("http://host").unwrap(), "http://host:80");
    assert_eq!(read("http://host:8080/").unwrap(), "http://host:8080");
    assert_eq!(read("http://[::1]:8080/a/b/").unwrap(), "http://[::1]:8080/a/b");
    for text in ["", "host", "ftp://host", "http://", "http:///a", "http://a b", "http://u@host"] {
        assert!(matches!(read(text), Err(InvalidHttpCache::Form(_))), "{text}");
    }
    let header = [("bad name".to_owned(), "x".to_owned())];
    assert!(matches!(HttpCache::parse("http://h", &header), Err(InvalidHttpCache::Header(_))));
}

#[test]
fn what_is_not_about_one_thing_ends_the_import() {
    let unavailable = ClientError::Store(StoreError::Unavailable { what: String::new() });
    let full = ClientError::Store(StoreError::NoSpace { size_bytes: 1, reason: "" });
    for error in [unavailable, full, ClientError::Store(StoreError::ShuttingDown)] {
        assert_eq!(Reason::of_blob(&error), None, "{error}");
        assert_eq!(Reason::of_result(&error), None, "{error}");
    }
    let digest = Digest::of(crate::digest::DigestFunction::Sha256, b"blob");
    let absent = ClientError::Absent(digest);
    assert_eq!(Reason::of_blob(&absent), Some(Reason::Absent));
    assert_eq!(Reason::of_result(&absent), Some(Reason::IncompleteResult));
}
