//! Keys that are evicted and uploaded again all the time, in a store of a megabyte:
//! no upload fails, no byte is wrong, and what is said to be there can be read.
//!
//! `CASTELLAN_HAMMER_SECONDS` says how long it goes on (60).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{Blob, Client, Process, assert_code, disk, random_of};

const DEFAULT_SECONDS: u64 = 60;
/// Less than all keys and their directories take. More than what nobody may take away takes at
/// once: leases, directories, uploads that have their room, and what readers have open.
const CAP: u64 = 1_000_000;
const KEYS: usize = 48;
/// Only about these anybody asks before reading, so that leases hold 160 KiB at most.
const ASKED_KEYS: usize = 10;
const KEY_BYTES: usize = 16 << 10;
const WRITERS: u64 = 16;
const READERS: u64 = 8;
/// Uploads between two looks at the disk.
const UPLOADS_PER_SAMPLE: u64 = 200;

/// What the clients share and have counted.
struct Shared {
    keys: Vec<Blob>,
    is_over: AtomicBool,
    sample_is_due: Notify,
    uploads: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Reads of what was said to be there.
    promised: AtomicU64,
    /// Of these, those that found nothing.
    broken: AtomicU64,
}

impl Shared {
    fn new(seed: u64) -> Self {
        let keys = (0..KEYS as u64).map(|key| Blob::random(seed + key, KEY_BYTES)).collect();
        let [uploads, hits, misses, promised, broken] = Default::default();
        let sample_is_due = Notify::new();
        let is_over = AtomicBool::new(false);
        Self { keys, is_over, sample_is_due, uploads, hits, misses, promised, broken }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::SeqCst)
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst) + 1
}

async fn write_on(client: Client, shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let blob = &shared.keys[random.usize(..KEYS)];
        let committed = client.put(blob).await;
        assert_eq!(committed.unwrap(), i64::try_from(KEY_BYTES).unwrap());
        if count(&shared.uploads).is_multiple_of(UPLOADS_PER_SAMPLE) {
            shared.sample_is_due.notify_one();
        }
    }
}

async fn read_on(client: Client, shared: Arc<Shared>, mut random: fastrand::Rng) {
    while shared.goes_on() {
        let key = random.usize(..KEYS);
        let blob = &shared.keys[key];
        let is_promised = key < ASKED_KEYS && !client.is_missing(blob).await;
        let read = client.read(&blob.read_name()).await;
        let is_hit = read.is_ok();
        match read {
            Ok(data) => assert_eq!(data, blob.data),
            other => drop(assert_code(other, Code::NotFound)),
        }
        count(if is_hit { &shared.hits } else { &shared.misses });
        if is_promised {
            count(&shared.promised);
            if !is_hit {
                count(&shared.broken);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_16_i2_i6_i7_keys_come_and_go_for_a_minute() {
    let seconds = std::env::var("CASTELLAN_HAMMER_SECONDS").ok();
    let seconds = seconds.map_or(DEFAULT_SECONDS, |it| it.parse().unwrap());
    let mut random = random_of("hammer");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = Process::serve(root, &["--max-size", "1MB", "--lease", "1h", "--log", "warn"]);
    let shared = Arc::new(Shared::new(random.u64(..1 << 60)));
    let mut clients = JoinSet::new();
    for number in 0..WRITERS + READERS {
        let client = Client::connect(&process.grpc).await;
        let (shared, random) = (Arc::clone(&shared), random.fork());
        if number < WRITERS {
            clients.spawn(write_on(client, shared, random));
        } else {
            clients.spawn(read_on(client, shared, random));
        }
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut samples, mut highest) = (0, 0);
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => break,
            ended = clients.join_next() => panic!("a client failed: {ended:?}"),
            () = shared.sample_is_due.notified() => {}
        }
        let paused = process.pause().await;
        let bytes = disk::du(root) + disk::nameless_bytes(process.id(), root);
        drop(paused);
        (samples, highest) = (samples + 1, bytes.max(highest));
        assert!(bytes <= CAP, "{bytes} bytes on the disk");
    }
    shared.is_over.store(true, Ordering::SeqCst);
    clients.join_all().await;
    let [uploads, hits, misses, promised, broken] =
        [&shared.uploads, &shared.hits, &shared.misses, &shared.promised, &shared.broken]
            .map(|it| it.load(Ordering::SeqCst));
    println!(
        "hammer: {seconds} s, {uploads} uploads, 0 failed; {hits} hits, {misses} misses, 0 wrong; \
         {promised} promised, {broken} broken; {samples} samples, at most {highest} bytes"
    );
    assert!(misses > 0 && promised > 0 && samples > 0, "the store was never full");
    assert_eq!(broken, 0, "present and then unreadable");
    assert_eq!(process.stop().await.code(), Some(0));
}
