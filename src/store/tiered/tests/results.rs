//! Values that are replaced, and the two tiers that must not disagree about them.

use bytes::Bytes;

use super::fake::Call;
use super::{Tiers, result_key, until};
use crate::store::{BlobStore, ByteRange};

#[tokio::test]
async fn the_later_one_wins_in_both_tiers() {
    let tiers = Tiers::through();
    let key = result_key("a");
    for value in ["one", "two"] {
        tiers.put(&key, &value.into()).await.unwrap();
        assert_eq!(tiers.fast.value(&key), Some(value.into()));
        assert_eq!(tiers.slow.value(&key), Some(value.into()));
    }
    tiers.upload(&key, &"three".into()).await.unwrap().commit().await.unwrap();
    assert_eq!(tiers.fast.value(&key), Some("three".into()));
    assert_eq!(tiers.slow.value(&key), Some("three".into()));
}

#[tokio::test]
async fn a_fast_tier_that_does_not_get_the_later_one_loses_the_earlier() {
    for is_streamed in [false, true] {
        let tiers = Tiers::through();
        let key = result_key("a");
        tiers.put(&key, &"one".into()).await.unwrap();
        tiers.fast.fail(Call::Put);
        tiers.fast.fail(Call::Commit);
        if is_streamed {
            tiers.upload(&key, &"two".into()).await.unwrap().commit().await.unwrap();
        } else {
            tiers.put(&key, &"two".into()).await.unwrap();
        }
        assert!(!tiers.fast.holds(&key));
        assert_eq!(tiers.read(&key).await.unwrap(), Some("two".into()));
        // One that the slow tier refuses changes nothing.
        tiers.slow.fail(Call::Put);
        assert!(tiers.put(&key, &"three".into()).await.is_err());
        assert_eq!(tiers.read(&key).await.unwrap(), Some("two".into()));
    }
}

#[tokio::test]
async fn a_read_fills_the_fast_tier_once_for_all_readers() {
    let tiers = Tiers::through();
    let key = result_key("a");
    tiers.slow.insert(&key, "value");
    tiers.slow.close(Call::Get);
    let mut readers: Vec<_> = (0..20).map(|_| tiers.spawn_read(&key)).collect();
    until("all wait", || tiers.store.parts.flights.followers(&key) == 20).await;
    readers.pop().unwrap().abort();
    tiers.slow.open(Call::Get);
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), Some("value".into()));
    }
    assert_eq!(tiers.slow.calls(Call::Get), 1);
    assert_eq!(tiers.fast.value(&key), Some("value".into()));
    assert_eq!(tiers.stats().populations, 1);
    let absent = result_key("b");
    assert_eq!(tiers.read(&absent).await.unwrap(), None);
    assert_eq!((tiers.slow.calls(Call::Get), tiers.stats().misses), (2, 1));
    tiers.slow.fail(Call::Get);
    assert!(tiers.read(&absent).await.is_err(), "no miss is made of an error");
}

/// At each place where a read that fills the fast tier may stand when a later value comes.
#[tokio::test]
async fn no_reader_brings_an_earlier_one_back() {
    for (is_slow, call) in [(true, Call::Get), (true, Call::Read), (false, Call::Put)] {
        let tiers = Tiers::through();
        let key = result_key("a");
        tiers.slow.insert(&key, "earlier");
        let tier = if is_slow { &tiers.slow } else { &tiers.fast };
        tier.close(call);
        let reader = tiers.spawn_read(&key);
        until("the reader is there", || tier.calls(call) == 1).await;
        let put = tiers.spawn_put(&key, &"later".into());
        // And one whose client has gone away goes on all the same.
        reader.abort();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tier.open(call);
        put.await.unwrap().unwrap();
        tiers.store.quiesce().await;
        for tier in [&tiers.fast, &tiers.slow] {
            assert_eq!(tier.value(&key), Some("later".into()), "{call:?}");
        }
        assert_eq!(tiers.read(&key).await.unwrap(), Some("later".into()));
    }
}

#[tokio::test]
async fn writers_who_go_away_do_not_bring_an_earlier_one_back() {
    let tiers = Tiers::through();
    let key = result_key("a");
    tiers.fast.close(Call::Put);
    let dropped = tiers.spawn_put(&key, &"one".into());
    until("the first is on its way", || tiers.fast.calls(Call::Put) == 1).await;
    dropped.abort();
    let second = tiers.spawn_put(&key, &"two".into());
    tiers.fast.open(Call::Put);
    second.await.unwrap().unwrap();
    tiers.store.quiesce().await;
    assert_eq!(tiers.fast.value(&key), Some("two".into()));
    assert_eq!(tiers.slow.value(&key), Some("two".into()));
}

#[tokio::test]
async fn a_large_one_is_read_past_the_fast_tier() {
    let tiers = Tiers::through();
    let key = result_key("a");
    let large = Bytes::from(vec![7; (4 << 20) + 1]);
    tiers.slow.insert(&key, large.clone());
    assert!(tiers.read(&key).await.unwrap().unwrap() == large);
    assert!(!tiers.fast.holds(&key));
    let part = ByteRange { offset: 10, limit: Some(5) };
    let reader = tiers.store.get(&key, part).await.unwrap().unwrap();
    assert_eq!(reader.read_all().await.unwrap(), large.slice(10..15));
}
