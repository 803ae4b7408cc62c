//! What becomes of values in a tier that is not to get all of them.

use std::sync::Arc;

use super::fake::{Call, Fake};
use super::{Direction, TieredOptions, TieredStore, Tiers, blob, result_key};
use crate::store::{BlobStore, StoreError};

#[tokio::test]
async fn a_fast_tier_gets_what_its_direction_says() {
    for (direction, is_written, is_populated) in [
        (Direction::Both, true, true),
        (Direction::Update, true, false),
        (Direction::Get, false, true),
        (Direction::ReadOnly, false, false),
    ] {
        let tiers = Tiers::of(direction, Direction::Both);
        let (key, data) = blob(1, 1000);
        tiers.put(&key, &data).await.unwrap();
        let (streamed, more) = blob(2, 1000);
        tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
        assert!(tiers.slow.holds(&key) && tiers.slow.holds(&streamed));
        assert_eq!(tiers.fast.holds(&key), is_written, "{direction:?}");
        assert_eq!(tiers.fast.holds(&streamed), is_written, "{direction:?}");
        let (stored, data) = blob(3, 1000);
        tiers.slow.insert(&stored, data.clone());
        assert_eq!(tiers.read(&stored).await.unwrap(), Some(data));
        tiers.store.quiesce().await;
        assert_eq!(tiers.fast.holds(&stored), is_populated, "{direction:?}");
        // A later result is what is read, whatever the tier has of an earlier one.
        let result = result_key("a");
        tiers.fast.insert(&result, "earlier");
        tiers.put(&result, &"later".into()).await.unwrap();
        assert_eq!(tiers.read(&result).await.unwrap(), Some("later".into()), "{direction:?}");
        assert!(tiers.is_present(&result).await);
    }
}

#[tokio::test]
async fn a_slow_tier_that_takes_no_writes_leaves_them_to_the_fast_one() {
    for direction in [Direction::Get, Direction::ReadOnly] {
        let tiers = Tiers::of(Direction::Both, direction);
        let (key, data) = blob(1, 1000);
        tiers.put(&key, &data).await.unwrap();
        let (streamed, more) = blob(2, 1000);
        tiers.upload(&streamed, &more).await.unwrap().commit().await.unwrap();
        tiers.put(&result_key("a"), &"value".into()).await.unwrap();
        for key in [key, streamed, result_key("a")] {
            assert!(tiers.fast.holds(&key) && !tiers.slow.holds(&key));
            assert!(tiers.is_present(&key).await);
        }
        // What only the slow one has is there too, and nothing is made of an error.
        let (upstream, data) = blob(3, 1000);
        tiers.slow.insert(&upstream, data.clone());
        assert!(tiers.is_present(&upstream).await);
        tiers.slow.fail(Call::Find);
        assert!(tiers.is_present(&key).await, "nobody needs the slow one for that");
        assert!(tiers.store.find_missing(&[key, upstream]).await.is_err());
        assert_eq!(tiers.read(&upstream).await.unwrap(), Some(data));
        assert_eq!(tiers.store.max_blob_bytes(), tiers.fast.max_blob_bytes());
        // Its own failures are the answer then.
        tiers.fast.fail(Call::Put);
        let (other, data) = blob(4, 1000);
        assert!(tiers.put(&other, &data).await.is_err());
    }
}

#[tokio::test]
async fn where_neither_takes_writes_they_are_refused() {
    let tiers = Tiers::of(Direction::ReadOnly, Direction::Get);
    let (key, data) = blob(1, 1000);
    for outcome in
        [tiers.put(&key, &data).await, tiers.put(&result_key("a"), &"value".into()).await]
    {
        assert!(matches!(outcome, Err(StoreError::Unsupported { .. })), "{outcome:?}");
    }
    assert!(tiers.store.begin_put(&key, 1000).await.is_err());
    assert!(!tiers.fast.holds(&key) && !tiers.slow.holds(&key));
}

#[tokio::test]
async fn a_tier_that_keeps_nothing_is_not_asked() {
    let (fast, slow) = (Fake::new(), Fake::new());
    for (fast_is_noop, slow_is_noop) in [(true, false), (false, true)] {
        let options = TieredOptions { fast_is_noop, slow_is_noop, ..TieredOptions::default() };
        let store = TieredStore::new(Arc::clone(&fast) as _, Arc::clone(&slow) as _, options);
        let (used, unused) = if fast_is_noop { (&slow, &fast) } else { (&fast, &slow) };
        let before = [Call::Find, Call::Get, Call::Put, Call::BeginPut].map(|it| unused.calls(it));
        let (key, data) = blob(u64::from(fast_is_noop), 1000);
        assert!(store.get(&key, crate::store::ByteRange::ALL).await.unwrap().is_none());
        store.put(&key, data).await.unwrap();
        assert!(used.holds(&key) && !unused.holds(&key));
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
        assert!(store.get(&key, crate::store::ByteRange::ALL).await.unwrap().is_some());
        let after = [Call::Find, Call::Get, Call::Put, Call::BeginPut].map(|it| unused.calls(it));
        assert_eq!(before, after);
    }
}
