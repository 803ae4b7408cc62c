//! The filesystem store: a directory of files under a hard cap.
//!
//! The directory is the database: a file's name says what it holds, and the index is rebuilt from
//! names. [`index`] decides, [`disk`] acts, everything else carries tokens from one to the other.
//! Read in this order: [`layout`], [`index`], [`upload`], [`reader`], [`reclaim`].

mod buffers;
mod checks;
mod checksum;
mod counters;
mod deletions;
mod directory_sizes;
#[cfg_attr(
    any(not(test), feature = "shuttle"),
    expect(dead_code, reason = "what uses it comes next")
)]
mod disk;
mod index;
mod index_cell;
mod layout;
mod pool;
mod reader;
mod reclaim;
mod recovery;
mod reservation;
#[cfg(feature = "shuttle")]
#[cfg(test)]
mod schedules;
mod shared;
mod sync;
#[cfg(not(feature = "shuttle"))]
#[cfg(test)]
mod tests;
mod upload;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

pub use counters::StoreStats;
pub use reader::FileReader;
pub use upload::FilesystemUpload;

use super::{BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, StoreError, Upload};
use disk::Disk;
use index::Index;
use index_cell::IndexCell;
use layout::{BlockSize, MAX_VALUE_BYTES};
use shared::{Parts, Shared};
use sync::{Mutex, Task, timeout};

/// Look-ups under one hold of the index lock.
const LOOKUP_BATCH: usize = 512;
/// Entries evicted at the start before requests are served.
const START_EVICTIONS: usize = 4096;
/// How long a stop waits for the evictor and the watcher, each.
const TASK_STOP: Duration = Duration::from_secs(10);
/// How long a stop waits for the disk.
const SYNC_STOP: Duration = Duration::from_secs(30);
/// Below this a store cannot hold its fixed directories and a few small values.
const MIN_CAP_BYTES: u64 = 128 << 10;

/// How much a store may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// So many bytes of allocated blocks.
    Bytes(u64),
    /// A part of what the store could take: the free space and what it holds already.
    Share {
        /// The part, from 1 to 100.
        percent: u8,
        /// Not more than this, in bytes.
        at_most_bytes: u64,
    },
}

impl Cap {
    /// Refuses a number of bytes that no store can work with.
    pub fn check(self) -> Result<Self, String> {
        match self {
            Self::Bytes(bytes) if bytes < MIN_CAP_BYTES => {
                Err(format!("{bytes} bytes are below the least usable, {MIN_CAP_BYTES}"))
            }
            cap => Ok(cap),
        }
    }

    fn resolve(self, available_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share { percent, at_most_bytes } => {
                (available_bytes / 100).saturating_mul(u64::from(percent)).min(at_most_bytes)
            }
        }
    }
}

/// What a filesystem store is made with.
#[derive(Clone, Debug)]
pub struct FilesystemOptions {
    /// The directory; made if missing.
    pub root: PathBuf,
    /// The hard cap: what `du` shows of `root` never exceeds it.
    pub cap: Cap,
    /// The largest value in bytes; `None` allows whatever fits under the cap.
    pub max_blob_bytes: Option<u64>,
    /// Room that the evictor keeps free, so that few writes have to evict; `None` takes a
    /// hundredth of the cap, at most 256 MiB.
    pub low_water_bytes: Option<u64>,
    /// The longest wait of an upload for room.
    pub reserve_timeout: Duration,
}

impl FilesystemOptions {
    /// The defaults for a directory and a cap.
    pub fn new(root: impl Into<PathBuf>, cap: Cap) -> Self {
        Self {
            root: root.into(),
            cap,
            max_blob_bytes: None,
            low_water_bytes: None,
            reserve_timeout: Duration::from_secs(30),
        }
    }
}

/// A store of files under one root.
#[derive(Debug)]
pub struct FilesystemStore {
    shared: Arc<Shared>,
    /// Evictor and watcher, taken by the one who waits for their end.
    tasks: Mutex<Vec<Task>>,
}

impl FilesystemStore {
    /// Opens or creates the directory, locks it, and reads what it holds.
    pub async fn open(options: FilesystemOptions) -> io::Result<Arc<Self>> {
        let opening = move || open_blocking(&options);
        let opened = pool::Pool::default().run(opening).await.map_err(io::Error::other)?;
        let shared = opened?;
        let evictor = reclaim::run_evictor(Arc::clone(&shared.parts), shared.closing());
        let mut tasks = vec![sync::spawn("evictor", evictor)];
        if let Some(deletions) = &shared.parts.deletions {
            let (parts, deletions) = (Arc::clone(&shared.parts), Arc::clone(deletions));
            let watcher = deletions::run_watcher(parts, deletions, shared.closing());
            tasks.push(sync::spawn("deletion watcher", watcher));
        }
        Ok(Arc::new(Self { shared: Arc::new(shared), tasks: Mutex::new(tasks) }))
    }

    /// Gauges and counters.
    pub fn stats(&self) -> StoreStats {
        self.shared.parts.stats()
    }

    /// Where the store is.
    pub fn root(&self) -> &std::path::Path {
        self.shared.parts.disk.root_path()
    }

