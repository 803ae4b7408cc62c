//! What the process remembers of itself: a sample every ten seconds for an hour, and one every ten
//! minutes for a week.
//!
//! Samples hold what has been counted since the start, so that any two of them say what was
//! between. Its memory is fixed.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

use crate::telemetry::hits::HitSnapshot;

/// The time between two samples.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// One more than there are intervals in the span, and the one that is going on.
const HOUR: Ring = Ring { interval_seconds: 10, capacity: 360 + 2, samples: VecDeque::new() };
const WEEK: Ring = Ring { interval_seconds: 600, capacity: 7 * 144 + 2, samples: VecDeque::new() };

/// What there was at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Since the start.
    pub(super) at_seconds: u64,
    pub(super) used_bytes: u64,
    /// Entries that left to make room, or because of a limit.
    pub(super) evictions: u64,
    pub(super) hits: HitSnapshot,
}

/// The samples of the last hour and of the last week.
#[derive(Debug)]
pub(super) struct History {
    hour: Ring,
    week: Ring,
}

impl Default for History {
    fn default() -> Self {
        Self { hour: HOUR, week: WEEK }
    }
}

impl History {
    /// Keeps a sample that is younger than all before.
    pub(super) fn note(&mut self, sample: Sample) {
        self.hour.note(sample);
        self.week.note(sample);
    }

    /// What has been counted in the last so many seconds before `now`, or since the start.
    pub(super) fn hits_of_last(&self, seconds: u64, now: &Sample) -> HitSnapshot {
        let Some(from) = now.at_seconds.checked_sub(seconds) else { return now.hits };
        let before = self.hour.at(from).or_else(|| self.week.at(from));
        difference(&now.hits, &before.copied().unwrap_or_default().hits)
    }

    /// Both as columns of numbers; the last of each is what there is `now`.
    pub(super) fn document(&self, now: &Sample, unix_seconds: u64) -> Value {
        let columns = |ring: &Ring| ring.columns(now, unix_seconds);
        json!({ "hour": columns(&self.hour), "week": columns(&self.week) })
    }
}

/// Samples at a distance, the oldest first.
#[derive(Debug)]
struct Ring {
    interval_seconds: u64,
    capacity: usize,
    samples: VecDeque<Sample>,
}

impl Ring {
    fn note(&mut self, sample: Sample) {
        let slot = |sample: &Sample| sample.at_seconds / self.interval_seconds;
        if self.samples.back().is_some_and(|last| slot(last) >= slot(&sample)) {
            return;
        }
        if self.samples.len() >= self.capacity {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The last sample that is not younger than this.
    fn at(&self, seconds: u64) -> Option<&Sample> {
        let after = self.samples.partition_point(|it| it.at_seconds <= seconds);
        self.samples.get(after.checked_sub(1)?)
    }

    fn columns(&self, now: &Sample, unix_seconds: u64) -> Value {
        let started_at = unix_seconds.saturating_sub(now.at_seconds);
        let is_new = |last: &Sample| last.at_seconds < now.at_seconds;
        let newest = self.samples.back().is_none_or(is_new).then_some(now);
        let samples: Vec<&Sample> = self.samples.iter().chain(newest).collect();
        // Of the first nothing is known but what it is: what was counted was counted before it.
        let shown = samples.get(1..).unwrap_or_default();
        let gauge = |get: fn(&Sample) -> u64| -> Value { shown.iter().map(|it| get(it)).collect() };
        let counter = |get: fn(&Sample) -> u64| -> Value {
            let pairs = samples.iter().zip(shown);
            pairs.map(|(one, next)| get(next).saturating_sub(get(one))).collect()
        };
        json!({
            "interval_seconds": self.interval_seconds,
            "capacity": self.capacity,
            "at": shown.iter().map(|it| started_at + it.at_seconds).collect::<Value>(),
            "used_bytes": gauge(|it| it.used_bytes),
            "evictions": counter(|it| it.evictions),
            "action_cache_hits": counter(|it| it.hits.action_cache_hits),
            "action_cache_misses": counter(|it| it.hits.action_cache_misses),
            "blob_read_hits": counter(|it| it.hits.cas_hits),
            "blob_read_misses": counter(|it| it.hits.cas_misses),
        })
    }
}

fn difference(now: &HitSnapshot, before: &HitSnapshot) -> HitSnapshot {
    HitSnapshot {
        action_cache_hits: now.action_cache_hits.saturating_sub(before.action_cache_hits),
        action_cache_misses: now.action_cache_misses.saturating_sub(before.action_cache_misses),
        cas_hits: now.cas_hits.saturating_sub(before.cas_hits),
        cas_misses: now.cas_misses.saturating_sub(before.cas_misses),
        cas_present: now.cas_present.saturating_sub(before.cas_present),
        cas_absent: now.cas_absent.saturating_sub(before.cas_absent),
    }
}

/// The sum of what instances have counted.
pub(super) fn sum(all: impl IntoIterator<Item = HitSnapshot>) -> HitSnapshot {
    all.into_iter().fold(HitSnapshot::default(), |sum, it| HitSnapshot {
        action_cache_hits: sum.action_cache_hits + it.action_cache_hits,
        action_cache_misses: sum.action_cache_misses + it.action_cache_misses,
        cas_hits: sum.cas_hits + it.cas_hits,
        cas_misses: sum.cas_misses + it.cas_misses,
        cas_present: sum.cas_present + it.cas_present,
        cas_absent: sum.cas_absent + it.cas_absent,
    })
}
