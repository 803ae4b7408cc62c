//! The order in which entries leave, and who may not leave yet.
//!
//! I14: the one used longest ago goes first, among those without a lease or a pin. Three lists,
//! each in the order of last use, are merged at their old ends: *idle*, *leased* (promised to a
//! build, I21; a use renews the lease, so the list is in order of expiry too) and *returned*, whose
//! lease has ended. What is *pinned* is in a list in no order.
//!
//! The entries are in a slab without holes: the last one moves into the place of one that leaves.
//! So what the slab takes falls with the number of entries, and is within what each is charged.

use crate::store::Key;

const NONE: u32 = u32::MAX;
/// Leases that end in one critical section; the rest are next.
const MAX_EXPIRIES: usize = 1024;
/// Entries in a page of the slab: growing copies nothing.
const PAGE_ENTRIES: usize = 256;

/// Who may take an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Free to go.
    Idle,
    /// Free to go after a lease.
    Returned,
    /// Promised to a build.
    Leased,
    /// Somebody needs it right now.
    Pinned,
}

/// One value.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) key: Key,
    pub(super) payload: P,
    /// What it counts against the cap.
    pub(super) charge: u64,
    /// When it became visible, in logical time; no other entry has the same.
    pub(super) born: u64,
    /// The same on the clock.
    pub(super) written_ms: u64,
    /// Logical time of the last use.
    pub(super) stamp: u64,
    /// The same on the clock.
    pub(super) used_ms: u64,
    pins: u32,
    older: u32,
    younger: u32,
    place: Place,
    /// Whether it goes to the leased ones when its last pin ends.
    is_promised: bool,
}

impl<P> Entry<P> {
    /// Whether it is promised to a build.
    pub(super) fn is_leased(&self) -> bool {
        match self.place {
            Place::Leased => true,
            Place::Pinned => self.is_promised,
            Place::Idle | Place::Returned => false,
        }
    }

    /// Whether it may leave without breaking a promise.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.place, Place::Idle | Place::Returned)
    }
}

const _: () = assert!(size_of::<Entry<usize>>() <= 160, "see ENTRY_OVERHEAD_BYTES");

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u32,
    youngest: u32,
}

const EMPTY: List = List { oldest: NONE, youngest: NONE };

#[derive(Debug)]
struct Lists {
    idle: List,
    returned: List,
    leased: List,
    pinned: List,
}

impl Lists {
    fn of(&mut self, place: Place) -> &mut List {
        match place {
            Place::Idle => &mut self.idle,
            Place::Returned => &mut self.returned,
            Place::Leased => &mut self.leased,
            Place::Pinned => &mut self.pinned,
        }
    }
}

/// The slab.
#[derive(Debug)]
struct Slots<P> {
    /// All full but the last, which is not empty.
    pages: Vec<Vec<Entry<P>>>,
}

fn page_of(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_ENTRIES, slot as usize % PAGE_ENTRIES)
}

impl<P> Slots<P> {
    fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE_ENTRIES + last
    }

    fn get(&self, slot: u32) -> Option<&Entry<P>> {
        let (page, at) = page_of(slot);
        self.pages.get(page)?.get(at)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Entry<P>> {
        let (page, at) = page_of(slot);
        self.pages.get_mut(page)?.get_mut(at)
    }

    fn push(&mut self, entry: Entry<P>) -> u32 {
        let slot = u32::try_from(self.len()).unwrap_or(NONE);
        assert!(slot < NONE, "four billion entries are beyond any memory");
        if self.pages.last().is_none_or(|page| page.len() == PAGE_ENTRIES) {
            self.pages.push(Vec::with_capacity(PAGE_ENTRIES));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(entry);
        }
        slot
    }

    /// Takes an entry out; the last one takes its slot.
    fn swap_remove(&mut self, slot: u32) -> Option<Entry<P>> {
        self.get(slot)?;
        let last = self.pages.last_mut()?.pop()?;
        if self.pages.last().is_some_and(Vec::is_empty) {
            self.pages.pop();
        }
        match self.get_mut(slot) {
            Some(place) => Some(std::mem::replace(place, last)),
            None => Some(last),
        }
    }
}

/// The entries in their order.
#[derive(Debug)]
pub(super) struct Order<P> {
    slots: Slots<P>,
    lists: Lists,
    clock: u64,
    now_ms: u64,
    lease_ms: u64,
    leased_bytes: u64,
    pinned_bytes: u64,
    leases_broken: u64,
}

