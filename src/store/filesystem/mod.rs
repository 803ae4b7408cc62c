//! The filesystem store: a directory of files under a hard cap.
//!
//! The directory is the database: a file's name says what it holds, and the index is rebuilt from
//! names. [`index`] decides, [`disk`] acts, everything else carries tokens from one to the other.
//! Read in this order: [`layout`], [`index`], [`upload`], [`publication`], [`reader`],
//! [`variants`], [`reclaim`], [`start`].

mod adoption;
mod buffers;
mod burial;
mod checksum;
mod counters;
mod deletions;
mod directory_sizes;
#[cfg_attr(all(test, feature = "shuttle"), expect(dead_code, reason = "no schedule has faults"))]
mod disk;
mod explain;
mod exposure;
mod fields;
mod flights;
mod format;
mod former;
mod full_disk;
mod index;
mod index_cell;
mod layout;
mod loader;
mod mutants;
pub(crate) mod offline;
mod options;
mod own_room;
mod pinning;
mod pins;
mod pool;
mod presence;
mod publication;
mod purge;
mod reader;
mod reclaim;
mod reservation;
#[cfg(feature = "shuttle")]
#[cfg(test)]
mod schedules;
mod scrub;
mod selection;
mod shared;
mod snapshot;
mod snapshots;
mod start;
mod state;
mod stop;
mod survey;
mod sync;
mod sync_rounds;
#[cfg(not(feature = "shuttle"))]
#[cfg(test)]
mod tests;
mod tombstone_log;
mod tombstones;
mod upload;
mod variants;
#[cfg_attr(all(test, feature = "shuttle"), expect(dead_code, reason = "time stands still"))]
mod wall_clock;

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use counters::StoreStats;
pub use explain::{Explanation, ValueFile, Wanted, explain};
pub use index::{LastUse, LeasePolicy};
pub use layout::{ADMIN_SOCKET, VALUES_DIR};
pub use options::{
    Adopt, Cap, FilesystemOptions, FormerContents, FormerOptions, SetAside, VerifyOnRead,
};
pub use pins::{CopyBy, LinkOutcome, PinnedFile};
pub use reader::FileReader;
pub use selection::Selected;
pub use stop::Cleanup;
pub use survey::{AGE_LIMITS, Share, Survey};
pub use sync_rounds::Durability;
pub use tombstone_log::Removal;
pub use upload::FilesystemUpload;

use super::announced::{check_limit, check_size};
use super::{
    BeginPut, BlobReader, BlobStore, BlobStoreExt as _, ByteRange, Key, Kind, Namespace, Pin,
    StoreError, Upload,
};
pub use super::{PurgeScope, Purged, Selection};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use disk::Disk;
use pinning::Purpose;
use shared::Shared;
use sync::{Mutex, Task};

/// A store of files under one root.
#[derive(Debug)]
pub struct FilesystemStore {
    shared: Arc<Shared>,
    /// Taken by the one who waits for their end.
    tasks: Mutex<Vec<Task>>,
    /// One stop at a time; closed after the first.
    stopping: Semaphore,
}

impl FilesystemStore {
    /// Opens or creates the directory and locks it. What it holds is read while requests are
    /// served; each answer is right from the first one on.
    pub async fn open(options: FilesystemOptions) -> io::Result<Arc<Self>> {
        Self::open_disk(options, Disk::open).await
    }

    async fn open_disk(
        options: FilesystemOptions,
        disk: impl FnOnce(&std::path::Path) -> io::Result<Disk> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let opening = move || start::open(&options, disk(&options.root)?);
        let opened = pool::Pool::default().run(opening).await.map_err(io::Error::other)?;
        let shared = Arc::new(opened?);
        let tasks = Mutex::new(Self::begin_tasks(&shared));
        Ok(Arc::new(Self { shared, tasks, stopping: Semaphore::new(1) }))
    }

