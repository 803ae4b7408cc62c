//! How a value becomes visible, and its executable variant with it.

use super::entry::Entry;
use super::removal::{Part, Victim};
use super::{Claim, Found, Index};
use crate::store::filesystem::layout::{FileName, Generation};
use crate::store::filesystem::mutants::{self, Mutant};
use crate::store::filesystem::tombstones::Reason;
use crate::store::{Key, Kind};

/// Whether a complete file may get its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Under this generation, which must be booked or abandoned.
    Write(Generation),
    /// Not needed: the blob is there.
    Overtaken,
    /// No: the write began before a purge (I16).
    Purged,
    /// No: the store has stopped.
    Closed,
}

/// What became of a file that was linked and wants to be visible.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Publish {
    /// It is visible.
    Inserted,
    /// It is visible, and the value it replaced must be buried.
    Replaced(Victim),
    /// Another upload of the blob was faster; this file must be buried.
    Lost(Victim),
    /// A purge came between; this file must be buried (I16).
    Purged(Victim),
    /// The store has stopped; this file must be buried.
    Closed(Victim),
}

impl<W> Index<W> {
    /// Asks to name the file of a write, which is complete and verified.
    pub(crate) fn begin_publication(&mut self, key: &Key, claim: &Claim) -> Start {
        if self.is_closed {
            return Start::Closed;
        }
        if self.is_fenced(key, claim) {
            return Start::Purged;
        }
        if let Some(slot) = self.stays(key) {
            self.order.touch(slot);
            return Start::Overtaken;
        }
        // I6: never the same twice, also across restarts.
        let generation = Generation(self.order.tick());
        self.writers.begin_publication(generation);
        Start::Write(generation)
    }

    /// Ends a publication whose file has not come to be, or is gone again.
    pub(crate) fn abandon_publication(&mut self, generation: Generation) {
        self.writers.end_publication(generation);
    }

    /// Asks to name a fresh copy of a blob; `None` when the blob has left or may not stay.
    pub(crate) fn begin_renewal(&mut self, old: &Found, claim: &Claim) -> Option<Generation> {
        self.still(old)?;
        let key = &old.file.key;
        // I16: a purge that has not come to the old one yet would, after a crash, find the new one
        // on its own side of the fence.
        let is_purged = self.writers.fences.cuts_off(key.namespace, old.file.generation.0);
        if self.is_closed || is_purged || self.is_fenced(key, claim) {
            return None;
        }
        let generation = Generation(self.order.tick());
        self.writers.begin_publication(generation);
        Some(generation)
    }

    fn is_fenced(&self, key: &Key, claim: &Claim) -> bool {
        let is_cut_off = self.writers.fences.cuts_off(key.namespace, claim.began);
        (is_cut_off || self.writers.is_revoked(&key.digest.hash, claim.began))
            && !mutants::is_on(Mutant::NoEpochFence)
    }

    /// The entry that a new file of this key does not replace: a blob, unless it may be torn.
    fn stays(&self, key: &Key) -> Option<u32> {
        let slot = self.find(key)?;
        let is_whole = self.order.slots.get(slot).is_some_and(|it| !self.is_doubtful(it));
        (key.kind == Kind::Blob && is_whole).then_some(slot)
    }

    /// Makes a linked file visible: the claim's bytes become its `charge`, the rest is free again.
    ///
    /// I5: the file is complete and verified; visibility and booking are one step. I16: so is the
    /// look at the fence.
    #[expect(clippy::needless_pass_by_value, reason = "a claim ends once")]
    pub(crate) fn publish(&mut self, file: FileName, claim: Claim, charge: u64) -> Publish {
        self.writers.end_publication(file.generation);
        let is_fenced = self.is_fenced(&file.key, &claim);
        self.ledger.settle(claim.bytes, charge);
        self.end_write(claim.began);
        if self.is_closed || is_fenced {
            let victim = self.never_visible(file, charge);
            return if is_fenced { Publish::Purged(victim) } else { Publish::Closed(victim) };
        }
        if let Some(slot) = self.stays(&file.key) {
            self.order.touch(slot);
            return Publish::Lost(self.never_visible(file, charge));
        }
        let former = self.find(&file.key);
        let is_leased = former.is_some_and(|slot| self.is_leased(slot));
        let replaced = former.and_then(|slot| self.take(slot, Reason::Replaced));
        self.insert_written(&file, charge, is_leased);
        replaced.map_or(Publish::Inserted, Publish::Replaced)
    }

