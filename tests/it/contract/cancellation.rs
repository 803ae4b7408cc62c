//! Futures that are dropped wherever they wait.
//!
//! Method: each is polled k times and dropped, for k = 0, 1, 2, ... until one completes; a poll is
//! made only when the one before has been woken, so k counts the places where it waits.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use castellan::store::{ByteRange, PurgeScope, Selection, StoreError};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::values::{
    assert_absent, assert_same, begin, drain, is_missing, key_of, main_namespace, put, read,
    read_what_is_promised, result_key, write_all,
};
use super::{Open, Opened, Wanted};
use crate::support::Blob;

/// Places where one call may wait.
const MOST_POLLS: usize = 2_000;
/// Reached only by a future that nobody wakes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Of several pieces and blocks.
const LEN: usize = (300 << 10) + 1;

#[derive(Debug, Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Polls `polls` times at most and drops what has not completed by then.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        timeout(PATIENCE, woken.0.notified()).await.expect("nobody wakes it");
    }
    None
}

/// Counts up until something completes.
fn counting() -> impl Iterator<Item = usize> {
    (0..MOST_POLLS).inspect(|polls| assert!(*polls + 1 < MOST_POLLS, "it never completes"))
}

/// Full, so that every write has to evict.
async fn full(open: Open) -> Opened {
    let opened = open(Wanted { cap_bytes: 3 << 20, ..Wanted::SMALL }).await;
    for seed in 0..40 {
        put(&*opened.store, &Blob::random(1_000 + seed, 100 << 10)).await;
    }
    opened
}

/// A blob of its own for each attempt.
fn nth(polls: usize) -> Blob {
    Blob::random(polls as u64, LEN)
}

/// Whole or not at all; and it can be stored now.
async fn assert_whole_or_absent(opened: &Opened, blob: &Blob) {
    opened.settle().await;
    if let Some(data) = read_what_is_promised(&*opened.store, &key_of(blob)).await {
        assert_same(&data, &blob.data);
    }
    put(&*opened.store, blob).await;
    assert_same(&read(&*opened.store, &key_of(blob)).await.unwrap(), &blob.data);
}

pub(super) async fn a_dropped_put_has_published_or_has_not(open: Open) {
    let opened = full(open).await;
    for polls in counting() {
        let blob = nth(polls);
        let key = key_of(&blob);
        let outcome = poll_and_drop(opened.store.put(&key, blob.data.clone()), polls).await;
        assert_whole_or_absent(&opened, &blob).await;
        if let Some(outcome) = outcome {
            outcome.unwrap();
            break;
        }
    }
    let key = result_key(main_namespace(), "a");
    opened.store.put(&key, "before".into()).await.unwrap();
    for polls in counting() {
        let later = Bytes::from(format!("after {polls}"));
        let outcome = poll_and_drop(opened.store.put(&key, later.clone()), polls).await;
        opened.settle().await;
        let now = read(&*opened.store, &key).await;
        assert!(now.as_ref().is_some_and(|it| it == "before" || it.starts_with(b"after")));
        if outcome.is_some() {
            assert_eq!(now, Some(later));
            break;
        }
    }
}

pub(super) async fn a_dropped_get_holds_nothing(open: Open) {
    let opened = full(open).await;
    let blob = nth(0);
    put(&*opened.store, &blob).await;
    let read_it = || async {
        let range = ByteRange { offset: 1, limit: None };
        let mut reader = opened.store.get(&key_of(&blob), range).await?.unwrap();
        let mut all = Vec::new();
        while let Some(chunk) = reader.next(64 << 10).await? {
            all.extend_from_slice(&chunk);
        }
        Ok::<_, StoreError>(all)
    };
    for polls in counting() {
        let outcome = poll_and_drop(read_it(), polls).await;
        opened.settle().await;
        if let Some(all) = outcome {
            assert_same(&all.unwrap(), &blob.data[1..]);
            break;
        }
    }
    // A reader whose `next` was dropped goes on where it was.
    for polls in counting() {
        let all = ByteRange::ALL;
        let mut reader = opened.store.get(&key_of(&blob), all).await.unwrap().unwrap();
        let chunk = poll_and_drop(reader.next(64 << 10), polls).await;
        let is_done = chunk.is_some();
        let mut read = chunk.map_or_else(Vec::new, |it| it.unwrap().unwrap().to_vec());
        read.extend(drain(reader, 64 << 10).await);
        assert_same(&read, &blob.data);
        if is_done {
            break;
        }
    }
    opened.settle().await;
}

