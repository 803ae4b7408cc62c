//! A store that is always full: its cap holds, every write succeeds, the youngest stay (I2, I14).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan::store::filesystem::{Cap, FilesystemOptions};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::client::part;
use crate::support::wait::stats_reach;
use crate::support::{Blob, Client, Process, TestServer, assert_code, disk, start_store};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A blob that was written, and the moments between which it was touched last, on one clock that
/// counts events.
struct Written {
    blob: Blob,
    began: u64,
    ended: u64,
}

/// One writer: uploads of these sizes, now and then touching one of its former blobs.
async fn write_blobs(
    address: String,
    writer: u64,
    lens: Vec<usize>,
    clock: Arc<AtomicU64>,
) -> Vec<Written> {
    let client = Client::connect(&address).await;
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    let mut random = fastrand::Rng::with_seed(writer);
    let mut all: Vec<Written> = Vec::new();
    for (number, len) in lens.into_iter().enumerate() {
        let function = DigestFunction::ALL[number % 2];
        let seed = writer * 1_000_000 + number as u64;
        let blob = Blob::with(function, Blob::random(seed, len).data);
        let began = tick();
        let committed = client.put(&blob).await;
        assert_eq!(committed.unwrap(), i64::try_from(len).unwrap(), "every write succeeds");
        all.push(Written { blob, began, ended: tick() });
        if number % 4 == 3 {
            let former = random.usize(number.saturating_sub(8)..number);
            let began = tick();
            if !client.is_missing(&all[former].blob).await {
                (all[former].began, all[former].ended) = (began, tick());
            }
        }
    }
    all
}

/// I14: nothing that is gone was touched after something that is there. Bytes are checked too.
async fn the_last_touched_are_left(client: &Client, all: &[Written]) -> u64 {
    let mut left_bytes = 0;
    let (mut oldest_left, mut youngest_gone) = (u64::MAX, 0);
    // A look-up touches, and the evictor may still make room: what it takes meanwhile is the oldest
    // of those that are not looked up yet.
    let mut youngest_first: Vec<&Written> = all.iter().collect();
    youngest_first.sort_by_key(|written| std::cmp::Reverse(written.ended));
    for written in youngest_first {
        if client.is_missing(&written.blob).await {
            youngest_gone = youngest_gone.max(written.began);
        } else {
            oldest_left = oldest_left.min(written.ended);
            left_bytes += written.blob.digest.size_bytes;
            let read = client.read(&written.blob.read_name()).await.unwrap();
            assert_eq!(read, written.blob.data);
        }
    }
    assert!(
        youngest_gone <= oldest_left,
        "gone: touched from {youngest_gone} on; there: touched until {oldest_left}"
    );
    left_bytes
}

/// Takes samples with `sample` until all writers are done.
async fn while_writing(
    mut writers: JoinSet<Vec<Written>>,
    mut sample: impl AsyncFnMut(),
) -> Vec<Written> {
    let mut all = Vec::new();
    while !writers.is_empty() {
        sample().await;
        // The server must get on between two samples.
        if let Some(done) = writers.try_join_next() {
            all.extend(done.unwrap());
        }
        tokio::task::yield_now().await;
    }
    all
}

/// What the directory of a running server takes, by name and without.
///
/// A walk over a directory in which files come and go sees a file that is deleted and the one
/// that took its room, and so more than there ever was. So the process stands still for the walk.
async fn disk_bytes_of(process: &Process, root: &Path) -> (u64, u64) {
    let _paused = process.pause().await;
    (disk::du(root), disk::nameless_bytes(process.id(), root))
}

/// Ten times the cap from 16 connections under samples of `du`.
async fn ten_times_the_cap(lens: impl Fn(u64) -> Vec<usize>) {
    const CAP: u64 = 64 << 20;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    // A lease would keep what was asked for longer than what was written later.
    let flags = ["--max-size", "64MiB", "--lease", "0", "--log", "warn"];
    let process = Process::serve(root, &flags);
    let clock = Arc::new(AtomicU64::new(1));
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let clock = Arc::clone(&clock);
        writers.spawn(write_blobs(process.grpc.clone(), writer, lens(writer), clock));
    }
    let mut samples = Vec::new();
    let mut last = 0;
    let all = while_writing(writers, async || {
        let now = clock.load(Ordering::SeqCst);
        if now >= last + 8 {
            last = now;
            samples.push(disk_bytes_of(&process, root).await);
        }
    })
    .await;
    let written: u64 = all.iter().map(|it| it.blob.digest.size_bytes).sum();
    assert!(written >= 10 * CAP, "{written}");
    let highest = samples.iter().map(|(named, nameless)| named + nameless).max().unwrap();
    assert!(samples.len() >= 10, "{}", samples.len());
    assert!(highest <= CAP, "{highest} bytes on the disk");
    assert!(highest > CAP / 2, "the cap was reached, or this shows nothing: {highest}");
    let client = Client::connect(&process.grpc).await;
    let left = the_last_touched_are_left(&client, &all).await;
    assert!(left > CAP / 2, "no more is evicted than needed: {left}");
    assert!(disk_bytes_of(&process, root).await.0 <= CAP);
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
}

/// From 1 KiB to 2 MiB, every order of magnitude, small ones more often.
fn mixed(writer: u64, total: usize) -> Vec<usize> {
    let mut random = fastrand::Rng::with_seed(writer);
    let mut lens = Vec::new();
    let mut sum = 0;
    while sum < total {
        let most = 2 << random.usize(10..=20);
        let len = random.usize(KIB..=most);
        sum += len;
        lens.push(len);
    }
    lens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i14_ten_times_the_cap_in_blobs_of_all_sizes() {
    ten_times_the_cap(|writer| mixed(writer, 40 * MIB)).await;
}

/// What is under way alone is more than the cap: reservations queue, and all of them succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i23_ten_times_the_cap_in_uploads_that_do_not_fit_at_once() {
    ten_times_the_cap(|_| vec![4 * MIB; 10]).await;
}

