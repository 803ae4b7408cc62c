//! What every part of one store works on: index, disk, pool, counters.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::buffers::Buffers;
use super::counters::Counters;
use super::deletions::Deletions;
use super::directory_sizes::DirectorySizes;
use super::disk::Disk;
use super::flights::Flights;
use super::former::Former;
use super::index::{Claim, Index, Victim};
use super::index_cell::IndexCell;
use super::layout::{self, BlockSize};
use super::loader::Loader;
use super::options::Settings;
use super::pins::Renewed;
use super::pool::Pool;
use super::purge::Purges;
use super::snapshots::Snapshots;
use super::state::StateFile;
use super::sync::{Mutex, timeout};
use super::sync_rounds::SyncRounds;
use super::tombstone_log::TombstoneLog;
use super::variants::Made;
use super::wall_clock::WallClock;
use crate::store::reuse::ReuseDistances;
use crate::store::waiters::{Grant, until};
use crate::store::{Key, StoreError};

/// Wakes a queued reservation with what was reserved for it.
pub(super) type Waker = oneshot::Sender<Claim>;

/// Checks of whole files that run at once; more would only take the disk from the reads.
const MAX_CHECKS: usize = 4;

/// The parts. Tasks of the store hold these and no handle, so they end with the last one (I13).
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) index: IndexCell<Waker>,
    pub(super) disk: Disk,
    pub(super) settings: Settings,
    pub(super) clock: WallClock,
    pub(super) pool: Pool,
    pub(super) counters: Counters,
    /// `None` where the kernel cannot tell.
    pub(super) deletions: Option<Arc<Deletions>>,
    pub(super) blocks: BlockSize,
    pub(super) directory_sizes: DirectorySizes,
    pub(super) loader: Loader,
    pub(super) state: StateFile,
    pub(super) snapshots: Snapshots,
    pub(super) rounds: SyncRounds,
    pub(super) purges: Purges,
    pub(super) tombstones: TombstoneLog,
    /// Victims whose unlink failed; bounded by the entries, for their bytes stay charged.
    pub(super) failed: Mutex<Vec<Victim>>,
    /// Wakes the evictor. Holds one call: those that come while it is awake share one pass.
    pub(super) wake: Notify,
    /// What another server has left in the root.
    pub(super) former: Former,
    /// Held while files are stamped that nobody has a link to yet.
    pub(super) exposing: Mutex<()>,
    /// Held while a variant's file and what the index says of it change without its blob.
    pub(super) variant_exits: Mutex<()>,
    /// Wakes those who wait for writes to end and for files to be gone.
    pub(super) write_ended: Notify,
}

/// A handle: what uploads, readers and pins hold.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) parts: Arc<Parts>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) max_blob_bytes: u64,
    /// What of the cap is left to another store.
    pub(super) set_aside_bytes: u64,
    /// Files being hashed whole; at most one check a file.
    pub(super) checks: Flights<bool>,
    pub(super) check_permits: Semaphore,
    /// Variants being made; at most one maker a file (I10).
    pub(super) variants: Flights<Made>,
    /// Blobs being copied to a fresh inode; at most one copy a file.
    pub(super) renewals: Flights<Renewed>,
    /// What is asked for and written, in its order. To a model checker each note is one step.
    pub(super) reuse: ReuseDistances,
    closing: CancellationToken,
}

impl Drop for Shared {
    // The last handle: the tasks end, and so let go of the directory.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Shared {
    pub(super) fn new(parts: Arc<Parts>, max_blob_bytes: u64, set_aside_bytes: u64) -> Self {
        let max_bytes = parts.index.lock(|index| index.ledger().max_bytes);
        Self {
            parts,
            buffers: Arc::default(),
            max_blob_bytes,
            set_aside_bytes,
            checks: Flights::default(),
            check_permits: Semaphore::new(MAX_CHECKS),
            variants: Flights::default(),
            renewals: Flights::default(),
            reuse: ReuseDistances::new(max_bytes),
            closing: CancellationToken::new(),
        }
    }

    /// Refuses new work and ends the tasks.
    pub(super) fn close(&self) {
        self.closing.cancel();
    }

    /// Notes that a value was asked for, by a client or on its behalf, and how long it is, `None`
    /// when it was not there. Not under the index lock.
    pub(super) fn note_reference(&self, key: &Key, len_bytes: Option<u64>) {
        self.reuse.reference(key, len_bytes.map(|it| self.charge_of(key, it)));
    }

    /// Notes that a value was stored or found stored already. Not under the index lock.
    pub(super) fn note_write(&self, key: &Key, len_bytes: u64) {
        self.reuse.write(key, self.charge_of(key, len_bytes));
    }

    fn charge_of(&self, key: &Key, len_bytes: u64) -> u64 {
        self.parts.blocks.charge_of(layout::file_bytes(key.kind, len_bytes))
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// What ends the tasks even while readers still hold handles.
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
        self.write_ended.notify_waiters();
        if wants_eviction {
            self.poke_evictor();
        }
        result
    }

    /// Waits until something holds that changes when writes end or files are unlinked; false when
    /// it has not come about in so long.
    pub(super) async fn wait_until(
        &self,
        limit: Duration,
        holds: impl Fn() -> bool + Send + Sync,
    ) -> bool {
        timeout(limit, until(&self.write_ended, holds)).await.is_ok()
    }

    /// Tells waiters of their grants. What a vanished waiter was granted goes to the next one, in
    /// a loop rather than by recursion: thousands may have vanished at once.
    fn deliver(&self, mut grants: Vec<Grant<Claim, Waker>>) {
        while !grants.is_empty() {
            let returned: Vec<Claim> =
                grants.into_iter().filter_map(|it| it.waker.send(it.claim).err()).collect();
            if returned.is_empty() {
                return;
            }
            grants = self.index.lock(|index| {
                for claim in returned {
                    index.unreserve(claim);
                }
                index.grant()
            });
        }
    }

    /// Whether a value is there and known to be whole; touches it.
    pub(super) fn has_whole(&self, key: &Key) -> bool {
        let found = self.index.lock(|index| index.look_up(key, super::index::Use::Touch));
        found.is_some_and(|it| !it.is_doubtful())
    }

    /// Counts a write that a purge has cut off, and says so.
    pub(super) fn cancelled_by_purge(&self) -> StoreError {
        self.counters.purge_cancelled_writes.add(1);
        StoreError::Purged
    }

    /// Whether there is anything on the disk that a power cut or a failed sync may have torn: then
    /// the mark of what is durable stays where it is (I18).
    pub(super) fn is_in_doubt(&self) -> bool {
        self.loader.may_find_suspects()
            || self.index.lock(|index| index.suspects()) > 0
            || self.rounds.have_failed()
    }

    /// A moment up to which every purge has been carried out to the end, or 0.
    pub(super) fn purged_before(&self) -> u64 {
        // One look: a purge that ends in between would be in neither part of it.
        self.purges.hold(|oldest_purge| {
            let (now, are_gone, oldest_write) = self
                .index
                .lock(|index| (index.clock(), index.are_victims_gone(), index.oldest_write()));
            // Those that the evictor has in hand are not unlinked either.
            if !are_gone || !self.loader.is_done() || !self.failed.lock().is_empty() {
                return 0;
            }
            // A write that began before a fence may have named its file already.
            let bounds = [oldest_purge, oldest_write];
            bounds.into_iter().flatten().fold(now + 1, u64::min)
        })
    }
}
