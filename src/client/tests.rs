//! What is said on the command line, read and refused, and what servers say.

use std::time::Duration;

use tonic::Status;

use super::pace::Bucket;
use super::worker::WorkerError;
use super::{InvalidServer, Reference, ReferenceKind, ServerAddress, lists};
use crate::digest::{Digest, DigestFunction};

#[test]
fn addresses_name_a_server_and_an_instance() {
    let read = |text, instance| {
        ServerAddress::parse(text, instance)
            .map(|it| (it.endpoint().to_owned(), it.instance_name().to_owned()))
    };
    let is = |endpoint: &str, instance: &str| Ok((endpoint.to_owned(), instance.to_owned()));
    assert_eq!(read("grpc://host:1", None), is("grpc://host:1", ""));
    assert_eq!(read("grpcs://host/a/b/", None), is("grpcs://host", "a/b"));
    assert_eq!(read("grpc://host:1/", Some("main")), is("grpc://host:1", "main"));
    assert_eq!(read("grpc://host:1/main", Some("main")), is("grpc://host:1", "main"));
    assert_eq!(read("unix:/a/socket", Some("main")), is("unix:/a/socket", "main"));
    assert_eq!(read("unix:///a/socket", None), is("unix:/a/socket", ""));
    for text in ["", "host:1", "http://host", "unix", "grpc:/host"] {
        assert!(matches!(read(text, None), Err(InvalidServer::Scheme(_))), "{text}");
    }
    for text in ["unix:", "unix://", "grpc://", "grpc:///main"] {
        assert!(matches!(read(text, None), Err(InvalidServer::Nowhere(_))), "{text}");
    }
    let two = read("grpc://host/a", Some("b"));
    assert!(matches!(two, Err(InvalidServer::Instance { .. })), "{two:?}");
}

#[test]
fn references_are_read_as_they_are_printed() {
    for function in DigestFunction::ALL {
        let digest = Digest::of(function, b"blob");
        let kinds = [ReferenceKind::Blob, ReferenceKind::Directory, ReferenceKind::Tree];
        for kind in kinds.into_iter().map(Some).chain([None]) {
            let reference = Reference { kind, digest };
            for default in DigestFunction::ALL {
                let text = reference.to_string();
                let is_said = default == function || function != DigestFunction::Sha256;
                let read = Reference::parse(&text, default);
                assert_eq!(read == Ok(reference), is_said, "{text} as {default}");
            }
        }
    }
    let digest = Digest::of(DigestFunction::Sha256, b"blob").to_string();
    for text in ["", "dir:", &digest.replace('/', "-"), &format!("file:{digest}"), "a/b", "ab/1"] {
        assert!(Reference::parse(text, DigestFunction::Sha256).is_err(), "{text}");
    }
}

#[test]
fn what_a_worker_is_told_says_what_happened() {
    let refused = |status| WorkerError::from(status).to_string();
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert!(refused(Status::from_error(Box::new(broken))).contains("went away"));
    assert!(refused(Status::unimplemented("")).contains("--worker-listen"));
    // An instance that has its blobs elsewhere says so.
    let other = refused(Status::unimplemented("no files here"));
    assert_eq!(other, "Unimplemented: no files here");
    assert_eq!(refused(Status::not_found("no lease")), "NotFound: no lease");
}

#[test]
fn bytes_go_no_faster_than_they_may() {
    let mut bucket = Bucket::new(1000);
    let ms = Duration::from_millis;
    // After a pause half a second's worth goes at once.
    let begin = ms(10_000);
    assert_eq!(bucket.take(begin, 500), begin);
    assert_eq!(bucket.take(begin, 250), begin);
    // What comes behind waits until it was paid for.
    assert_eq!(bucket.take(begin, 1000), begin + ms(250));
    assert_eq!(bucket.take(begin, 1), begin + ms(1250));
    // Who comes late enough waits for nothing, and saves up no more than before.
    let late = ms(60_000);
    assert_eq!(bucket.take(late, 500), late);
    assert_eq!(bucket.take(late, 500), late);
    assert_eq!(bucket.take(late, 1), late + ms(500));
    // However much it is, no wait is endless.
    let mut slow = Bucket::new(0);
    slow.take(begin, u64::MAX);
    assert_eq!(slow.take(begin, 1), begin + Duration::from_hours(1));
}

#[test]
fn lists_have_a_digest_a_line() {
    let sha256 = DigestFunction::Sha256;
    let [one, two] = ["one", "two"].map(|it| Digest::of(sha256, it.as_bytes()));
    let text = format!("# comment\n\n{one}\n  blob:{two}  # behind\r\n");
    assert_eq!(lists::parse(&text, sha256, false), Ok(vec![one, two]));
    let hash = one.hash_hex().as_str().to_owned();
    let unsized_one = Digest { size_bytes: 0, ..one };
    assert_eq!(lists::parse(&hash, sha256, true), Ok(vec![unsized_one]));
    for text in [hash.clone(), format!("{one}\nrubbish"), format!("{hash}-3")] {
        let problem = lists::parse(&text, sha256, false).unwrap_err();
        assert!(problem.contains("line "), "{problem}");
    }
}
