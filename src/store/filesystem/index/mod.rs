//! The index: which values are there, in which order they leave, and where every byte stands.
//!
//! Pure: no I/O, no await, no callback, no clock, no logging. It hands out tokens that say what
//! must be done outside: a [`Victim`] must be unlinked and given back with [`Index::bury`], granted
//! waiters must be told. One critical section is one method call.

mod ledger;
mod lru;
mod waiters;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

pub(crate) use ledger::{Ledger, LedgerSnapshot};
use lru::{Entry, Slots};
use waiters::Waiters;
pub(crate) use waiters::{Grant, Ticket};

use super::layout::{FileName, Generation, Shard};
use crate::store::{Key, Kind};

/// An entry that has left the map and whose file must be unlinked by whoever holds this.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a victim's bytes stay charged until it is buried"]
pub(crate) struct Victim {
    /// The file to unlink.
    pub(crate) file: FileName,
    charge: u64,
    /// Whether its unlink has failed.
    is_stuck: bool,
}

impl Victim {
    fn new(file: FileName, charge: u64) -> Self {
        Self { file, charge, is_stuck: false }
    }

    /// The bytes that unlinking frees.
    pub(crate) fn charge(&self) -> u64 {
        self.charge
    }
}

/// A present entry, as a lookup found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The file that holds it.
    pub(crate) file: FileName,
    /// Whether this process has seen its bytes hash right.
    pub(crate) verified: bool,
    slot: u32,
}

/// What became of a reservation that asked for room.
#[derive(Debug)]
pub(crate) enum Reserve {
    /// The bytes are reserved.
    Granted,
    /// Not now: the caller is queued under this ticket and has these victims to bury first.
    Queued(Ticket, Vec<Victim>),
    /// Not ever, whatever is evicted.
    Never,
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
}

/// Failed unlinks after which no more entries are taken out until some succeed.
const MAX_STUCK_VICTIMS: usize = 64;

/// An entry that left the map while readers had its file open.
#[derive(Debug)]
struct Orphan {
    charge: u64,
    readers: u32,
    is_unlinked: bool,
}

/// See the module documentation. `W` is what wakes a queued reservation; the index never calls it.
#[derive(Debug)]
pub(crate) struct Index<W> {
    table: HashTable<u32>,
    slots: Slots,
    ledger: Ledger,
    waiters: Waiters<W>,
    orphans: HashMap<Generation, Orphan>,
    /// Victims whose unlink failed.
    stuck_victims: usize,
    /// Bytes of each shard directory itself.
    shard_bytes: Vec<u64>,
    /// Their sum.
    all_shard_bytes: u64,
    /// Bytes of each directory of shard directories itself.
    class_bytes: [u64; Shard::CLASSES],
    /// Keys the hash of action results, whose keys a client may choose at will.
    hash_key: RandomState,
}

impl<W> Index<W> {
    /// An empty index under a cap of `max_bytes`, of which `low_water_bytes` are kept free.
    pub(crate) fn new(max_bytes: u64, low_water_bytes: u64) -> Self {
        Self {
            table: HashTable::new(),
            slots: Slots::default(),
            ledger: Ledger::new(max_bytes, low_water_bytes),
            waiters: Waiters::default(),
            orphans: HashMap::new(),
            stuck_victims: 0,
            shard_bytes: vec![0; Shard::COUNT],
            all_shard_bytes: 0,
            class_bytes: [0; Shard::CLASSES],
            hash_key: RandomState::new(),
        }
    }

    fn hash(hash_key: &RandomState, key: &Key) -> u64 {
        match key.kind {
            // The digest of a blob is verified, so its own bits are random.
            Kind::Blob => {
                let prefix = key.digest.hash.first_chunk();
                prefix.map_or(0, |prefix| u64::from_le_bytes(*prefix))
            }
            // Nobody verifies the digest of an action: a keyed hash keeps chains short.
            Kind::ActionResult => hash_key.hash_one((key.namespace, key.digest.hash)),
        }
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let hash = Self::hash(&self.hash_key, key);
        let slots = &self.slots;
        self.table.find(hash, |slot| slots.key(*slot).is_some_and(|it| it == *key)).copied()
    }

