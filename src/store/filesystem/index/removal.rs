//! How an entry leaves: from the map at once, from the disk by whoever holds the token, from the
//! books when its files are gone.

use super::entry::Entry;
use super::{Claim, Index, Orphan};
use crate::digest::HASH_BYTES;
use crate::store::filesystem::layout::{FileName, Generation, Shard};
use crate::store::filesystem::mutants::{self, Mutant};
use crate::store::filesystem::tombstones::Reason;
use crate::store::{PurgeScope, Selection};

/// Which files a victim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// That of the value.
    Value,
    /// Those of a blob and of its executable variant.
    ValueAndVariant,
    /// That of the variant alone; the blob stays.
    Variant,
    /// None: the variant's was found to be gone, and by now its name may be that of the next one.
    GoneVariant,
}

/// Files that have left the map and must be unlinked by whoever holds this.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a victim's bytes stay charged until it is buried"]
pub(crate) struct Victim {
    /// The value.
    pub(crate) file: FileName,
    /// Which of its files to unlink.
    pub(crate) part: Part,
    /// Why; `None` for a file that was never visible.
    pub(crate) reason: Option<Reason>,
    /// Seconds since its last use, at least.
    pub(crate) unused_seconds: u64,
    /// Seconds since it was written, at least.
    pub(crate) age_seconds: u64,
    charge: u64,
    /// Whether its unlink has failed.
    is_stuck: bool,
}

impl Victim {
    pub(super) fn new(file: FileName, part: Part, charge: u64, reason: Option<Reason>) -> Self {
        Self { file, part, reason, unused_seconds: 0, age_seconds: 0, charge, is_stuck: false }
    }

    /// The bytes that unlinking frees.
    pub(crate) fn charge(&self) -> u64 {
        self.charge
    }

    /// Whether an unlink of it has failed before.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_stuck
    }
}

impl<W> Index<W> {
    /// Takes the entry out of the map if it still is this generation. I7.
    pub(crate) fn remove(&mut self, file: &FileName, reason: Reason) -> Option<Victim> {
        let slot = self.find(&file.key)?;
        let is_same = self.order.slots.get(slot)?.generation == file.generation;
        if !is_same && !mutants::is_on(Mutant::NoGenerationCheck) {
            return None;
        }
        self.take(slot, reason)
    }

    /// Takes the variant of this generation out and leaves its blob. I7.
    pub(crate) fn remove_variant(&mut self, file: &FileName) -> Option<Victim> {
        let slot = self.find(&file.key).filter(|_| !self.is_frozen)?;
        let entry = self.order.slots.get(slot)?;
        if entry.generation != file.generation || !entry.has_variant() {
            return None;
        }
        let charge = entry.variant_bytes();
        self.order.set_variant_bytes(slot, 0);
        self.variants = self.variants.saturating_sub(1);
        self.ledger.condemn(charge);
        Some(Victim::new(*file, Part::GoneVariant, charge, None))
    }

    /// The one way out of the map: every removal, whatever its reason, comes through here.
    ///
    /// I4: moves the stored charge, never a recomputed one. I8: a variant goes with its blob.
    pub(super) fn take(&mut self, slot: u32, reason: Reason) -> Option<Victim> {
        if self.is_frozen {
            return None;
        }
        let key = self.order.slots.get(slot)?.key();
        let hash = Self::hash(&self.hash_key, &key);
        if let Ok(occupied) = self.table.find_entry(hash, |it| *it == slot) {
            occupied.remove();
        }
        let entry = self.order.remove(slot)?;
        let charge = entry.charge_bytes();
        self.ledger.condemn(charge);
        if entry.readers > 0 {
            self.ledger.hold(charge);
            let orphan = Orphan { charge, readers: entry.readers, is_unlinked: false };
            self.orphans.insert(entry.generation, orphan);
        }
        let mut part = Part::Value;
        if entry.has_variant() {
            self.variants = self.variants.saturating_sub(1);
            part = Part::ValueAndVariant;
        }
        if mutants::is_on(Mutant::RemovalForgetsVariant) {
            part = Part::Value;
        }
        self.suspects = self.suspects.saturating_sub(u64::from(entry.is_suspect()));
        let unused_seconds = self.order.timeline.age(entry.stamp);
        let age_seconds = self.order.timeline.age(entry.generation.0);
        if mutants::is_on(Mutant::ReleaseBeforeUnlink) {
            self.ledger.release(charge);
            return Some(Victim::new(entry.file(), part, 0, Some(reason)));
        }
        let victim = Victim::new(entry.file(), part, charge, Some(reason));
        Some(Victim { unused_seconds, age_seconds, ..victim })
    }

    /// Books a file that was never visible and could not be unlinked.
    pub(crate) fn condemn_abandoned(
        &mut self,
        file: FileName,
        part: Part,
        charge: u64,
        claim: Option<Claim>,
    ) -> Victim {
        match claim {
            Some(claim) => {
                self.ledger.settle(claim.bytes, charge);
                self.end_write(claim.began);
            }
            None => self.ledger.adopt(charge),
        }
        self.ledger.condemn(charge);
        Victim::new(file, part, charge, None)
    }

    /// Says that the victim's files are gone; its bytes are free once no reader holds them open.
    #[expect(clippy::needless_pass_by_value, reason = "a victim is buried once")]
    pub(crate) fn bury(&mut self, victim: Victim) {
        let is_lost =
            matches!(victim.reason, Some(Reason::Purged | Reason::Corrupt | Reason::Missing));
        self.free(&victim);
        if is_lost {
            self.ledger.shrink_excess();
        }
    }

