//! What the store counts and holds, in one place.

use super::shared::Parts;
use super::tombstones::Reason;
use crate::store::counter::Counter;

/// The counters of one store; see the fields of the same names of [`StoreStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    evicted: Counter,
    expired: Counter,
    over_count: Counter,
    purged: Counter,
    replaced: Counter,
    missing: Counter,
    pub(super) evict_unlink_failures: Counter,
    pub(super) reserve_timeouts: Counter,
    pub(super) lease_refusals: Counter,
    pub(super) full_disks: Counter,
    pub(super) index_file_missing: Counter,
    corrupt: Counter,
    pub(super) tampered: Counter,
    pub(super) lost_publications: Counter,
    pub(super) orphaned_variants: Counter,
    pub(super) stray_variants: Counter,
    pub(super) renewals: Counter,
    pub(super) purges: Counter,
    pub(super) purge_cancelled_writes: Counter,
    pub(super) sync_failures: Counter,
    pub(super) scrubbed_bytes: Counter,
    pub(super) evictor_pokes: Counter,
    pub(super) evictor_passes: Counter,
    pub(super) foreign_files: Counter,
    pub(super) publications: Counter,
    pub(super) former_taken_over: Counter,
    pub(super) former_dropped: Counter,
    pub(super) former_duplicates: Counter,
    pub(super) former_left: Counter,
}

impl Counters {
    /// The counter of removals for a reason.
    pub(super) fn removals(&self, reason: Reason) -> &Counter {
        match reason {
            Reason::Evicted => &self.evicted,
            Reason::Expired => &self.expired,
            Reason::Count => &self.over_count,
            Reason::Purged => &self.purged,
            Reason::Corrupt => &self.corrupt,
            Reason::Replaced => &self.replaced,
            Reason::Missing => &self.missing,
        }
    }

    /// How often the files have changed: what is written and what is removed.
    pub(super) fn changes(&self) -> u64 {
        let removals = [
            &self.evicted,
            &self.expired,
            &self.over_count,
            &self.purged,
            &self.corrupt,
            &self.replaced,
            &self.missing,
            &self.purges,
        ];
        self.publications.get() + removals.into_iter().map(Counter::get).sum::<u64>()
    }
}

/// What a store holds now and has done since it was opened. Bytes are allocated blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The cap.
    pub max_bytes: u64,
    /// The part of the cap that the disk allows at present.
    pub limit_bytes: u64,
    /// Charges of all entries, variants included.
    pub resident_bytes: u64,
    /// Reservations of uploads under way.
    pub reserved_bytes: u64,
    /// Entries that left the index, their files not gone yet.
    pub dying_bytes: u64,
    /// The part of `dying_bytes` that open readers hold.
    pub held_bytes: u64,
    /// Directories, the store's own files and foreign ones.
    pub overhead_bytes: u64,
    /// At most what the directories hold that are not read yet.
    pub unread_bytes: u64,
    /// Charges of the entries under a lease.
    pub leased_bytes: u64,
    /// Charges of the entries that links are made to, or that staged trees hold.
    pub pinned_bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Entries with an executable variant.
    pub variants: u64,
    /// Entries that a power cut may have torn, or somebody changed, not hashed yet.
    pub suspects: u64,
    /// Directories that are not read yet.
    pub unread_shards: u64,
    /// Uploads waiting for room.
    pub waiting_uploads: u64,
    /// Writes under way.
    pub writes: u64,
    /// Seconds since the last use of the entry used longest ago that is under no lease.
    pub oldest_age_seconds: Option<u64>,
    /// Entries evicted to make room.
    pub evictions: u64,
    /// Entries removed because they were not used for too long.
    pub expirations: u64,
    /// Entries removed because there were too many.
    pub count_evictions: u64,
    /// Entries removed by purges.
    pub purged_entries: u64,
    /// Action results replaced by later ones, and blobs by fresh copies of them.
    pub replacements: u64,
    /// Unlinks that failed; each is retried, its bytes stay charged.
    pub evict_unlink_failures: u64,
    /// Leases that ended before their time, because they held more than four fifths of the cap.
    pub leases_broken: u64,
    /// Writes refused because leases held what they needed.
    pub lease_refusals: u64,
    /// Uploads that waited for room in vain.
    pub reserve_timeouts: u64,
    /// Times that a write met a full disk.
    pub full_disks: u64,
    /// Entries and variants whose file was gone; each was removed and answered as a miss.
    pub index_file_missing: u64,
    /// Entries whose bytes were not what was stored; each was removed.
    pub corrupt_blobs: u64,
    /// Blobs whose bytes, and variants of which anything, was changed through a hard link; each was
    /// removed. The blobs are among `corrupt_blobs` too.
    pub tampered_blobs: u64,
    /// Uploads that another upload of the same blob overtook at publication.
    pub lost_publications: u64,
    /// Variants whose blob left while they were made; each was deleted.
    pub orphaned_variants: u64,
    /// Variants without a blob, or torn ones, that a crash had left; each was deleted.
    pub stray_variants: u64,
    /// Blobs that got a fresh inode because the old one had no links left.
    pub renewals: u64,
    /// Purges begun.
    pub purges: u64,
    /// Writes that a purge cut off.
    pub purge_cancelled_writes: u64,
    /// Times that the disk did not take what was to be synced.
    pub sync_failures: u64,
    /// Bytes hashed by the scrub.
    pub scrubbed_bytes: u64,
    /// Times the evictor was called.
    pub evictor_pokes: u64,
    /// Times it looked for work; calls that come together share one.
    pub evictor_passes: u64,
    /// Files under the root that are not the store's: left alone, charged, never served.
    pub foreign_files: u64,
    /// Directories of another server that are still being taken over.
    pub former_directories: u64,
    /// Files of another server that became the store's.
    pub former_taken_over: u64,
    /// Files of another server that were not what they claimed to be; never served, and deleted
    /// unless they are kept to go back to.
    pub former_dropped: u64,
    /// Files of another server whose value was there already.
    pub former_duplicates: u64,
    /// Files of another server that could not become the store's: left alone, charged.
    pub former_left: u64,
    /// Publications that allocated more than they had reserved; 0 unless the disk is fragmented.
    pub settle_excess: u64,
    /// Subtractions that would have gone below zero; always 0.
    pub ledger_errors: u64,
}

