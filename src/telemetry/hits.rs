//! What clients asked for and whether it was there, by instance.
//!
//! Counted where REAPI's meaning is decided, so that it is the same over every wire. What the
//! server reads for itself on the way to an answer does not count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::clients::printable;

/// Instances that are told apart; clients may make up names.
const MAX_INSTANCES: usize = 64;
/// The name that all further instances share.
const OTHERS: &str = "_other";
/// What the empty name is called as a label, for an empty label is none.
pub(super) const NO_NAME: &str = "-";

/// The counters of one instance.
#[derive(Debug, Default)]
pub struct HitCounters {
    action_cache_hits: AtomicU64,
    action_cache_misses: AtomicU64,
    cas_hits: AtomicU64,
    cas_misses: AtomicU64,
    cas_present: AtomicU64,
    cas_absent: AtomicU64,
}

impl HitCounters {
    /// Counts an action result that a client asked for.
    pub fn count_action_result(&self, is_hit: bool) {
        count(if is_hit { &self.action_cache_hits } else { &self.action_cache_misses }, 1);
    }

    /// Counts a blob that a client asked to read.
    pub fn count_read(&self, is_hit: bool) {
        count(if is_hit { &self.cas_hits } else { &self.cas_misses }, 1);
    }

    /// Counts blobs of which a client asked whether they are there.
    pub fn count_presence(&self, present: usize, absent: usize) {
        count(&self.cas_present, present);
        count(&self.cas_absent, absent);
    }

    fn snapshot(&self) -> HitSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HitSnapshot {
            action_cache_hits: get(&self.action_cache_hits),
            action_cache_misses: get(&self.action_cache_misses),
            cas_hits: get(&self.cas_hits),
            cas_misses: get(&self.cas_misses),
            cas_present: get(&self.cas_present),
            cas_absent: get(&self.cas_absent),
        }
    }
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// The counters of one instance at one moment.
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

/// The counters of every instance.
#[derive(Debug, Default)]
pub struct Hits {
    instances: RwLock<HashMap<String, Arc<HitCounters>>>,
}

impl Hits {
    /// The counters of an instance: its own for the first names that come, then shared ones.
    pub fn of_instance(&self, name: &str) -> Arc<HitCounters> {
        let mut name = printable(name);
        // Nobody may pass for another.
        if [NO_NAME, OTHERS].contains(&&*name) {
            name = format!("{name}_").into();
        }
        let name = &*name;
        let instances = self.instances.read();
        let others = || instances.get(OTHERS).filter(|_| instances.len() >= MAX_INSTANCES);
        if let Some(counters) = instances.get(name).or_else(others) {
            return Arc::clone(counters);
        }
        drop(instances);
        let mut instances = self.instances.write();
        let name = if instances.len() < MAX_INSTANCES { name } else { OTHERS };
        // Another may have been faster.
        Arc::clone(instances.entry(name.to_owned()).or_default())
    }

    /// What every instance has counted, by name.
    pub fn snapshot(&self) -> Vec<(String, HitSnapshot)> {
        let instances = self.instances.read();
        let mut all: Vec<_> =
            instances.iter().map(|(name, hits)| (name.clone(), hits.snapshot())).collect();
        drop(instances);
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}
