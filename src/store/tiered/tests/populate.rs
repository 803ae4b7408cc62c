//! Reads that fill the fast tier.

use std::sync::Arc;

use bytes::Bytes;

use super::fake::Call;
use super::{Tiers, blob, until};
use crate::store::{BlobReader, BlobStore, ByteRange};

/// More than a reader may lag behind.
const LEN: usize = 4 << 20;
const CHUNK: usize = 64 << 10;

async fn open(tiers: &Tiers, key: &crate::store::Key) -> BlobReader {
    tiers.store.get(key, ByteRange::ALL).await.unwrap().unwrap()
}

async fn drain(mut reader: BlobReader) -> Bytes {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next(10_000).await.unwrap() {
        assert!(chunk.len() <= 10_000);
        all.extend_from_slice(&chunk);
    }
    assert_eq!(reader.remaining_bytes(), 0);
    assert!(reader.next(10_000).await.unwrap().is_none());
    all.into()
}

#[tokio::test]
async fn a_whole_read_fills_the_fast_tier() {
    let tiers = Tiers::through();
    for (seed, len) in [(1, 1), (2, CHUNK), (3, LEN + 1)] {
        let (key, data) = blob(seed, len);
        tiers.slow.insert(&key, data.clone());
        let reader = open(&tiers, &key).await;
        assert_eq!(reader.remaining_bytes(), len as u64);
        assert!(drain(reader).await == data);
        tiers.store.quiesce().await;
        assert!(tiers.fast.value(&key).unwrap() == data);
        let gets = tiers.slow.calls(Call::Get);
        assert!(drain(open(&tiers, &key).await).await == data);
        assert_eq!(tiers.slow.calls(Call::Get), gets);
    }
    let stats = tiers.stats();
    assert_eq!((stats.hits_slow, stats.hits_fast, stats.populations), (3, 3, 3));
    assert_eq!(tiers.fast.uploads(), 0);
    let (absent, _) = blob(9, 10);
    assert_eq!(tiers.read(&absent).await.unwrap(), None);
    assert_eq!(tiers.stats().misses, 1);
}

#[tokio::test]
async fn i10_fifty_readers_are_one_read_of_the_slow_tier() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    tiers.slow.close(Call::Get);
    let readers: Vec<_> = (0..50).map(|_| tiers.spawn_read(&key)).collect();
    until("all wait for one", || tiers.store.parts.flights.followers(&key) == 49).await;
    tiers.slow.open(Call::Get);
    for reader in readers {
        assert!(reader.await.unwrap().unwrap().unwrap() == data);
    }
    assert_eq!(tiers.slow.calls(Call::Get), 1);
    let stats = tiers.stats();
    assert_eq!((stats.hits_slow, stats.hits_fast, stats.populations), (1, 49, 1));
}

#[tokio::test]
async fn the_first_reader_gets_bytes_as_they_come() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    let mut reader = open(&tiers, &key).await;
    let first = reader.next(CHUNK).await.unwrap().unwrap();
    assert!(!first.is_empty() && first == data[..first.len()]);
    assert!(tiers.slow.calls(Call::Read) < LEN / CHUNK && !tiers.fast.holds(&key));
    assert!(drain(reader).await == data.slice(first.len()..));
}

#[tokio::test]
async fn when_the_leader_goes_away_early_a_follower_takes_over() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    tiers.slow.close(Call::Get);
    let leader = tiers.spawn_read(&key);
    until("the slow tier is asked", || tiers.slow.calls(Call::Get) == 1).await;
    let followers: Vec<_> = (0..10).map(|_| tiers.spawn_read(&key)).collect();
    until("they follow", || tiers.store.parts.flights.followers(&key) == 10).await;
    leader.abort();
    until("another takes over", || tiers.slow.calls(Call::Get) == 2).await;
    tiers.slow.open(Call::Get);
    for follower in followers {
        assert!(follower.await.unwrap().unwrap().unwrap() == data);
    }
    assert_eq!(tiers.slow.calls(Call::Get), 2);
    tiers.store.quiesce().await;
    assert!(tiers.fast.holds(&key));
}

#[tokio::test]
async fn when_the_leader_goes_away_in_the_middle_the_followers_finish() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    let mut leader = open(&tiers, &key).await;
    leader.next(CHUNK).await.unwrap().unwrap();
    let followers: Vec<_> = (0..10).map(|_| tiers.spawn_read(&key)).collect();
    until("they follow", || tiers.store.parts.flights.followers(&key) == 10).await;
    drop(leader);
    for follower in followers {
        assert!(follower.await.unwrap().unwrap().unwrap() == data);
    }
    assert_eq!(tiers.slow.calls(Call::Get), 1);
}