impl StoreStats {
    /// Everything that counts against the cap.
    pub fn charged_bytes(&self) -> u64 {
        let known = self.resident_bytes + self.reserved_bytes + self.dying_bytes;
        known + self.overhead_bytes + self.unread_bytes
    }
}

impl Parts {
    /// Gauges and counters.
    pub(super) fn stats(&self) -> StoreStats {
        let mut stats = self.gauges();
        let counters = &self.counters;
        stats.evictions = counters.evicted.get();
        stats.expirations = counters.expired.get();
        stats.count_evictions = counters.over_count.get();
        stats.purged_entries = counters.purged.get();
        stats.replacements = counters.replaced.get();
        stats.evict_unlink_failures = counters.evict_unlink_failures.get();
        stats.lease_refusals = counters.lease_refusals.get();
        stats.reserve_timeouts = counters.reserve_timeouts.get();
        stats.full_disks = counters.full_disks.get();
        stats.index_file_missing = counters.index_file_missing.get();
        stats.corrupt_blobs = counters.corrupt.get();
        stats.tampered_blobs = counters.tampered.get();
        stats.lost_publications = counters.lost_publications.get();
        stats.orphaned_variants = counters.orphaned_variants.get();
        stats.stray_variants = counters.stray_variants.get();
        stats.renewals = counters.renewals.get();
        stats.purges = counters.purges.get();
        stats.purge_cancelled_writes = counters.purge_cancelled_writes.get();
        stats.sync_failures = counters.sync_failures.get();
        stats.scrubbed_bytes = counters.scrubbed_bytes.get();
        stats.evictor_pokes = counters.evictor_pokes.get();
        stats.evictor_passes = counters.evictor_passes.get();
        stats.foreign_files = counters.foreign_files.get();
        stats.former_directories = self.former.open_directories();
        stats.former_taken_over = counters.former_taken_over.get();
        stats.former_dropped = counters.former_dropped.get();
        stats.former_duplicates = counters.former_duplicates.get();
        stats.former_left = counters.former_left.get();
        stats
    }

    /// What the index holds, as of one moment.
    fn gauges(&self) -> StoreStats {
        self.index.lock(|index| {
            let books = index.ledger();
            let (_, waiting, writes) = index.pending();
            let (leased_bytes, leases_broken) = index.leases();
            StoreStats {
                max_bytes: books.max_bytes,
                limit_bytes: books.limit_bytes,
                resident_bytes: books.resident_bytes,
                reserved_bytes: books.reserved_bytes,
                dying_bytes: books.dying_bytes,
                held_bytes: books.held_bytes,
                overhead_bytes: books.overhead_bytes,
                unread_bytes: books.unread_bytes,
                leased_bytes,
                pinned_bytes: index.pinned_bytes(),
                entries: index.len() as u64,
                variants: index.variants(),
                suspects: index.suspects(),
                unread_shards: index.unread_shards() as u64,
                waiting_uploads: waiting as u64,
                writes: writes as u64,
                oldest_age_seconds: index.oldest_age_seconds(),
                leases_broken,
                settle_excess: books.settle_excess,
                ledger_errors: books.ledger_errors,
                ..StoreStats::default()
            }
        })
    }
}
