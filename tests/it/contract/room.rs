//! Room, and what leaves for it.

use bytes::Bytes;
use castellan::digest::Digest;
use castellan::store::{BlobStore, Key, StoreError};

use super::values::{assert_absent, assert_holds, is_missing, key_of, noise, put, read};
use super::{Open, Opened, Wanted};
use crate::support::Blob;

const LIMIT: u64 = 300_000;

fn is_too_large<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::TooLarge { .. })), "{outcome:?}");
}

/// A key whose size is announced and whose bytes nobody has.
fn announced(size_bytes: u64) -> Key {
    Key::blob(Digest { size_bytes, ..Blob::random(99, 10).digest })
}

/// Small values that any eviction would take.
async fn fill(store: &dyn BlobStore) -> Vec<Blob> {
    let blobs: Vec<_> = (0..10).map(|seed| Blob::random(seed, 20_000)).collect();
    for blob in &blobs {
        put(store, blob).await;
    }
    blobs
}

async fn assert_all_there(opened: &Opened, blobs: &[Blob]) {
    for blob in blobs {
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
    }
    opened.settle().await;
}

pub(super) async fn what_is_over_the_limit_evicts_nothing(open: Open) {
    let opened = open(Wanted { max_blob_bytes: Some(LIMIT), ..Wanted::SMALL }).await;
    let limit = opened.store.max_blob_bytes();
    assert!(limit <= LIMIT, "{limit}");
    let blobs = fill(&*opened.store).await;
    is_too_large(&opened.store.begin_put(&announced(limit + 1), limit + 1).await);
    let large = Blob::random(50, usize::try_from(limit).unwrap() + 1);
    is_too_large(&opened.store.put(&key_of(&large), large.data.clone()).await);
    assert_absent(&*opened.store, &key_of(&large)).await;
    let result = super::values::result_key(super::values::main_namespace(), "a");
    is_too_large(&opened.store.begin_put(&result, limit + 1).await);
    is_too_large(&opened.store.put(&result, large.data).await);
    assert_absent(&*opened.store, &result).await;
    // And one that is just as large as it may be is stored.
    let largest = Blob::random(51, usize::try_from(limit).unwrap());
    put(&*opened.store, &largest).await;
    assert_holds(&*opened.store, &key_of(&largest), &largest.data).await;
    assert_all_there(&opened, &blobs).await;
}

pub(super) async fn what_is_over_the_cap_evicts_nothing(open: Open) {
    let opened = open(Wanted::SMALL).await;
    let limit = opened.store.max_blob_bytes();
    let blobs = fill(&*opened.store).await;
    if limit < u64::MAX >> 8 {
        is_too_large(&opened.store.begin_put(&announced(limit + 1), limit + 1).await);
        assert!(limit <= 2 * Wanted::SMALL.cap_bytes, "it cannot hold {limit} bytes");
        let len = usize::try_from(limit).unwrap() + 1;
        let large = Blob::new(Bytes::from(noise(50, len)));
        is_too_large(&opened.store.put(&key_of(&large), large.data).await);
    }
    assert_all_there(&opened, &blobs).await;
}

pub(super) async fn fresh_values_push_out_old_ones(open: Open) {
    let opened = open(Wanted::SMALL).await;
    if !opened.evicts {
        return;
    }
    let blobs: Vec<_> = (0..200).map(|seed| Blob::random(seed, 64 << 10)).collect();
    for blob in &blobs {
        // Never refused: there is always something to evict.
        put(&*opened.store, blob).await;
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
        opened.check_caps();
    }
    let mut present = Vec::new();
    for blob in &blobs {
        present.push(read(&*opened.store, &key_of(blob)).await.is_some());
    }
    assert!(!present[0] && present[199], "{present:?}");
    let kept = present.iter().filter(|it| **it).count();
    assert!(kept >= 16, "a quarter of the cap at least holds values, not {kept}");
    // A large one takes the place of many.
    let large = Blob::random(1_000, 2 << 20);
    put(&*opened.store, &large).await;
    assert_holds(&*opened.store, &key_of(&large), &large.data).await;
    assert!(is_missing(&*opened.store, &key_of(&blobs[1])).await);
    opened.settle().await;
}
