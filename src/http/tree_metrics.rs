//! The counters of stores that are not files as families.

use std::sync::Arc;

use super::metric::{Metric, counter, gauge};
use crate::operator::Numbers;
use crate::store::compression::{CompressionStats, CompressionStore};
use crate::store::counted::{CountedStats, CountedStore};
use crate::store::dedup::{DedupStats, DedupStore};
use crate::store::existence_cache::{ExistenceCacheStats, ExistenceCacheStore};
use crate::store::memory::{MemoryStats, MemoryStore};
use crate::store::remote::{RemoteStats, RemoteStore};
use crate::store::tiered::{TieredStats, TieredStore};
use crate::telemetry::metrics::{Family, Samples, Unit};

/// A store that has something to say of itself.
#[derive(Clone, Debug)]
pub enum Watched {
    /// In memory.
    Memory(Arc<MemoryStore>),
    /// Another server.
    Remote(Arc<RemoteStore>),
    /// Near before far.
    Tiered(Arc<TieredStore>),
    /// What a far store has.
    ExistenceCache(Arc<ExistenceCacheStore>),
    /// Compressed.
    Compression(Arc<CompressionStore>),
    /// In chunks.
    Dedup(Arc<DedupStore>),
    /// Any, by what the configuration calls its use.
    Counted(Arc<CountedStore>),
}

impl Watched {
    /// Calls `each` with every number of the store.
    fn visit(&self, each: &mut dyn FnMut(&'static Family, u64)) {
        match self {
            Self::Memory(store) => all(&MEMORY, &store.stats(), each),
            Self::Remote(store) => all(&REMOTE, &store.stats(), each),
            Self::Tiered(store) => all(&TIERED, &store.stats(), each),
            Self::ExistenceCache(store) => all(&EXISTENCE, &store.stats(), each),
            Self::Compression(store) => all(&COMPRESSION, &store.stats(), each),
            Self::Dedup(store) => all(&DEDUP, &store.stats(), each),
            Self::Counted(store) => all(&COUNTED, &store.stats(), each),
        }
    }

    /// Adds what the store says; `name` labels it.
    pub(super) fn collect(&self, name: &str, samples: &mut Samples) {
        self.visit(&mut |family, value| samples.integer(family, &[name], value));
    }
}

impl Numbers for Watched {
    fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Remote(_) => "grpc",
            Self::Tiered(_) => "fast_slow",
            Self::ExistenceCache(_) => "existence_cache",
            Self::Compression(_) => "compression",
            Self::Dedup(_) => "dedup",
            Self::Counted(_) => "cache_metrics",
        }
    }

    fn numbers(&self) -> Vec<(&'static str, u64)> {
        let mut numbers = Vec::new();
        self.visit(&mut |family, value| numbers.push((short_name(family.name), value)));
        numbers
    }
}

/// A family's name without the program, the kind of store and the suffix.
fn short_name(name: &'static str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    name.splitn(3, '_').nth(2).unwrap_or(name)
}

fn all<S>(metrics: &'static [Metric<S>], stats: &S, each: &mut dyn FnMut(&'static Family, u64)) {
    for metric in metrics {
        if let Some(value) = metric.value(stats) {
            each(&metric.family, value);
        }
    }
}

/// Every family of these stores.
pub(super) fn families() -> Vec<&'static Family> {
    fn of<S>(metrics: &'static [Metric<S>]) -> impl Iterator<Item = &'static Family> {
        metrics.iter().map(|metric| &metric.family)
    }
    of(&MEMORY)
        .chain(of(&TIERED))
        .chain(of(&REMOTE))
        .chain(of(&EXISTENCE))
        .chain(of(&COMPRESSION))
        .chain(of(&DEDUP))
        .chain(of(&COUNTED))
        .collect()
}

