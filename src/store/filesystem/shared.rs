//! What every part of one store works on: index, disk, pool, counters.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::buffers::Buffers;
use super::checks::Checks;
use super::counters::{Counters, StoreStats};
use super::deletions::Deletions;
use super::directory_sizes::DirectorySizes;
use super::disk::Disk;
use super::index::{Grant, Index, Victim};
use super::index_cell::IndexCell;
use super::layout::{BlockSize, FileName, Generation, Shard, fixed_directories};
use super::pool::Pool;
use super::sync::{AtomicU64, Mutex};

/// Wakes a queued reservation with the bytes reserved for it.
pub(super) type Waker = oneshot::Sender<u64>;

/// The parts. The evictor and the watcher hold these and no handle, so they end with the last one
/// (I13).
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: IndexCell<Waker>,
    pub(super) disk: Disk,
    pub(super) pool: Pool,
    pub(super) counters: Counters,
    /// `None` where the kernel cannot tell.
    pub(super) deletions: Option<Arc<Deletions>>,
    pub(super) blocks: BlockSize,
    pub(super) directory_sizes: DirectorySizes,
    /// Victims whose unlink failed; bounded by the entries, for their bytes stay charged.
    pub(super) failed: Mutex<Vec<Victim>>,
    /// Wakes the evictor. Holds one call: those that come while it is awake share one pass.
    pub(super) wake: Notify,
}

/// A handle: what uploads, readers and reservations hold.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Arc<Parts>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) max_blob_bytes: u64,
    pub(super) reserve_timeout: std::time::Duration,
    /// Files being checked beside reads of a part of them; at most one check a file.
    pub(super) checks: Checks,
    next_generation: AtomicU64,
    closing: CancellationToken,
}

impl Drop for Shared {
    // The last handle: evictor and watcher end, and so let go of the directory.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Shared {
    pub(super) fn new(
        parts: Arc<Parts>,
        first: Generation,
        max_blob_bytes: u64,
        reserve_timeout: std::time::Duration,
    ) -> Self {
        Self {
            parts,
            buffers: Arc::default(),
            max_blob_bytes,
            reserve_timeout,
            checks: Checks::default(),
            next_generation: AtomicU64::new(first.0),
            closing: CancellationToken::new(),
        }
    }

    /// I6: never the same twice, also across restarts.
    pub(super) fn next_generation(&self) -> Generation {
        Generation(self.next_generation.fetch_add(1, Ordering::Relaxed))
    }

    /// Refuses new uploads and ends the evictor.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// What ends the evictor even while readers still hold handles.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }
}

impl Parts {
    /// Wakes the evictor.
    pub(super) fn poke_evictor(&self) {
        self.counters.evictor_pokes.add(1);
        self.wake.notify_one();
    }

    /// One critical section that may make room: serves the queue afterwards, and wakes the evictor
    /// when eviction could serve it further (I13: every way in which that can come about).
    pub(super) fn update<R>(&self, section: impl FnOnce(&mut Index<Waker>) -> R) -> R {
        let (result, grants, wants_eviction) = self.index.lock(|index| {
            let result = section(index);
            (result, index.grant(), index.wants_eviction())
        });
        self.deliver(grants);
        if wants_eviction {
            self.poke_evictor();
        }
        result
    }

    /// Unlinks victims, frees their bytes, serves the queue with them. A failed unlink is counted
    /// and kept for the evictor's retry, its bytes charged. Blocking; never under the index lock.
    pub(super) fn bury(&self, victims: Vec<Victim>) {
        let mut buried = Vec::with_capacity(victims.len());
        for victim in victims {
            match self.disk.unlink(&victim.file.path()) {
                Ok(()) => buried.push(victim),
                Err(error) => self.keep_failed(victim, &error),
            }
        }
        if buried.is_empty() {
            return;
        }
        self.settle_directories(&buried);
        self.update(|index| buried.into_iter().for_each(|victim| index.bury(victim)));
    }

