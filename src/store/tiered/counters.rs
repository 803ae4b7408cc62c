//! What the tiers and the queue between them count.

use crate::store::counter::Counter;

/// See the fields of the same names of [`TieredStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits_fast: Counter,
    pub(super) hits_slow: Counter,
    pub(super) misses: Counter,
    pub(super) populations: Counter,
    pub(super) population_failures: Counter,
    pub(super) fast_read_failures: Counter,
    pub(super) fast_write_failures: Counter,
}

/// What a tiered store has done since it was made, and what is in its queue.
///
/// At every moment `offered = accepted + write_drops` and
/// `accepted = persisted + failed + cancelled + queued_items + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TieredStats {
    /// Reads that the fast tier served, or the queue.
    pub hits_fast: u64,
    /// Reads that the slow tier served.
    pub hits_slow: u64,
    /// Reads of what neither has.
    pub misses: u64,
    /// Values that a read brought into the fast tier.
    pub populations: u64,
    /// Populations that came to nothing; their reads did not suffer.
    pub population_failures: u64,
    /// Look-ups and reads that the fast tier failed and the slow one answered.
    pub fast_read_failures: u64,
    /// Writes that went to the slow tier only, because the fast one failed.
    pub fast_write_failures: u64,
    /// Writes that were to be acknowledged before the slow tier had them.
    pub offered: u64,
    /// Those that were.
    pub accepted: u64,
    /// Those that were not, for the queue was full or closed or the fast tier could not keep the
    /// value: they were acknowledged when the slow tier had them.
    pub write_drops: u64,
    /// Accepted values that are in the slow tier.
    pub persisted: u64,
    /// Accepted values whose copy failed for good: missing until a client sends them again.
    pub failed: u64,
    /// Accepted values that were purged, removed or replaced by a later one before they were
    /// copied, or left over at a stop.
    pub cancelled: u64,
    /// Accepted values that wait.
    pub queued_items: u64,
    /// What they take, in bytes.
    pub queued_bytes: u64,
    /// Accepted values that are being copied.
    pub in_flight: u64,
}
