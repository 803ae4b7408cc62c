//! An upstream that says what is not so: never served, never stored, always counted.

use super::fake::{Fake, Fault};
use super::*;
use crate::store::BlobStore as _;

#[track_caller]
fn assert_corrupt<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    match outcome {
        Err(StoreError::Corrupt { key }) => assert!(key.contains("grpc://fake0:1"), "{key}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn i20_other_bytes_are_refused_however_they_come() {
    let fake = Fake::start();
    let (small, large) = (fake.store(noise(1, 1_000)), fake.store(noise(2, 500 << 10)));
    let store = store_over(&fake);
    let mut lies = 0;
    for fault in [Fault::WrongBytes, Fault::Short, Fault::Long] {
        fake.fail("BatchReadBlobs", fault.clone());
        assert_corrupt(read(&store, small).await);
        fake.fail("Read", fault);
        assert_corrupt(read(&store, large).await);
        lies += 2;
        assert_eq!(store.stats().corrupt, lies);
    }
    // And the truth is served.
    assert!(read(&store, small).await.unwrap().is_some());
    assert!(read(&store, large).await.unwrap().is_some());
}

#[tokio::test]
async fn i20_the_last_chunk_waits_for_the_hash_and_the_error_stays() {
    let fake = Fake::start();
    let data = noise(2, 500 << 10);
    let digest = fake.store(data.clone());
    let store = store_over(&fake);
    fake.fail("Read", Fault::WrongBytes);
    let mut reader = reader(&store, digest).await;
    let mut received = 0;
    let error = loop {
        match reader.next(64 << 10).await {
            Ok(chunk) => received += chunk.unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(received < data.len());
    assert_corrupt::<()>(Err(error));
    assert_corrupt(reader.next(64 << 10).await);
    assert_eq!(store.stats().corrupt, 1);
}

#[tokio::test]
async fn a_part_of_the_wrong_length_is_refused_and_one_of_wrong_bytes_with_verification() {
    let fake = Fake::start();
    let digest = fake.store(noise(2, 500 << 10));
    let store = store_over(&fake);
    for fault in [Fault::Short, Fault::Long] {
        fake.fail("Read", fault);
        assert_corrupt(read_range(&store, digest, 1, 70_000).await);
    }
    let verifying = store_with(&[Arc::clone(&fake)], |it| it.verify_ranges = true);
    for fault in [Fault::WrongBytes, Fault::Short, Fault::Long] {
        fake.fail("Read", fault);
        assert_corrupt(read_range(&verifying, digest, 1, 70_000).await);
    }
    assert_eq!((store.stats().corrupt, verifying.stats().corrupt), (2, 3));
}

#[tokio::test]
async fn what_a_batch_leaves_out_or_misnames_is_read_alone() {
    let fake = Fake::start();
    let data = noise(1, 1_000);
    let digest = fake.store(data.clone());
    let store = store_over(&fake);
    for (fault, strays) in [(Fault::Omit, 0), (Fault::Misname, 1)] {
        let before = store.stats().strays;
        fake.fail("BatchReadBlobs", fault);
        assert_eq!(read(&store, digest).await.unwrap().unwrap(), data);
        assert_eq!(store.stats().strays - before, strays);
    }
    assert_eq!(fake.calls("Read ").len(), 2);
    // The first answer counts, and it is checked like any.
    fake.fail("BatchReadBlobs", Fault::Duplicate);
    assert_eq!(read(&store, digest).await.unwrap().unwrap(), data);
    assert_eq!(store.stats().strays, 2);
    assert_eq!(store.stats().corrupt, 0);
}

#[tokio::test]
async fn what_a_batch_does_not_confirm_is_written_alone() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for (seed, fault) in [(1, Fault::Omit), (2, Fault::Misname)] {
        let data = noise(seed, 1_000);
        fake.fail("BatchUpdateBlobs", fault);
        store.put(&key_of(&data), data.clone()).await.unwrap();
        assert_eq!(fake.blob(&sha256(&data)).unwrap(), data);
    }
    assert_eq!(fake.calls("Write").len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_no_grpc_is_a_failed_call() {
    let fake = Fake::start();
    let (small, large) = (fake.store("small"), fake.store(noise(1, 500 << 10)));
    let store = store_over(&fake);
    let mut headers = http::HeaderMap::new();
    headers.insert("grpc-status-details-bin", "!".parse().unwrap());
    let metadata = tonic::metadata::MetadataMap::from_headers(headers);
    let status = tonic::Status::with_metadata(tonic::Code::NotFound, "odd", metadata);
    for (method, digest) in [("BatchReadBlobs", small), ("Read", large)] {
        fake.fail(method, Fault::Refuse(status.clone()));
        assert_unavailable(read(&store, digest).await);
        assert!(read(&store, digest).await.unwrap().is_some());
    }
    fake.fail("FindMissingBlobs", Fault::Refuse(status));
    assert_unavailable(store.find_missing(&[Key::blob(small)]).await);
    assert_eq!(store.stats().in_flight, 0);
}

#[tokio::test]
async fn a_missing_blob_that_nobody_asked_about_is_ignored() {
    let fake = Fake::start();
    let digest = fake.store("here");
    let store = store_over(&fake);
    fake.fail("FindMissingBlobs", Fault::Misname);
    assert_eq!(store.find_missing(&[Key::blob(digest)]).await.unwrap(), [false]);
    assert_eq!(store.stats().strays, 1);
}

#[tokio::test]
async fn a_wrong_committed_size_is_believed_only_when_the_blob_is_there() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for (seed, committed) in [-1, 0, 5, i64::MAX, i64::MIN].into_iter().enumerate() {
        let data = noise(seed as u64, 300 << 10);
        fake.fail("Write", Fault::Commit(committed));
        let what = assert_unavailable(store.put(&key_of(&data), data.clone()).await);
        assert!(what.contains("grpc://fake0:1"), "{what}");
        // It has come another way meanwhile.
        fake.store(data.clone());
        fake.fail("Write", Fault::Commit(committed));
        store.put(&key_of(&data), data).await.unwrap();
    }
    assert_eq!(store.stats().corrupt, 5);
}