    fn found(&self, slot: u32) -> Option<Found> {
        let entry = self.slots.get(slot)?;
        Some(Found { file: entry.file(), verified: entry.is_verified, slot })
    }

    /// Looks a key up without touching it.
    #[cfg(test)]
    pub(crate) fn peek(&self, key: &Key) -> Option<Found> {
        self.find(key).and_then(|slot| self.found(slot))
    }

    /// Looks a key up and moves it to the young end.
    pub(crate) fn touch(&mut self, key: &Key) -> bool {
        let slot = self.find(key);
        if let Some(slot) = slot {
            self.slots.move_to_young_end(slot);
        }
        slot.is_some()
    }

    /// Looks a key up, touches it and counts a reader, who must say [`Index::close`] at the end.
    pub(crate) fn open(&mut self, key: &Key) -> Option<Found> {
        let slot = self.find(key)?;
        self.slots.move_to_young_end(slot);
        let entry = self.slots.get_mut(slot)?;
        entry.readers = entry.readers.checked_add(1)?;
        self.found(slot)
    }

    /// Ends what [`Index::open`] began. I7: finds the entry by generation, wherever it is now.
    pub(crate) fn close(&mut self, found: &Found) {
        let generation = found.file.generation;
        if let Some(entry) = self.slots.get_mut(found.slot)
            && entry.generation == generation
        {
            entry.readers = entry.readers.saturating_sub(1);
            return;
        }
        let Some(orphan) = self.orphans.get_mut(&generation) else {
            self.ledger.note_error();
            return;
        };
        orphan.readers = orphan.readers.saturating_sub(1);
        self.free_orphan_if_gone(generation);
    }

    /// Remembers that the bytes of this generation hashed right. I7.
    pub(crate) fn mark_verified(&mut self, found: &Found) {
        if let Some(entry) = self.slots.get_mut(found.slot)
            && entry.generation == found.file.generation
        {
            entry.is_verified = true;
        }
    }

    /// Asks for `bytes` before the first of them is written.
    ///
    /// Takes at most `burst` victims when they do not fit. First come, first served: nobody passes
    /// the queue, so a large upload is not starved by small ones.
    pub(crate) fn reserve(&mut self, bytes: u64, burst: usize, waker: W) -> Reserve {
        if !self.ledger.can_ever_fit(bytes, self.removable_bytes()) {
            return Reserve::Never;
        }
        if self.waiters.is_empty() && self.ledger.reserve(bytes) {
            return Reserve::Granted;
        }
        let ticket = self.waiters.push(bytes, waker);
        Reserve::Queued(ticket, self.evict_shortfall(0, burst))
    }

