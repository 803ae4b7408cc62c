//! Writes to both tiers, and who says what is there.

use super::fake::Call;
use super::{Tiers, blob, until};
use crate::store::{BeginPut, BlobStore, ByteRange, StoreError};

#[tokio::test]
async fn a_write_goes_to_both_tiers() {
    let tiers = Tiers::through();
    let (whole, data) = blob(1, 1000);
    tiers.put(&whole, &data).await.unwrap();
    let (streamed, more) = blob(2, 300_000);
    tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
    for tier in [&tiers.fast, &tiers.slow] {
        assert_eq!(tier.value(&whole), Some(data.clone()));
        assert_eq!(tier.value(&streamed), Some(more.clone()));
    }
    assert_eq!(tiers.slow.uploads() + tiers.fast.uploads(), 0);
}

#[tokio::test]
async fn it_is_acknowledged_when_the_slow_tier_has_it() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.slow.close(Call::Put);
    let put = tiers.spawn_put(&key, &data);
    until("the slow tier is asked", || tiers.slow.calls(Call::Put) == 1).await;
    assert!(!put.is_finished());
    assert!(!tiers.fast.holds(&key), "before the slow tier has it");
    tiers.slow.open(Call::Put);
    put.await.unwrap().unwrap();
    assert!(tiers.slow.holds(&key) && tiers.fast.holds(&key));
}

#[tokio::test]
async fn the_slow_tier_says_what_is_there() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    assert!(tiers.is_present(&key).await);
    // What the slow tier has lost is sent again, and heals it.
    assert!(tiers.slow.evict(&key));
    assert!(!tiers.is_present(&key).await);
    assert!(tiers.fast.was_touched(&key), "asking keeps it in the fast tier");
    let upload = tiers.upload(&key, &data).await.unwrap();
    upload.commit().await.unwrap();
    assert!(tiers.slow.holds(&key));
    assert!(tiers.is_present(&key).await);
    let begun = tiers.store.begin_put(&key, 1000).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
    // And what the fast tier has lost is there.
    assert!(tiers.fast.evict(&key));
    assert!(tiers.is_present(&key).await);
    let begun = tiers.store.begin_put(&key, 1000).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
    let hash = (key.digest.function, key.digest.hash);
    assert_eq!(tiers.store.find_by_hash(hash.0, hash.1).await.unwrap(), Some(key.digest));
}

#[tokio::test]
async fn an_error_of_the_slow_tier_is_the_answer() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.fast.insert(&key, data.clone());
    for call in [Call::Find, Call::Put, Call::BeginPut, Call::Write, Call::Commit, Call::Get] {
        tiers.slow.fail(call);
    }
    assert!(tiers.store.find_missing(&[key]).await.is_err());
    assert!(tiers.put(&key, &data).await.is_err());
    assert!(tiers.upload(&key, &data).await.is_err());
    tiers.slow.heal(Call::BeginPut);
    assert!(tiers.upload(&key, &data).await.is_err());
    tiers.slow.heal(Call::Write);
    assert!(tiers.upload(&key, &data).await.unwrap().commit().await.is_err());
    assert!(!tiers.slow.holds(&key));
    let (other, _) = blob(2, 1000);
    assert!(tiers.read(&other).await.is_err());
    assert_eq!(tiers.slow.uploads() + tiers.fast.uploads(), 0);
}

#[tokio::test]
async fn a_failing_fast_tier_fails_nothing() {
    for call in [Call::BeginPut, Call::Write, Call::Commit] {
        let tiers = Tiers::through();
        tiers.fast.fail(call);
        let (key, data) = blob(1, 300_000);
        tiers.upload(&key, &data).await.unwrap().commit().await.unwrap();
        assert_eq!(tiers.slow.value(&key), Some(data), "{call:?}");
        assert!(!tiers.fast.holds(&key));
        assert_eq!(tiers.stats().fast_write_failures, 1, "{call:?}");
        assert_eq!(tiers.fast.uploads(), 0);
    }
    let tiers = Tiers::through();
    for call in [Call::Put, Call::Get, Call::Find] {
        tiers.fast.fail(call);
    }
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    assert!(tiers.is_present(&key).await);
    assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
    assert_eq!(tiers.stats().fast_write_failures, 1);
    assert!(tiers.stats().fast_read_failures >= 1);
}

