//! Room: the books, the queue for it, and who leaves for it.
//!
//! I2: resident, reserved and dying bytes together are at most the cap at every unlock. Bytes of
//! what has left count until their memory has been given back, and those that nobody else holds
//! are known to be free at once: for them nothing more is evicted.

use super::index::{Claim, Index, Payload, Reason, Victim};
use crate::store::Key;
use crate::store::waiters::{Grant, Ticket};

/// Entries that leave under one hold of the lock.
const BATCH: usize = 64;

/// Where every byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// Charges of the entries.
    pub(super) resident_bytes: u64,
    /// Promised to writes.
    pub(super) reserved_bytes: u64,
    /// Of entries that have left, not freed yet.
    pub(super) dying_bytes: u64,
    /// The part of `dying_bytes` that is being freed by whoever took it out.
    pub(super) falling_bytes: u64,
    /// Subtractions that did not go out; stays 0 (I4).
    pub(super) errors: u64,
}

impl Books {
    /// All that counts against the cap.
    pub(super) fn total(&self) -> u64 {
        self.resident_bytes + self.reserved_bytes + self.dying_bytes
    }

    /// A reservation has become an entry's charge.
    pub(super) fn enter(&mut self, charge: u64) {
        self.resident_bytes += charge;
    }

    /// An entry has left.
    pub(super) fn leave(&mut self, charge: u64, is_falling: bool) {
        Self::subtract(&mut self.errors, &mut self.resident_bytes, charge);
        self.dying_bytes += charge;
        if is_falling {
            self.falling_bytes += charge;
        }
    }

    fn free(&mut self, freed: Freed) {
        Self::subtract(&mut self.errors, &mut self.dying_bytes, freed.bytes);
        Self::subtract(&mut self.errors, &mut self.falling_bytes, freed.falling_bytes);
    }

    fn unreserve(&mut self, bytes: u64) {
        Self::subtract(&mut self.errors, &mut self.reserved_bytes, bytes);
    }

    fn subtract(errors: &mut u64, from: &mut u64, bytes: u64) {
        match from.checked_sub(bytes) {
            Some(rest) => *from = rest,
            None => *errors += 1,
        }
    }
}

/// Memory that has been given back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freed {
    pub(super) bytes: u64,
    /// The part of it that was known to be free soon.
    pub(super) falling_bytes: u64,
}

/// What became of a reservation that asked for room.
#[derive(Debug)]
pub(super) enum Reserve {
    Granted(Claim),
    /// Not now; the queue is served by whatever [`Index::settle`] makes free.
    Queued(Ticket),
}

/// What must be done outside the lock.
#[derive(Debug)]
pub(super) struct Settled<P, W> {
    pub(super) victims: Vec<Victim<P>>,
    pub(super) grants: Vec<Grant<Claim, W>>,
}

impl<P: Payload, W> Index<P, W> {
    /// Asks for `bytes`, at most the cap, before the first of them comes. Nobody passes the queue,
    /// so a large upload is not starved by small ones. I16: a write begins when it asks.
    pub(super) fn reserve(&mut self, key: Key, bytes: u64, waker: W) -> Reserve {
        let began = self.order.tick();
        self.writers.begin(began, key);
        let claim = Claim { bytes, began };
        if self.waiters.is_empty() && self.fits(bytes) {
            self.books.reserved_bytes += bytes;
            return Reserve::Granted(claim);
        }
        Reserve::Queued(self.waiters.push(claim, waker))
    }

    /// What the head of the queue waits for.
    fn head_bytes(&self) -> Option<u64> {
        self.waiters.head().map(|claim| claim.bytes)
    }

    fn fits(&self, bytes: u64) -> bool {
        bytes <= self.limits.max_bytes.saturating_sub(self.books.total())
    }

