//! Accepting under want and up to a bound. Sockets are stood in for by numbers.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::Semaphore;

use super::{ACCEPT_PAUSE, accepted};

fn out_of_descriptors() -> io::Error {
    io::Error::from_raw_os_error(24)
}

fn counted<T>(
    items: impl Stream<Item = T> + Unpin,
    polls: &Arc<AtomicUsize>,
) -> impl Stream<Item = T> + Unpin {
    let polls = Arc::clone(polls);
    items.inspect(move |_| {
        polls.fetch_add(1, Ordering::Relaxed);
    })
}

#[tokio::test(start_paused = true)]
async fn i22_out_of_descriptors_is_a_pause_not_a_spin() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let failing = counted(stream::repeat_with(|| Err::<u8, _>(out_of_descriptors())), &attempts);
    let mut connections = pin!(accepted(failing, Arc::new(Semaphore::new(1))));
    let patience = 10 * ACCEPT_PAUSE + ACCEPT_PAUSE / 2;
    assert!(tokio::time::timeout(patience, connections.next()).await.is_err());
    assert_eq!(attempts.load(Ordering::Relaxed), 11);
}

#[tokio::test(start_paused = true)]
async fn accepting_goes_on_after_errors() {
    let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let outcomes = vec![Err(aborted()), Err(out_of_descriptors()), Err(aborted()), Ok(7_u8)];
    let mut connections = pin!(accepted(stream::iter(outcomes), Arc::new(Semaphore::new(1))));
    assert_eq!(connections.next().await.unwrap().unwrap().io, 7);
    assert!(connections.next().await.is_none());
}

#[tokio::test]
async fn i22_connections_are_bounded_and_a_closed_one_makes_place() {
    let offered = stream::iter((0..3_u8).map(Ok));
    let mut connections = pin!(accepted(offered, Arc::new(Semaphore::new(2))));
    let first = connections.next().await.unwrap().unwrap();
    let second = connections.next().await.unwrap().unwrap();
    assert!(connections.next().now_or_never().is_none());
    drop(first);
    let third = tokio::time::timeout(Duration::from_mins(1), connections.next()).await;
    assert_eq!(third.unwrap().unwrap().unwrap().io, 2);
    assert_eq!(second.io, 1);
}
