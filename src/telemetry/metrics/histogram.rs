//! How long things take, counted in fixed ranges that fit a cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::model::Distribution;

/// The ranges end here; the last has no end. From an answer out of memory to a client at the end
/// of a bad line.
const BOUNDS_SECONDS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 60.0,
];

/// A histogram of durations: two additions a value, no lock, no allocation.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    /// Overflows after five centuries.
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let range = BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(range) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What it holds; `None` when it never got a value.
    pub(super) fn distribution(&self) -> Option<Distribution> {
        let counts: Vec<u64> = self.counts.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        let is_used = counts.iter().any(|count| *count > 0);
        is_used.then_some(Distribution { bounds: &BOUNDS_SECONDS, counts, sum })
    }
}
