//! Which bytes are known to be right, which others have links to, and what keeps them.

use super::{Found, Index, Use};
use crate::store::Key;

/// What came of an attempt to pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinning {
    /// There is no such entry.
    Absent,
    /// It is there, and is not pinned: its bytes are not known to be right, or it has no variant.
    Unready(Found),
    /// It stays until [`Index::unpin`].
    Pinned(Found),
    /// So many pins hold it that they cannot be counted.
    TooMany,
}

impl<W> Index<W> {
    /// Looks a blob up, uses it, and keeps it from eviction until [`Index::unpin`], if links can be
    /// made to its file, or to that of its variant, right away.
    pub(crate) fn pin_ready(&mut self, key: &Key, is_executable: bool) -> Pinning {
        let Some(found) = self.look_up(key, Use::Touch) else { return Pinning::Absent };
        let is_good = found.is_verified && !found.is_former();
        let is_ready = if is_executable { found.has_variant } else { is_good };
        if self.order.slots.get(found.slot).is_some_and(|entry| entry.pins == u16::MAX) {
            Pinning::TooMany
        } else if is_ready && self.order.pin(found.slot) {
            Pinning::Pinned(found)
        } else {
            Pinning::Unready(found)
        }
    }

    /// Keeps an entry from eviction until [`Index::unpin`]; false when it has left.
    pub(crate) fn pin(&mut self, found: &Found) -> bool {
        self.still(found).is_some_and(|slot| self.order.pin(slot))
    }

    /// Ends what [`Index::pin`] began; nothing when the entry has left meanwhile (I7).
    pub(crate) fn unpin(&mut self, found: &Found) {
        if let Some(slot) = self.still(found) {
            self.order.unpin(slot);
        }
    }

    /// The entry as it is now; `None` when this generation has left. I7.
    pub(crate) fn refresh(&self, found: &Found) -> Option<Found> {
        self.still(found).and_then(|slot| self.found(slot))
    }

    /// Remembers that the bytes of this generation hashed right, and whether others have links to
    /// them. I7. Says nothing of what has become a suspect since it was looked up: the bytes may
    /// have been read before.
    pub(crate) fn mark_verified(&mut self, found: &Found) {
        let Some(entry) = self.still(found).and_then(|slot| self.order.slots.get_mut(slot)) else {
            return;
        };
        let was_suspect = entry.is_suspect();
        if was_suspect && !found.is_suspect {
            return;
        }
        entry.set_verified(true);
        entry.set_exposed(entry.is_exposed() || found.is_exposed);
        entry.set_suspect(false);
        self.suspects = self.suspects.saturating_sub(u64::from(was_suspect));
    }

    /// Remembers that somebody may have changed the file; true when that is news. I7.
    pub(crate) fn distrust(&mut self, found: &Found) -> bool {
        let slot = self.still(found);
        let entry = slot.and_then(|slot| self.order.slots.get_mut(slot));
        let Some(entry) = entry.filter(|it| !it.is_suspect()) else { return false };
        entry.set_verified(false);
        entry.set_suspect(true);
        self.suspects += 1;
        true
    }

    /// Remembers that others have links to the file. I7.
    pub(crate) fn mark_exposed(&mut self, found: &Found) {
        if let Some(entry) = self.still(found).and_then(|slot| self.order.slots.get_mut(slot)) {
            entry.set_exposed(true);
        }
    }
}