#[tokio::test(start_paused = true)]
async fn i23_a_fast_tier_that_hangs_holds_nothing_up_for_ever() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 300_000);
    for call in [Call::BeginPut, Call::Put, Call::Get, Call::Find] {
        tiers.fast.close(call);
    }
    tiers.put(&key, &data).await.unwrap();
    assert!(tiers.is_present(&key).await);
    assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
    let (other, data) = blob(2, 300_000);
    tiers.upload(&other, &data).await.unwrap().commit().await.unwrap();
    assert!(tiers.slow.holds(&other));
    let (third, data) = blob(3, 300_000);
    tiers.fast.open(Call::BeginPut);
    tiers.fast.close(Call::Write);
    tiers.upload(&third, &data).await.unwrap().commit().await.unwrap();
    assert!(tiers.slow.holds(&third));
}

#[tokio::test]
async fn what_is_too_large_for_the_fast_tier_goes_past_it() {
    let tiers = Tiers::through();
    tiers.fast.set_max_blob_bytes(1000);
    let (key, data) = blob(1, 1001);
    tiers.put(&key, &data).await.unwrap();
    let (other, more) = blob(2, 1001);
    tiers.upload(&other, &more).await.unwrap().commit().await.unwrap();
    assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
    assert!(!tiers.fast.holds(&key) && !tiers.fast.holds(&other));
    assert_eq!(tiers.fast.calls(Call::BeginPut) + tiers.fast.calls(Call::Put), 0);
    assert_eq!(tiers.stats().fast_write_failures + tiers.stats().population_failures, 0);
    assert_eq!(tiers.store.max_blob_bytes(), tiers.slow.max_blob_bytes());
}

#[tokio::test]
async fn wrong_bytes_are_nowhere() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    let (_, wrong) = blob(2, 1000);
    let outcome = tiers.put(&key, &wrong).await;
    assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
    let upload = tiers.upload(&key, &wrong).await.unwrap();
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
    assert!(!tiers.fast.holds(&key) && !tiers.slow.holds(&key));
    tiers.put(&key, &data).await.unwrap();
    assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
}

#[tokio::test]
async fn a_part_reads_only_that_part() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.slow.insert(&key, data.clone());
    for range in [
        ByteRange { offset: 1, limit: None },
        ByteRange { offset: 0, limit: Some(999) },
        ByteRange { offset: 500, limit: Some(10) },
    ] {
        let reader = tiers.store.get(&key, range).await.unwrap().unwrap();
        let start = usize::try_from(range.offset).unwrap();
        let len = usize::try_from(range.len_within(1000)).unwrap();
        assert_eq!(reader.read_all().await.unwrap(), data.slice(start..start + len));
    }
    tiers.store.quiesce().await;
    assert!(!tiers.fast.holds(&key));
    // As much as there is, is all.
    let all = ByteRange { offset: 0, limit: Some(1000) };
    let reader = tiers.store.get(&key, all).await.unwrap().unwrap();
    assert_eq!(reader.read_all().await.unwrap(), data);
    tiers.store.quiesce().await;
    assert!(tiers.fast.holds(&key));
    let stats = tiers.stats();
    assert_eq!((stats.hits_slow, stats.hits_fast, stats.populations), (4, 0, 1));
}

#[tokio::test]
async fn what_is_removed_is_in_neither() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    assert!(tiers.store.remove(&key).await.unwrap());
    assert!(!tiers.store.remove(&key).await.unwrap());
    assert!(!tiers.fast.holds(&key) && !tiers.slow.holds(&key));
    tiers.fast.insert(&key, data);
    assert!(tiers.store.remove(&key).await.unwrap());
    assert!(!tiers.fast.holds(&key));
}

#[tokio::test]
async fn a_pin_keeps_what_decides_whether_a_blob_is_there() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    assert!(tiers.store.pin(&key).await.unwrap().is_none());
    tiers.put(&key, &data).await.unwrap();
    let pin = tiers.store.pin(&key).await.unwrap();
    assert!(tiers.fast.is_pinned(&key) && tiers.slow.is_pinned(&key));
    drop(pin);
    assert!(tiers.fast.evict(&key));
    let pin = tiers.store.pin(&key).await.unwrap();
    assert!(tiers.slow.is_pinned(&key));
    drop(pin);
    assert!(tiers.slow.evict(&key));
    tiers.fast.insert(&key, data);
    assert!(tiers.store.pin(&key).await.unwrap().is_none(), "it is said to be missing");
}
