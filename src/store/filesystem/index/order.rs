//! The order in which entries leave, and who may not leave yet.
//!
//! I14: the one used longest ago goes first, among those without a lease or a pin. A few lists,
//! each in the order of last use, are merged at their old ends, so nothing is ever searched:
//!
//! - *idle*: used by this process, by an upload or a read;
//! - *leased*: promised to a build (I21). A use renews the lease, so the list is in order of
//!   expiry too;
//! - *returned*: their lease has ended. Leases end in order, so this list is in order as well;
//! - *pinned*: somebody is making links to them right now; in no order;
//! - *recovered*: left by a former process, one list a shard, because shards are read one by one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::layout::Shard;
use super::entry::{Entry, Place};
use super::slots::{List, Slots};
use super::timeline::Timeline;

/// Leases that end in one critical section; the rest are next.
const MAX_EXPIRIES: usize = 1024;

/// Lists by shard, merged at their old ends.
#[derive(Debug)]
struct ShardLists {
    lists: Vec<List>,
    /// For each list that is not empty a stamp that is not above the one of its oldest.
    heads: BinaryHeap<Reverse<(u64, u16)>>,
}

impl ShardLists {
    fn new() -> Self {
        Self { lists: vec![List::default(); Shard::COUNT], heads: BinaryHeap::new() }
    }

    fn push_youngest(&mut self, slots: &mut Slots, shard: Shard, slot: u32, stamp: u64) {
        let Some(list) = self.lists.get_mut(shard.index()) else { return };
        if list.oldest().is_none() {
            self.heads.push(Reverse((stamp, shard.0)));
        }
        slots.push_youngest(list, slot);
    }

    /// Adds entries of one shard where they belong in its order; `added` are in order.
    fn merge(&mut self, slots: &mut Slots, shard: Shard, added: &[(u64, u32)]) {
        let (Some(list), Some((oldest, _))) = (self.lists.get_mut(shard.index()), added.first())
        else {
            return;
        };
        let mut place = list.oldest();
        let is_older = place.and_then(|at| slots.get(at)).is_none_or(|entry| *oldest < entry.stamp);
        if is_older {
            self.heads.push(Reverse((*oldest, shard.0)));
        }
        for (stamp, slot) in added {
            while let Some(entry) = place.and_then(|at| slots.get(at))
                && entry.stamp < *stamp
            {
                place = slots.younger_of(entry);
            }
            match place {
                Some(younger) => slots.insert_before(list, younger, *slot),
                None => slots.push_youngest(list, *slot),
            }
        }
    }

    fn oldest(&mut self, slots: &Slots) -> Option<(u64, u32)> {
        while let Some(Reverse((stamp, shard))) = self.heads.peek().copied() {
            let list = self.lists.get(usize::from(shard)).copied().unwrap_or_default();
            let head = list.oldest().and_then(|slot| Some((slots.get(slot)?.stamp, slot)));
            if let Some((actual, slot)) = head
                && actual == stamp
            {
                return Some((stamp, slot));
            }
            self.heads.pop();
            if let Some((actual, _)) = head {
                self.heads.push(Reverse((actual, shard)));
            }
        }
        None
    }
}

#[derive(Debug)]
struct Lists {
    idle: List,
    returned: List,
    leased: List,
    pinned: List,
    recovered: ShardLists,
    recovered_leases: ShardLists,
}

impl Lists {
    fn of(&mut self, place: Place, shard: Shard) -> Option<&mut List> {
        match place {
            Place::Idle => Some(&mut self.idle),
            Place::Returned => Some(&mut self.returned),
            Place::Leased => Some(&mut self.leased),
            Place::Pinned => Some(&mut self.pinned),
            Place::Recovered => self.recovered.lists.get_mut(shard.index()),
            Place::RecoveredLease => self.recovered_leases.lists.get_mut(shard.index()),
        }
    }
}

/// The entries in their order.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) slots: Slots,
    lists: Lists,
    /// The last point on the line of logical time that was given out.
    clock: u64,
    pub(super) timeline: Timeline,
    lease_seconds: u64,
    leased_bytes: u64,
    pinned_bytes: u64,
    leases_broken: u64,
}

impl Order {
    /// `lease_seconds` of 0 grants no leases; ages are told to about a sixtieth of the shorter of
    /// `span_seconds` and a lease.
    pub(super) fn new(clock: u64, lease_seconds: u64, span_seconds: u64) -> Self {
        let spans = [lease_seconds, span_seconds];
        let span = spans.into_iter().filter(|it| *it > 0).min().unwrap_or(3600);
        Self {
            slots: Slots::default(),
            lists: Lists {
                idle: List::default(),
                returned: List::default(),
                leased: List::default(),
                pinned: List::default(),
                recovered: ShardLists::new(),
                recovered_leases: ShardLists::new(),
            },
            clock,
            timeline: Timeline::new(span),
            lease_seconds,
            leased_bytes: 0,
            pinned_bytes: 0,
            leases_broken: 0,
        }
    }