    /// Each ends when the store closes or its last handle is dropped.
    fn begin_tasks(shared: &Arc<Shared>) -> Vec<Task> {
        let parts = || Arc::clone(&shared.parts);
        let closing = || shared.closing();
        let mut tasks = vec![sync::spawn("evictor", reclaim::run_evictor(parts(), closing()))];
        // Under a model checker every task is a dimension of what it must search.
        if cfg!(feature = "shuttle") {
            return tasks;
        }
        tasks.push(sync::spawn("loader", loader::run_loader(parts(), closing())));
        tasks.push(sync::spawn("take over", former::run_walk(parts(), closing())));
        tasks.push(sync::spawn("syncer", sync_rounds::run_syncer(parts(), closing())));
        tasks.push(sync::spawn("snapshots", snapshots::run_snapshots(parts(), closing())));
        let weak = Arc::downgrade(shared);
        tasks.push(sync::spawn("scrub", scrub::run_scrub(weak, closing())));
        if let Some(deletions) = &shared.parts.deletions {
            let watcher = deletions::run_watcher(parts(), Arc::clone(deletions), closing());
            tasks.push(sync::spawn("deletion watcher", watcher));
        }
        tasks
    }

    /// Gauges and counters.
    pub fn stats(&self) -> StoreStats {
        self.shared.parts.stats()
    }

    /// Where the store is.
    pub fn root(&self) -> &std::path::Path {
        self.shared.parts.disk.root_path()
    }

    /// What of the cap is left to a second store, see [`FilesystemOptions::set_aside`].
    pub fn set_aside_bytes(&self) -> u64 {
        self.shared.set_aside_bytes
    }

    /// A blob's file to make hard links to; `None` when the blob is absent.
    ///
    /// The file is mode 0444, its bytes are known to be right, and it stays until the result is
    /// dropped. Cancel safe.
    pub async fn linkable(&self, digest: Digest) -> Result<Option<PinnedFile>, StoreError> {
        self.pin(digest, false).await
    }

    /// The executable variant of a blob to make hard links to, mode 0555, made on first demand;
    /// `None` when the blob is absent or left while the variant was made (I9).
    ///
    /// Cancel safe: a variant that has been begun is finished.
    pub async fn executable(&self, digest: Digest) -> Result<Option<PinnedFile>, StoreError> {
        self.pin(digest, true).await
    }

    /// Many of these at once, in the order of `wanted`: of each blob its file, or where the flag is
    /// set that of its executable variant. Files are hashed and variants made a few at a time.
    /// After an error none is pinned; one of [`StoreError::NoSpace`] says that there is no room for
    /// a variant.
    ///
    /// Many are let go of by [`PinnedFile::release`]. Cancel safe.
    pub async fn pin_files(
        &self,
        wanted: &[(Digest, bool)],
    ) -> Result<Vec<Option<PinnedFile>>, StoreError> {
        let purpose = |is_executable| if is_executable { Purpose::Run } else { Purpose::Link };
        let wanted: Vec<_> = wanted.iter().map(|it| (Key::blob(it.0), purpose(it.1))).collect();
        let pinned = pinning::pin_all(&self.shared, &wanted).await?;
        for ((key, _), pinned) in wanted.iter().zip(&pinned) {
            self.shared.note_reference(key, pinned.as_ref().map(PinnedFile::size_bytes));
        }
        Ok(pinned)
    }

    /// Makes a file that somebody gives up the blob's own, without a copy. `true` when the blob is
    /// in the store; the file's name stays, and the caller unlinks it. `false` when it cannot be,
    /// and is to be copied: it is small, on another file system or mount, has a second name, a
    /// wrong length or wrong bytes, or is open for writing, by `file` or by any process that can
    /// be seen. Then its owner, mode and time are put back.
    ///
    /// The file is synced. Whatever is written to it later is found by the next open of the blob.
    /// Cancel safe: the work goes on to its end.
    pub async fn adopt(
        &self,
        digest: Digest,
        file: impl Into<OwnedFd> + Send,
    ) -> Result<bool, StoreError> {
        self.check_size(digest.size_bytes)?;
        let (key, file) = (Key::blob(digest), file.into());
        if self.has_blob(&key).await? {
            self.shared.note_write(&key, digest.size_bytes);
            return Ok(true);
        }
        adoption::adopt(&self.shared, &key, file).await
    }

