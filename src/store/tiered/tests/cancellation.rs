//! Futures that are dropped wherever they wait.
//!
//! Method: each is polled k times and dropped, for k = 0, 1, 2, ... until one completes. The fakes
//! yield at every call, so k counts the places where it waits.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::{Tiers, WriteBehindOptions, blob, result_key};
use crate::store::{BlobStore, BlobStoreExt, Key, PurgeScope, Selection, StoreError};

/// More than is copied in one step.
const LARGE: usize = (1 << 20) + 1;

/// Polls `polls` times at most, with turns of the runtime between, and drops what is not done.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        // What it waits for goes on.
        tokio::task::yield_now().await;
    }
    None
}

fn makers() -> [fn() -> Tiers; 2] {
    [Tiers::through, || Tiers::behind(WriteBehindOptions::default())]
}

/// Nothing is held, and the key is whole or absent, and works.
async fn assert_sound(tiers: &Tiers, key: &Key, data: &Bytes) {
    tiers.store.quiesce().await;
    assert_eq!((tiers.fast.uploads(), tiers.slow.uploads()), (0, 0));
    assert!(!tiers.fast.is_pinned(key));
    assert_eq!(tiers.stats().queued_bytes, 0);
    if tiers.is_present(key).await {
        assert_eq!(tiers.read(key).await.unwrap().as_ref(), Some(data));
    }
    tiers.put(key, data).await.unwrap();
    tiers.store.quiesce().await;
    assert!(tiers.slow.value(key).as_ref() == Some(data));
    assert_eq!(tiers.read(key).await.unwrap().as_ref(), Some(data));
    assert!(tiers.store.parts.flights.len() == 0);
}

#[tokio::test]
async fn a_dropped_write_leaves_nothing_behind() {
    for make in makers() {
        for len in [1000, LARGE] {
            let (key, data) = blob(1, len);
            for polls in 0.. {
                let tiers = make();
                tiers.fast.yield_at_calls();
                tiers.slow.yield_at_calls();
                let put = poll_and_drop(tiers.put(&key, &data), polls).await;
                assert_sound(&tiers, &key, &data).await;
                let streamed = make();
                streamed.fast.yield_at_calls();
                streamed.slow.yield_at_calls();
                let writing = async {
                    let upload = streamed.upload(&key, &data).await?;
                    upload.commit().await
                };
                let stream: Option<Result<(), StoreError>> = poll_and_drop(writing, polls).await;
                assert_sound(&streamed, &key, &data).await;
                if let (Some(put), Some(stream)) = (put, stream) {
                    put.unwrap();
                    stream.unwrap();
                    break;
                }
            }
        }
        let (key, data) = (result_key("a"), Bytes::from("value"));
        for polls in 0.. {
            let tiers = make();
            tiers.fast.yield_at_calls();
            tiers.slow.yield_at_calls();
            let put = poll_and_drop(tiers.put(&key, &data), polls).await;
            assert_sound(&tiers, &key, &data).await;
            if put.is_some() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_read_hangs_nobody() {
    let values = [blob(1, 1000), blob(2, LARGE), (result_key("a"), "value".into())];
    for (key, data) in values {
        for polls in 0.. {
            let tiers = Tiers::through();
            tiers.slow.insert(&key, data.clone());
            tiers.fast.yield_at_calls();
            tiers.slow.yield_at_calls();
            let other = tiers.spawn_read(&key);
            let read = poll_and_drop(tiers.store.get_all(&key, u64::MAX), polls).await;
            assert!(other.await.unwrap().unwrap().as_ref() == Some(&data));
            assert_sound(&tiers, &key, &data).await;
            if let Some(read) = read {
                assert!(read.unwrap().as_ref() == Some(&data));
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_purge_or_removal_goes_on() {
    let (key, data) = blob(1, 1000);
    for polls in 1.. {
        let tiers = Tiers::through();
        tiers.put(&key, &data).await.unwrap();
        tiers.fast.yield_at_calls();
        tiers.slow.yield_at_calls();
        let all = Selection::Scope(PurgeScope::All);
        let purge = poll_and_drop(tiers.store.purge_selected(all), polls).await;
        super::until("it goes on", || !tiers.slow.holds(&key) && !tiers.fast.holds(&key)).await;
        assert_sound(&tiers, &key, &data).await;
        let remove = poll_and_drop(tiers.store.remove(&key), polls).await;
        super::until("it goes on", || !tiers.slow.holds(&key) && !tiers.fast.holds(&key)).await;
        super::until("it is over", || !tiers.store.parts.fence.is_up(&key)).await;
        assert_sound(&tiers, &key, &data).await;
        if purge.is_some() && remove.is_some() {
            break;
        }
    }
}