    /// Leaves the queue; false when the ticket was granted already.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> bool {
        self.waiters.remove(ticket)
    }

    /// Gives unused reserved bytes back.
    pub(crate) fn unreserve(&mut self, bytes: u64) {
        self.ledger.unreserve(bytes);
    }

    /// Reserves for the head of the queue as long as it fits; each grant must be delivered.
    pub(crate) fn grant(&mut self) -> Vec<Grant<W>> {
        let mut grants = Vec::new();
        while let Some(bytes) = self.waiters.head_bytes() {
            if !self.ledger.reserve(bytes) {
                break;
            }
            grants.extend(self.waiters.pop());
        }
        grants
    }

    /// Makes a linked file visible: `reserved` bytes become its `charge`, the rest is free again.
    ///
    /// I5: the file is complete and verified; visibility and booking are one step.
    pub(crate) fn publish(&mut self, file: FileName, reserved: u64, charge: u64) -> Publish {
        self.ledger.settle(reserved, charge);
        let replaced = match self.find(&file.key) {
            Some(slot) if file.key.kind == Kind::Blob => {
                self.slots.move_to_young_end(slot);
                self.ledger.condemn(charge);
                return Publish::Lost(Victim::new(file, charge));
            }
            Some(slot) => self.take(slot),
            None => None,
        };
        self.insert(file, charge, true);
        replaced.map_or(Publish::Inserted, Publish::Replaced)
    }

    /// Adds a file that a former process left, as the youngest entry so far.
    ///
    /// Of two generations of one key the newest stays, the other is a victim.
    pub(crate) fn adopt(&mut self, file: FileName, charge: u64) -> Option<Victim> {
        self.ledger.adopt(charge);
        if let Some(slot) = self.find(&file.key) {
            let stays = self.slots.get(slot).is_some_and(|it| it.generation > file.generation);
            if stays {
                self.ledger.condemn(charge);
                return Some(Victim::new(file, charge));
            }
            let older = self.take(slot);
            self.insert(file, charge, false);
            return older;
        }
        self.insert(file, charge, false);
        None
    }

    /// Takes the entry out of the map if it still is this generation. I7.
    pub(crate) fn remove(&mut self, file: &FileName) -> Option<Victim> {
        let slot = self.find(&file.key)?;
        if self.slots.get(slot)?.generation != file.generation {
            return None;
        }
        self.take(slot)
    }

    /// Takes up to `limit` victims, oldest first (I14), until the queue and the low-water mark
    /// will be served. Empty when they are, or when there is nothing left to take.
    pub(crate) fn evict_to_low_water(&mut self, limit: usize) -> Vec<Victim> {
        self.evict_shortfall(self.ledger.low_water_bytes(), limit)
    }

    /// Whether the evictor has anything to do.
    pub(crate) fn wants_eviction(&self) -> bool {
        let spare = self.ledger.low_water_bytes() / 2;
        self.ledger.shortfall(self.head_demand(), spare) > 0
    }

    /// Bytes to evict for: those of the head of the queue, if evicting can serve it at all. For
    /// one that must wait for uploads or readers to end, emptying the store would gain nothing.
    fn head_demand(&self) -> u64 {
        let head = self.waiters.head_bytes().unwrap_or(0);
        if self.ledger.could_fit(head, self.removable_bytes()) { head } else { 0 }
    }

    /// Overhead that goes with the entries: directories can be removed once they are empty.
    fn removable_bytes(&self) -> u64 {
        self.all_shard_bytes
    }

    /// Whether the evictor would find nothing to do and what it did is done.
    #[cfg(test)]
    pub(crate) fn is_converged(&self) -> bool {
        let books = self.ledger.snapshot();
        let spare = self.ledger.low_water_bytes();
        let is_served = self.ledger.shortfall(self.head_demand(), spare) == 0;
        (is_served || self.slots.oldest().is_none()) && books.dying_bytes == books.held_bytes
    }

    fn evict_shortfall(&mut self, spare: u64, limit: usize) -> Vec<Victim> {
        let mut victims = Vec::new();
        let wanted = self.head_demand();
        // Where nothing can be unlinked, as on a disk that has become read-only, evicting would
        // only take away what can still be read.
        let limit = if self.stuck_victims < MAX_STUCK_VICTIMS { limit } else { 0 };
        while victims.len() < limit && self.ledger.shortfall(wanted, spare) > 0 {
            let Some(slot) = self.slots.oldest() else {
                break;
            };
            victims.extend(self.take(slot));
        }
        victims
    }

    /// Says that the victim's file is gone; its bytes are free once no reader holds it open.
    #[expect(clippy::needless_pass_by_value, reason = "a victim is buried once")]
    pub(crate) fn bury(&mut self, victim: Victim) {
        if victim.is_stuck {
            self.stuck_victims = self.stuck_victims.saturating_sub(1);
            self.ledger.unstick(victim.charge);
        }
        if let Some(orphan) = self.orphans.get_mut(&victim.file.generation) {
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
            self.ledger.stick(victim.charge);
        }
    }

    /// Whether directories take so much of the cap that empty ones should be removed.
    pub(crate) fn is_overhead_heavy(&self) -> bool {
        self.ledger.is_overhead_heavy()
    }

    /// Books bytes under the root that are no entry: fixed directories, foreign files.
    pub(crate) fn add_overhead(&mut self, bytes: u64) {
        self.ledger.set_overhead(bytes, 0);
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

    /// Up to `limit` files in no particular order, and where to go on; `None` at the end. Entries
    /// that come or go between two calls may be missed or seen.
    pub(crate) fn files_from(&self, from: u32, limit: usize) -> (Vec<FileName>, Option<u32>) {
        let (entries, rest) = self.slots.some_from(from, limit);
        (entries.map(Entry::file).collect(), rest)
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of files that are gone from the map but held open by readers, and of queued waiters.
    pub(crate) fn pending(&self) -> (usize, usize) {
        (self.orphans.len(), self.waiters.len())
    }

    /// The books.
    pub(crate) fn ledger(&self) -> LedgerSnapshot {
        self.ledger.snapshot()
    }

    /// Every file, oldest first.
    #[cfg(test)]
    pub(crate) fn files(&self) -> Vec<FileName> {
        self.slots.oldest_first().map(Entry::file).collect()
    }

    fn insert(&mut self, file: FileName, charge: u64, is_verified: bool) {
        let hash = Self::hash(&self.hash_key, &file.key);
        let slot = self.slots.insert_youngest(Entry::new(&file, charge, is_verified));
        let (slots, hash_key) = (&self.slots, &self.hash_key);
        self.table.insert_unique(hash, slot, |slot| {
            slots.key(*slot).map_or(0, |key| Self::hash(hash_key, &key))
        });
    }

    /// The one way out of the map: every removal, whatever its reason, comes through here.
    ///
    /// I4: moves the stored charge, never a recomputed one.
    fn take(&mut self, slot: u32) -> Option<Victim> {
        let key = self.slots.key(slot)?;
        let hash = Self::hash(&self.hash_key, &key);
        if let Ok(occupied) = self.table.find_entry(hash, |it| *it == slot) {
            occupied.remove();
        }
        let entry = self.slots.remove(slot)?;
        let charge = entry.charge_bytes();
        self.ledger.condemn(charge);
        if entry.readers > 0 {
            self.ledger.hold(charge);
            let orphan = Orphan { charge, readers: entry.readers, is_unlinked: false };
            self.orphans.insert(entry.generation, orphan);
        }
        Some(Victim::new(entry.file(), charge))
    }

    fn free_orphan_if_gone(&mut self, generation: Generation) {
        let is_gone =
            self.orphans.get(&generation).is_some_and(|it| it.is_unlinked && it.readers == 0);
        if is_gone && let Some(orphan) = self.orphans.remove(&generation) {
            self.ledger.unhold(orphan.charge);
            self.ledger.release(orphan.charge);
        }
    }

    /// Recomputes every sum from the entries. I1, I2, I4.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let books = self.ledger.snapshot();
        let resident: u64 = self.slots.oldest_first().map(Entry::charge_bytes).sum();
        assert_eq!(books.resident_bytes, resident, "I1: resident is the sum of the charges");
        assert_eq!(books.ledger_errors, 0, "I4: no subtraction underflows");
        assert!(books.total_bytes() <= books.max_bytes, "I2: {books:?}");
        assert_eq!(self.table.len(), self.slots.len());
        assert_eq!(self.slots.oldest_first().count(), self.slots.len());
        for entry in self.slots.oldest_first() {
            assert!(self.find(&entry.file().key).is_some(), "every entry is found by its key");
        }
        let held: u64 = self.orphans.values().map(|it| it.charge).sum();
        assert_eq!(books.held_bytes, held);
    }
}
