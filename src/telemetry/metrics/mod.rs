//! Everything this program counts but the stores' own counters.
//!
//! Families are declared once, beside what counts them; samples are taken when somebody asks.
//! Labels come from closed or bounded sets: no client can make this grow.

mod body;
mod calls;
mod histogram;
mod hit_metrics;
mod model;
mod process;
mod requests;
mod staging;
#[cfg(test)]
mod tests;
pub mod text;
mod tls;

use std::sync::Arc;

pub use self::body::ReceivedBody;
pub use self::calls::{Method, Outcome, Transport};
pub use self::model::{Distribution, Family, Group, Kind, Point, Samples, Unit, Value};
pub use self::requests::{InFlight, Requests};
pub use self::staging::{StageOutcome, StagingCounters};
pub use self::tls::{Handshake, TlsCounters};
use super::clients::TopNames;
use super::hits::Hits;
use super::recent_errors::{self, RecentErrors};

/// What the process counts. One for all listeners.
#[derive(Debug)]
pub struct Metrics {
    /// Requests by method.
    pub requests: Arc<Requests>,
    /// Hits and misses by instance.
    pub hits: Hits,
    /// The tools that ask most.
    pub tools: TopNames,
    /// The instances that are asked most.
    pub instances: TopNames,
    /// What went wrong last.
    pub recent_errors: RecentErrors,
    /// Handshakes and certificates.
    pub tls: Arc<TlsCounters>,
    /// What workers had staged and captured.
    pub staging: StagingCounters,
    process: process::Process,
}

impl Metrics {
    /// Counters at 0; the process counts as started now.
    pub fn new(recent_errors: RecentErrors) -> Arc<Self> {
        Arc::new(Self {
            requests: Requests::new(),
            hits: Hits::default(),
            tools: TopNames::default(),
            instances: TopNames::default(),
            recent_errors,
            tls: Arc::default(),
            staging: StagingCounters::default(),
            process: process::Process::new(),
        })
    }

    /// How long the process runs, in whole seconds.
    pub fn uptime_seconds(&self) -> u64 {
        self.process.uptime_seconds()
    }

    /// What all families say now.
    pub fn collect(&self, samples: &mut Samples) {
        self.process.collect(samples);
        self.requests.collect(samples);
        hit_metrics::collect(&self.hits, samples);
        self.recent_errors.collect(samples);
        self.tls.collect(samples);
        self.staging.collect(samples);
    }
}

/// Every family that [`Metrics::collect`] knows.
pub fn families() -> Vec<&'static Family> {
    [
        &process::FAMILIES[..],
        &requests::FAMILIES,
        &hit_metrics::FAMILIES,
        &recent_errors::FAMILIES,
        &tls::FAMILIES,
        &staging::FAMILIES,
    ]
    .concat()
}