static COUNTED: [Metric<CountedStats>; 7] = [
    counter("castellan_cache_hits_total", "Reads that found something.", Unit::None, |it| {
        Some(it.hits)
    }),
    counter("castellan_cache_misses_total", "Reads that found nothing.", Unit::None, |it| {
        Some(it.misses)
    }),
    counter("castellan_cache_present_total", "Keys reported present.", Unit::None, |it| {
        Some(it.present)
    }),
    counter("castellan_cache_absent_total", "Keys reported missing.", Unit::None, |it| {
        Some(it.absent)
    }),
    counter("castellan_cache_writes_total", "Writes begun or made.", Unit::None, |it| {
        Some(it.writes)
    }),
    counter(
        "castellan_cache_already_present_total",
        "Writes of what was there already.",
        Unit::None,
        |it| Some(it.already_present),
    ),
    counter("castellan_cache_failures_total", "Calls that failed.", Unit::None, |it| {
        Some(it.failures)
    }),
];

static TIERED: [Metric<TieredStats>; 16] = [
    counter(
        "castellan_tiered_near_hits_total",
        "Reads that the near store served, or the queue.",
        Unit::None,
        |it| Some(it.hits_fast),
    ),
    counter(
        "castellan_tiered_far_hits_total",
        "Reads that the far store served.",
        Unit::None,
        |it| Some(it.hits_slow),
    ),
    counter("castellan_tiered_misses_total", "Reads of what neither has.", Unit::None, |it| {
        Some(it.misses)
    }),
    counter(
        "castellan_tiered_populations_total",
        "Values that a read brought into the near store.",
        Unit::None,
        |it| Some(it.populations),
    ),
    counter(
        "castellan_tiered_population_failures_total",
        "Populations that came to nothing; their reads did not suffer.",
        Unit::None,
        |it| Some(it.population_failures),
    ),
    counter(
        "castellan_tiered_near_read_failures_total",
        "Look-ups and reads that the near store failed and the far one answered.",
        Unit::None,
        |it| Some(it.fast_read_failures),
    ),
    counter(
        "castellan_tiered_near_write_failures_total",
        "Writes that only the far store took, because the near one failed.",
        Unit::None,
        |it| Some(it.fast_write_failures),
    ),
    counter(
        "castellan_tiered_offered_total",
        "Writes that were to be acknowledged before the far store had them.",
        Unit::None,
        |it| Some(it.offered),
    ),
    counter(
        "castellan_tiered_accepted_total",
        "Writes that were acknowledged before the far store had them.",
        Unit::None,
        |it| Some(it.accepted),
    ),
    counter(
        "castellan_tiered_write_drops_total",
        "Writes that the queue did not take; each was acknowledged when the far store had it.",
        Unit::None,
        |it| Some(it.write_drops),
    ),
    counter(
        "castellan_tiered_persisted_total",
        "Accepted writes that the far store has.",
        Unit::None,
        |it| Some(it.persisted),
    ),
    counter(
        "castellan_tiered_failed_total",
        "Accepted writes that were given up; each is missing until a client sends it again.",
        Unit::None,
        |it| Some(it.failed),
    ),
    counter(
        "castellan_tiered_cancelled_total",
        "Accepted writes that a purge, a later write or a stop made void.",
        Unit::None,
        |it| Some(it.cancelled),
    ),
    gauge("castellan_tiered_queued_items", "Accepted writes that wait.", Unit::None, |it| {
        Some(it.queued_items)
    }),
    gauge(
        "castellan_tiered_queued_bytes",
        "What the accepted writes that wait take.",
        Unit::Bytes,
        |it| Some(it.queued_bytes),
    ),
    gauge(
        "castellan_tiered_in_flight",
        "Accepted writes that are being copied.",
        Unit::None,
        |it| Some(it.in_flight),
    ),
];