#[tokio::test]
async fn what_is_mostly_read_is_finished_alone_and_what_is_not_is_left() {
    for (chunks, is_finished) in [(2, false), (60, true)] {
        let tiers = Tiers::through();
        let (key, data) = blob(1, LEN);
        tiers.slow.insert(&key, data);
        let mut reader = open(&tiers, &key).await;
        for _ in 0..chunks {
            reader.next(CHUNK).await.unwrap().unwrap();
        }
        drop(reader);
        tiers.store.quiesce().await;
        assert_eq!(tiers.fast.holds(&key), is_finished);
        assert_eq!(tiers.fast.uploads(), 0);
    }
}

#[tokio::test]
async fn when_the_slow_tier_dies_in_the_middle_nobody_gets_half() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    let mut leader = open(&tiers, &key).await;
    leader.next(CHUNK).await.unwrap().unwrap();
    let followers: Vec<_> = (0..10).map(|_| tiers.spawn_read(&key)).collect();
    until("they follow", || tiers.store.parts.flights.followers(&key) == 10).await;
    tiers.slow.fail(Call::Read);
    assert!(leader.read_all().await.is_err());
    for follower in followers {
        assert!(follower.await.unwrap().is_err());
    }
    tiers.store.quiesce().await;
    assert!(!tiers.fast.holds(&key));
    assert_eq!(tiers.fast.uploads(), 0);
    tiers.slow.heal(Call::Read);
    assert!(tiers.read(&key).await.unwrap().unwrap() == data);
    tiers.store.quiesce().await;
    assert!(tiers.fast.holds(&key));
}

#[tokio::test]
async fn a_failing_copy_fails_no_read() {
    for call in [Call::BeginPut, Call::Write, Call::Commit] {
        let tiers = Tiers::through();
        let (key, data) = blob(1, LEN);
        tiers.slow.insert(&key, data.clone());
        tiers.fast.fail(call);
        assert!(tiers.read(&key).await.unwrap().unwrap() == data, "{call:?}");
        tiers.store.quiesce().await;
        assert!(!tiers.fast.holds(&key));
        let stats = tiers.stats();
        assert_eq!((stats.population_failures, stats.populations), (1, 0), "{call:?}");
        tiers.fast.heal(call);
        assert!(tiers.read(&key).await.unwrap().unwrap() == data);
        tiers.store.quiesce().await;
        assert!(tiers.fast.holds(&key));
    }
}

#[tokio::test(start_paused = true)]
async fn i23_a_copy_that_hangs_holds_no_read_up_for_ever() {
    for call in [Call::BeginPut, Call::Write, Call::Commit] {
        let tiers = Tiers::through();
        let (key, data) = blob(1, LEN);
        tiers.slow.insert(&key, data.clone());
        tiers.fast.close(call);
        let readers: Vec<_> = (0..5).map(|_| tiers.spawn_read(&key)).collect();
        for reader in readers {
            assert!(reader.await.unwrap().unwrap().unwrap() == data, "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i23_nobody_waits_for_a_leader_who_does_not_read() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    let leader = open(&tiers, &key).await;
    let follower = tiers.spawn_read(&key);
    assert!(follower.await.unwrap().unwrap().unwrap() == data);
    assert_eq!(tiers.slow.calls(Call::Get), 2);
    // Nor is room in the fast tier held for it.
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert_eq!(tiers.fast.uploads(), 0);
    assert!(drain(leader).await == data);
}

#[tokio::test]
async fn a_small_copy_waits_for_no_reader() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 4 * CHUNK);
    tiers.slow.insert(&key, data.clone());
    let leader = open(&tiers, &key).await;
    until("it is in the fast tier", || tiers.fast.holds(&key)).await;
    assert!(drain(leader).await == data);
}

#[tokio::test(start_paused = true)]
async fn i23_nobody_waits_for_a_slow_tier_that_does_not_answer_another() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data.clone());
    tiers.slow.close(Call::Get);
    let readers: Vec<_> = (0..5).map(|_| tiers.spawn_read(&key)).collect();
    // Each has given the flight up and asks itself.
    while tiers.slow.calls(Call::Get) < 5 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    tiers.slow.open(Call::Get);
    for reader in readers {
        assert!(reader.await.unwrap().unwrap().unwrap() == data);
    }
}

#[tokio::test]
async fn i17_a_stop_ends_a_population() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data);
    let reader = open(&tiers, &key).await;
    tiers.store.shutdown(std::time::Duration::ZERO).await;
    assert_eq!((tiers.store.parts.tasks.len(), tiers.fast.uploads()), (0, 0));
    assert!(reader.read_all().await.is_err(), "cut off, and said so");
    // Dropping the store does the same.
    let tiers = Tiers::through();
    let (key, data) = blob(1, LEN);
    tiers.slow.insert(&key, data);
    let reader = open(&tiers, &key).await;
    let parts = Arc::clone(&tiers.store.parts);
    drop(tiers);
    until("the task ends", || parts.tasks.is_empty()).await;
    drop(reader);
}