    /// The next point in logical time.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    pub(super) fn leased_bytes(&self) -> u64 {
        self.leased_bytes
    }

    /// Charges of the entries that are pinned.
    pub(super) fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    pub(super) fn leases_broken(&self) -> u64 {
        self.leases_broken
    }

    /// Says what time it is and ends the leases that are over by then; true when more are.
    pub(super) fn set_now(&mut self, now: u64) -> bool {
        // A store that nobody uses stands still in logical time.
        if self.timeline.last_stamp() == Some(self.clock) {
            self.timeline.set_now(now);
        } else {
            let tick = self.tick();
            self.timeline.note(tick, now);
        }
        for _ in 0..MAX_EXPIRIES {
            match self.oldest_lease() {
                Some((stamp, slot)) if !self.is_in_lease(stamp) => self.end_lease(slot),
                _ => return false,
            }
        }
        true
    }

    fn is_in_lease(&self, stamp: u64) -> bool {
        self.timeline.age(stamp) < self.lease_seconds
    }

    /// Adds an entry as the one used last.
    pub(super) fn insert_youngest(&mut self, entry: Entry) -> u32 {
        let slot = self.slots.insert(entry);
        self.settle(slot, Place::Idle);
        slot
    }

    /// Adds an entry that a former process left, younger than those of its shard so far.
    pub(super) fn insert_recovered(&mut self, entry: Entry, is_leased: bool) -> u32 {
        let stamp = entry.stamp;
        let is_leased = is_leased && self.is_in_lease(stamp);
        let (shard, charge) = (entry.shard(), entry.charge_bytes());
        let slot = self.slots.insert(entry);
        let place = if is_leased { Place::RecoveredLease } else { Place::Recovered };
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.set_place(place);
        }
        if is_leased {
            self.leased_bytes += charge;
            self.lists.recovered_leases.push_youngest(&mut self.slots, shard, slot, stamp);
        } else {
            self.lists.recovered.push_youngest(&mut self.slots, shard, slot, stamp);
        }
        slot
    }

    /// Adds entries of one shard that a former server left, in the order of their use; gives their
    /// slots.
    pub(super) fn insert_former(&mut self, shard: Shard, entries: Vec<Entry>) -> Vec<u32> {
        let add = |slots: &mut Slots, mut entry: Entry| {
            entry.set_place(Place::Recovered);
            (entry.stamp, slots.insert(entry))
        };
        let added: Vec<_> = entries.into_iter().map(|it| add(&mut self.slots, it)).collect();
        self.lists.recovered.merge(&mut self.slots, shard, &added);
        added.into_iter().map(|(_, slot)| slot).collect()
    }

    /// An upload or a read: the entry moves to the young end, and a lease starts anew.
    pub(super) fn touch(&mut self, slot: u32) {
        let stamp = self.tick();
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.stamp = stamp;
        match entry.place() {
            Place::Pinned => {}
            Place::Leased | Place::RecoveredLease => self.move_to(slot, Place::Leased),
            Place::Idle | Place::Returned | Place::Recovered => self.move_to(slot, Place::Idle),
        }
    }

    /// A promise to a build: the entry is not evicted before the lease is over (I21), unless the
    /// leases come to hold more than `most_bytes` and this one is the oldest.
    pub(super) fn promise(&mut self, slot: u32, most_bytes: u64) {
        self.touch(slot);
        let Some(entry) = self.slots.get_mut(slot).filter(|_| self.lease_seconds > 0) else {
            return;
        };
        match entry.place() {
            Place::Pinned => entry.set_promised(true),
            Place::Idle => self.move_to(slot, Place::Leased),
            // Renewed already.
            Place::Leased | Place::Returned | Place::Recovered | Place::RecoveredLease => {}
        }
        self.break_leases_over(most_bytes);
    }

    /// Breaks the oldest leases as long as they hold more than `most_bytes`. Not more than so many
    /// at once, for this is under the lock (I11); the rest is for the next call.
    pub(super) fn break_leases_over(&mut self, most_bytes: u64) {
        for _ in 0..MAX_EXPIRIES {
            if self.leased_bytes <= most_bytes || !self.break_oldest_lease() {
                return;
            }
        }
    }

    /// Keeps an entry from eviction until as many [`Order::unpin`]; false when it cannot.
    pub(super) fn pin(&mut self, slot: u32) -> bool {
        self.touch(slot);
        let Some(entry) = self.slots.get_mut(slot) else { return false };
        let Some(pins) = entry.pins.checked_add(1) else { return false };
        entry.pins = pins;
        if entry.place() != Place::Pinned {
            entry.set_promised(entry.place() == Place::Leased);
            self.move_to(slot, Place::Pinned);
        }
        true
    }

    pub(super) fn unpin(&mut self, slot: u32) {
        let stamp = self.tick();
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && entry.place() == Place::Pinned {
            entry.stamp = stamp;
            let place = if entry.is_promised() { Place::Leased } else { Place::Idle };
            self.move_to(slot, place);
        }
    }

    /// Books the executable variant of an entry, or that it is gone.
    pub(super) fn set_variant_bytes(&mut self, slot: u32, bytes: u64) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let (place, before) = (entry.place(), entry.variant_bytes());
        entry.set_variant_bytes(bytes);
        let now = entry.variant_bytes();
        if let Some(sum) = self.sum_of(place) {
            *sum = sum.saturating_sub(before) + now;
        }
    }

    /// Takes an entry out, wherever it is.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        self.detach(slot);
        self.slots.remove(slot)
    }

    /// The entry to go next, without breaking a lease, and its stamp.
    pub(super) fn oldest_free(&mut self) -> Option<(u64, u32)> {
        let heads = [self.head(self.lists.idle), self.head(self.lists.returned)];
        let recovered = self.lists.recovered.oldest(&self.slots);
        heads.into_iter().chain([recovered]).flatten().min()
    }

    /// Ends the oldest lease before its time; false when there is none.
    pub(super) fn break_oldest_lease(&mut self) -> bool {
        let Some((_, slot)) = self.oldest_lease() else { return false };
        self.leases_broken += 1;
        self.end_lease(slot);
        true
    }

    /// For a mutant: the entry that was pinned longest.
    pub(super) fn any_pinned(&self) -> Option<(u64, u32)> {
        self.head(self.lists.pinned)
    }

    fn oldest_lease(&mut self) -> Option<(u64, u32)> {
        let own = self.head(self.lists.leased);
        let recovered = self.lists.recovered_leases.oldest(&self.slots);
        own.into_iter().chain(recovered).min()
    }

    fn end_lease(&mut self, slot: u32) {
        self.move_to(slot, Place::Returned);
    }

    fn head(&self, list: List) -> Option<(u64, u32)> {
        let slot = list.oldest()?;
        Some((self.slots.get(slot)?.stamp, slot))
    }

    /// The charges of those that may not go.
    fn sum_of(&mut self, place: Place) -> Option<&mut u64> {
        match place {
            Place::Leased | Place::RecoveredLease => Some(&mut self.leased_bytes),
            Place::Pinned => Some(&mut self.pinned_bytes),
            Place::Idle | Place::Returned | Place::Recovered => None,
        }
    }

    fn move_to(&mut self, slot: u32, place: Place) {
        self.detach(slot);
        self.settle(slot, place);
    }

    fn detach(&mut self, slot: u32) {
        let Some(entry) = self.slots.get(slot) else { return };
        let (place, shard, charge) = (entry.place(), entry.shard(), entry.charge_bytes());
        if let Some(sum) = self.sum_of(place) {
            *sum = sum.saturating_sub(charge);
        }
        if let Some(list) = self.lists.of(place, shard) {
            self.slots.unlink(list, slot);
        }
    }

    /// Puts a detached entry at the young end of a list; never of a recovered one.
    fn settle(&mut self, slot: u32, place: Place) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.set_place(place);
        let (shard, charge) = (entry.shard(), entry.charge_bytes());
        if let Some(sum) = self.sum_of(place) {
            *sum += charge;
        }
        if let Some(list) = self.lists.of(place, shard) {
            self.slots.push_youngest(list, slot);
        }
    }

    /// Every entry that may go, the first to go first; then the leased and the pinned ones.
    #[cfg(test)]
    pub(super) fn in_order(&self) -> Vec<&Entry> {
        let in_list = |list: List| self.slots.in_list(list).collect::<Vec<_>>();
        let shards = |lists: &ShardLists| {
            lists.lists.iter().flat_map(|list| self.slots.in_list(*list)).collect::<Vec<_>>()
        };
        let mut free = [in_list(self.lists.idle), in_list(self.lists.returned)].concat();
        free.extend(shards(&self.lists.recovered));
        free.sort_by_key(|entry| entry.stamp);
        let mut leased =
            [shards(&self.lists.recovered_leases), in_list(self.lists.leased)].concat();
        leased.sort_by_key(|entry| entry.stamp);
        [free, leased, in_list(self.lists.pinned)].concat()
    }

    /// Every list in the order of last use; the leased bytes are those of the leased.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sorted = |list: List| {
            assert!(self.slots.in_list(list).is_sorted_by_key(|entry| entry.stamp), "I14");
        };
        [self.lists.idle, self.lists.returned, self.lists.leased].into_iter().for_each(sorted);
        let shards = self.lists.recovered.lists.iter().chain(&self.lists.recovered_leases.lists);
        shards.copied().for_each(sorted);
        let entries = self.in_order();
        assert_eq!(entries.len(), self.slots.len(), "every entry is in one list");
        let leased: u64 = entries
            .iter()
            .filter(|it| matches!(it.place(), Place::Leased | Place::RecoveredLease))
            .map(|it| it.charge_bytes())
            .sum();
        assert_eq!(self.leased_bytes, leased, "I21: leased bytes are the charges of the leased");
        let pinned: u64 = self.slots.in_list(self.lists.pinned).map(Entry::charge_bytes).sum();
        assert_eq!(self.pinned_bytes, pinned);
    }
}