/// The same in this process: the books are within the cap at every sample.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_the_books_never_exceed_the_cap() {
    const CAP: u64 = 8 << 20;
    let directory = tempfile::tempdir().unwrap();
    let mut store = FilesystemOptions::new(directory.path(), Cap::Bytes(CAP));
    store.lease = Duration::ZERO;
    let server = start_store(directory, store).await;
    let clock = Arc::new(AtomicU64::new(1));
    let mut writers = JoinSet::new();
    let address = server.server.grpc_address().unwrap().to_string();
    for writer in 0..16 {
        let lens = mixed(writer, 5 * MIB);
        writers.spawn(write_blobs(address.clone(), writer, lens, Arc::clone(&clock)));
    }
    let all = while_writing(writers, async || {
        let stats = server.store().stats();
        assert!(stats.charged_bytes() <= CAP, "{stats:?}");
    })
    .await;
    let is_quiet = |it: &castellan::store::filesystem::StoreStats| {
        it.reserved_bytes == 0 && it.dying_bytes == 0
    };
    stats_reach(&server, "nothing is under way", is_quiet).await;
    the_last_touched_are_left(&Client::of(&server).await, &all).await;
    stats_reach(&server, "no reader is left", is_quiet).await;
    let stats = server.store().stats();
    assert_eq!(
        (stats.ledger_errors, stats.evict_unlink_failures, stats.reserve_timeouts),
        (0, 0, 0)
    );
    assert_eq!(disk::du(server.directory.path()), stats.charged_bytes());
    assert_eq!(disk::blob_files(server.directory.path()).len() as u64, stats.entries);
}

/// Pitfalls 7.4: refused on its first message, and not one entry pays for it.
#[tokio::test]
async fn reapi_69_a_blob_over_the_cap_evicts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &["--max-size", "4MB"]);
    let client = Client::connect(&process.grpc).await;
    let small: Vec<Blob> = (0..20).map(|seed| Blob::random(seed, 50_000)).collect();
    for blob in &small {
        client.put(blob).await.unwrap();
    }
    let before = disk_bytes_of(&process, directory.path()).await;
    let large = Blob::random(100, 6_000_000);
    for _ in 0..3 {
        assert_code(client.put(&large).await, Code::InvalidArgument);
        let write = client.open_write();
        write.send(part(&large.write_name(), &large.data, 0..1)).await;
        assert_code(write.reply().await, Code::InvalidArgument);
    }
    assert!(client.is_missing(&large).await);
    for blob in &small {
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    assert_eq!(disk_bytes_of(&process, directory.path()).await, before);
}

const HAMMER_KEYS: usize = 32;

async fn hammer_write(client: Client, keys: Arc<Vec<Blob>>, writer: u64) {
    let mut random = fastrand::Rng::with_seed(writer);
    for _ in 0..150 {
        let blob = &keys[random.usize(..HAMMER_KEYS)];
        let committed = client.put(blob).await;
        assert_eq!(committed.unwrap(), i64::try_from(blob.data.len()).unwrap());
    }
}

/// Reads of what may be evicted at any moment: the right bytes or none. Returns the hits.
async fn hammer_read(client: Client, keys: Arc<Vec<Blob>>, reader: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(1000 + reader);
    let mut hits = 0;
    for _ in 0..300 {
        let blob = &keys[random.usize(..HAMMER_KEYS)];
        match client.read(&blob.read_name()).await {
            Ok(data) => {
                assert_eq!(data, blob.data);
                hits += 1;
            }
            other => drop(assert_code(other, Code::NotFound)),
        }
    }
    hits
}

/// Pitfalls 7.5: keys that are evicted and uploaded again all the time. No upload fails, no byte
/// is wrong, and afterwards what is said to be there can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_16_i6_i7_evicted_and_uploaded_again_and_again() {
    let server = TestServer::start_on_files_with(600_000, GrpcOptions::default()).await;
    let keys: Vec<Blob> =
        (0..HAMMER_KEYS as u64).map(|seed| Blob::random(seed, 16 * KIB)).collect();
    let keys = Arc::new(keys);
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    for number in 0..16 {
        writers.spawn(hammer_write(Client::of(&server).await, Arc::clone(&keys), number));
    }
    for number in 0..8 {
        readers.spawn(hammer_read(Client::of(&server).await, Arc::clone(&keys), number));
    }
    writers.join_all().await;
    let hits: u64 = readers.join_all().await.into_iter().sum();
    let stats = server.store().stats();
    assert!(hits > 0 && stats.evictions > 100, "{hits} hits, {stats:?}");
    let client = Client::of(&server).await;
    for blob in keys.iter() {
        let is_missing = client.is_missing(blob).await;
        match client.read(&blob.read_name()).await {
            Ok(data) => assert!(data == blob.data && !is_missing),
            missed => assert!(is_missing, "said to be there, but {missed:?}"),
        }
        client.put(blob).await.unwrap();
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    stats_reach(&server, "nothing is under way", |it| {
        it.reserved_bytes == 0 && it.dying_bytes == 0
    })
    .await;
    let stats = server.store().stats();
    let faults = [
        stats.ledger_errors,
        stats.evict_unlink_failures,
        stats.reserve_timeouts,
        stats.index_file_missing,
        stats.corrupt_blobs,
    ];
    assert_eq!(faults, [0; 5], "{stats:?}");
    assert_eq!(disk::du(server.directory.path()), stats.charged_bytes());
}
