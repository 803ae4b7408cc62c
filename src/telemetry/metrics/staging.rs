//! Workers: trees staged for them, and what was captured of what they made.

use std::sync::atomic::{AtomicU64, Ordering};

use super::model::{Family, Kind, Samples, Unit};

const fn family(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
) -> Family {
    Family { name, help, kind, unit, labels }
}

static LEASES: Family = family(
    Kind::Gauge,
    "castellan_staging_leases",
    "Staged trees that are leased to workers.",
    Unit::None,
    &[],
);
static TREES: Family = family(
    Kind::Counter,
    "castellan_staging_trees_total",
    "Trees that workers asked for: staged, missing (blobs of it are), failed, cancelled.",
    Unit::None,
    &["result"],
);
static FILES: Family = family(
    Kind::Counter,
    "castellan_staging_files_total",
    "Files in staged trees: linked, or copied.",
    Unit::None,
    &["how"],
);
static MISSING: Family = family(
    Kind::Counter,
    "castellan_staging_missing_blobs_total",
    "Blobs that trees lacked that workers asked for.",
    Unit::None,
    &[],
);
static CAPTURED_FILES: Family = family(
    Kind::Counter,
    "castellan_staging_captured_files_total",
    "Files that were stored for workers.",
    Unit::None,
    &[],
);

pub(super) static FAMILIES: [&Family; 5] = [&LEASES, &TREES, &FILES, &MISSING, &CAPTURED_FILES];

/// What became of a tree that a worker asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageOutcome {
    /// It is there.
    Staged,
    /// So many of its blobs are not.
    Missing(u64),
    /// Something else is wrong.
    Failed,
    /// The worker went away, or the server stops.
    Cancelled,
}

/// The counters of all instances together.
#[derive(Debug, Default)]
pub struct StagingCounters {
    leases: AtomicU64,
    staged: AtomicU64,
    missing: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    linked_files: AtomicU64,
    copied_files: AtomicU64,
    missing_blobs: AtomicU64,
    captured_files: AtomicU64,
}

impl StagingCounters {
    /// Notes a lease that begins.
    pub fn begin_lease(&self) {
        count(&self.leases, 1);
    }

    /// Notes that a lease has ended that began.
    pub fn end_lease(&self) {
        self.leases.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a tree.
    pub fn count_tree(&self, outcome: StageOutcome) {
        let counter = match outcome {
            StageOutcome::Staged => &self.staged,
            StageOutcome::Missing(blobs) => {
                count(&self.missing_blobs, blobs);
                &self.missing
            }
            StageOutcome::Failed => &self.failed,
            StageOutcome::Cancelled => &self.cancelled,
        };
        count(counter, 1);
    }

    /// Counts the files of a staged tree.
    pub fn count_files(&self, linked: u64, copied: u64) {
        count(&self.linked_files, linked);
        count(&self.copied_files, copied);
    }

    /// Counts files that were stored.
    pub fn count_captured(&self, files: u64) {
        count(&self.captured_files, files);
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        let numbers: [(&'static Family, &[&str], &AtomicU64); 9] = [
            (&LEASES, &[], &self.leases),
            (&TREES, &["staged"], &self.staged),
            (&TREES, &["missing"], &self.missing),
            (&TREES, &["failed"], &self.failed),
            (&TREES, &["cancelled"], &self.cancelled),
            (&FILES, &["linked"], &self.linked_files),
            (&FILES, &["copied"], &self.copied_files),
            (&MISSING, &[], &self.missing_blobs),
            (&CAPTURED_FILES, &[], &self.captured_files),
        ];
        for (family, labels, number) in numbers {
            samples.integer(family, labels, number.load(Ordering::Relaxed));
        }
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