    fn free(&mut self, victim: &Victim) {
        self.failures_in_a_row = 0;
        if victim.is_stuck {
            self.stuck_victims = self.stuck_victims.saturating_sub(1);
            self.ledger.unstick(victim.charge);
        }
        if matches!(victim.part, Part::Value | Part::ValueAndVariant)
            && let Some(orphan) = self.orphans.get_mut(&victim.file.generation)
        {
            orphan.is_unlinked = true;
            self.free_orphan_if_gone(victim.file.generation);
            return;
        }
        self.ledger.release(victim.charge);
    }

    /// Says that the victim's unlink failed: its bytes are not free soon.
    pub(crate) fn stick(&mut self, victim: &mut Victim) {
        if !victim.is_stuck {
            victim.is_stuck = true;
            self.stuck_victims += 1;
            self.failures_in_a_row += 1;
            self.ledger.stick(victim.charge);
        }
    }

    pub(super) fn free_orphan_if_gone(&mut self, generation: Generation) -> bool {
        let is_gone =
            self.orphans.get(&generation).is_some_and(|it| it.is_unlinked && it.readers == 0);
        if is_gone && let Some(orphan) = self.orphans.remove(&generation) {
            self.ledger.unhold(orphan.charge);
            self.ledger.release(orphan.charge);
        }
        is_gone
    }

    /// Puts up a fence: whatever was written or begun before now is purged. The moment of the
    /// fence, or `None` when there are too many, or the store has stopped.
    pub(crate) fn raise_fence(&mut self, scope: PurgeScope) -> Option<u64> {
        if self.is_closed {
            return None;
        }
        let moment = self.order.tick();
        self.writers.raise_fence(scope, moment).then_some(moment)
    }

    /// Takes out what lies behind a fence, some slots at a time; where to go on, `None` at the
    /// end.
    pub(crate) fn purge_from(
        &mut self,
        scope: PurgeScope,
        fence: u64,
        from: u32,
        limit: usize,
    ) -> (Vec<Victim>, Option<u32>) {
        let (entries, rest) = self.order.slots.some_from(from, limit);
        let is_meant =
            |namespace, generation: Generation| scope.covers(namespace) && generation.0 < fence;
        let slots: Vec<u32> = entries
            .filter(|(_, entry)| is_meant(entry.namespace(), entry.generation))
            .map(|(slot, _)| slot)
            .collect();
        let victims = slots.into_iter().filter_map(|slot| self.take(slot, Reason::Purged));
        (victims.collect(), rest)
    }

    /// Keeps writes of a hash that have begun from becoming visible. The moment of that, or `None`
    /// when there are too many, or the store has stopped.
    pub(crate) fn revoke(&mut self, hash: [u8; HASH_BYTES]) -> Option<u64> {
        if self.is_closed {
            return None;
        }
        let moment = self.order.tick();
        self.writers.revoke(hash, moment).then_some(moment)
    }

    /// What is selected in some slots, with its charge; where to go on, `None` at the end.
    pub(crate) fn selected_from(
        &self,
        selection: &Selection,
        from: u32,
        limit: usize,
    ) -> (Vec<(FileName, u64)>, Option<u32>) {
        let (entries, rest) = self.order.slots.some_from(from, limit);
        let is_meant = |entry: &&Entry| {
            // What another server has left was written before it got its generation.
            let timeline = &self.order.timeline;
            let written =
                if timeline.is_of_calendar(entry.stamp) { entry.stamp } else { entry.generation.0 };
            selection.covers(&entry.key(), timeline.age(written))
        };
        let entries = entries.map(|(_, entry)| entry).filter(is_meant);
        (entries.map(|entry| (entry.file(), entry.charge_bytes())).collect(), rest)
    }

    /// When the oldest write under way began.
    pub(crate) fn oldest_write(&self) -> Option<u64> {
        self.writers.oldest()
    }

    /// Writes under way that began before a fence.
    pub(crate) fn writers_before(&self, fence: u64) -> usize {
        self.writers.count_before(fence)
    }

    /// Whether directories take so much of the cap that empty ones should be removed.
    pub(crate) fn is_overhead_heavy(&self) -> bool {
        self.ledger.is_overhead_heavy()
    }

    /// Books bytes under the root that are no entry: `now` where there were `before`.
    pub(crate) fn change_overhead(&mut self, now: u64, before: u64) {
        self.ledger.set_overhead(now, before);
    }

    /// Books what a shard directory itself takes now; `None` leaves the books as they are.
    pub(crate) fn settle_shard(&mut self, shard: Shard, bytes: Option<u64>) {
        if let (Some(bytes), Some(known)) = (bytes, self.shard_bytes.get_mut(shard.index())) {
            self.ledger.set_overhead(bytes, *known);
            self.all_shard_bytes = self.all_shard_bytes - *known + bytes;
            *known = bytes;
        }
    }

    /// Books what the directory that holds a shard takes. It is only ever booked larger, so a late
    /// report of an older size changes nothing.
    pub(crate) fn settle_class(&mut self, shard: Shard, bytes: u64) {
        if let Some(known) = self.class_bytes.get_mut(shard.class_index())
            && bytes > *known
        {
            self.ledger.set_overhead(bytes, *known);
            *known = bytes;
        }
    }
}