    /// The value under the digest of an action that another server has left in the directory, as
    /// long as that is at most `limit_bytes`. A size in the digest helps to find one that has not
    /// been taken over yet. Cancel safe.
    pub async fn adopted_result(
        &self,
        action_digest: Digest,
        limit_bytes: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let key = Key::action_result(Namespace::ADOPTED, action_digest);
        let parts = &self.shared.parts;
        loader::ensure(parts, &[key]).await?;
        // Most actions have none, and are no references to one.
        if parts.index.lock(|index| index.peek(&key)).is_none() {
            return Ok(None);
        }
        self.get_all(&key, limit_bytes).await
    }

    /// Removes everything in a scope. When it returns, nothing that was written or begun before
    /// the call is readable or can become so, restarts included (I16). Writes that begin later
    /// are not delayed.
    ///
    /// Cancel safe: a purge that has begun goes on.
    pub async fn purge(&self, scope: PurgeScope) -> Result<Purged, StoreError> {
        purge::purge(&self.shared, scope).await
    }

    /// Counts what a purge would take out. Waits until every directory has been read, bounded.
    /// Cancel safe.
    pub async fn select(&self, selection: Selection) -> Result<Selected, StoreError> {
        selection::select(&self.shared.parts, selection).await
    }

    /// What the hit ratio would be at other sizes: pairs of a multiple of the cap and the share of
    /// references that a store of that size would have answered. `None` until there were enough.
    ///
    /// Every key of a `find_missing` and every `get`, `linkable` and `executable` is a reference,
    /// whoever asks: a check whether the outputs of an action are there too. An estimate from a
    /// sample since this process opened the store, in which the recent counts more. It takes the
    /// order of use for all that decides what stays, so leases, limits on number and age, and
    /// purges are not in it, nor what directories and executable variants take.
    pub fn predicted_hit_ratios(&self) -> Option<[(f64, f64); 5]> {
        let cap_bytes = self.stats().max_bytes;
        let at = |cap_bytes| self.shared.reuse.predict(cap_bytes);
        Some([
            (0.25, at(cap_bytes / 4)?),
            (0.5, at(cap_bytes / 2)?),
            (1.0, at(cap_bytes)?),
            (2.0, at(cap_bytes.saturating_mul(2))?),
            (4.0, at(cap_bytes.saturating_mul(4))?),
        ])
    }

    /// What fills the store. Cancel safe.
    pub async fn survey(&self) -> Survey {
        survey::survey(&self.shared.parts).await
    }

    /// The removals of a digest that are remembered, the latest first.
    pub fn removals(&self, digest: &Digest) -> Vec<Removal> {
        self.shared.parts.tombstones.find(digest)
    }

    /// What is known about a digest: its files, or when and why it went. Cancel safe.
    pub async fn explain(&self, wanted: Wanted) -> Result<Explanation, StoreError> {
        let parts = Arc::clone(&self.shared.parts);
        let job = move || explain::explain_running(&parts, &wanted);
        let explained = self.shared.parts.pool.run_unmetered(job).await?;
        explained.map_err(|error| StoreError::io("look for a digest", error))
    }

    /// Refuses new work, lets what is under way end, puts everything on the disk (I17).
    ///
    /// Every stage is bounded in time. The lock file is released at the end; after that the
    /// directory may be another's, so a second call does nothing.
    pub async fn shutdown(&self, cleanup: Cleanup) -> io::Result<()> {
        let Ok(_permit) = self.stopping.acquire().await else { return Ok(()) };
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let stopped = stop::stop(&self.shared, tasks, cleanup).await;
        self.stopping.close();
        stopped
    }

    async fn pin(
        &self,
        digest: Digest,
        is_executable: bool,
    ) -> Result<Option<PinnedFile>, StoreError> {
        Ok(self.pin_files(&[(digest, is_executable)]).await?.pop().flatten())
    }

    fn check_size(&self, size_bytes: u64) -> Result<(), StoreError> {
        if self.shared.is_closing() {
            return Err(StoreError::ShuttingDown);
        }
        check_limit(size_bytes, self.shared.max_blob_bytes)
    }

