//! Transfers that break and go on.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::fake::{Fake, Fault, Reach};
use super::*;
use crate::store::BlobStore as _;

const LEN: usize = 3 << 20;

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_where_it_broke() {
    let fake = Fake::start();
    let data = noise(1, LEN);
    let digest = fake.store(data.clone());
    let store = store_over(&fake);
    fake.fail("Read", Fault::Break(100_000));
    fake.fail("Read", Fault::Break(0));
    fake.fail("Read", Fault::Break(1_000_000));
    assert_eq!(read(&store, digest).await.unwrap().unwrap(), data);
    let name = store.upstream.read_name(&digest);
    let offsets = [0, 100_000, 100_000, 1_100_000];
    assert_eq!(fake.calls("Read"), offsets.map(|at| format!("Read {name} {at} 0")));
    assert!(store.stats().retries >= 3);
    // A part goes on with the rest of it.
    fake.fail("Read", Fault::Break(100));
    let part = read_range(&store, digest, 10, 1_000).await.unwrap();
    assert_eq!(part, data.slice(10..1_010));
    assert_eq!(fake.calls("Read").last().unwrap(), &format!("Read {name} 110 900"));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_breaks_for_ever_ends() {
    let fake = Fake::start();
    let digest = fake.store(noise(1, LEN));
    let store = store_over(&fake);
    fake.fail_always("Read", Fault::Break(1));
    assert_unavailable(read(&store, digest).await);
    assert!(fake.calls("Read").len() < 15, "{}", fake.calls("Read").len());
    fake.heal();
    // What ends with a refusal is not continued.
    fake.fail("Read", Fault::Break(1));
    fake.fail("Read", Fault::Refuse(Status::not_found("gone")));
    assert_unavailable(read(&store, digest).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_in_a_read_is_made_anew() {
    let fake = Fake::start();
    let data = noise(1, 20 << 20);
    let digest = fake.store(data.clone());
    let store = store_over(&fake);
    let mut reader = reader(&store, digest).await;
    let mut read = reader.next(1 << 20).await.unwrap().unwrap().to_vec();
    fake.cut();
    while let Some(chunk) = reader.next(1 << 20).await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == data, "other bytes");
    assert_eq!(fake.dials(), 2);
    assert_eq!(fake.calls("Read").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_without_progress_ends_in_time() {
    let fake = Fake::start();
    let digest = fake.store(noise(1, LEN));
    let store = store_with(&[Arc::clone(&fake)], |it| it.rpc_timeout = Duration::from_secs(7));
    fake.fail("Read", Fault::Stall(100_000));
    let begun = Instant::now();
    assert_unavailable(read(&store, digest).await);
    assert_eq!(begun.elapsed().as_secs(), 7);
    fake.fail("Read", Fault::Hang);
    assert_unavailable(read(&store, digest).await);
    assert_eq!(begun.elapsed().as_secs(), 14);
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_where_the_upstream_is() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for (seed, at) in [(1, 1), (2, 300_000), (3, LEN)] {
        let data = noise(seed, LEN);
        fake.fail("Write", Fault::Break(at));
        fake.fail("Write", Fault::Break(at + 200_000));
        store.put(&key_of(&data), data.clone()).await.unwrap();
        assert_eq!(fake.blob(&sha256(&data)).unwrap(), data, "{at}");
        // In pieces, of which the last are kept.
        let data = noise(100 + seed, LEN);
        fake.fail("Write", Fault::Break(at));
        stream(&store, &data).await.unwrap();
        assert_eq!(fake.blob(&sha256(&data)).unwrap(), data, "{at}");
    }
    assert!(fake.calls("QueryWriteStatus").len() >= 6);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_has_happened() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let data = noise(1, LEN);
    fake.fail("Write", Fault::BreakAtEnd);
    store.put(&key_of(&data), data.clone()).await.unwrap();
    assert_eq!(fake.calls("Write").len(), 1);
    assert_eq!(fake.blob(&sha256(&data)).unwrap(), data);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_write_that_is_not_kept_any_more_fails() {
    let fake = Fake::start();
    let store = store_with(&[Arc::clone(&fake)], |it| it.batching.max_queued_bytes = 1 << 20);
    let data = noise(1, LEN);
    fake.fail("Write", Fault::Break(1));
    fake.fail("QueryWriteStatus", Fault::Refuse(Status::unimplemented("")));
    let what = assert_unavailable(stream(&store, &data).await);
    assert!(what.contains("grpc://fake0:1"), "{what}");
    assert!(fake.blob(&sha256(&data)).is_none());
    // The same, begun anew, works.
    stream(&store, &data).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_restarts_in_a_write_gets_all_of_it() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let data = noise(1, LEN);
    let mut upload = begin(&store, sha256(&data)).await;
    upload.write(data.slice(..1 << 20)).await.unwrap();
    upload.write(data.slice(1 << 20..2 << 20)).await.unwrap();
    fake.cut();
    upload.write(data.slice(2 << 20..)).await.unwrap();
    upload.commit().await.unwrap();
    assert_eq!(fake.blob(&sha256(&data)).unwrap(), data);
    assert_eq!(fake.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_ends_in_time() {
    let fake = Fake::start();
    let store = store_with(&[Arc::clone(&fake)], |it| it.rpc_timeout = Duration::from_secs(7));
    let data = noise(1, 500 << 10);
    let begun = Instant::now();
    fake.fail("Write", Fault::Stall(1));
    assert_unavailable(store.put(&key_of(&data), data.clone()).await);
    assert_eq!(begun.elapsed().as_secs(), 7);
    // A stream is held back by an upstream that takes nothing.
    let data = noise(2, 30 << 20);
    fake.fail("Write", Fault::Stall(1));
    assert_unavailable(stream(&store, &data).await);
    assert_eq!(begun.elapsed().as_secs(), 14);
    assert!(store.stats().bytes_written < 10 << 20, "{}", store.stats().bytes_written);
}

#[tokio::test(start_paused = true)]
async fn a_slow_transfer_may_take_as_long_as_it_goes_on() {
    let fake = Fake::start();
    let store = store_with(&[Arc::clone(&fake)], |it| it.rpc_timeout = Duration::from_secs(7));
    let data = noise(1, 10 << 20);
    fake.fail_always("Write", Fault::Slow(Duration::from_millis(200)));
    fake.fail_always("Read", Fault::Slow(Duration::from_secs(5)));
    let begun = Instant::now();
    stream(&store, &data).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(read(&store, sha256(&data)).await.unwrap().unwrap(), data);
    assert!(begun.elapsed() > Duration::from_mins(5), "{:?}", begun.elapsed());
    assert_eq!(store.stats().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_transfer_leaves_nothing_under_way() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let digest = fake.store(noise(1, 20 << 20));
    let mut reader = reader(&store, digest).await;
    reader.next(1_000).await.unwrap();
    assert_eq!(store.stats().in_flight, 1);
    drop(reader);
    let data = noise(2, LEN);
    let mut upload = begin(&store, sha256(&data)).await;
    upload.write(data.slice(..2 << 20)).await.unwrap();
    upload.write(data.slice(2 << 20..)).await.unwrap();
    drop(upload);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.stats().in_flight, 0);
    assert!(fake.blob(&sha256(&data)).is_none());
    fake.set_reach(Reach::Up);
    stream(&store, &data).await.unwrap();
}
