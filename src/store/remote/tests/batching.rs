//! Small blobs that travel together.

use futures_util::future::join_all;
use futures_util::poll;
use tonic::Status;

use super::fake::{Fake, Fault};
use super::*;
use crate::store::BlobStore as _;

/// Until this many calls wait at the upstream.
async fn calls_wait(fake: &Fake, method: &str, count: usize) {
    for _ in 0..10_000 {
        if fake.calls(method).len() >= count {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{:?}", fake.calls(method));
}

#[tokio::test]
async fn what_comes_while_the_slot_is_busy_leaves_in_one_batch() {
    let fake = Fake::start();
    let digests: Vec<_> = (0..100).map(|seed| fake.store(noise(seed, 1_000))).collect();
    let store = store_with(&[Arc::clone(&fake)], |it| it.batching.slots = 1);
    fake.shut();
    let others = async {
        // Shut is the gate for all calls, and the first of them is about the capabilities.
        calls_wait(&fake, "GetCapabilities", 1).await;
        fake.open();
        fake.shut();
        calls_wait(&fake, "BatchReadBlobs", 1).await;
        let reads = digests[1..].iter().map(|digest| read(&store, *digest));
        let opening = async {
            tokio::task::yield_now().await;
            fake.open();
        };
        tokio::join!(join_all(reads), opening).0
    };
    let (first, others) = tokio::join!(read(&store, digests[0]), others);
    for (seed, blob) in [first].into_iter().chain(others).enumerate() {
        assert_eq!(blob.unwrap().unwrap(), noise(seed as u64, 1_000));
    }
    assert_eq!(fake.calls("BatchReadBlobs"), ["BatchReadBlobs 1", "BatchReadBlobs 99"]);
    assert!(fake.calls("Read ").is_empty());
}

#[tokio::test]
async fn writes_travel_together_too_and_one_blob_goes_once() {
    let fake = Fake::start();
    let store = store_with(&[Arc::clone(&fake)], |it| it.batching.slots = 1);
    let puts = (0..60).map(|number| {
        let data = noise(number % 30, 2_000);
        let store = &store;
        async move { store.put(&key_of(&data), data.clone()).await }
    });
    for outcome in join_all(puts).await {
        outcome.unwrap();
    }
    for number in 0..30 {
        assert!(fake.blob(&sha256(&noise(number, 2_000))).is_some());
    }
    assert!(fake.calls("BatchUpdateBlobs").len() <= 3);
    assert!(fake.calls("Write").is_empty());
}

#[tokio::test]
async fn a_batch_stays_under_its_sum() {
    let fake = Fake::start();
    let digests: Vec<_> = (0..20).map(|seed| fake.store(noise(seed, 10_000))).collect();
    let store = store_with(&[Arc::clone(&fake)], |it| {
        it.batching.slots = 1;
        it.batching.max_batch_bytes = 45_000;
    });
    for blob in join_all(digests.iter().map(|digest| read(&store, *digest))).await {
        assert!(blob.unwrap().is_some());
    }
    let batches = fake.calls("BatchReadBlobs");
    assert_eq!(batches.len(), 5, "{batches:?}");
}

#[tokio::test]
async fn what_the_queue_does_not_hold_travels_alone() {
    let fake = Fake::start();
    let digests: Vec<_> = (0..20).map(|seed| fake.store(noise(seed, 10_000))).collect();
    let store = store_with(&[Arc::clone(&fake)], |it| {
        it.batching.slots = 1;
        it.batching.max_queued_bytes = 30_000;
    });
    for blob in join_all(digests.iter().map(|digest| read(&store, *digest))).await {
        assert!(blob.unwrap().is_some());
    }
    assert!(!fake.calls("Read ").is_empty());
}

#[tokio::test]
async fn a_batch_that_is_refused_for_what_it_is_comes_apart() {
    let fake = Fake::start();
    let data = noise(1, 1_000);
    let digest = fake.store(data.clone());
    let store = store_over(&fake);
    for status in
        [Status::invalid_argument("too large"), Status::unimplemented(""), Status::out_of_range("")]
    {
        fake.fail("BatchReadBlobs", Fault::Refuse(status.clone()));
        assert_eq!(read(&store, digest).await.unwrap().unwrap(), data);
        let fresh = noise(10 + fake.calls("").len() as u64, 1_000);
        fake.fail("BatchUpdateBlobs", Fault::Refuse(status));
        store.put(&key_of(&fresh), fresh.clone()).await.unwrap();
        assert_eq!(fake.blob(&sha256(&fresh)).unwrap(), fresh);
    }
}

#[tokio::test]
async fn who_stops_waiting_stops_nobody_else() {
    let fake = Fake::start();
    let digests: Vec<_> = (0..10).map(|seed| fake.store(noise(seed, 1_000))).collect();
    let store = store_with(&[Arc::clone(&fake)], |it| it.batching.slots = 1);
    store.find_missing(&[Key::blob(digests[0])]).await.unwrap();
    fake.shut();
    let mut reads: Vec<_> = digests.iter().map(|it| Box::pin(read(&store, *it))).collect();
    // One is on its way when the others come, and they wait.
    assert!(poll!(&mut reads[0]).is_pending());
    calls_wait(&fake, "BatchReadBlobs", 1).await;
    for read in &mut reads {
        assert!(poll!(read).is_pending());
    }
    // The one, and some of the others.
    drop(reads.drain(..5));
    fake.open();
    for blob in join_all(reads).await {
        assert!(blob.unwrap().is_some());
    }
    // Who was gone is not asked for.
    assert_eq!(fake.calls("BatchReadBlobs"), ["BatchReadBlobs 1", "BatchReadBlobs 5"]);
}
