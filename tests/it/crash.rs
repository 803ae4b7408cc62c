//! The program under `kill -9` and on a full disk.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use castellan::digest::{Digest, DigestFunction};
use castellan::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::wait::eventually;
use crate::support::{Blob, Client, Process, assert_code, disk};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const WRITERS: u64 = 8;

/// The blob of a seed, by both functions and of every size.
fn blob_of(seed: u64) -> Blob {
    let len = fastrand::Rng::with_seed(seed).usize(1..600 * KIB);
    let function = DigestFunction::ALL[usize::try_from(seed % 2).unwrap()];
    Blob::with(function, Blob::random(seed, len).data)
}

/// Writes until the server is gone; tells what was acknowledged.
async fn write_on(address: String, writer: u64, round: u64, acknowledged: mpsc::Sender<u64>) {
    let client = Client::connect(&address).await;
    for number in 0.. {
        let seed = round * 1_000_000 + number * WRITERS + writer;
        if client.put(&blob_of(seed)).await.is_err() {
            return;
        }
        acknowledged.send(seed).await.unwrap();
    }
}

/// One store, for the books of the directory to be those of one.
const FLAGS: [&str; 4] = ["--max-size", "1GiB", "--values-max-size", "0"];

/// Every file is the store's own or a whole blob with the right name.
fn nothing_but_whole_blobs(root: &Path) {
    for path in disk::files(root) {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if ["LOCK", "FORMAT", "SNAPSHOT", "REMOVED"].contains(&relative.as_str()) {
            continue;
        }
        let segments: Vec<&str> = relative.split('/').collect();
        let ["blobs", function, shard, name] = segments[..] else { panic!("litter: {relative}") };
        let function = DigestFunction::ALL.into_iter().find(|it| it.name() == function).unwrap();
        #[expect(clippy::disallowed_methods, reason = "looks at what a crash has left")]
        let digest = Digest::of(function, &std::fs::read(&path).unwrap());
        let hash = digest.hash_hex();
        let identity = format!("{}-{}.", hash.as_str(), digest.size_bytes);
        assert!(name.starts_with(&identity) && hash.as_str().starts_with(shard), "{relative}");
    }
}

/// A fresh open finds the ledger that `du` finds, once every directory is read.
async fn ledger_is_du(root: &Path, max_bytes: u64) {
    let options = FilesystemOptions::new(root, Cap::Bytes(max_bytes));
    let store = FilesystemStore::open(options).await.unwrap();
    let agrees = || {
        let stats = store.stats();
        let entries = disk::blob_files(root).len() as u64;
        std::future::ready(stats.charged_bytes() == disk::du(root) && stats.entries == entries)
    };
    eventually("the ledger is what du shows", agrees).await;
    let stats = store.stats();
    assert_eq!((stats.foreign_files, stats.ledger_errors), (0, 0));
    store.shutdown(castellan::store::filesystem::Cleanup::Keep).await.unwrap();
}

/// Three times: what was acknowledged is there and right, nothing partial is visible, no litter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_kill_9_under_write_load_loses_nothing_that_was_acknowledged() {
    const ACKNOWLEDGED: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let mut known = HashSet::new();
    for round in 0..3 {
        let process = Process::serve(directory.path(), &FLAGS);
        let (acknowledged, mut told) = mpsc::channel(1);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write_on(process.grpc.clone(), writer, round, acknowledged.clone()));
        }
        drop(acknowledged);
        for _ in 0..ACKNOWLEDGED {
            known.insert(told.recv().await.unwrap());
        }
        process.kill();
        // What was acknowledged before the kill and not told yet.
        while let Some(seed) = told.recv().await {
            known.insert(seed);
        }
        writers.join_all().await;
        nothing_but_whole_blobs(directory.path());
        ledger_is_du(directory.path(), 1 << 30).await;
    }
    let process = Process::serve(directory.path(), &FLAGS);
    let client = Client::connect(&process.grpc).await;
    for seed in known {
        let blob = blob_of(seed);
        assert!(!client.is_missing(&blob).await, "{seed}");
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data, "{seed}");
    }
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
    nothing_but_whole_blobs(directory.path());
}

/// A restart under a smaller cap is within it as soon as it has read what is there.
#[tokio::test]
async fn i2_i19_a_restart_with_less_room_keeps_the_youngest() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &["--max-size", "64MiB"]);
    let client = Client::connect(&process.grpc).await;
    let blobs: Vec<Blob> = (0..40).map(|seed| Blob::random(seed, MIB)).collect();
    for blob in &blobs {
        client.put(blob).await.unwrap();
    }
    drop(client);
    process.kill();
    let process = Process::serve(directory.path(), &["--max-size", "16MiB"]);
    let files = || {
        let files = disk::blob_files(directory.path());
        let has = |blob: &Blob| {
            let hash = blob.digest.hash_hex();
            files.iter().any(|path| path.to_string_lossy().contains(hash.as_str()))
        };
        blobs.iter().map(has).collect::<Vec<_>>()
    };
    // The evictor unlinks a few at a time, in no order.
    let oldest_are_gone = || {
        let is_within = disk::du(directory.path()) <= 16 << 20;
        std::future::ready(is_within && files().is_sorted())
    };
    eventually("the oldest are gone", oldest_are_gone).await;
    let is_there = files();
    assert!(is_there.iter().filter(|it| **it).count() >= 12, "no more than needed: {is_there:?}");
    let client = Client::connect(&process.grpc).await;
    let youngest = &blobs[blobs.len() - 1];
    assert_eq!(client.read(&youngest.read_name()).await.unwrap(), youngest.data);
}

/// A file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where nobody may mount.
    fn mount(bytes: usize) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "castellan-test"]).arg(directory.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(directory)),
            outcome => {
                eprintln!("skipped: cannot mount a tmpfs, which needs root: {outcome:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failed test may leave the server on it for another moment.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// The disk is smaller than the cap and others fill it: uploads take the place of what is there,
/// one that is larger than all of that is told so, and when there is room again it is used.
#[tokio::test]
async fn reapi_69_a_full_disk_makes_room_or_is_resource_exhausted() {
    let Some(disk) = SmallDisk::mount(16 * MIB) else { return };
    let root = disk.0.path().join("store");
    let ballast = disk.0.path().join("ballast");
    let process = Process::serve(&root, &["--max-size", "64MiB"]);
    let client = Client::connect(&process.grpc).await;
    let old = Blob::random(1, 2 * MIB);
    client.put(&old).await.unwrap();
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4 * KIB]).is_ok() {}
    let large = Blob::random(2, 3 * MIB);
    let refused = assert_code(client.put(&large).await, Code::ResourceExhausted);
    assert!(!refused.details().is_empty(), "says when to come again: {refused:?}");
    assert!(client.is_missing(&large).await);
    assert!(client.is_missing(&old).await, "it has made room");
    // In one message and in many, and again and again.
    for seed in 3..23 {
        for len in [100, 300_000] {
            let blob = Blob::random(seed, len);
            client.put(&blob).await.unwrap();
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
    assert_eq!(disk::nameless_bytes(process.id(), &root), 0, "what was refused is given back");
    file.set_len(0).unwrap();
    for seed in 23..26 {
        for len in [100, 300_000, 4 * MIB] {
            let blob = Blob::random(seed, len);
            client.put(&blob).await.unwrap();
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
    nothing_but_whole_blobs(&root);
}
