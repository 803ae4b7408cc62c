//! Writes that are acknowledged before the slow tier has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fake::{Call, Fake};
use super::{
    TieredOptions, TieredStore, Tiers, WriteBehindOptions, blob, checked, result_key, until,
};
use crate::store::filesystem::{Cap, Cleanup, FilesystemOptions, FilesystemStore};
use crate::store::{BeginPut, BlobStore, BlobStoreExt, Key, StoreError};

const LONG: Duration = Duration::from_mins(1);

fn options(max_items: usize) -> WriteBehindOptions {
    WriteBehindOptions { max_items, max_concurrent_copies: 1, ..WriteBehindOptions::default() }
}

/// Waits until everything accepted has ended, adding the books up on the way.
async fn settled(tiers: &Tiers) {
    until("the queue is empty", || {
        let stats = tiers.stats();
        stats.queued_items + stats.in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn a_write_is_acknowledged_and_then_copied() {
    let tiers = Tiers::behind(options(10));
    tiers.slow.close(Call::Put);
    tiers.slow.close(Call::BeginPut);
    let (whole, data) = blob(1, 1000);
    tiers.put(&whole, &data).await.unwrap();
    let (streamed, more) = blob(2, 3 << 20);
    tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
    for key in [whole, streamed] {
        assert!(tiers.fast.is_pinned(&key) && !tiers.fast.evict(&key));
        assert!(!tiers.slow.holds(&key));
        assert!(tiers.is_present(&key).await);
        let begun = tiers.store.begin_put(&key, key.digest.size_bytes).await.unwrap();
        assert!(matches!(begun, BeginPut::AlreadyPresent));
        let hash = (key.digest.function, key.digest.hash);
        assert_eq!(tiers.store.find_by_hash(hash.0, hash.1).await.unwrap(), Some(key.digest));
    }
    assert_eq!(tiers.read(&whole).await.unwrap(), Some(data.clone()));
    tiers.slow.open(Call::Put);
    tiers.slow.open(Call::BeginPut);
    settled(&tiers).await;
    assert_eq!(tiers.slow.value(&whole), Some(data));
    assert_eq!(tiers.slow.value(&streamed), Some(more));
    assert!(tiers.fast.evict(&whole) && tiers.fast.evict(&streamed), "no pin is left");
    assert!(tiers.is_present(&whole).await && tiers.is_present(&streamed).await);
    let stats = tiers.stats();
    assert_eq!((stats.write_drops, stats.failed), (0, 0));
}

/// The fast tier is a real one, which must go on evicting.
#[tokio::test]
async fn i15_a_saturated_queue_loses_nothing_and_stops_no_eviction() {
    let directory = tempfile::tempdir().unwrap();
    let cap = FilesystemOptions {
        lease: Duration::ZERO,
        ..FilesystemOptions::new(directory.path(), Cap::Bytes(4 << 20))
    };
    let fast = FilesystemStore::open(cap).await.unwrap();
    let slow = Fake::new();
    let behind = WriteBehindOptions { max_items: 4, max_concurrent_copies: 2, ..options(4) };
    let store = TieredStore::new(
        Arc::clone(&fast) as _,
        Arc::clone(&slow) as _,
        TieredOptions { write_behind: Some(behind), ..TieredOptions::default() },
    );
    slow.close(Call::Put);
    let blobs: Vec<_> = (0..24).map(|seed| blob(seed, 100_000)).collect();
    for (key, data) in &blobs[..4] {
        store.put(key, data.clone()).await.unwrap();
        checked(store.stats());
    }
    // The others are refused by the queue, and wait for the slow tier.
    let mut refused = Vec::new();
    for (key, data) in blobs[4..].iter().cloned() {
        let store = Arc::clone(&store);
        #[expect(clippy::disallowed_methods, reason = "a test wants the outcome")]
        refused.push(tokio::spawn(async move { store.put(&key, data).await }));
    }
    until("all are refused", || checked(store.stats()).write_drops == 20).await;
    // I12: nothing of that stops the fast tier from evicting, and what is pinned stays.
    for seed in 100..160 {
        let (key, data) = blob(seed, 100_000);
        fast.put(&key, data).await.unwrap();
    }
    assert!(fast.stats().evictions > 20);
    for (key, _) in &blobs[..4] {
        assert!(fast.contains(key).await.unwrap(), "what only the queue has is kept");
    }
    assert!(refused.iter().all(|it| !it.is_finished()), "nothing is acknowledged too early");
    assert_eq!(checked(store.stats()).accepted, 4);
    slow.open(Call::Put);
    for put in refused {
        put.await.unwrap().unwrap();
    }
    store.shutdown(LONG).await;
    let stats = checked(store.stats());
    assert_eq!((stats.offered, stats.persisted, stats.write_drops), (24, 4, 20));
    for (key, data) in &blobs {
        assert_eq!(slow.value(key).as_ref(), Some(data), "acknowledged and lost");
    }
    fast.shutdown(Cleanup::Keep).await.unwrap();
}

#[tokio::test]
async fn i17_a_stop_drains_the_queue() {
    let tiers = Tiers::behind(options(10));
    tiers.slow.close(Call::Put);
    let blobs: Vec<_> = (0..5).map(|seed| blob(seed, 1000)).collect();
    for (key, data) in &blobs {
        tiers.put(key, data).await.unwrap();
    }
    let stop = tiers.spawn(|store| async move { store.shutdown(LONG).await });
    // From then on writes go through.
    let late = blob(9, 1000);
    until("the queue is closed", || tiers.store.parts.tasks.is_closed()).await;
    let put = tiers.spawn_put(&late.0, &late.1);
    until("it is refused", || tiers.stats().write_drops == 1).await;
    assert!(!put.is_finished() && !stop.is_finished());
    tiers.slow.open(Call::Put);
    stop.await.unwrap();
    put.await.unwrap().unwrap();
    for (key, data) in blobs.iter().chain([&late]) {
        assert_eq!(tiers.slow.value(key).as_ref(), Some(data));
    }
    let stats = tiers.stats();
    assert_eq!((stats.persisted, stats.cancelled), (5, 0));
    assert!(tiers.store.parts.tasks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn i17_a_stop_counts_what_it_leaves() {
    let tiers = Tiers::behind(options(10));
    tiers.slow.close(Call::Put);
    for seed in 0..5 {
        let (key, data) = blob(seed, 1000);
        tiers.put(&key, &data).await.unwrap();
    }
    until("one is being copied", || tiers.stats().in_flight == 1).await;
    tiers.store.shutdown(Duration::from_secs(3)).await;
    let stats = tiers.stats();
    assert_eq!((stats.persisted, stats.cancelled), (0, 5));
    assert!(tiers.store.parts.tasks.is_empty());
    assert!((0..5).all(|seed| !tiers.fast.is_pinned(&blob(seed, 1000).0)));
    // A value that was acknowledged and is nowhere else is missing now: clients send it again.
    assert!(!tiers.is_present(&blob(1, 1000).0).await);
}

#[tokio::test]
async fn workers_end_with_the_store() {
    let tiers = Tiers::behind(options(10));
    tiers.slow.close(Call::Put);
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    until("it is being copied", || tiers.stats().in_flight == 1).await;
    let parts = Arc::clone(&tiers.store.parts);
    drop(tiers.store);
    until("the workers end", || parts.tasks.is_empty()).await;
    assert_eq!(checked(parts.stats()).cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_fails_is_tried_again() {
    let tiers = Tiers::behind(WriteBehindOptions { max_attempts: 5, ..options(10) });
    tiers.slow.fail(Call::Put);
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    while tiers.slow.calls(Call::Put) < 3 {
        assert!(tiers.is_present(&key).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tiers.slow.heal(Call::Put);
    tiers.store.shutdown(LONG).await;
    assert_eq!(tiers.slow.value(&key), Some(data));
    assert_eq!(tiers.stats().persisted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_tier_that_is_away_is_waited_for_however_long_it_takes() {
    let tiers = Tiers::behind(WriteBehindOptions { max_attempts: 2, ..options(10) });
    tiers.slow.go_away(Call::Put);
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    while tiers.slow.calls(Call::Put) < 20 {
        assert!(tiers.is_present(&key).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(tiers.stats().failed, 0);
    tiers.slow.heal(Call::Put);
    tiers.store.shutdown(LONG).await;
    assert_eq!(tiers.slow.value(&key), Some(data));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_copied_is_missing_and_sent_again() {
    let tiers = Tiers::behind(WriteBehindOptions { max_attempts: 3, ..options(10) });
    tiers.slow.fail(Call::Put);
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    while tiers.stats().failed == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(tiers.slow.calls(Call::Put), 3);
    assert!(tiers.fast.holds(&key) && !tiers.fast.is_pinned(&key));
    assert!(!tiers.is_present(&key).await);
    tiers.slow.heal(Call::Put);
    // The fast tier has it still: the next client need not send the bytes.
    let begun = tiers.store.begin_put(&key, 1000).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
    settled(&tiers).await;
    assert!(tiers.slow.holds(&key) && tiers.is_present(&key).await);
}

#[tokio::test]
async fn what_cannot_be_pinned_goes_through() {
    let tiers = Tiers::behind(options(10));
    tiers.fast.never_pins();
    tiers.slow.close(Call::Put);
    let (key, data) = blob(1, 1000);
    let put = tiers.spawn_put(&key, &data);
    until("it is refused", || tiers.stats().write_drops == 1).await;
    assert!(!put.is_finished());
    tiers.slow.open(Call::Put);
    put.await.unwrap().unwrap();
    assert!(tiers.slow.holds(&key));
    for len in [1000, 3 << 20] {
        let (streamed, more) = blob(2, len);
        tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
        assert!(tiers.slow.holds(&streamed));
    }
    // And one that leaves the fast tier before it is copied is not acknowledged.
    let (lost, data) = blob(3, 1000);
    let upload = tiers.upload(&lost, &data).await.unwrap();
    tiers.fast.close(Call::Get);
    let commit = tiers.spawn(move |_| upload.commit());
    until("it is to be copied", || tiers.fast.calls(Call::Get) > 0).await;
    tiers.fast.fail(Call::Get);
    tiers.fast.open(Call::Get);
    assert!(commit.await.unwrap().is_err());
    assert!(!tiers.slow.holds(&lost));
    let stats = tiers.stats();
    assert_eq!((stats.accepted, stats.write_drops), (0, 4));
}

#[tokio::test]
async fn a_failing_fast_tier_makes_writes_go_through() {
    let tiers = Tiers::behind(options(10));
    for call in [Call::Put, Call::BeginPut] {
        tiers.fast.fail(call);
    }
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    let (streamed, more) = blob(2, 300_000);
    tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
    tiers.put(&result_key("a"), &"value".into()).await.unwrap();
    for key in [key, streamed, result_key("a")] {
        assert!(tiers.slow.holds(&key) && !tiers.fast.holds(&key));
    }
    let stats = tiers.stats();
    assert_eq!((stats.offered, stats.fast_write_failures), (0, 4));
}

#[tokio::test]
async fn i22_the_queue_is_bounded_in_bytes() {
    let behind = WriteBehindOptions { max_bytes: 2500, ..options(10) };
    let tiers = Tiers::behind(behind);
    tiers.slow.close(Call::Put);
    for seed in 0..2 {
        let (key, data) = blob(seed, 1000);
        tiers.put(&key, &data).await.unwrap();
    }
    let (third, data) = blob(3, 1000);
    let put = tiers.spawn_put(&third, &data);
    until("it is refused", || tiers.stats().write_drops == 1).await;
    // A smaller one fits, and room comes back with an upload that is dropped.
    let (small, data) = blob(4, 400);
    drop(tiers.upload(&small, &data).await.unwrap());
    tiers.put(&small, &data).await.unwrap();
    until("one is being copied", || tiers.stats().in_flight == 1).await;
    assert_eq!(tiers.stats().queued_bytes, 1400);
    tiers.slow.open(Call::Put);
    put.await.unwrap().unwrap();
    settled(&tiers).await;
    assert_eq!(tiers.stats().queued_bytes, 0);
    assert!([0, 1, 3].iter().all(|seed| tiers.slow.holds(&blob(*seed, 1000).0)));
}

async fn value_of(tiers: &Tiers, key: &Key) -> Option<Bytes> {
    tiers.store.get_all(key, 100).await.unwrap()
}

#[tokio::test]
async fn of_results_the_later_one_wins_also_in_the_slow_tier() {
    let tiers = Tiers::behind(WriteBehindOptions { max_concurrent_copies: 4, ..options(10) });
    let key = result_key("a");
    tiers.slow.close(Call::Put);
    tiers.put(&key, &"one".into()).await.unwrap();
    until("one is being copied", || tiers.stats().in_flight == 1).await;
    for value in ["two", "three", "four"] {
        tiers.put(&key, &value.into()).await.unwrap();
        assert_eq!(value_of(&tiers, &key).await, Some(value.into()));
    }
    // Coalesced: two replaced ones count as cancelled.
    let stats = tiers.stats();
    assert_eq!((stats.in_flight, stats.queued_items, stats.cancelled), (1, 1, 2));
    // Evicted from the fast tier, which pins no results, it is in the queue.
    assert!(tiers.fast.evict(&key));
    assert!(tiers.is_present(&key).await);
    assert_eq!(value_of(&tiers, &key).await, Some("four".into()));
    tiers.slow.open(Call::Put);
    settled(&tiers).await;
    assert_eq!(tiers.slow.value(&key), Some("four".into()));
    assert_eq!(value_of(&tiers, &key).await, Some("four".into()));
}

#[tokio::test]
async fn a_result_that_goes_past_the_queue_is_not_overwritten_by_an_earlier_one() {
    let tiers = Tiers::behind(options(2));
    let key = result_key("a");
    tiers.slow.close(Call::Put);
    tiers.put(&key, &"one".into()).await.unwrap();
    until("one is being copied", || tiers.stats().in_flight == 1).await;
    tiers.put(&key, &"two".into()).await.unwrap();
    // The queue is full.
    let through = tiers.spawn_put(&key, &"three".into());
    until("it is refused", || tiers.stats().write_drops == 1).await;
    tiers.slow.open(Call::Put);
    through.await.unwrap().unwrap();
    assert_eq!(tiers.slow.value(&key), Some("three".into()));
    settled(&tiers).await;
    assert_eq!(tiers.slow.value(&key), Some("three".into()));
    assert_eq!(value_of(&tiers, &key).await, Some("three".into()));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_could_not_go_past_the_queue_leaves_the_earlier_one_in_it() {
    let tiers = Tiers::behind(options(2));
    let (first, key) = (blob(1, 1000), result_key("a"));
    tiers.slow.close(Call::Put);
    tiers.put(&first.0, &first.1).await.unwrap();
    until("another is being copied", || tiers.stats().in_flight == 1).await;
    tiers.put(&key, &"one".into()).await.unwrap();
    let through = tiers.spawn_put(&key, &"two".into());
    until("it goes past", || tiers.slow.calls(Call::Put) == 2).await;
    tiers.slow.fail(Call::Put);
    tiers.slow.open(Call::Put);
    assert!(matches!(through.await.unwrap(), Err(StoreError::Io { .. })));
    tiers.slow.heal(Call::Put);
    tiers.store.shutdown(LONG).await;
    assert_eq!(tiers.slow.value(&key), Some("one".into()));
    assert!(tiers.slow.holds(&first.0));
}
