//! Writes under way, and the fences that purges put up between them and the index.
//!
//! Everything is a point on the line of logical time. A write begins at one; its file gets its
//! generation at another, later one. A purge raises a fence to the present: what began or was
//! written before it never becomes visible again (I16), in this process by the check at
//! publication, after a crash by the check of each name that is found.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::layout::Generation;
use crate::digest::HASH_BYTES;
use crate::store::{Namespace, PurgeScope};

/// Namespaces with a fence of their own; each costs a line in the format file.
const MAX_FENCES: usize = 1024;

/// The fences: what is older than its fence is purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fences {
    pub(crate) all: u64,
    pub(crate) namespaces: HashMap<Namespace, u64>,
}

impl Fences {
    /// Whether what was written or begun at `moment` is purged.
    pub(crate) fn cuts_off(&self, namespace: Namespace, moment: u64) -> bool {
        let is_behind = |fence: &u64| moment < *fence;
        if namespace == Namespace::ADOPTED {
            // Every instance asks for them.
            let mut of_instances =
                self.namespaces.iter().filter(|(namespace, _)| **namespace != Namespace::SHARED);
            return moment < self.all || of_instances.any(|(_, fence)| is_behind(fence));
        }
        moment < self.all || self.namespaces.get(&namespace).is_some_and(is_behind)
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// When the live writes began, with how many began then.
    live: BTreeMap<u64, u32>,
    /// Generations given to files that are not booked yet.
    publishing: BTreeSet<Generation>,
    /// Hashes that were purged while writes were under way, each with the moment.
    revoked: Vec<([u8; HASH_BYTES], u64)>,
    pub(super) fences: Fences,
}

impl Writers {
    pub(super) fn begin(&mut self, moment: u64) {
        *self.live.entry(moment).or_default() += 1;
    }

    /// False when there was no such write.
    pub(super) fn end(&mut self, moment: u64) -> bool {
        let Some(count) = self.live.get_mut(&moment) else { return false };
        *count -= 1;
        if *count == 0 {
            self.live.remove(&moment);
        }
        true
    }

    pub(super) fn begin_publication(&mut self, generation: Generation) {
        self.publishing.insert(generation);
    }

    pub(super) fn end_publication(&mut self, generation: Generation) {
        self.publishing.remove(&generation);
    }

    /// The oldest generation whose file may not have its name yet.
    pub(super) fn oldest_publication(&self) -> Option<Generation> {
        self.publishing.first().copied()
    }

    /// Live writes that began before `moment`.
    pub(super) fn count_before(&self, moment: u64) -> usize {
        self.live.range(..moment).map(|(_, count)| *count as usize).sum()
    }

    /// When the oldest live write began.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.live.first_key_value().map(|(moment, _)| *moment)
    }

    pub(super) fn len(&self) -> usize {
        self.live.values().map(|count| *count as usize).sum()
    }

    /// Keeps what began before `moment` from becoming visible under a hash; false when too many are
    /// kept so. Needs not be written down: a write does not outlive the process, and what was
    /// there before is unlinked.
    pub(super) fn revoke(&mut self, hash: [u8; HASH_BYTES], moment: u64) -> bool {
        self.forget_revocations();
        if self.revoked.len() >= MAX_FENCES {
            return false;
        }
        self.revoked.push((hash, moment));
        true
    }

    /// Whether a write of this hash that began at `moment` has been revoked since.
    pub(super) fn is_revoked(&self, hash: &[u8; HASH_BYTES], moment: u64) -> bool {
        self.revoked.iter().any(|(revoked, at)| revoked == hash && moment < *at)
    }

    /// Drops those that no write under way can run into.
    fn forget_revocations(&mut self) {
        let oldest = self.oldest().unwrap_or(u64::MAX);
        self.revoked.retain(|(_, moment)| oldest < *moment);
    }

    /// Puts up a fence at `moment`; false when there are too many.
    pub(super) fn raise_fence(&mut self, scope: PurgeScope, moment: u64) -> bool {
        let fences = &mut self.fences;
        match scope {
            PurgeScope::All => {
                fences.all = fences.all.max(moment);
                fences.namespaces.retain(|_, fence| *fence > moment);
            }
            PurgeScope::Namespace(namespace) => {
                let is_known = fences.namespaces.contains_key(&namespace);
                if !is_known && fences.namespaces.len() >= MAX_FENCES {
                    return false;
                }
                fences.namespaces.insert(namespace, moment);
            }
        }
        true
    }

    /// Takes the fences of namespaces down that nobody can run into any more: no live write began
    /// before them, and what lay behind them is gone from the disk for good. One at `gone_before`
    /// itself may be of a purge under way.
    pub(super) fn lower_fences(&mut self, gone_before: u64) {
        self.forget_revocations();
        let oldest = self.oldest().unwrap_or(u64::MAX);
        self.fences.namespaces.retain(|_, fence| *fence >= gone_before || oldest < *fence);
    }
}
