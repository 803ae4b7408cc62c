//! What comes in.

use bytes::Bytes;
use castellan::digest::DigestFunction;
use castellan::store::{BeginPut, StoreError};

use super::values::{
    assert_absent, assert_holds, begin, key_of, noise, put, read, stream, text, write_all,
};
use super::{Open, Wanted};
use crate::support::Blob;

const SIZES: [usize; 7] =
    [1, 4 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20, (5 << 20) + 3];

const FUNCTIONS: [DigestFunction; 2] = [DigestFunction::Sha256, DigestFunction::Blake3];

/// Of every size, of both functions, compressible and not.
fn all_kinds(seed: u64) -> Vec<Blob> {
    let mut blobs = Vec::new();
    for function in FUNCTIONS {
        for size in SIZES {
            let seed = seed + size as u64;
            blobs.push(Blob::with(function, noise(seed, size)));
            // Of one byte there may be no second one.
            blobs.extend((size > 1).then(|| Blob::with(function, text(seed, size))));
        }
    }
    blobs
}

pub(super) async fn bytes_come_back_equal(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blobs = all_kinds(1);
    for blob in &blobs {
        put(&*opened.store, blob).await;
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
    }
    // The others have not changed them.
    for blob in &blobs {
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
    }
    opened.settle().await;
}

pub(super) async fn streamed_bytes_come_back_equal(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for blob in &all_kinds(2) {
        stream(&*opened.store, &key_of(blob), &blob.data).await.unwrap();
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
    }
    opened.settle().await;
}

pub(super) async fn bytes_are_visible_only_after_the_commit(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(3, size);
        let key = key_of(&blob);
        let mut upload = begin(&*opened.store, &key, size).await;
        assert_eq!(upload.written_bytes(), 0);
        assert_absent(&*opened.store, &key).await;
        write_all(&mut upload, &blob.data).await.unwrap();
        assert!(!upload.is_overtaken());
        assert_absent(&*opened.store, &key).await;
        upload.commit().await.unwrap();
        assert_holds(&*opened.store, &key, &blob.data).await;
    }
    opened.settle().await;
}

pub(super) async fn wrong_bytes_are_refused(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let is_refused =
        |outcome| assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
    for size in SIZES {
        let blob = Blob::random(4, size);
        let key = key_of(&blob);
        let mut wrong = blob.data.to_vec();
        wrong[size / 2] ^= 1;
        let wrong = Bytes::from(wrong);
        is_refused(opened.store.put(&key, wrong.clone()).await);
        assert_absent(&*opened.store, &key).await;
        is_refused(stream(&*opened.store, &key, &wrong).await);
        assert_absent(&*opened.store, &key).await;
        // The right ones are welcome all the same.
        put(&*opened.store, &blob).await;
        assert_holds(&*opened.store, &key, &blob.data).await;
    }
    opened.settle().await;
}

#[track_caller]
fn assert_wrong_size(outcome: &Result<(), StoreError>) {
    assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");
}

pub(super) async fn too_few_bytes_are_refused(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(5, size);
        let key = key_of(&blob);
        let few = blob.data.slice(..size - 1);
        assert_wrong_size(&opened.store.put(&key, few.clone()).await);
        let mut upload = begin(&*opened.store, &key, size).await;
        write_all(&mut upload, &few).await.unwrap();
        assert_wrong_size(&upload.commit().await);
        assert_absent(&*opened.store, &key).await;
    }
    opened.settle().await;
}

pub(super) async fn too_many_bytes_are_refused(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(6, size);
        let key = key_of(&blob);
        let many = Bytes::from([&*blob.data, b"!"].concat());
        assert_wrong_size(&opened.store.put(&key, many.clone()).await);
        let mut upload = begin(&*opened.store, &key, size).await;
        // At once, not at the end.
        assert_wrong_size(&write_all(&mut upload, &many).await);
        assert!(!upload.is_resumable() || upload.written_bytes() <= size as u64);
        drop(upload);
        assert_absent(&*opened.store, &key).await;
    }
    opened.settle().await;
}

pub(super) async fn a_present_blob_is_verified_and_not_replaced(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(7, size);
        let key = key_of(&blob);
        put(&*opened.store, &blob).await;
        let mut wrong = blob.data.to_vec();
        wrong[size - 1] ^= 1;
        let outcome = opened.store.put(&key, wrong.into()).await;
        assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
        assert_holds(&*opened.store, &key, &blob.data).await;
        put(&*opened.store, &blob).await;
        assert_holds(&*opened.store, &key, &blob.data).await;
    }
    opened.settle().await;
}

pub(super) async fn a_present_blob_is_not_uploaded_again(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(8, size);
        put(&*opened.store, &blob).await;
        let begun = opened.store.begin_put(&key_of(&blob), size as u64).await.unwrap();
        assert!(matches!(begun, BeginPut::AlreadyPresent), "{begun:?}");
    }
    opened.settle().await;
}

pub(super) async fn a_dropped_upload_leaves_nothing(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(9, size);
        let key = key_of(&blob);
        drop(begin(&*opened.store, &key, size).await);
        let mut upload = begin(&*opened.store, &key, size).await;
        upload.write(blob.data.slice(..size / 2)).await.unwrap();
        drop(upload);
        let mut upload = begin(&*opened.store, &key, size).await;
        write_all(&mut upload, &blob.data).await.unwrap();
        drop(upload);
        opened.settle().await;
        assert_absent(&*opened.store, &key).await;
    }
}

pub(super) async fn two_uploads_of_one_blob_both_succeed(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for size in SIZES {
        let blob = Blob::random(10, size);
        let key = key_of(&blob);
        let mut one = begin(&*opened.store, &key, size).await;
        let mut other = begin(&*opened.store, &key, size).await;
        let half = size / 2;
        one.write(blob.data.slice(..half)).await.unwrap();
        other.write(blob.data.clone()).await.unwrap();
        other.commit().await.unwrap();
        one.write(blob.data.slice(half..)).await.unwrap();
        one.commit().await.unwrap();
        assert_same_as(&opened, &blob).await;
    }
    opened.settle().await;
}

async fn assert_same_as(opened: &super::Opened, blob: &Blob) {
    assert_eq!(read(&*opened.store, &key_of(blob)).await.as_ref(), Some(&blob.data));
}
