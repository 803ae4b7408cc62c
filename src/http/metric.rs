//! A number of a store as a family.

use crate::telemetry::metrics::{Family, Kind, Samples, Unit};

/// A family, and where its value comes from in what a store says of itself.
pub(super) struct Metric<S> {
    pub(super) family: Family,
    value: fn(&S) -> Option<u64>,
}

impl<S> Metric<S> {
    /// What `stats` say.
    pub(super) fn value(&self, stats: &S) -> Option<u64> {
        (self.value)(stats)
    }

    /// Adds what `stats` say, unless that is nothing.
    pub(super) fn collect(&'static self, labels: &[&str], stats: &S, samples: &mut Samples) {
        if let Some(value) = self.value(stats) {
            samples.integer(&self.family, labels, value);
        }
    }
}

const fn of_store<S>(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    unit: Unit,
    value: fn(&S) -> Option<u64>,
) -> Metric<S> {
    Metric { family: Family { name, help, kind, unit, labels: &["store"] }, value }
}

pub(super) const fn gauge<S>(
    name: &'static str,
    help: &'static str,
    unit: Unit,
    value: fn(&S) -> Option<u64>,
) -> Metric<S> {
    of_store(Kind::Gauge, name, help, unit, value)
}

pub(super) const fn counter<S>(
    name: &'static str,
    help: &'static str,
    unit: Unit,
    value: fn(&S) -> Option<u64>,
) -> Metric<S> {
    of_store(Kind::Counter, name, help, unit, value)
}