    /// The same for a file that others may have, which is noted in the same step: at no time is
    /// it one that nobody could have changed.
    pub(crate) fn publish_exposed(&mut self, file: FileName, claim: Claim, charge: u64) -> Publish {
        let outcome = self.publish(file, claim, charge);
        if matches!(outcome, Publish::Inserted | Publish::Replaced(_))
            && let Some(entry) =
                self.find(&file.key).and_then(|slot| self.order.slots.get_mut(slot))
        {
            entry.set_exposed(true);
        }
        outcome
    }

    /// Puts a fresh copy of a blob in the place of the generation it was made from, if that still
    /// is there; the old one is the victim.
    #[expect(clippy::needless_pass_by_value, reason = "a claim ends once")]
    pub(crate) fn publish_renewed(
        &mut self,
        old: &Found,
        file: FileName,
        claim: Claim,
        charge: u64,
    ) -> Publish {
        self.writers.end_publication(file.generation);
        self.ledger.settle(claim.bytes, charge);
        self.end_write(claim.began);
        // A purge that has not come to the old one yet must find the new one gone too (I16).
        let namespace = old.file.key.namespace;
        let is_purged = self.writers.fences.cuts_off(namespace, old.file.generation.0);
        let current = self.still(old).filter(|_| !self.is_closed && !is_purged);
        let is_leased = current.is_some_and(|slot| self.is_leased(slot));
        let Some(victim) = current.and_then(|slot| self.take(slot, Reason::Replaced)) else {
            return Publish::Lost(self.never_visible(file, charge));
        };
        self.insert_written(&file, charge, is_leased);
        Publish::Replaced(victim)
    }

    fn is_leased(&self, slot: u32) -> bool {
        self.order.slots.get(slot).is_some_and(Entry::is_leased)
    }

    /// I21: what takes the place of something that is promised is promised too.
    fn insert_written(&mut self, file: &FileName, charge: u64, is_leased: bool) {
        let stamp = self.order.tick();
        let mut entry = Entry::new(file, charge, stamp);
        entry.set_verified(true);
        let slot = self.insert(entry, None);
        if is_leased {
            self.promise(slot);
        }
    }

    fn never_visible(&mut self, file: FileName, charge: u64) -> Victim {
        self.ledger.condemn(charge);
        Victim::new(file, Part::Value, charge, None)
    }

    /// Books a linked variant and pins its blob, if the blob still is of the generation that the
    /// variant was made from. I8, I9: the look at the blob and the booking are one step. When it
    /// is false, the caller unlinks what it linked and gives the claim back.
    pub(crate) fn publish_variant(&mut self, blob: &Found, claim: &Claim, charge: u64) -> bool {
        let Some(slot) = self.still(blob).filter(|_| !self.is_closed) else { return false };
        let has_variant = self.order.slots.get(slot).is_some_and(Entry::has_variant);
        // I10: one maker at a time, so that there is none yet.
        if has_variant || !self.order.pin(slot) {
            return false;
        }
        self.ledger.settle(claim.bytes, charge);
        self.end_write(claim.began);
        self.order.set_variant_bytes(slot, charge);
        self.variants += 1;
        true
    }

    /// For a mutant: the variant becomes visible and its bytes are booked later.
    #[cfg(all(test, feature = "shuttle"))]
    pub(crate) fn show_variant_uncounted(&mut self, blob: &Found, charge: u64) -> bool {
        let Some(slot) = self.still(blob) else { return false };
        self.order.set_variant_bytes(slot, charge);
        self.variants += 1;
        true
    }

    /// For a mutant: the second half of it; false when the blob has left meanwhile.
    #[cfg(all(test, feature = "shuttle"))]
    pub(crate) fn count_variant(&mut self, blob: &Found, claim: Claim, charge: u64) -> bool {
        let is_pinned = self.still(blob).is_some_and(|slot| self.order.pin(slot));
        if is_pinned {
            self.ledger.settle(claim.bytes, charge);
            self.end_write(claim.began);
        } else {
            self.unreserve(claim);
        }
        is_pinned
    }
}
