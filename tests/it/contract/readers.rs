//! Readers, and what becomes of their values meanwhile.

use castellan::store::BlobReader;

use super::values::{
    assert_absent, assert_same, drain, is_missing, key_of, open_part, put, result_key,
};
use super::{Open, Opened, Wanted};
use crate::support::Blob;

const LEN: usize = (700 << 10) + 1;
/// Behind these a store has bytes that it has not fetched yet.
const FIRST: usize = 1_000;

/// A reader that has begun.
async fn begun(opened: &Opened, blob: &Blob) -> BlobReader {
    let mut reader = open_part(&*opened.store, &key_of(blob), 0, None).await;
    let first = reader.next(FIRST).await.unwrap().unwrap();
    assert_same(&first, &blob.data[..first.len()]);
    reader
}

/// Reads on: exactly the bytes, or, where a store cannot keep them, an error, never an early end.
async fn finish(opened: &Opened, blob: &Blob, mut reader: BlobReader) {
    let at = LEN - usize::try_from(reader.remaining_bytes()).unwrap();
    if opened.readers_stay {
        assert_same(&drain(reader, 64 << 10).await, &blob.data[at..]);
        return;
    }
    let mut read = Vec::new();
    loop {
        match reader.next(64 << 10).await {
            Ok(Some(chunk)) => read.extend_from_slice(&chunk),
            Ok(None) => return assert_same(&read, &blob.data[at..]),
            Err(_) => return,
        }
    }
}

pub(super) async fn a_reader_outlives_a_removal(open: Open) {
    let opened = open(Wanted::SMALL).await;
    let blob = Blob::random(1, LEN);
    let key = key_of(&blob);
    put(&*opened.store, &blob).await;
    let reader = begun(&opened, &blob).await;
    assert!(opened.store.remove(&key).await.unwrap());
    assert_absent(&*opened.store, &key).await;
    opened.check_caps();
    // Its place is taken by another generation.
    put(&*opened.store, &blob).await;
    finish(&opened, &blob, reader).await;
    opened.settle().await;
}

pub(super) async fn a_reader_outlives_an_eviction(open: Open) {
    let opened = open(Wanted::SMALL).await;
    if !opened.evicts {
        return;
    }
    let blob = Blob::random(1, LEN);
    put(&*opened.store, &blob).await;
    let reader = begun(&opened, &blob).await;
    for seed in 2..200 {
        put(&*opened.store, &Blob::random(seed, 64 << 10)).await;
        opened.check_caps();
    }
    assert!(is_missing(&*opened.store, &key_of(&blob)).await, "nothing was evicted");
    finish(&opened, &blob, reader).await;
    opened.settle().await;
}

pub(super) async fn readers_of_one_value_are_apart(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blob = Blob::random(1, LEN);
    put(&*opened.store, &blob).await;
    let one = begun(&opened, &blob).await;
    let other = begun(&opened, &blob).await;
    drop(one);
    finish(&opened, &blob, other).await;
    // One that was opened before a later value came has either, whole.
    let key = result_key(super::values::main_namespace(), "a");
    opened.store.put(&key, "first".into()).await.unwrap();
    let reader = open_part(&*opened.store, &key, 0, None).await;
    opened.store.put(&key, "then another".into()).await.unwrap();
    let read = reader.read_all().await.unwrap();
    assert!(read == "first" || read == "then another", "{read:?}");
    // What was handed out may count until it is dropped.
    drop(read);
    opened.settle().await;
}
