//! What the store counts and holds, in one place.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one store.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) evictions: Counter,
    pub(super) evict_unlink_failures: Counter,
    pub(super) reserve_timeouts: Counter,
    pub(super) index_file_missing: Counter,
    pub(super) corrupt_blobs: Counter,
    pub(super) lost_publications: Counter,
    pub(super) evictor_pokes: Counter,
    pub(super) evictor_passes: Counter,
    pub(super) foreign_files: Counter,
}

/// What a store holds now and has done since it was opened. Bytes are allocated blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The cap.
    pub max_bytes: u64,
    /// Charges of all entries.
    pub resident_bytes: u64,
    /// Reservations of uploads under way.
    pub reserved_bytes: u64,
    /// Entries that left the index, their files not gone yet.
    pub dying_bytes: u64,
    /// The part of `dying_bytes` that open readers hold.
    pub held_bytes: u64,
    /// Directories, the store's own files and foreign ones.
    pub overhead_bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Uploads waiting for room.
    pub waiting_uploads: u64,
    /// Entries evicted to make room.
    pub evictions: u64,
    /// Unlinks that failed; each is retried, its bytes stay charged.
    pub evict_unlink_failures: u64,
    /// Uploads that waited for room in vain.
    pub reserve_timeouts: u64,
    /// Entries whose file was gone; each was removed and answered as a miss.
    pub index_file_missing: u64,
    /// Entries whose bytes were not what was stored; each was removed.
    pub corrupt_blobs: u64,
    /// Uploads that another upload of the same blob overtook at publication.
    pub lost_publications: u64,
    /// Times the evictor was called.
    pub evictor_pokes: u64,
    /// Times it looked for work; calls that come together share one.
    pub evictor_passes: u64,
    /// Files under the root that are not the store's: left alone, charged, never served.
    pub foreign_files: u64,
    /// Publications that allocated more than they had reserved; 0 unless the disk is fragmented.
    pub settle_excess: u64,
    /// Subtractions that would have gone below zero; always 0.
    pub ledger_errors: u64,
}

impl StoreStats {
    /// Everything that counts against the cap.
    pub fn charged_bytes(&self) -> u64 {
        self.resident_bytes + self.reserved_bytes + self.dying_bytes + self.overhead_bytes
    }
}
