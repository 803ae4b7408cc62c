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

/// Every file is the store's own or a whole blob with the right name.
fn nothing_but_whole_blobs(root: &Path) {
    for path in disk::files(root) {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if ["LOCK", "FORMAT"].contains(&relative.as_str()) {
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

/// A fresh open finds the ledger that `du` finds.
async fn ledger_is_du(root: &Path, max_bytes: u64) {
    let options = FilesystemOptions::new(root, Cap::Bytes(max_bytes));
    let store = FilesystemStore::open(options).await.unwrap();
    let stats = store.stats();
    assert_eq!(stats.charged_bytes(), disk::du(root), "{stats:?}");
    assert_eq!((stats.foreign_files, stats.ledger_errors), (0, 0));
    assert_eq!(stats.entries, disk::blob_files(root).len() as u64);
    store.shutdown().await.unwrap();
}

/// Three times: what was acknowledged is there and right, nothing partial is visible, no litter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i19_kill_9_under_write_load_loses_nothing_that_was_acknowledged() {
    const ACKNOWLEDGED: usize = 60;
    let directory = tempfile::tempdir().unwrap();
    let mut known = HashSet::new();
    for round in 0..3 {
        let process = Process::serve(directory.path(), &["--max-size", "1GiB"]);
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
    let process = Process::serve(directory.path(), &["--max-size", "1GiB"]);
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

/// I2 holds from the first moment: a restart under a smaller cap is within it.
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
    assert!(disk::du(directory.path()) <= 16 << 20);
    let client = Client::connect(&process.grpc).await;
    let mut is_there = Vec::new();
    for blob in &blobs {
        is_there.push(!client.is_missing(blob).await);
    }
    let first = is_there.iter().position(|it| *it).unwrap();
    assert!(is_there[first..].iter().all(|it| *it), "the oldest go first: {is_there:?}");
    assert!(blobs.len() - first >= 12, "no more than needed: {is_there:?}");
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

/// The disk is smaller than the cap and others fill it: uploads are told so, nothing breaks, and
/// when there is room again they are accepted.
#[tokio::test]
async fn reapi_69_a_full_disk_is_resource_exhausted_and_passes() {
    let Some(disk) = SmallDisk::mount(16 * MIB) else { return };
    let root = disk.0.path().join("store");
    let ballast = disk.0.path().join("ballast");
    let process = Process::serve(&root, &["--max-size", "64MiB"]);
    let client = Client::connect(&process.grpc).await;
    let kept = Blob::random(1, 2 * MIB);
    client.put(&kept).await.unwrap();
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4 * KIB]).is_ok() {}
    // In one message and in many, and again and again.
    for seed in 2..6 {
        for len in [100, 100_000, 3 * MIB] {
            let blob = Blob::random(seed, len);
            let refused = assert_code(client.put(&blob).await, Code::ResourceExhausted);
            assert!(!refused.details().is_empty(), "says when to come again: {refused:?}");
            assert!(client.is_missing(&blob).await);
        }
    }
    assert_eq!(client.read(&kept.read_name()).await.unwrap(), kept.data);
    assert_eq!(disk::nameless_bytes(process.id(), &root), 0, "what was refused is given back");
    file.set_len(0).unwrap();
    for seed in 2..6 {
        for len in [100, 100_000, 2 * MIB] {
            let blob = Blob::random(seed, len);
            client.put(&blob).await.unwrap();
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
    assert_eq!(client.read(&kept.read_name()).await.unwrap(), kept.data);
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
    nothing_but_whole_blobs(&root);
}