    /// Leaves the queue; `None` when the ticket was granted already.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let Grant { claim, waker } = self.waiters.remove(ticket)?;
        if !self.writers.end(claim.began) {
            self.books.errors += 1;
        }
        Some(waker)
    }

    /// Ends a claim, whose bytes are booked or given back.
    #[expect(clippy::needless_pass_by_value, reason = "a claim ends once")]
    pub(super) fn unreserve(&mut self, claim: Claim) {
        self.books.unreserve(claim.bytes);
        if !self.writers.end(claim.began) {
            self.books.errors += 1;
        }
    }

    /// Notes that memory has been given back.
    pub(super) fn free(&mut self, freed: Freed) {
        self.books.free(freed);
    }

    /// The end of every critical section: serves the queue as far as there is room, and takes out
    /// what must leave for the rest of it. To be called again when what it gave is done, until it
    /// gives nothing.
    pub(super) fn settle(&mut self) -> Settled<P, W> {
        let mut grants = Vec::new();
        while let Some(bytes) = self.head_bytes() {
            if !self.fits(bytes) {
                break;
            }
            self.books.reserved_bytes += bytes;
            grants.extend(self.waiters.pop());
        }
        self.evict();
        Settled { victims: std::mem::take(&mut self.outbox), grants }
    }

    /// Takes out the oldest (I14), as many as the head of the queue needs, and then on to the
    /// low-water mark; what is too many or too old. Leases are broken for a write, never for less.
    fn evict(&mut self) {
        for _ in 0..BATCH {
            let has_taken = if self.is_short() {
                self.is_refilling = true;
                self.take_oldest(Reason::Evicted, true)
            } else if self.is_refilling {
                self.is_refilling = self.wants_spare() && self.take_oldest(Reason::Evicted, false);
                // The limits below are looked at in the next round.
                true
            } else if self.is_over_count() {
                self.take_oldest(Reason::Count, true)
            } else if self.order.oldest_free().is_some_and(|slot| self.is_over_age(slot)) {
                self.take_oldest(Reason::Expired, false)
            } else {
                false
            };
            if !has_taken {
                return;
            }
        }
    }

    /// Whether the head of the queue needs more than what is free or falls, and evicting can help:
    /// for one that must wait for uploads, readers or pins to end nothing is evicted.
    fn is_short(&self) -> bool {
        let Some(bytes) = self.head_bytes() else { return false };
        let Books { reserved_bytes, dying_bytes, falling_bytes, .. } = self.books;
        let kept = reserved_bytes + (dying_bytes - falling_bytes) + self.order.pinned_bytes();
        bytes > self.free_soon() && bytes <= self.limits.max_bytes.saturating_sub(kept)
    }

    fn free_soon(&self) -> u64 {
        self.limits.max_bytes.saturating_sub(self.books.total()) + self.books.falling_bytes
    }

    /// Whether the low-water mark is not reached. Of the last fifth that leases and pins leave
    /// nothing is taken for it: that is what was just stored.
    fn wants_spare(&self) -> bool {
        let head_bytes = self.head_bytes().unwrap_or(0);
        let kept_bytes = self.order.leased_bytes() + self.order.pinned_bytes();
        let left_bytes = self.books.resident_bytes.saturating_sub(kept_bytes);
        let fifth = self.limits.max_bytes.saturating_sub(self.most_leased());
        (kept_bytes == 0 || left_bytes > fifth)
            && self.free_soon() < head_bytes.saturating_add(self.limits.low_water_bytes)
    }

    fn is_over_count(&self) -> bool {
        self.limits.max_entries.is_some_and(|most| self.order.len() as u64 > most)
    }

    fn take_oldest(&mut self, reason: Reason, may_break_lease: bool) -> bool {
        let mut oldest = self.order.oldest_free();
        if oldest.is_none() && may_break_lease && self.order.break_oldest_lease() {
            oldest = self.order.oldest_free();
        }
        let Some(slot) = oldest else { return false };
        self.take(slot, reason);
        true
    }
}
