//! What clients do and what goes wrong, as the process counts it.

/// Names that are shown of each table.
pub(super) const SHOWN: usize = 10;

/// The counters of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitSnapshot {
    /// Action results that were served.
    pub action_cache_hits: u64,
    /// Action results that were not there, or not complete.
    pub action_cache_misses: u64,
    /// Blobs that were served.
    pub cas_hits: u64,
    /// Blobs that were asked for and not there.
    pub cas_misses: u64,
    /// Blobs that were reported present.
    pub cas_present: u64,
    /// Blobs that were reported missing.
    pub cas_absent: u64,
}

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentError {
    /// When, in seconds since 1970.
    pub unix_seconds: u64,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// Which part of the program.
    pub target: &'static str,
    /// What happened.
    pub message: String,
    /// The facts.
    pub fields: String,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Activity {}

impl Activity {
    pub(super) fn hits(&self) -> HitSnapshot {
        HitSnapshot::default()
    }

    pub(super) fn tools(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    pub(super) fn instances(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    pub(super) fn errors(&self) -> Vec<RecentError> {
        Vec::new()
    }
}