static REMOTE: [Metric<RemoteStats>; 9] = [
    counter(
        "castellan_remote_requests_total",
        "Calls made to the upstream, retries among them.",
        Unit::None,
        |it| Some(it.requests),
    ),
    counter(
        "castellan_remote_retries_total",
        "Calls made again, and transfers continued.",
        Unit::None,
        |it| Some(it.retries),
    ),
    counter("castellan_remote_failures_total", "Calls that failed.", Unit::None, |it| {
        Some(it.failures)
    }),
    counter(
        "castellan_remote_corrupt_total",
        "Values whose bytes were not those asked for; none was stored or served.",
        Unit::None,
        |it| Some(it.corrupt),
    ),
    counter(
        "castellan_remote_strays_total",
        "Parts of answers that nobody had asked for; each was ignored.",
        Unit::None,
        |it| Some(it.strays),
    ),
    counter("castellan_remote_read_bytes_total", "Bytes of values that came.", Unit::Bytes, |it| {
        Some(it.bytes_read)
    }),
    counter(
        "castellan_remote_written_bytes_total",
        "Bytes of values that were sent.",
        Unit::Bytes,
        |it| Some(it.bytes_written),
    ),
    gauge(
        "castellan_remote_paused_endpoints",
        "Endpoints that are given a pause now, because they cannot be reached.",
        Unit::None,
        |it| Some(it.breaker_open),
    ),
    gauge("castellan_remote_in_flight", "Calls under way.", Unit::None, |it| Some(it.in_flight)),
];

static COMPRESSION: [Metric<CompressionStats>; 4] = [
    counter("castellan_compression_blobs_total", "Blobs written.", Unit::None, |it| Some(it.blobs)),
    counter(
        "castellan_compression_uncompressed_bytes_total",
        "What the blobs written have.",
        Unit::Bytes,
        |it| Some(it.uncompressed_bytes),
    ),
    counter(
        "castellan_compression_compressed_bytes_total",
        "What was written for them.",
        Unit::Bytes,
        |it| Some(it.compressed_bytes),
    ),
    counter(
        "castellan_compression_corrupt_total",
        "Blobs found changed, and removed.",
        Unit::None,
        |it| Some(it.corrupt),
    ),
];

static DEDUP: [Metric<DedupStats>; 6] = [
    counter("castellan_dedup_blobs_total", "Blobs written.", Unit::None, |it| Some(it.blobs)),
    counter(
        "castellan_dedup_chunks_written_total",
        "Chunks that were not there yet.",
        Unit::None,
        |it| Some(it.chunks_written),
    ),
    counter("castellan_dedup_chunks_shared_total", "Chunks that were there.", Unit::None, |it| {
        Some(it.chunks_shared)
    }),
    counter(
        "castellan_dedup_written_bytes_total",
        "What the chunks have that were not there yet.",
        Unit::Bytes,
        |it| Some(it.bytes_written),
    ),
    counter(
        "castellan_dedup_shared_bytes_total",
        "What the chunks have that were there.",
        Unit::Bytes,
        |it| Some(it.bytes_shared),
    ),
    counter(
        "castellan_dedup_corrupt_total",
        "Lists of chunks that were found changed or broken, and removed.",
        Unit::None,
        |it| Some(it.corrupt),
    ),
];