pub(super) async fn a_dropped_find_missing_hangs_nobody(open: Open) {
    let opened = full(open).await;
    let blobs = [nth(0), nth(1), nth(2)];
    put(&*opened.store, &blobs[0]).await;
    put(&*opened.store, &blobs[2]).await;
    let keys = blobs.each_ref().map(key_of);
    for polls in counting() {
        let outcome = poll_and_drop(opened.store.find_missing(&keys), polls).await;
        opened.settle().await;
        let again = opened.store.find_missing(&keys).await.unwrap();
        assert_eq!(again, [false, true, false]);
        if let Some(missing) = outcome {
            assert_eq!(missing.unwrap(), again);
            break;
        }
    }
}

pub(super) async fn a_dropped_begin_put_gives_everything_back(open: Open) {
    let opened = full(open).await;
    for polls in counting() {
        let blob = nth(polls);
        let key = key_of(&blob);
        let outcome = poll_and_drop(opened.store.begin_put(&key, LEN as u64), polls).await;
        let is_done = outcome.is_some();
        drop(outcome.map(Result::unwrap));
        opened.settle().await;
        assert_absent(&*opened.store, &key).await;
        assert_whole_or_absent(&opened, &blob).await;
        if is_done {
            break;
        }
    }
}

pub(super) async fn a_dropped_write_gives_everything_back(open: Open) {
    let opened = full(open).await;
    for polls in counting() {
        let blob = nth(polls);
        let key = key_of(&blob);
        let mut upload = begin(&*opened.store, &key, LEN).await;
        upload.write(blob.data.slice(..1_000)).await.unwrap();
        let outcome = poll_and_drop(upload.write(blob.data.slice(1_000..)), polls).await;
        let is_done = outcome.is_some();
        if is_done {
            assert_eq!(upload.written_bytes(), LEN as u64);
        } else if upload.is_resumable() {
            // Then it goes on where it says, and ends well.
            let at = usize::try_from(upload.written_bytes()).unwrap();
            write_all(&mut upload, &blob.data.slice(at..)).await.unwrap();
            upload.commit().await.unwrap();
            assert_whole_or_absent(&opened, &blob).await;
            continue;
        }
        drop(upload);
        opened.settle().await;
        assert_absent(&*opened.store, &key).await;
        assert_whole_or_absent(&opened, &blob).await;
        if is_done {
            break;
        }
    }
}

pub(super) async fn a_dropped_commit_has_published_or_has_not(open: Open) {
    let opened = full(open).await;
    for polls in counting() {
        let blob = nth(polls);
        let mut upload = begin(&*opened.store, &key_of(&blob), LEN).await;
        write_all(&mut upload, &blob.data).await.unwrap();
        let outcome = poll_and_drop(upload.commit(), polls).await;
        if outcome.is_some() {
            assert!(!is_missing(&*opened.store, &key_of(&blob)).await);
        }
        assert_whole_or_absent(&opened, &blob).await;
        if let Some(outcome) = outcome {
            outcome.unwrap();
            break;
        }
    }
}

pub(super) async fn a_dropped_purge_goes_on(open: Open) {
    let opened = full(open).await;
    let all = Selection::Scope(PurgeScope::All);
    for polls in counting() {
        let blob = nth(polls);
        put(&*opened.store, &blob).await;
        let outcome = poll_and_drop(opened.store.purge_selected(all), polls).await;
        let is_done = outcome.is_some();
        if is_done {
            outcome.map(Result::unwrap);
        } else if polls > 0 {
            let has_left = || async { read(&*opened.store, &key_of(&blob)).await.is_none() };
            crate::support::wait::eventually("a purge that has begun goes on", has_left).await;
        }
        // Until the one that was dropped is over, it may take what is stored now.
        opened.store.purge_selected(all).await.unwrap();
        assert_absent(&*opened.store, &key_of(&blob)).await;
        assert_whole_or_absent(&opened, &blob).await;
        if is_done {
            break;
        }
    }
}