impl<P> Order<P> {
    /// `lease_ms` of 0 grants no leases.
    pub(super) fn new(lease_ms: u64) -> Self {
        Self {
            slots: Slots { pages: Vec::new() },
            lists: Lists { idle: EMPTY, returned: EMPTY, leased: EMPTY, pinned: EMPTY },
            clock: 0,
            now_ms: 0,
            lease_ms,
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

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Entry<P>> {
        self.slots.get(slot)
    }

    pub(super) fn leased_bytes(&self) -> u64 {
        self.leased_bytes
    }

    pub(super) fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    pub(super) fn leases_broken(&self) -> u64 {
        self.leases_broken
    }

    /// Says what time it is and ends the leases that are over by then.
    pub(super) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        for _ in 0..MAX_EXPIRIES {
            let Some((_, slot)) = self.head(self.lists.leased) else { return };
            let age = self.slots.get(slot).map_or(0, |it| self.now_ms.saturating_sub(it.used_ms));
            if age < self.lease_ms {
                return;
            }
            self.move_to(slot, Place::Returned);
        }
    }

    /// Adds an entry as the one used last.
    pub(super) fn insert(&mut self, key: Key, payload: P, charge: u64) -> u32 {
        let born = self.tick();
        let slot = self.slots.push(Entry {
            key,
            payload,
            charge,
            born,
            written_ms: self.now_ms,
            stamp: born,
            used_ms: self.now_ms,
            pins: 0,
            older: NONE,
            younger: NONE,
            place: Place::Idle,
            is_promised: false,
        });
        self.attach(slot, Place::Idle);
        slot
    }

    /// Takes an entry out, and says which slot's entry has moved into its own.
    pub(super) fn remove(&mut self, slot: u32) -> Option<(Entry<P>, Option<u32>)> {
        self.detach(slot);
        let entry = self.slots.swap_remove(slot)?;
        let last = u32::try_from(self.slots.len()).unwrap_or(NONE);
        if last == slot {
            return Some((entry, None));
        }
        self.follow(slot);
        Some((entry, Some(last)))
    }

    /// Has the neighbors of an entry that has moved know its slot.
    fn follow(&mut self, slot: u32) {
        let Some(entry) = self.slots.get(slot) else { return };
        let (older, younger, place) = (entry.older, entry.younger, entry.place);
        match self.slots.get_mut(older) {
            Some(neighbor) => neighbor.younger = slot,
            None => self.lists.of(place).oldest = slot,
        }
        match self.slots.get_mut(younger) {
            Some(neighbor) => neighbor.older = slot,
            None => self.lists.of(place).youngest = slot,
        }
    }

    /// An upload or a read: the entry moves to the young end, and a lease starts anew.
    pub(super) fn touch(&mut self, slot: u32) {
        let (stamp, now_ms) = (self.tick(), self.now_ms);
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.stamp = stamp;
        entry.used_ms = now_ms;
        match entry.place {
            Place::Pinned => {}
            Place::Leased => self.move_to(slot, Place::Leased),
            Place::Idle | Place::Returned => self.move_to(slot, Place::Idle),
        }
    }

    /// A promise to a build: the entry is not evicted before the lease is over (I21), unless the
    /// leases come to hold more than `most_bytes` and this one is the oldest.
    pub(super) fn promise(&mut self, slot: u32, most_bytes: u64) {
        self.touch(slot);
        if self.lease_ms == 0 {
            return;
        }
        let Some(entry) = self.slots.get_mut(slot) else { return };
        match entry.place {
            Place::Pinned => entry.is_promised = true,
            Place::Idle => self.move_to(slot, Place::Leased),
            // Renewed already.
            Place::Leased | Place::Returned => {}
        }
        self.break_leases_over(most_bytes);
    }

    /// Breaks the oldest leases as long as they hold more than `most_bytes`; not too many at once,
    /// for this is under the lock (I11).
    fn break_leases_over(&mut self, most_bytes: u64) {
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
        if entry.place != Place::Pinned {
            entry.is_promised = entry.place == Place::Leased;
            self.move_to(slot, Place::Pinned);
        }
        true
    }

    /// Ends a pin; what was promised meanwhile is leased from now on, within `most_bytes`.
    pub(super) fn unpin(&mut self, slot: u32, most_bytes: u64) {
        let (stamp, now_ms) = (self.tick(), self.now_ms);
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.pins = entry.pins.saturating_sub(1);
        if entry.pins == 0 && entry.place == Place::Pinned {
            entry.stamp = stamp;
            entry.used_ms = now_ms;
            let place = if entry.is_promised { Place::Leased } else { Place::Idle };
            self.move_to(slot, place);
            self.break_leases_over(most_bytes);
        }
    }

    /// The entry to go next without breaking a lease.
    pub(super) fn oldest_free(&self) -> Option<u32> {
        let heads = [self.head(self.lists.idle), self.head(self.lists.returned)];
        heads.into_iter().flatten().min().map(|(_, slot)| slot)
    }

    /// Ends the oldest lease before its time; false when there is none.
    pub(super) fn break_oldest_lease(&mut self) -> bool {
        let Some((_, slot)) = self.head(self.lists.leased) else { return false };
        self.leases_broken += 1;
        self.move_to(slot, Place::Returned);
        true
    }

    fn head(&self, list: List) -> Option<(u64, u32)> {
        Some((self.slots.get(list.oldest)?.stamp, list.oldest))
    }

    fn move_to(&mut self, slot: u32, place: Place) {
        self.detach(slot);
        self.attach(slot, place);
    }

    /// The charges of those that may not go.
    fn sum_of(&mut self, place: Place) -> Option<&mut u64> {
        match place {
            Place::Leased => Some(&mut self.leased_bytes),
            Place::Pinned => Some(&mut self.pinned_bytes),
            Place::Idle | Place::Returned => None,
        }
    }

    fn detach(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let (place, charge) = (entry.place, entry.charge);
        let older = std::mem::replace(&mut entry.older, NONE);
        let younger = std::mem::replace(&mut entry.younger, NONE);
        if let Some(sum) = self.sum_of(place) {
            *sum = sum.saturating_sub(charge);
        }
        match self.slots.get_mut(older) {
            Some(neighbor) => neighbor.younger = younger,
            None => self.lists.of(place).oldest = younger,
        }
        match self.slots.get_mut(younger) {
            Some(neighbor) => neighbor.older = older,
            None => self.lists.of(place).youngest = older,
        }
    }

    /// Puts a detached entry at the young end of a list.
    fn attach(&mut self, slot: u32, place: Place) {
        let older = self.lists.of(place).youngest;
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.place = place;
        entry.older = older;
        entry.younger = NONE;
        let charge = entry.charge;
        match self.slots.get_mut(older) {
            Some(neighbor) => neighbor.younger = slot,
            None => self.lists.of(place).oldest = slot,
        }
        self.lists.of(place).youngest = slot;
        if let Some(sum) = self.sum_of(place) {
            *sum += charge;
        }
    }

    /// What the slab takes.
    #[cfg(test)]
    pub(super) fn slab_bytes(&self) -> usize {
        self.slots.pages.iter().map(|page| page.capacity() * size_of::<Entry<P>>()).sum()
    }

    /// Every entry that may go, the first to go first; then the leased and the pinned ones.
    #[cfg(test)]
    pub(super) fn in_order(&self) -> Vec<&Entry<P>> {
        let in_list = |list: List| {
            let next = |it: &&Entry<P>| self.slots.get(it.younger);
            std::iter::successors(self.slots.get(list.oldest), next).collect::<Vec<_>>()
        };
        let mut free = [in_list(self.lists.idle), in_list(self.lists.returned)].concat();
        free.sort_by_key(|entry| entry.stamp);
        [free, in_list(self.lists.leased), in_list(self.lists.pinned)].concat()
    }

    /// Every entry is in one list, every list is in order, and the sums are those of the entries.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let entries = self.in_order();
        assert_eq!(entries.len(), self.len(), "every entry is in one list");
        let of = |place| entries.iter().filter(move |it| it.place == place);
        for place in [Place::Idle, Place::Returned, Place::Leased] {
            assert!(of(place).is_sorted_by_key(|it| it.stamp), "I14");
        }
        let bytes_of = |place| of(place).map(|it| it.charge).sum::<u64>();
        assert_eq!(self.leased_bytes, bytes_of(Place::Leased), "I21");
        assert_eq!(self.pinned_bytes, bytes_of(Place::Pinned));
        assert!(entries.iter().all(|it| (it.place == Place::Pinned) == (it.pins > 0)));
    }
}
