//! Room: who gets it, and who leaves for it.

use super::entry::Entry;
use super::removal::Victim;
use super::{Claim, Index, LeasePolicy};
use crate::store::LEASED_TENTHS;
use crate::store::filesystem::mutants::{self, Mutant};
use crate::store::filesystem::tombstones::Reason;
use crate::store::waiters::{Grant, Ticket};

/// Failed unlinks, one after the other, after which no more entries are taken out until one
/// succeeds.
pub(super) const MAX_FAILURES_IN_A_ROW: usize = 64;
/// Entries taken at once for a file of the store's own.
const OWN_BURST: usize = 16;

/// What became of a reservation that asked for room.
#[derive(Debug)]
pub(crate) enum Reserve {
    /// The bytes are reserved.
    Granted(Claim),
    /// Not now: the caller is queued under this ticket and has these victims to bury first.
    Queued(Ticket, Vec<Victim>),
    /// Not ever, whatever is evicted.
    Never,
    /// Not as long as the disk has no more than it has now, whatever is evicted.
    DiskFull,
    /// Not as long as the leases hold, and they are not to be broken.
    Leased,
    /// The store is stopping.
    Closed,
}

impl<W> Index<W> {
    /// Asks for `bytes` before the first of them is written.
    ///
    /// Takes at most `burst` victims when they do not fit. First come, first served: nobody passes
    /// the queue, so a large upload is not starved by small ones.
    pub(crate) fn reserve(&mut self, bytes: u64, burst: usize, waker: W) -> Reserve {
        if self.is_closed {
            return Reserve::Closed;
        }
        if !self.ledger.can_ever_fit(bytes, self.removable_bytes()) {
            return Reserve::Never;
        }
        if !self.ledger.could_ever_fit_limit(bytes, self.removable_bytes()) {
            return Reserve::DiskFull;
        }
        if self.waiters.is_empty() && self.ledger.reserve(bytes) {
            return Reserve::Granted(self.claim(bytes));
        }
        let may_break = self.limits.lease_policy == LeasePolicy::BreakOldest;
        let leased_bytes = self.order.leased_bytes();
        let (removable, pinned_bytes) = (self.removable_bytes(), self.kept_by_pins());
        let fits_but_for_leases = self.ledger.could_fit(bytes, removable, pinned_bytes)
            && !self.ledger.could_fit(bytes, removable, pinned_bytes + leased_bytes);
        if !may_break && fits_but_for_leases {
            return Reserve::Leased;
        }
        let claim = self.claim(bytes);
        let ticket = self.waiters.push(claim, waker);
        Reserve::Queued(ticket, self.evict(false, burst))
    }

    /// Whether there is no room for so many bytes as long as the pins last, whatever else ends, and
    /// there would be without them.
    pub(crate) fn is_kept_by_pins(&self, bytes: u64) -> bool {
        let fits = |kept| self.ledger.could_fit_in_the_end(bytes, self.removable_bytes(), kept);
        fits(0) && !fits(self.kept_by_pins())
    }

    /// I16: a write begins when it asks for room.
    fn claim(&mut self, bytes: u64) -> Claim {
        let began = self.order.tick();
        self.writers.begin(began);
        Claim { bytes, began }
    }

    /// Ends a write whose bytes are booked or given back.
    pub(super) fn end_write(&mut self, began: u64) {
        if !self.writers.end(began) {
            self.ledger.note_error();
        }
    }