static MEMORY: [Metric<MemoryStats>; 24] = [
    gauge(
        "castellan_memory_max_bytes",
        "The most that the store may take of memory.",
        Unit::Bytes,
        |it| Some(it.max_bytes),
    ),
    gauge("castellan_memory_resident_bytes", "What the entries take.", Unit::Bytes, |it| {
        Some(it.resident_bytes)
    }),
    gauge(
        "castellan_memory_reserved_bytes",
        "What is set aside for uploads under way.",
        Unit::Bytes,
        |it| Some(it.reserved_bytes),
    ),
    gauge(
        "castellan_memory_dying_bytes",
        "What entries take that have left and are still being read.",
        Unit::Bytes,
        |it| Some(it.dying_bytes),
    ),
    gauge(
        "castellan_memory_leased_bytes",
        "What the entries under a lease take.",
        Unit::Bytes,
        |it| Some(it.leased_bytes),
    ),
    gauge(
        "castellan_memory_pinned_bytes",
        "What the entries take that are pinned.",
        Unit::Bytes,
        |it| Some(it.pinned_bytes),
    ),
    gauge("castellan_memory_entries", "Blobs and action results.", Unit::None, |it| {
        Some(it.entries)
    }),
    gauge("castellan_memory_waiting_uploads", "Uploads that wait for room.", Unit::None, |it| {
        Some(it.waiting_uploads)
    }),
    gauge("castellan_memory_writes", "Writes under way.", Unit::None, |it| Some(it.writes)),
    gauge(
        "castellan_memory_oldest_age_seconds",
        "Time since the last use of the entry used longest ago that is under no lease; \
         absent when there is none.",
        Unit::Seconds,
        |it| it.oldest_age_seconds,
    ),
    counter("castellan_memory_hits_total", "Reads that found something.", Unit::None, |it| {
        Some(it.hits)
    }),
    counter("castellan_memory_misses_total", "Reads that found nothing.", Unit::None, |it| {
        Some(it.misses)
    }),
    counter("castellan_memory_evictions_total", "Entries evicted for room.", Unit::None, |it| {
        Some(it.evictions)
    }),
    counter(
        "castellan_memory_expirations_total",
        "Entries that nobody has used for too long.",
        Unit::None,
        |it| Some(it.expirations),
    ),
    counter(
        "castellan_memory_over_count_total",
        "Entries over the limit on their number.",
        Unit::None,
        |it| Some(it.over_count),
    ),
    counter("castellan_memory_purged_total", "Entries purged.", Unit::None, |it| Some(it.purged)),
    counter("castellan_memory_removed_total", "Entries that clients removed.", Unit::None, |it| {
        Some(it.removed)
    }),
    counter(
        "castellan_memory_replaced_total",
        "Action results replaced by later ones.",
        Unit::None,
        |it| Some(it.replaced),
    ),
    counter(
        "castellan_memory_leases_broken_total",
        "Leases that ended before their time.",
        Unit::None,
        |it| Some(it.leases_broken),
    ),
    counter(
        "castellan_memory_reserve_timeouts_total",
        "Uploads that waited for room in vain.",
        Unit::None,
        |it| Some(it.reserve_timeouts),
    ),
    counter(
        "castellan_memory_lost_publications_total",
        "Uploads that another upload of the same blob overtook.",
        Unit::None,
        |it| Some(it.lost_publications),
    ),
    counter("castellan_memory_purges_total", "Purges begun.", Unit::None, |it| Some(it.purges)),
    counter(
        "castellan_memory_purge_cancelled_writes_total",
        "Writes that a purge cut off.",
        Unit::None,
        |it| Some(it.purge_cancelled_writes),
    ),
    counter(
        "castellan_memory_ledger_errors_total",
        "Subtractions that would have gone below zero; always 0.",
        Unit::None,
        |it| Some(it.ledger_errors),
    ),
];

static EXISTENCE: [Metric<ExistenceCacheStats>; 5] = [
    gauge("castellan_existence_entries", "Answers that are remembered.", Unit::None, |it| {
        Some(it.entries)
    }),
    counter("castellan_existence_hits_total", "Keys answered from memory.", Unit::None, |it| {
        Some(it.hits)
    }),
    counter(
        "castellan_existence_misses_total",
        "Keys that the backend was asked for while a client waited.",
        Unit::None,
        |it| Some(it.misses),
    ),
    counter(
        "castellan_existence_refreshes_total",
        "Keys that the backend was asked for behind an answer from memory.",
        Unit::None,
        |it| Some(it.refreshes),
    ),
    counter(
        "castellan_existence_disproved_total",
        "Keys answered from memory that a refresh found missing.",
        Unit::None,
        |it| Some(it.disproved),
    ),
];
