//! The counters of a store as families: every field of [`StoreStats`].

use std::path::Path;

use super::metric::{Metric, counter, gauge};
use crate::store::filesystem::StoreStats;
use crate::telemetry::metrics::{Family, Kind, Samples, Unit, Value};

static GAUGES: [Metric<StoreStats>; 18] = [
    gauge(
        "castellan_store_max_bytes",
        "The most that the store may take on the disk.",
        Unit::Bytes,
        |stats| Some(stats.max_bytes),
    ),
    gauge(
        "castellan_store_limit_bytes",
        "The part of the cap that the disk allows at present.",
        Unit::Bytes,
        |stats| Some(stats.limit_bytes),
    ),
    gauge(
        "castellan_store_resident_bytes",
        "What the entries take on the disk.",
        Unit::Bytes,
        |stats| Some(stats.resident_bytes),
    ),
    gauge(
        "castellan_store_reserved_bytes",
        "What is set aside for uploads under way.",
        Unit::Bytes,
        |stats| Some(stats.reserved_bytes),
    ),
    gauge(
        "castellan_store_dying_bytes",
        "What entries take that were removed and whose files are not gone yet.",
        Unit::Bytes,
        |stats| Some(stats.dying_bytes),
    ),
    gauge(
        "castellan_store_held_bytes",
        "The part of the dying bytes that open readers hold.",
        Unit::Bytes,
        |stats| Some(stats.held_bytes),
    ),
    gauge(
        "castellan_store_overhead_bytes",
        "What directories, the store's own files and foreign files take.",
        Unit::Bytes,
        |stats| Some(stats.overhead_bytes),
    ),
    gauge(
        "castellan_store_unread_bytes",
        "At most what the directories hold that are not read yet.",
        Unit::Bytes,
        |stats| Some(stats.unread_bytes),
    ),
    gauge(
        "castellan_store_leased_bytes",
        "What the entries under a lease take.",
        Unit::Bytes,
        |stats| Some(stats.leased_bytes),
    ),
    gauge(
        "castellan_store_pinned_bytes",
        "What the entries take that staged trees hold.",
        Unit::Bytes,
        |stats| Some(stats.pinned_bytes),
    ),
    gauge("castellan_store_entries", "Blobs and action results.", Unit::None, |stats| {
        Some(stats.entries)
    }),
    gauge("castellan_store_variants", "Blobs with an executable variant.", Unit::None, |stats| {
        Some(stats.variants)
    }),
    gauge(
        "castellan_store_suspects",
        "Entries that a power cut may have torn, not hashed yet.",
        Unit::None,
        |stats| Some(stats.suspects),
    ),
    gauge(
        "castellan_store_former_directories",
        "Directories of another server that are still being taken over.",
        Unit::None,
        |stats| Some(stats.former_directories),
    ),
    gauge(
        "castellan_store_unread_shards",
        "Directories that are not read yet.",
        Unit::None,
        |stats| Some(stats.unread_shards),
    ),
    gauge("castellan_store_waiting_uploads", "Uploads that wait for room.", Unit::None, |stats| {
        Some(stats.waiting_uploads)
    }),
    gauge("castellan_store_writes", "Writes under way.", Unit::None, |stats| Some(stats.writes)),
    gauge(
        "castellan_store_oldest_age_seconds",
        "Time since the last use of the entry used longest ago that is under no lease; \
         absent when there is none.",
        Unit::Seconds,
        |stats| stats.oldest_age_seconds,
    ),
];

static REMOVALS: Family = Family {
    name: "castellan_store_removals_total",
    help: "Entries removed: evicted for room, expired unused, over the limit on their number \
           (count), purged, replaced by later ones, corrupt.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["store", "reason"],
};

type Removals = fn(&StoreStats) -> u64;

/// The reasons that `castellan why` gives too.
static REASONS: [(&str, Removals); 6] = [
    ("evicted", |stats| stats.evictions),
    ("expired", |stats| stats.expirations),
    ("count", |stats| stats.count_evictions),
    ("purged", |stats| stats.purged_entries),
    ("replaced", |stats| stats.replacements),
    ("corrupt", |stats| stats.corrupt_blobs),
];

