//! What the store counts and holds, in one place.

use super::shared::MemoryIndex;
use crate::store::counter::Counter;

/// See the fields of the same names of [`MemoryStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) reserve_timeouts: Counter,
    pub(super) lost_publications: Counter,
    pub(super) purges: Counter,
    pub(super) purge_cancelled_writes: Counter,
}

/// What a store holds now and has done since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The cap.
    pub max_bytes: u64,
    /// Charges of all entries.
    pub resident_bytes: u64,
    /// Reservations of uploads under way.
    pub reserved_bytes: u64,
    /// Entries that left, whose bytes a reader still holds or somebody is freeing.
    pub dying_bytes: u64,
    /// Charges of the entries under a lease.
    pub leased_bytes: u64,
    /// Charges of the entries that are pinned.
    pub pinned_bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Uploads waiting for room.
    pub waiting_uploads: u64,
    /// Writes under way, those that wait too.
    pub writes: u64,
    /// Seconds since the last use of the entry used longest ago that is under no lease.
    pub oldest_age_seconds: Option<u64>,
    /// Reads that found their value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries evicted to make room.
    pub evictions: u64,
    /// Entries removed because they were not used for too long.
    pub expirations: u64,
    /// Entries removed because there were too many.
    pub over_count: u64,
    /// Entries taken out by purges.
    pub purged: u64,
    /// Entries that were removed one by one.
    pub removed: u64,
    /// Values that a later one took the place of.
    pub replaced: u64,
    /// Leases that ended before their time.
    pub leases_broken: u64,
    /// Uploads that waited for room in vain.
    pub reserve_timeouts: u64,
    /// Uploads of a blob that another one stored first.
    pub lost_publications: u64,
    /// Purges begun.
    pub purges: u64,
    /// Writes that a purge has cut off.
    pub purge_cancelled_writes: u64,
    /// Subtractions in the books that did not go out; stays 0.
    pub ledger_errors: u64,
}

impl MemoryStats {
    /// All that counts against the cap.
    pub fn charged_bytes(&self) -> u64 {
        self.resident_bytes + self.reserved_bytes + self.dying_bytes
    }

    pub(super) fn of(index: &MemoryIndex, counters: &Counters) -> Self {
        let (order, books, removals) = (&index.order, &index.books, &index.removals);
        let oldest = order.oldest_free().and_then(|slot| order.get(slot));
        let age_ms = oldest.map(|it| order.now_ms().saturating_sub(it.used_ms));
        Self {
            max_bytes: index.limits.max_bytes,
            resident_bytes: books.resident_bytes,
            reserved_bytes: books.reserved_bytes,
            dying_bytes: books.dying_bytes,
            leased_bytes: order.leased_bytes(),
            pinned_bytes: order.pinned_bytes(),
            entries: order.len() as u64,
            waiting_uploads: index.waiters.len() as u64,
            writes: index.writers.len() as u64,
            oldest_age_seconds: age_ms.map(|it| it / 1000),
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            evictions: removals.evicted,
            expirations: removals.expired,
            over_count: removals.over_count,
            purged: removals.purged,
            removed: removals.removed,
            replaced: removals.replaced,
            leases_broken: order.leases_broken(),
            reserve_timeouts: counters.reserve_timeouts.get(),
            lost_publications: counters.lost_publications.get(),
            purges: counters.purges.get(),
            purge_cancelled_writes: counters.purge_cancelled_writes.get(),
            ledger_errors: books.errors,
        }
    }
}