    /// Whether a blob is there, and whole; touches it.
    async fn has_blob(&self, key: &Key) -> Result<bool, StoreError> {
        // Results too, which are never there already: a shard that is read after a file of this
        // process came to it would take that file for one that a former process left.
        loader::ensure(&self.shared.parts, std::slice::from_ref(key)).await?;
        if key.kind != Kind::Blob {
            return Ok(false);
        }
        // A write heals a suspect: nothing is gained by hashing it first.
        Ok(self.shared.parts.has_whole(key))
    }

    /// Waits until every directory is read.
    #[cfg(all(test, not(feature = "shuttle")))]
    async fn loaded(&self) {
        while !self.shared.parts.loader.is_done() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until everything is read and the evictor has nothing left to do.
    #[cfg(all(test, not(feature = "shuttle")))]
    async fn quiesce(&self) {
        self.loaded().await;
        let is_busy = || self.shared.parts.index.lock(|index| !index.is_converged());
        while is_busy() {
            self.shared.parts.poke_evictor();
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl BlobStore for FilesystemStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let keys = &*without_hints(keys);
        let missing = presence::find_missing(&self.shared, keys).await;
        for (key, is_missing) in keys.iter().zip(&missing) {
            // Of an action result the length is not known, and counts as next to nothing.
            let len_bytes = key.digest.size_bytes;
            self.shared.note_reference(key, (!is_missing).then_some(len_bytes));
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let key = key.without_hint();
        let reader = reader::open(&self.shared, &key, range).await?;
        self.shared.note_reference(&key, reader.as_ref().map(FileReader::len_bytes));
        Ok(reader.map(BlobReader::File))
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.check_size(size_bytes)?;
        let key = &key.without_hint();
        if self.has_blob(key).await? {
            self.shared.note_write(key, size_bytes);
            return Ok(BeginPut::AlreadyPresent);
        }
        let parts = &self.shared.parts;
        let reservation = reservation::reserve(parts, key.kind, size_bytes).await?;
        // Another upload of the blob may have ended while this one waited for room.
        if self.has_blob(key).await? {
            self.shared.note_write(key, size_bytes);
            return Ok(BeginPut::AlreadyPresent);
        }
        let shared = Arc::clone(&self.shared);
        let upload = FilesystemUpload::open(shared, *key, size_bytes, reservation).await?;
        Ok(BeginPut::Upload(Upload::Filesystem(upload)))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = data.len() as u64;
        self.check_size(received_bytes)?;
        let key = &key.without_hint();
        if key.kind == Kind::Blob {
            check_size(key.digest, received_bytes)?;
        }
        if self.has_blob(key).await? {
            upload::verify_whole(&self.shared, *key, data).await?;
        } else {
            upload::store_whole(&self.shared, *key, data).await?;
        }
        self.shared.note_write(key, received_bytes);
        Ok(())
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        let parts = &self.shared.parts;
        let any_size = Key::blob(Digest { function, hash, size_bytes: 0 });
        loader::ensure(parts, &[any_size]).await?;
        let found = parts.index.lock(|index| index.blob_with_hash(function, hash));
        if found.is_none() {
            // The client reads no further.
            self.shared.note_reference(&any_size, None);
        }
        Ok(found)
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        purge::remove_one(&self.shared, key.without_hint()).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        selection::purge(&self.shared, selection).await
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        if key.kind != Kind::Blob {
            return Ok(None);
        }
        Ok(pinning::pin(&self.shared, *key, Purpose::Keep).await?.map(Pin::new))
    }

    fn max_blob_bytes(&self) -> u64 {
        self.shared.max_blob_bytes
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.parts.index.lock(|index| index.has_waiters())
    }
}

/// Names and checksums know no hints.
fn without_hints(keys: &[Key]) -> Cow<'_, [Key]> {
    if keys.iter().all(|key| key.kind == Kind::Blob) {
        return Cow::Borrowed(keys);
    }
    keys.iter().map(|key| key.without_hint()).collect()
}