    /// Refuses new uploads, lets the evictor finish, puts everything on the disk.
    ///
    /// Bounded in time. The lock file is released at the end. Safe to call twice.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.shared.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for mut task in tasks {
            if timeout(TASK_STOP, task.join()).await.is_err() {
                tracing::warn!("eviction still at work, stopped");
                task.abort();
            }
        }
        let parts = Arc::clone(&self.shared.parts);
        let syncing = self.shared.parts.pool.run_unmetered(move || parts.disk.sync());
        let synced = match timeout(SYNC_STOP, syncing).await {
            Ok(synced) => synced.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the disk did not sync in time")),
        };
        self.shared.parts.disk.unlock();
        synced
    }

    /// Waits until the evictor has nothing left to do.
    #[cfg(test)]
    async fn quiesce(&self) {
        let is_busy = || self.shared.parts.index.lock(|index| !index.is_converged());
        while is_busy() {
            self.shared.parts.poke_evictor();
            tokio::task::yield_now().await;
        }
    }
}

/// Locks and reads the directory.
fn open_blocking(options: &FilesystemOptions) -> io::Result<Shared> {
    let disk = Disk::open(&options.root)?;
    let blocks = BlockSize(disk.space()?.block_size);
    // The kernel's word comes by no door that a model checker could hold shut.
    let deletions = if cfg!(feature = "shuttle") { None } else { deletions::Deletions::new() };
    let mut census = recovery::take_census(&disk, deletions.as_ref())?;
    let first = recovery::begin_epoch(&disk, &census)?;
    recovery::measure_overhead(&disk, &mut census)?;
    let available = disk.space()?.free_bytes.saturating_add(census.total_bytes(blocks));
    let max_bytes = options.cap.resolve(available);
    Cap::Bytes(max_bytes).check().map_err(|problem| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("the cap: {problem}"))
    })?;

    let default_low_water = (max_bytes / 100).min(256 << 20);
    let low_water = options.low_water_bytes.unwrap_or(default_low_water);
    let mut index = Index::new(max_bytes, low_water);
    let superseded = census.fill(&mut index, blocks);
    let parts = Arc::new(Parts {
        index: IndexCell::new(index),
        disk,
        pool: pool::Pool::default(),
        counters: counters::Counters::default(),
        deletions: deletions.map(Arc::new),
        blocks,
        directory_sizes: directory_sizes::DirectorySizes::default(),
        failed: Mutex::default(),
        wake: Notify::new(),
    });
    parts.counters.foreign_files.add(census.foreign_files);
    parts.bury(superseded);
    // A cap that is smaller than last time holds before the first request, unless that takes long:
    // then the evictor goes on while requests are served, and whoever wants room waits for it.
    let victims = parts.index.lock(|index| index.evict_to_low_water(START_EVICTIONS));
    parts.counters.evictions.add(victims.len() as u64);
    parts.bury(victims);
    if parts.index.lock(|index| index.wants_eviction()) {
        tracing::info!("still more than the cap allows, evicting on");
        parts.poke_evictor();
    }
    // What directories may come to take is not promised to a blob.
    let reachable = max_bytes - (max_bytes / 8).min(8 << 20);
    let max_blob_bytes =
        options.max_blob_bytes.unwrap_or(MAX_VALUE_BYTES).min(reachable).min(MAX_VALUE_BYTES);
    Ok(Shared::new(parts, first, max_blob_bytes, options.reserve_timeout))
}

impl FilesystemStore {
    fn check_size(&self, size_bytes: u64) -> Result<(), StoreError> {
        if self.shared.is_closing() {
            return Err(StoreError::ShuttingDown);
        }
        let limit_bytes = self.shared.max_blob_bytes;
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes });
        }
        Ok(())
    }

    fn touch_blob(&self, key: &Key) -> bool {
        key.kind == Kind::Blob && self.shared.parts.index.lock(|index| index.touch(key))
    }
}

#[async_trait]
impl BlobStore for FilesystemStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let mut missing = Vec::with_capacity(keys.len());
        for batch in keys.chunks(LOOKUP_BATCH) {
            self.shared
                .parts
                .index
                .lock(|index| missing.extend(batch.iter().map(|key| !index.touch(key))));
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        Ok(reader::open(&self.shared, key, range).await?.map(BlobReader::File))
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.check_size(size_bytes)?;
        if self.touch_blob(key) {
            return Ok(BeginPut::AlreadyPresent);
        }
        let reservation = reservation::reserve(&self.shared, key.kind, size_bytes).await?;
        // Another upload of the blob may have ended while this one waited for room.
        if self.touch_blob(key) {
            return Ok(BeginPut::AlreadyPresent);
        }
        let shared = Arc::clone(&self.shared);
        FilesystemUpload::new(shared, *key, size_bytes, reservation)
            .map(|upload| BeginPut::Upload(Upload::Filesystem(upload)))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = data.len() as u64;
        self.check_size(received_bytes)?;
        let digest = key.digest;
        if key.kind == Kind::Blob && received_bytes != digest.size_bytes {
            let expected_bytes = digest.size_bytes;
            return Err(StoreError::SizeMismatch { digest, expected_bytes, received_bytes });
        }
        if self.touch_blob(key) {
            return upload::verify_whole(&self.shared, *key, data).await;
        }
        let reservation = reservation::reserve(&self.shared, key.kind, received_bytes).await?;
        upload::store_whole(&self.shared, *key, data, reservation).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.shared.max_blob_bytes
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.parts.index.lock(|index| index.pending().1 > 0)
    }
}
