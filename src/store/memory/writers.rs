//! Writes under way, and the fences that purges put up between them and the index.
//!
//! A write begins at a point in logical time, a fence stands at another: what began before it never
//! becomes visible (I16). Nothing outlives the process, so a fence goes when no write is left that
//! could run into it.

use std::collections::BTreeMap;

use crate::store::{Key, PurgeScope, Selection};

/// Fences that are up at once.
const MAX_FENCES: usize = 1024;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Writers {
    /// By when they began; no two at once.
    live: BTreeMap<u64, Key>,
    fences: Vec<(Selection, u64)>,
}

impl Writers {
    pub(super) fn begin(&mut self, moment: u64, key: Key) {
        self.live.insert(moment, key);
    }

    /// False when there was no such write.
    pub(super) fn end(&mut self, moment: u64) -> bool {
        self.live.remove(&moment).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// Puts up a fence at `moment`, the latest; false when there are too many.
    pub(super) fn raise_fence(&mut self, selection: Selection, moment: u64) -> bool {
        if let Selection::ResultsOlderThan { .. } = selection {
            return true;
        }
        let is_all = selection == Selection::Scope(PurgeScope::All);
        let oldest = self.live.first_key_value().map_or(u64::MAX, |(moment, _)| *moment);
        self.fences.retain(|(older, at)| !is_all && *older != selection && oldest < *at);
        if self.fences.len() >= MAX_FENCES {
            return false;
        }
        self.fences.push((selection, moment));
        true
    }

    /// Whether a purge has cut off a write of `key` that began then.
    pub(super) fn is_fenced(&self, key: &Key, began: u64) -> bool {
        self.fences.iter().any(|(selection, at)| began < *at && cuts_off(selection, key))
    }

    /// Whether writes are still under way that a fence at `moment` has cut off.
    pub(super) fn has_fenced(&self, selection: &Selection, moment: u64) -> bool {
        self.live.range(..moment).any(|(_, key)| cuts_off(selection, key))
    }
}

/// What is on its way is of no age yet.
fn cuts_off(selection: &Selection, key: &Key) -> bool {
    match selection {
        Selection::ResultsOlderThan { .. } => false,
        Selection::Scope(_) | Selection::Hash(_) => selection.covers(key, 0),
    }
}