static COUNTERS: [Metric<StoreStats>; 24] = [
    counter(
        "castellan_store_evict_unlink_failures_total",
        "Unlinks that failed; each is retried, its bytes stay charged.",
        Unit::None,
        |stats| Some(stats.evict_unlink_failures),
    ),
    counter(
        "castellan_store_leases_broken_total",
        "Leases that ended before their time.",
        Unit::None,
        |stats| Some(stats.leases_broken),
    ),
    counter(
        "castellan_store_lease_refusals_total",
        "Writes refused because leases held what they needed.",
        Unit::None,
        |stats| Some(stats.lease_refusals),
    ),
    counter(
        "castellan_store_reserve_timeouts_total",
        "Uploads that waited for room in vain.",
        Unit::None,
        |stats| Some(stats.reserve_timeouts),
    ),
    counter(
        "castellan_store_full_disks_total",
        "Times that a write met a full disk.",
        Unit::None,
        |stats| Some(stats.full_disks),
    ),
    counter(
        "castellan_store_index_file_missing_total",
        "Entries and variants whose file was gone; each was answered as a miss.",
        Unit::None,
        |stats| Some(stats.index_file_missing),
    ),
    counter(
        "castellan_store_tampered_blobs_total",
        "Blobs and executable variants changed through a hard link; each was removed.",
        Unit::None,
        |stats| Some(stats.tampered_blobs),
    ),
    counter(
        "castellan_store_lost_publications_total",
        "Uploads that another upload of the same blob overtook.",
        Unit::None,
        |stats| Some(stats.lost_publications),
    ),
    counter(
        "castellan_store_orphaned_variants_total",
        "Variants whose blob left while they were made; each was deleted.",
        Unit::None,
        |stats| Some(stats.orphaned_variants),
    ),
    counter(
        "castellan_store_stray_variants_total",
        "Variants without a blob, or torn ones, that a crash had left; each was deleted.",
        Unit::None,
        |stats| Some(stats.stray_variants),
    ),
    counter(
        "castellan_store_renewals_total",
        "Blobs that got a fresh inode because the old one had no links left.",
        Unit::None,
        |stats| Some(stats.renewals),
    ),
    counter("castellan_store_purges_total", "Purges begun.", Unit::None, |stats| {
        Some(stats.purges)
    }),
    counter(
        "castellan_store_purge_cancelled_writes_total",
        "Writes that a purge cut off.",
        Unit::None,
        |stats| Some(stats.purge_cancelled_writes),
    ),
    counter(
        "castellan_store_sync_failures_total",
        "Times that the disk did not take what was to be synced.",
        Unit::None,
        |stats| Some(stats.sync_failures),
    ),
    counter(
        "castellan_store_scrubbed_bytes_total",
        "Bytes hashed by the scrub.",
        Unit::Bytes,
        |stats| Some(stats.scrubbed_bytes),
    ),
    counter(
        "castellan_store_evictor_pokes_total",
        "Times that the evictor was called.",
        Unit::None,
        |stats| Some(stats.evictor_pokes),
    ),
    counter(
        "castellan_store_evictor_passes_total",
        "Times that the evictor looked for work.",
        Unit::None,
        |stats| Some(stats.evictor_passes),
    ),
    counter(
        "castellan_store_foreign_files_total",
        "Files found under the root that are not the store's: never served.",
        Unit::None,
        |stats| Some(stats.foreign_files),
    ),
    counter(
        "castellan_store_former_taken_over_total",
        "Files of another server that became the store's.",
        Unit::None,
        |stats| Some(stats.former_taken_over),
    ),
    counter(
        "castellan_store_former_dropped_total",
        "Files of another server that were not what they claimed to be: never served.",
        Unit::None,
        |stats| Some(stats.former_dropped),
    ),
    counter(
        "castellan_store_former_duplicates_total",
        "Files of another server whose value was there already.",
        Unit::None,
        |stats| Some(stats.former_duplicates),
    ),
    counter(
        "castellan_store_former_left_total",
        "Files of another server that could not become the store's: left alone, charged.",
        Unit::None,
        |stats| Some(stats.former_left),
    ),
    counter(
        "castellan_store_settle_excess_total",
        "Publications that allocated more than they had reserved.",
        Unit::None,
        |stats| Some(stats.settle_excess),
    ),
    counter(
        "castellan_store_ledger_errors_total",
        "Subtractions that would have gone below zero; always 0.",
        Unit::None,
        |stats| Some(stats.ledger_errors),
    ),
];

static PREDICTIONS: Family = Family {
    name: "castellan_store_predicted_hit_ratio",
    help: "The hit ratio that a store of so many times the present size would have, estimated \
           from reuse distances; absent while too little is known.",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &["store", "size_factor"],
};

/// Every family of a store.
pub(super) fn families() -> Vec<&'static Family> {
    let gauges = GAUGES.iter().map(|it| &it.family);
    gauges.chain([&PREDICTIONS, &REMOVALS]).chain(COUNTERS.iter().map(|it| &it.family)).collect()
}

/// Adds what a store says; `name` labels it.
pub(super) fn collect(name: &str, stats: &StoreStats, samples: &mut Samples) {
    for (reason, value) in &REASONS {
        samples.integer(&REMOVALS, &[name, reason], value(stats));
    }
    for metric in GAUGES.iter().chain(&COUNTERS) {
        metric.collect(&[name], stats, samples);
    }
}

/// Adds what a store would be at other sizes, as pairs of a factor and a hit ratio.
pub(super) fn collect_predictions(name: &str, predicted: &[(f64, f64)], samples: &mut Samples) {
    for (factor, ratio) in predicted {
        samples.add(&PREDICTIONS, &[name, &factor.to_string()], Value::Real(*ratio));
    }
}

/// What the stores in these directories are called: the directory's name, and its place in the
/// configuration behind it where that is not unique.
pub(super) fn names<'a>(roots: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let last =
        |root: &Path| root.file_name().map_or_else(String::new, |it| it.display().to_string());
    let names: Vec<String> = roots.map(last).collect();
    let is_unique = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    let mut taken: Vec<String> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let mut shown = name.clone();
        if shown.is_empty() || !is_unique(name) {
            shown = format!("{name}_{index}");
        }
        while taken.contains(&shown) {
            shown.push('_');
        }
        taken.push(shown);
    }
    taken
}