    /// Whether somebody waits for room.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Leaves the queue; false when the ticket was granted already.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        let Some(waiter) = self.waiters.remove(ticket) else { return false };
        self.end_write(waiter.claim.began);
        true
    }

    /// Gives unused reserved bytes back.
    #[expect(clippy::needless_pass_by_value, reason = "a claim ends once")]
    pub(crate) fn unreserve(&mut self, claim: Claim) {
        self.ledger.unreserve(claim.bytes);
        self.end_write(claim.began);
    }

    /// What the head of the queue waits for.
    fn head_bytes(&self) -> Option<u64> {
        self.waiters.head().map(|claim| claim.bytes)
    }

    /// Reserves for the head of the queue as long as it fits; each grant must be delivered.
    pub(crate) fn grant(&mut self) -> Vec<Grant<Claim, W>> {
        let mut grants = Vec::new();
        if mutants::is_on(Mutant::LostWakeUp) {
            return grants;
        }
        while let Some(bytes) = self.head_bytes() {
            if !self.ledger.reserve(bytes) {
                break;
            }
            grants.extend(self.waiters.pop());
        }
        grants
    }

    /// Takes up to `limit` victims, oldest first (I14), until the queue and the low-water mark
    /// will be served and the limits on number and age hold. Empty when they do, or when there is
    /// nothing left to take.
    pub(crate) fn evict_to_low_water(&mut self, limit: usize) -> Vec<Victim> {
        self.evict(true, limit)
    }

    /// Takes victims because the disk itself is full, whatever the books say: at least `bytes`
    /// and `files`, and until every reservation fits what the disk has: whoever makes room makes
    /// it for all who write, or another would take it.
    pub(crate) fn evict_for_disk(&mut self, bytes: u64, files: usize, limit: usize) -> Vec<Victim> {
        let mut victims = Vec::new();
        let mut freed = 0;
        self.break_leases_over_limit();
        while victims.len() < self.allowed(limit)
            && (freed < bytes || victims.len() < files || self.ledger.shortfall(0, 0) > 0)
        {
            let Some(victim) = self.take_oldest(Reason::Evicted, true) else { break };
            freed += victim.charge();
            victims.push(victim);
        }
        victims
    }

    /// Takes what is over the limit on the number of entries.
    pub(crate) fn evict_over_count(&mut self, limit: usize) -> Vec<Victim> {
        let mut victims = Vec::new();
        while self.is_over_count()
            && victims.len() < self.allowed(limit)
            && let Some(victim) = self.take_oldest(Reason::Count, true)
        {
            victims.push(victim);
        }
        victims
    }

    /// Books `bytes` for a file of the store's own; else gives victims to bury before the next
    /// attempt, none when that would not help.
    pub(crate) fn take_overhead(&mut self, bytes: u64) -> Result<(), Vec<Victim>> {
        if self.ledger.reserve(bytes) {
            self.ledger.unreserve(bytes);
            self.ledger.set_overhead(bytes, 0);
            return Ok(());
        }
        let mut victims = Vec::new();
        while victims.len() < self.allowed(OWN_BURST)
            && self.ledger.shortfall(bytes, 0) > 0
            && let Some(victim) = self.take_oldest(Reason::Evicted, false)
        {
            victims.push(victim);
        }
        Err(victims)
    }

    /// Whether there are reservations that the disk has no room for.
    pub(crate) fn is_short_of_disk(&self) -> bool {
        self.ledger.shortfall(0, 0) > 0
    }

    /// Allows `bytes` of the cap for the present.
    pub(crate) fn set_limit(&mut self, bytes: u64) {
        self.ledger.set_limit(bytes);
    }

    /// Whether the evictor has anything to do. The age limit is looked at when time passes.
    pub(crate) fn wants_eviction(&mut self) -> bool {
        if self.allowed(1) == 0 {
            return false;
        }
        let spare = self.spare_bytes() / 2;
        self.is_over_count() || self.ledger.shortfall(self.head_demand(), spare) > 0
    }

    /// The room that is kept free, so that few writes have to evict.
    ///
    /// None where the next to go is of the last fifth that leases and pins leave: that is what was
    /// just stored, and whoever stored it was told so. A write takes of it what it needs.
    fn spare_bytes(&mut self) -> u64 {
        let kept_bytes = self.order.leased_bytes() + self.order.pinned_bytes();
        if kept_bytes == 0 {
            return self.ledger.low_water_bytes();
        }
        let next = self.order.oldest_free().and_then(|(_, slot)| self.order.slots.get(slot));
        let next_bytes = next.map_or(0, Entry::charge_bytes);
        let left_bytes = self.ledger.resident_bytes().saturating_sub(kept_bytes + next_bytes);
        let fifth = self.ledger.limit_bytes() / 10 * (10 - LEASED_TENTHS);
        if left_bytes < fifth { 0 } else { self.ledger.low_water_bytes() }
    }

    /// Where the disk has less than the cap, leases that were granted under the whole of it hold
    /// too much now: the oldest are broken first, not what was just stored.
    fn break_leases_over_limit(&mut self) {
        let is_cut = self.ledger.limit_bytes() < self.limits.max_bytes;
        if is_cut && self.limits.lease_policy == LeasePolicy::BreakOldest {
            let most_bytes = self.ledger.limit_bytes() / 10 * LEASED_TENTHS;
            self.order.break_leases_over(most_bytes);
        }
    }

    fn is_over_count(&self) -> bool {
        self.limits.max_entries.is_some_and(|most| self.table.len() as u64 > most)
    }

    fn is_over_age(&mut self) -> bool {
        let Some(most) = self.limits.max_age_seconds else { return false };
        self.oldest_age_seconds().is_some_and(|age| age > most)
    }

    /// Bytes to evict for: those of the head of the queue, if evicting can serve it at all. For
    /// one that must wait for uploads, readers or pins to end, emptying the store would gain
    /// nothing.
    fn head_demand(&self) -> u64 {
        let head = self.head_bytes().unwrap_or(0);
        let leased_bytes = match self.limits.lease_policy {
            LeasePolicy::BreakOldest => 0,
            LeasePolicy::RefuseWrites => self.order.leased_bytes(),
        };
        let kept = self.kept_by_pins() + leased_bytes;
        let could_fit = self.ledger.could_fit(head, self.removable_bytes(), kept);
        if could_fit { head } else { 0 }
    }

    fn kept_by_pins(&self) -> u64 {
        if mutants::is_on(Mutant::EvictPinned) { 0 } else { self.order.pinned_bytes() }
    }

    /// Overhead that goes with the entries: directories can be removed once they are empty.
    pub(super) fn removable_bytes(&self) -> u64 {
        self.all_shard_bytes
    }

    /// How many of `limit` victims may be taken now.
    ///
    /// Where nothing can be unlinked, as on a disk that has become read-only, evicting would only
    /// take away what can still be read. While shards are unread, nobody knows which entry is the
    /// oldest (I14) or whether all have room; the whole is known soon.
    fn allowed(&self, limit: usize) -> usize {
        let is_useless = self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW;
        if is_useless || self.unread.is_some() || self.is_frozen { 0 } else { limit }
    }

    fn evict(&mut self, is_for_spare: bool, limit: usize) -> Vec<Victim> {
        let mut victims = Vec::new();
        let wanted = self.head_demand();
        let limit = self.allowed(limit);
        self.break_leases_over_limit();
        while victims.len() < limit {
            let spare = if is_for_spare { self.spare_bytes() } else { 0 };
            // Leases are broken for a write, never to keep room free.
            let victim = if self.ledger.shortfall(wanted, 0) > 0 {
                self.take_oldest(Reason::Evicted, true)
            } else if self.ledger.shortfall(wanted, spare) > 0 {
                self.take_oldest(Reason::Evicted, false)
            } else if self.is_over_count() {
                self.take_oldest(Reason::Count, true)
            } else if self.is_over_age() {
                self.take_oldest(Reason::Expired, false)
            } else {
                None
            };
            let Some(victim) = victim else { break };
            victims.push(victim);
        }
        victims
    }

    fn take_oldest(&mut self, reason: Reason, may_break_lease: bool) -> Option<Victim> {
        let may_break = may_break_lease && self.limits.lease_policy == LeasePolicy::BreakOldest;
        let mut oldest = self.order.oldest_free();
        if mutants::is_on(Mutant::EvictPinned) {
            oldest = oldest.or_else(|| self.order.any_pinned());
        }
        if oldest.is_none() && may_break && self.order.break_oldest_lease() {
            oldest = self.order.oldest_free();
        }
        self.take(oldest?.1, reason)
    }

    /// Whether the evictor would find nothing to do and what it did is done.
    #[cfg(test)]
    pub(crate) fn is_converged(&mut self) -> bool {
        let books = self.ledger.snapshot();
        let spare = self.spare_bytes();
        let is_served = self.ledger.shortfall(self.head_demand(), spare) == 0
            && !self.is_over_count()
            && !self.is_over_age();
        let has_none = self.order.oldest_free().is_none();
        (is_served || has_none) && books.dying_bytes == books.held_bytes
    }
}
