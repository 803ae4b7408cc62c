//! A store for one schedule, on a directory that many schedules share one after the other.
//!
//! What a start costs is not what is checked here: the store is put together from its parts, as a
//! start of an empty directory leaves them. Nothing of one schedule may reach the next.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use shuttle::future::{JoinHandle, spawn};
use tokio::sync::Notify;

use super::super::counters::Counters;
use super::super::directory_sizes::DirectorySizes;
use super::super::format::Format;
use super::super::former::Former;
use super::super::index::{Index, Limits};
use super::super::index_cell::IndexCell;
use super::super::layout::{BlockSize, Generation, Shard};
use super::super::loader::Loader;
use super::super::pool::Pool;
use super::super::purge::Purges;
use super::super::shared::{Parts, Shared};
use super::super::snapshots::Snapshots;
use super::super::state::{FORMAT_NAME, StateFile};
use super::super::sync_rounds::SyncRounds;
use super::super::tombstone_log::TombstoneLog;
use super::super::wall_clock::WallClock;
use super::*;

/// How many blobs there are.
pub(super) const BLOBS: usize = 4;

/// The directory.
pub(super) struct Root {
    home: tempfile::TempDir,
    /// Opened by the first schedule: the checker must be there.
    disk: OnceLock<Disk>,
}

impl Root {
    /// A directory in memory, where there is one.
    pub(super) fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let home = if memory.is_dir() { memory } else { std::env::temp_dir() };
        Self { home: tempfile::tempdir_in(home).unwrap(), disk: OnceLock::new() }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// The disk of a store that begins.
    pub(super) fn disk(&self) -> Disk {
        let disk = self.disk.get_or_init(|| Disk::open(self.path()).unwrap());
        // The first schedule finds nothing, and the next one after a store that removed itself.
        if !self.path().join(FORMAT_NAME).exists() {
            for path in layout::fixed_directories() {
                disk.make_directory(&path).unwrap();
            }
            disk.write_own(FORMAT_NAME, &Format::default().to_string()).unwrap();
        }
        disk.again().unwrap()
    }

    /// An empty store whose values may take `blocks`, of which the evictor keeps `spare` free. Its
    /// evictor has not begun.
    pub(super) fn store(&self, blocks: u64, spare: u64) -> Arc<FilesystemStore> {
        let disk = self.disk();
        let folder = self.path().join(Shard::of(&blob(0).0).path());
        drop(std::fs::remove_dir_all(folder));
        let block_bytes = disk.space().unwrap().block_size;
        let overhead_bytes = oracle::du(self.path());
        // In memory a directory takes nothing; elsewhere there must be room for that of the shard.
        let class_bytes = disk.allocated_at("blobs").unwrap();
        let mut options = FilesystemOptions::new(self.path(), Cap::Bytes(0));
        options.lease = Duration::ZERO;
        let limits = Limits {
            max_bytes: overhead_bytes + class_bytes + blocks * block_bytes,
            low_water_bytes: spare * block_bytes,
            max_entries: None,
            max_age_seconds: None,
            lease_seconds: 0,
            lease_policy: LeasePolicy::default(),
        };
        let mut index = Index::new(limits, Generation::first_of_epoch(1).0);
        index.set_now(1);
        index.change_overhead(overhead_bytes, 0);
        let format_bytes = disk.allocated_at(FORMAT_NAME).unwrap();
        let identity = disk.identity().unwrap();
        let parts = Arc::new(Parts {
            index: IndexCell::new(index),
            state: StateFile::new(Format::default(), identity, format_bytes),
            snapshots: Snapshots::new(0),
            tombstones: TombstoneLog::open(&disk, limits.max_bytes),
            disk,
            settings: options.settings(),
            clock: WallClock::default(),
            pool: Pool::default(),
            counters: Counters::default(),
            deletions: None,
            blocks: BlockSize(block_bytes),
            directory_sizes: DirectorySizes::default(),
            loader: Loader::finished(),
            former: Former::nothing(),
            rounds: SyncRounds::default(),
            purges: Purges::default(),
            failed: Mutex::new(Vec::new()),
            wake: Notify::new(),
            exposing: Mutex::default(),
            variant_exits: Mutex::default(),
            write_ended: Notify::new(),
        });
        let shared = Arc::new(Shared::new(parts, limits.max_bytes, 0));
        let stopping = tokio::sync::Semaphore::new(1);
        Arc::new(FilesystemStore { shared, tasks: Mutex::default(), stopping })
    }
}

/// Starts the store's tasks.
pub(super) fn begin(store: &FilesystemStore) {
    *store.tasks.lock() = FilesystemStore::begin_tasks(&store.shared);
}

/// The `n`-th of a few blobs. All are in one shard, so that their directory is fought for too.
pub(super) fn blob(n: usize) -> (Key, Bytes) {
    static FOUND: OnceLock<Vec<(Key, Bytes)>> = OnceLock::new();
    let find = || {
        let texts = (0..).map(|number| Bytes::from(format!("blob {number}")));
        let blobs = texts.map(|text| {
            let digest = Digest::of(DigestFunction::Sha256, &text);
            (Key::blob(digest), text)
        });
        blobs.filter(|(key, _)| key.digest.hash[0] == 0x5a).take(BLOBS).collect()
    };
    FOUND.get_or_init(find)[n].clone()
}

/// Lets a caller at the store.
pub(super) fn caller<F: Future<Output = ()> + Send + 'static>(
    store: &Arc<FilesystemStore>,
    calls: impl FnOnce(Arc<FilesystemStore>) -> F,
) -> JoinHandle<()> {
    spawn(calls(Arc::clone(store)))
}

/// Stores the `n`-th blob, which must work.
pub(super) async fn put(store: &FilesystemStore, n: usize) {
    let (key, data) = blob(n);
    store.put(&key, data).await.unwrap();
    oracle::watch(&store.shared.parts);
}