    fn keep_failed(&self, mut victim: Victim, error: &io::Error) {
        // I15: every failure counts; that the file is gone already is none.
        self.counters.evict_unlink_failures.add(1);
        tracing::warn!(key = %victim.file.key, %error, "evicted file not unlinked");
        self.index.lock(|index| index.stick(&mut victim));
        self.failed.lock().push(victim);
        self.poke_evictor();
    }

    /// Books the directories from which files were unlinked, where they take less now; removes
    /// empty ones where directories take too much of the cap. Before the files' bytes are free:
    /// whoever sees those free sees this done.
    fn settle_directories(&self, unlinked: &[Victim]) {
        let is_heavy = self.index.lock(|index| index.is_overhead_heavy());
        if !is_heavy && !self.disk.directories_shrink() {
            return;
        }
        let shards: BTreeSet<Shard> = unlinked.iter().map(|it| Shard::of(&it.file.key)).collect();
        for shard in shards {
            self.directory_sizes.exclusive(shard, || {
                if is_heavy {
                    self.disk.remove_empty_directory(&shard.path());
                }
                let bytes = self.disk.allocated_at(&shard.path()).ok();
                self.index.lock(|index| index.settle_shard(shard, bytes));
            });
        }
    }

    /// Takes out entries whose files somebody else deleted; those of the store's own deletions are
    /// out already (I7: by generation, so a newer file of the key is not meant).
    pub(super) fn forget(&self, gone: &[FileName]) {
        let victims: Vec<Victim> =
            self.index.lock(|index| gone.iter().filter_map(|file| index.remove(file)).collect());
        if victims.is_empty() {
            return;
        }
        self.counters.index_file_missing.add(victims.len() as u64);
        tracing::warn!(entries = victims.len(), "files were deleted by somebody else");
        self.bury(victims);
    }

    /// Makes the directory of a shard, watched before its first file; its parents too, should
    /// somebody have removed them.
    pub(super) fn make_shard(&self, shard: Shard) -> io::Result<()> {
        let path = shard.path();
        match self.disk.make_directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for parent in fixed_directories() {
                    self.disk.make_directory(&parent)?;
                }
                self.disk.make_directory(&path)?;
            }
            outcome => outcome?,
        }
        if let Some(deletions) = &self.deletions {
            deletions.watch(shard, &self.disk.absolute(&path));
        }
        Ok(())
    }

    /// Tells waiters of their grants. What a vanished waiter was granted goes to the next one, in
    /// a loop rather than by recursion: thousands may have vanished at once.
    pub(super) fn deliver(&self, mut grants: Vec<Grant<Waker>>) {
        while !grants.is_empty() {
            let returned: u64 =
                grants.into_iter().filter_map(|grant| grant.waker.send(grant.bytes).err()).sum();
            if returned == 0 {
                return;
            }
            grants = self.index.lock(|index| {
                index.unreserve(returned);
                index.grant()
            });
        }
    }

    pub(super) fn stats(&self) -> StoreStats {
        let (books, entries, (_, waiting)) =
            self.index.lock(|index| (index.ledger(), index.len(), index.pending()));
        let counters = &self.counters;
        StoreStats {
            max_bytes: books.max_bytes,
            resident_bytes: books.resident_bytes,
            reserved_bytes: books.reserved_bytes,
            dying_bytes: books.dying_bytes,
            held_bytes: books.held_bytes,
            overhead_bytes: books.overhead_bytes,
            entries: entries as u64,
            waiting_uploads: waiting as u64,
            evictions: counters.evictions.get(),
            evict_unlink_failures: counters.evict_unlink_failures.get(),
            reserve_timeouts: counters.reserve_timeouts.get(),
            index_file_missing: counters.index_file_missing.get(),
            corrupt_blobs: counters.corrupt_blobs.get(),
            lost_publications: counters.lost_publications.get(),
            evictor_pokes: counters.evictor_pokes.get(),
            evictor_passes: counters.evictor_passes.get(),
            foreign_files: counters.foreign_files.get(),
            settle_excess: books.settle_excess,
            ledger_errors: books.ledger_errors,
        }
    }
}
