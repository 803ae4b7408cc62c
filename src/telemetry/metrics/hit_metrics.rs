//! Hits and misses as families: a ratio is made by who asks, over the time he asks about.

use super::model::{Family, Kind, Samples, Unit};
use crate::telemetry::hits::{Hits, NO_NAME};

static RESULTS: Family = Family {
    name: "castellan_action_cache_lookups_total",
    help: "Action results asked for by clients; a result whose outputs are incomplete is a miss.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["instance_name", "result"],
};
static READS: Family = Family {
    name: "castellan_cas_reads_total",
    help: "Blobs that clients asked to read.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["instance_name", "result"],
};
static QUESTIONS: Family = Family {
    name: "castellan_cas_presence_total",
    help: "Blobs of which clients asked whether they are there.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["instance_name", "result"],
};

pub(super) static FAMILIES: [&Family; 3] = [&RESULTS, &READS, &QUESTIONS];

pub(super) fn collect(hits: &Hits, samples: &mut Samples) {
    for (name, hits) in hits.snapshot() {
        let name = if name.is_empty() { NO_NAME } else { &name };
        samples.integer(&RESULTS, &[name, "hit"], hits.action_cache_hits);
        samples.integer(&RESULTS, &[name, "miss"], hits.action_cache_misses);
        samples.integer(&READS, &[name, "hit"], hits.cas_hits);
        samples.integer(&READS, &[name, "miss"], hits.cas_misses);
        samples.integer(&QUESTIONS, &[name, "present"], hits.cas_present);
        samples.integer(&QUESTIONS, &[name, "absent"], hits.cas_absent);
    }
}
