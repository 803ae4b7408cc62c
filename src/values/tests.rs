//! Names, and that values have the semantics of a map.

use std::sync::Arc;

use bytes::Bytes;

use super::{InvalidName, MAX_NAME_BYTES, ValueName, ValueNamespace, Values};
use crate::digest::{Digest, DigestFunction};
use crate::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use crate::store::{BeginPut, ByteRange, StoreError};

const NAMESPACES: [ValueNamespace; 4] = [
    ValueNamespace::Ccache,
    ValueNamespace::Gradle,
    ValueNamespace::Webdav,
    ValueNamespace::RawResults,
];

fn name(text: &str) -> ValueName {
    ValueName::parse(text).unwrap()
}

#[test]
fn a_name_is_what_its_path_decodes_to() {
    let long = "x".repeat(MAX_NAME_BYTES);
    for (path, decoded) in [
        ("a", "a"),
        ("ac/0123", "ac/0123"),
        ("a%2Fb%41", "a/bA"),
        ("%2e%2e%2e", "..."),
        (".sccache_check", ".sccache_check"),
        ("a+b?", "a+b?"),
        ("%C3%A4", "\u{e4}"),
        (&long, &long),
    ] {
        let hash = Digest::of(DigestFunction::Sha256, decoded.as_bytes()).hash;
        assert_eq!(name(path), ValueName::of_hash(hash), "{path}");
    }
}

#[test]
fn names_that_could_be_read_in_two_ways_are_refused() {
    for (path, problem) in [
        ("", InvalidName::Segment),
        ("/a", InvalidName::Segment),
        ("a/", InvalidName::Segment),
        ("a//b", InvalidName::Segment),
        ("a/./b", InvalidName::Segment),
        ("../ac/x", InvalidName::Segment),
        ("a/..", InvalidName::Segment),
        ("%2e%2E/x", InvalidName::Segment),
        ("a%2f..%2fb", InvalidName::Segment),
        ("a%2f", InvalidName::Segment),
        ("a%00", InvalidName::Control),
        ("a%0a", InvalidName::Control),
        ("a%7f", InvalidName::Control),
        ("%", InvalidName::Encoding),
        ("a%4", InvalidName::Encoding),
        ("a%zz", InvalidName::Encoding),
        (&"x".repeat(MAX_NAME_BYTES + 1), InvalidName::TooLong),
    ] {
        assert_eq!(ValueName::parse(path), Err(problem), "{path}");
    }
}

async fn put(values: &Values, namespace: ValueNamespace, name: &ValueName, data: &'static [u8]) {
    let begun = values.begin_put(namespace, name, data.len() as u64).await.unwrap();
    let BeginPut::Upload(mut upload) = begun else { panic!("{begun:?}") };
    upload.write(Bytes::from_static(data)).await.unwrap();
    upload.commit().await.unwrap();
}

async fn get(values: &Values, namespace: ValueNamespace, name: &ValueName) -> Option<Bytes> {
    let reader = values.get(namespace, name, ByteRange::ALL).await.unwrap()?;
    Some(reader.read_all().await.unwrap())
}

#[tokio::test]
async fn namespaces_share_nothing_and_the_later_value_counts() {
    let directory = tempfile::tempdir().unwrap();
    let options = FilesystemOptions::new(directory.path(), Cap::Bytes(8 << 20));
    let store = FilesystemStore::open(options).await.unwrap();
    let values = Values::new(Arc::<FilesystemStore>::clone(&store), 100);
    let key = name("key");
    for (namespace, data) in NAMESPACES.into_iter().zip([&b"one"[..], b"two", b""]) {
        assert_eq!(get(&values, namespace, &key).await, None);
        put(&values, namespace, &key, b"replaced").await;
        put(&values, namespace, &key, data).await;
    }
    assert_eq!(get(&values, ValueNamespace::Ccache, &key).await.unwrap(), "one");
    assert_eq!(get(&values, ValueNamespace::Gradle, &key).await.unwrap(), "two");
    assert_eq!(get(&values, ValueNamespace::Webdav, &key).await.unwrap(), "");
    assert_eq!(values.size_bytes(ValueNamespace::Ccache, &key).await.unwrap(), Some(3));
    assert!(values.remove(ValueNamespace::Ccache, &key).await.unwrap());
    assert!(!values.remove(ValueNamespace::Ccache, &key).await.unwrap());
    assert_eq!(get(&values, ValueNamespace::Ccache, &key).await, None);
    assert_eq!(get(&values, ValueNamespace::Gradle, &key).await.unwrap(), "two");
    let refused = values.begin_put(ValueNamespace::Gradle, &key, 101).await.unwrap_err();
    let StoreError::TooLarge { size_bytes: 101, limit_bytes: 100 } = refused else {
        panic!("{refused:?}")
    };
}
