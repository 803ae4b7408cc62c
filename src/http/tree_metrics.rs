//! The counters of stores that are not files as families.

use std::sync::Arc;

use super::metric::{Metric, counter, gauge};
use crate::operator::Numbers;
use crate::store::compression::{CompressionStats, CompressionStore};
use crate::store::counted::{CountedStats, CountedStore};
use crate::store::dedup::{DedupStats, DedupStore};
use crate::store::existence_cache::{ExistenceCache, ExistenceCacheStats};
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
    ExistenceCache(Arc<ExistenceCache>),
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

fn all<S>(
    metrics: &'static [Metric<S>],
    stats: &S,
    each: &mut dyn FnMut(&'static Family, u64),
) {
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
    counter("castellan_tiered_near_hits_total", "Reads that the near store served, or the queue.", Unit::None, |it| Some(it.hits_fast)),
    counter("castellan_tiered_far_hits_total", "Reads that the far store served.", Unit::None, |it| Some(it.hits_slow)),
    counter("castellan_tiered_misses_total", "Reads of what neither has.", Unit::None, |it| Some(it.misses)),
    counter("castellan_tiered_populations_total", "Values that a read brought into the near store.", Unit::None, |it| Some(it.populations)),
    counter("castellan_tiered_population_failures_total", "Populations that came to nothing; their reads did not suffer.", Unit::None, |it| Some(it.population_failures)),
    counter("castellan_tiered_near_read_failures_total", "Look-ups and reads that the near store failed and the far one answered.", Unit::None, |it| Some(it.fast_read_failures)),
    counter("castellan_tiered_near_write_failures_total", "Writes that only the far store took, because the near one failed.", Unit::None, |it| Some(it.fast_write_failures)),
    counter("castellan_tiered_offered_total", "Writes that were to be acknowledged before the far store had them.", Unit::None, |it| Some(it.offered)),
    counter("castellan_tiered_accepted_total", "Writes that were acknowledged before the far store had them.", Unit::None, |it| Some(it.accepted)),
    counter("castellan_tiered_write_drops_total", "Writes that the queue did not take; each was acknowledged when the far store had it.", Unit::None, |it| Some(it.write_drops)),
    counter("castellan_tiered_persisted_total", "Accepted writes that the far store has.", Unit::None, |it| Some(it.persisted)),
    counter("castellan_tiered_failed_total", "Accepted writes that were given up; each is missing until a client sends it again.", Unit::None, |it| Some(it.failed)),
    counter("castellan_tiered_cancelled_total", "Accepted writes that a purge, a later write or a stop made void.", Unit::None, |it| Some(it.cancelled)),
    gauge("castellan_tiered_queued_items", "Accepted writes that wait.", Unit::None, |it| Some(it.queued_items)),
    gauge("castellan_tiered_queued_bytes", "What the accepted writes that wait take.", Unit::Bytes, |it| Some(it.queued_bytes)),
    gauge("castellan_tiered_in_flight", "Accepted writes that are being copied.", Unit::None, |it| Some(it.in_flight)),
];

static REMOTE: [Metric<RemoteStats>; 9] = [
    counter("castellan_remote_requests_total", "Calls made to the upstream, retries among them.", Unit::None, |it| Some(it.requests)),
    counter("castellan_remote_retries_total", "Calls made again, and transfers continued.", Unit::None, |it| Some(it.retries)),
    counter("castellan_remote_failures_total", "Calls that failed.", Unit::None, |it| Some(it.failures)),
    counter("castellan_remote_corrupt_total", "Values whose bytes were not those asked for; none was stored or served.", Unit::None, |it| Some(it.corrupt)),
    counter("castellan_remote_strays_total", "Parts of answers that nobody had asked for; each was ignored.", Unit::None, |it| Some(it.strays)),
    counter("castellan_remote_read_bytes_total", "Bytes of values that came.", Unit::Bytes, |it| Some(it.bytes_read)),
    counter("castellan_remote_written_bytes_total", "Bytes of values that were sent.", Unit::Bytes, |it| Some(it.bytes_written)),
    gauge("castellan_remote_paused_endpoints", "Endpoints that are given a pause now, because they cannot be reached.", Unit::None, |it| Some(it.breaker_open)),
    gauge("castellan_remote_in_flight", "Calls under way.", Unit::None, |it| Some(it.in_flight)),
];

static COMPRESSION: [Metric<CompressionStats>; 4] = [
    counter("castellan_compression_blobs_total", "Blobs written.", Unit::None, |it| Some(it.blobs)),
    counter("castellan_compression_uncompressed_bytes_total", "What the blobs written have.", Unit::Bytes, |it| Some(it.uncompressed_bytes)),
    counter("castellan_compression_compressed_bytes_total", "What was written for them.", Unit::Bytes, |it| Some(it.compressed_bytes)),
    counter("castellan_compression_corrupt_total", "Blobs found changed, and removed.", Unit::None, |it| Some(it.corrupt)),
];

static DEDUP: [Metric<DedupStats>; 6] = [
    counter("castellan_dedup_blobs_total", "Blobs written.", Unit::None, |it| Some(it.blobs)),
    counter("castellan_dedup_chunks_written_total", "Chunks that were not there yet.", Unit::None, |it| Some(it.chunks_written)),
    counter("castellan_dedup_chunks_shared_total", "Chunks that were there.", Unit::None, |it| Some(it.chunks_shared)),
    counter("castellan_dedup_written_bytes_total", "What the chunks have that were not there yet.", Unit::Bytes, |it| Some(it.bytes_written)),
    counter("castellan_dedup_shared_bytes_total", "What the chunks have that were there.", Unit::Bytes, |it| Some(it.bytes_shared)),
    counter("castellan_dedup_corrupt_total", "Lists of chunks that were found changed or broken, and removed.", Unit::None, |it| Some(it.corrupt)),
];
