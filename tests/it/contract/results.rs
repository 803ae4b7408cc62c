//! Values that do not hash to their names.

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan::store::{Key, Namespace, StoreError};

use super::values::{
    assert_absent, assert_holds, begin, key_of, main_namespace, noise, other_namespace, put,
    result_key, stream, write_all,
};
use super::{Open, Wanted};
use crate::support::Blob;

pub(super) async fn later_one_wins(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let key = result_key(main_namespace(), "a");
    for (seed, len) in [(1, 300), (2, 100), (3, 100), (4, 70_000), (5, 1)] {
        let data = Bytes::from(noise(seed, len));
        opened.store.put(&key, data.clone()).await.unwrap();
        assert_holds(&*opened.store, &key, &data).await;
        let data = Bytes::from(noise(seed + 100, len));
        // Never there already.
        let mut upload = begin(&*opened.store, &key, len).await;
        write_all(&mut upload, &data).await.unwrap();
        upload.commit().await.unwrap();
        assert_holds(&*opened.store, &key, &data).await;
    }
    // What counts is which becomes visible later, not which begins later.
    let mut one = begin(&*opened.store, &key, 3).await;
    let mut other = begin(&*opened.store, &key, 5).await;
    other.write("other".into()).await.unwrap();
    other.commit().await.unwrap();
    one.write("one".into()).await.unwrap();
    one.commit().await.unwrap();
    assert_holds(&*opened.store, &key, b"one").await;
    opened.settle().await;
}

pub(super) async fn namespaces_are_apart(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let keys = [main_namespace(), other_namespace()].map(|it| result_key(it, "a"));
    opened.store.put(&keys[0], "main".into()).await.unwrap();
    assert_absent(&*opened.store, &keys[1]).await;
    opened.store.put(&keys[1], "other".into()).await.unwrap();
    assert_holds(&*opened.store, &keys[0], b"main").await;
    assert_holds(&*opened.store, &keys[1], b"other").await;
    // Nor is the blob that hashes so a result, or the result a blob.
    let blob = Blob::new(&b"a"[..]);
    assert_absent(&*opened.store, &key_of(&blob)).await;
    put(&*opened.store, &blob).await;
    assert_holds(&*opened.store, &keys[0], b"main").await;
    assert!(opened.store.remove(&keys[0]).await.unwrap());
    assert_absent(&*opened.store, &keys[0]).await;
    assert_holds(&*opened.store, &keys[1], b"other").await;
    assert_holds(&*opened.store, &key_of(&blob), b"a").await;
    // The other function has hashes of its own.
    let digest = Digest { function: DigestFunction::Blake3, ..keys[1].digest };
    assert_absent(&*opened.store, &Key::action_result(other_namespace(), digest)).await;
    opened.settle().await;
}

fn hinted(key: &Key, size_bytes: u64) -> Key {
    Key::action_result(key.namespace, Digest { size_bytes, ..key.digest })
}

pub(super) async fn hints_about_a_size_tell_nothing_apart(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let key = result_key(main_namespace(), "a");
    let hinted = [0, 1, 99, 1 << 40].map(|size_bytes| hinted(&key, size_bytes));
    for (number, writer) in hinted.iter().enumerate() {
        let data = Bytes::from(format!("value {number}"));
        opened.store.put(writer, data.clone()).await.unwrap();
        let missing = opened.store.find_missing(&hinted).await.unwrap();
        assert_eq!(missing, [false; 4]);
        for reader in &hinted {
            assert_holds(&*opened.store, reader, &data).await;
        }
        let streamed = Bytes::from(format!("{number}, streamed"));
        stream(&*opened.store, writer, &streamed).await.unwrap();
        for reader in &hinted {
            assert_holds(&*opened.store, reader, &streamed).await;
        }
    }
    assert!(opened.store.remove(&hinted[3]).await.unwrap());
    for reader in &hinted {
        assert_absent(&*opened.store, reader).await;
    }
    opened.settle().await;
}

pub(super) async fn an_empty_value_is_kept(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for (name, first) in [("a", ""), ("b", "full")] {
        let key = result_key(main_namespace(), name);
        opened.store.put(&key, first.into()).await.unwrap();
        assert_holds(&*opened.store, &key, first.as_bytes()).await;
        opened.store.put(&key, Bytes::new()).await.unwrap();
        assert_holds(&*opened.store, &key, b"").await;
        begin(&*opened.store, &key, 0).await.commit().await.unwrap();
        assert_holds(&*opened.store, &key, b"").await;
    }
    opened.settle().await;
}

pub(super) async fn an_announced_size_is_kept_to(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let key = result_key(main_namespace(), "a");
    let mut upload = begin(&*opened.store, &key, 10).await;
    upload.write("nine byte".into()).await.unwrap();
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");
    let mut upload = begin(&*opened.store, &key, 10).await;
    let outcome = upload.write("eleven byte".into()).await;
    assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");
    drop(upload);
    assert_absent(&*opened.store, &key).await;
    opened.settle().await;
}

/// What a store in front keeps beside the blobs: neither verified nor mixed up with them, and
/// shorter than announced.
pub(super) async fn values_that_stand_for_blobs_are_apart(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blob = Blob::random(1, 9_000);
    let keys =
        [Namespace::COMPRESSED, Namespace::CHUNK_LISTS].map(|it| Key::derived(it, blob.digest));
    // Only the lowest stores are ever asked for them.
    for store in &opened.lowest {
        store.put(&keys[0], "compressed".into()).await.unwrap();
        assert_absent(&**store, &keys[1]).await;
        let mut upload = begin(&**store, &keys[1], 1_000).await;
        upload.write("chunks".into()).await.unwrap();
        upload.commit().await.unwrap();
        assert_holds(&**store, &keys[0], b"compressed").await;
        assert_holds(&**store, &keys[1], b"chunks").await;
        assert_absent(&**store, &key_of(&blob)).await;
        put(&**store, &blob).await;
        assert_holds(&**store, &keys[1], b"chunks").await;
        assert!(store.remove(&keys[0]).await.unwrap());
        assert_absent(&**store, &keys[0]).await;
        assert_holds(&**store, &key_of(&blob), &blob.data).await;
    }
    opened.settle().await;
}
