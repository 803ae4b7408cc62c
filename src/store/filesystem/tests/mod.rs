//! The store on a real directory.

#![expect(clippy::disallowed_methods, reason = "the tests play the others: clients and people")]

mod adoption;
mod books;
mod crash;
mod eviction;
mod faults;
mod former;
mod full_disk;
mod given_up;
mod leases;
mod life;
mod links;
mod many_links;
mod model;
mod purge;
mod recovery;
mod reuse;
mod selection;
mod set_aside;
mod start;
mod stop;
mod suspects;
mod tampering;
mod transfer;
mod variants;
mod verify;

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::{BlobStoreExt as _, Namespace};

/// A directory for a store. `CASTELLAN_TEST_DIR` puts them on the file system of one's choice.
pub(super) fn scratch() -> tempfile::TempDir {
    let chosen = std::env::var_os("CASTELLAN_TEST_DIR").map(std::path::PathBuf::from);
    tempfile::tempdir_in(chosen.unwrap_or_else(std::env::temp_dir)).unwrap()
}

/// A store whose evictor works only when somebody waits, and that promises, scrubs and
/// writes down nothing by itself.
fn options(root: &Path, max_bytes: u64) -> FilesystemOptions {
    FilesystemOptions {
        low_water_bytes: Some(0),
        lease: Duration::ZERO,
        scrub_bytes_per_second: 0,
        snapshot_interval: Duration::from_hours(10_000),
        ..FilesystemOptions::new(root, Cap::Bytes(max_bytes))
    }
}

async fn open(root: &Path, max_bytes: u64) -> Arc<FilesystemStore> {
    open_with(options(root, max_bytes)).await
}

/// Opens a store and waits until all that was there is read.
async fn open_with(options: FilesystemOptions) -> Arc<FilesystemStore> {
    let store = FilesystemStore::open(options).await.unwrap();
    store.loaded().await;
    store
}

/// Opens a directory whose last store was dropped just now; its tasks may still be ending. Waits
/// for nothing that is read later.
async fn open_soon(options: FilesystemOptions) -> Arc<FilesystemStore> {
    let begun = std::time::Instant::now();
    loop {
        match FilesystemStore::open(options.clone()).await {
            Ok(store) => return store,
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                assert!(begun.elapsed() < PATIENCE, "the directory is still locked");
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The longest wait of a test; nothing is measured by it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so; also where the clock of tokio stands still.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}

/// The same while the clock of tokio, which is paused, runs on.
async fn until_later(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
}

/// Lets time pass for ages and leases, and has the index take notice.
fn pass(store: &FilesystemStore, seconds: u64) {
    let parts = &store.shared.parts;
    for _ in 0..seconds.div_ceil(5) {
        parts.clock.advance(5);
        let now = parts.clock.now();
        while parts.update(|index| index.set_now(now)) {}
    }
    parts.poke_evictor();
}

/// What `FORMAT` says.
fn format_of(root: &Path) -> format::Format {
    format::Format::parse(&std::fs::read_to_string(root.join("FORMAT")).unwrap()).unwrap()
}

async fn put_all(store: &FilesystemStore, blobs: &[(Key, Bytes)]) {
    for (key, data) in blobs {
        store.put(key, data.clone()).await.unwrap();
    }
}

/// Which of the keys are missing, without touching any.
fn absent(store: &FilesystemStore, keys: &[Key]) -> Vec<bool> {
    let parts = &store.shared.parts;
    parts.index.lock(|index| keys.iter().map(|key| index.peek(key).is_none()).collect())
}

fn blob(seed: u64, len: usize) -> (Key, Bytes) {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    let digest = Digest::of(DigestFunction::Sha256, &data);
    (Key::blob(digest), data.into())
}

fn result_key(name: &str) -> Key {
    let digest = Digest::of(DigestFunction::Sha256, name.as_bytes());
    Key::action_result(Namespace::of_instance("main"), digest)
}

async fn begin(store: &FilesystemStore, key: &Key, size: u64) -> Upload {
    match store.begin_put(key, size).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("already present"),
    }
}

async fn read(store: &FilesystemStore, key: &Key) -> Option<Bytes> {
    store.get_all(key, u64::MAX).await.unwrap()
}

/// The allocated bytes of a directory and everything below it, as `du` counts them.
fn du(path: &Path) -> u64 {
    du_without(&mut std::collections::HashSet::new(), path)
}

/// The same without the inodes that were seen before.
fn du_without(seen: &mut std::collections::HashSet<u64>, path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(own) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    let mut total = if seen.insert(own.ino()) { own.blocks() * 512 } else { 0 };
    if own.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            total += du_without(seen, &entry.path());
        }
    }
    total
}

/// Every file below the root that holds a value, relative to it, sorted.
fn value_files(root: &Path) -> Vec<String> {
    fn walk(path: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            if entry.path().is_dir() {
                walk(&entry.path(), root, found);
            } else {
                let relative = entry.path().strip_prefix(root).unwrap().display().to_string();
                if relative.contains('/') {
                    found.push(relative);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// I1-I4 from the books, I3 and I19 from the disk. At quiescence only.
fn check(store: &FilesystemStore) {
    let mut indexed: Vec<String> = store.shared.parts.index.lock(|index| {
        index.check();
        index.paths()
    });
    indexed.sort();
    assert_eq!(value_files(store.root()), indexed, "I3: the files are those the index names");
    let stats = store.stats();
    assert_eq!((stats.reserved_bytes, stats.dying_bytes), (0, 0), "I1: nothing is in flight");
    assert_eq!(du(store.root()), stats.charged_bytes(), "I3: the ledger is what du shows");
    assert!(stats.charged_bytes() <= stats.max_bytes, "I2");
    assert_eq!(stats.ledger_errors, 0, "I4");
}
