//! A slab of entries that lists run through.
//!
//! A list is two ends; the links are in the entries, so that every move is O(1) and costs no
//! memory. The slab grows by pages: no entry is ever copied, and no growth holds the lock long.

use super::entry::Entry;

pub(super) const NONE: u32 = u32::MAX;

/// The ends of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    oldest: u32,
    youngest: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { oldest: NONE, youngest: NONE }
    }
}

impl List {
    pub(super) fn oldest(self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }
}

/// Entries in a page. Large, for what is not touched yet takes no memory, and an allocator rounds
/// large sizes up by less.
const PAGE_ENTRIES: usize = 1 << 18;

/// The slab.
#[derive(Debug)]
pub(super) struct Slots {
    /// All full but the last.
    pages: Vec<Vec<Entry>>,
    free: u32,
    len: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { pages: Vec::new(), free: NONE, len: 0 }
    }
}

fn page_of(slot: u32) -> (usize, usize) {
    (slot as usize / PAGE_ENTRIES, slot as usize % PAGE_ENTRIES)
}

impl Slots {
    fn place(&self, slot: u32) -> Option<&Entry> {
        let (page, at) = page_of(slot);
        self.pages.get(page)?.get(at)
    }

    fn place_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let (page, at) = page_of(slot);
        self.pages.get_mut(page)?.get_mut(at)
    }

    /// Slots that there are, free ones too.
    fn end(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE_ENTRIES + last
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Entry> {
        self.place(slot).filter(|entry| !entry.is_free())
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.place_mut(slot).filter(|entry| !entry.is_free())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry to no list.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        self.len += 1;
        let reused = self.free;
        if let Some(place) = self.place_mut(reused) {
            let next = place.younger;
            *place = entry;
            self.free = next;
            return reused;
        }
        let slot = u32::try_from(self.end()).unwrap_or(NONE);
        assert!(slot < NONE, "four billion entries are beyond any cap this store accepts");
        let has_room = self.pages.last().is_some_and(|page| page.len() < PAGE_ENTRIES);
        if !has_room {
            self.pages.push(Vec::with_capacity(PAGE_ENTRIES));
        }
        if let Some(page) = self.pages.last_mut() {
            page.push(entry);
        }
        slot
    }

    /// Takes out an entry that is in no list.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let free = self.free;
        let entry = self.get_mut(slot)?;
        let removed = entry.clone();
        entry.set_free();
        entry.younger = free;
        self.free = slot;
        self.len -= 1;
        Some(removed)
    }

    pub(super) fn unlink(&mut self, list: &mut List, slot: u32) {
        let Some(entry) = self.get_mut(slot) else { return };
        let older = std::mem::replace(&mut entry.older, NONE);
        let younger = std::mem::replace(&mut entry.younger, NONE);
        match self.get_mut(older) {
            Some(neighbor) => neighbor.younger = younger,
            None => list.oldest = younger,
        }
        match self.get_mut(younger) {
            Some(neighbor) => neighbor.older = older,
            None => list.youngest = older,
        }
    }

    pub(super) fn push_youngest(&mut self, list: &mut List, slot: u32) {
        let older = list.youngest;
        if let Some(entry) = self.get_mut(slot) {
            entry.older = older;
            entry.younger = NONE;
        }
        match self.get_mut(older) {
            Some(neighbor) => neighbor.younger = slot,
            None => list.oldest = slot,
        }
        list.youngest = slot;
    }

    /// The younger neighbor of an entry.
    pub(super) fn younger_of(&self, entry: &Entry) -> Option<u32> {
        self.get(entry.younger).map(|_| entry.younger)
    }

    /// Adds an entry as the older neighbor of `younger`, which is in the list.
    pub(super) fn insert_before(&mut self, list: &mut List, younger: u32, slot: u32) {
        let Some(neighbor) = self.get_mut(younger) else { return };
        let older = std::mem::replace(&mut neighbor.older, slot);
        if let Some(entry) = self.get_mut(slot) {
            entry.older = older;
            entry.younger = younger;
        }
        match self.get_mut(older) {
            Some(neighbor) => neighbor.younger = slot,
            None => list.oldest = slot,
        }
    }

    /// The entries in `limit` slots from `from` on with their slots, and the slot behind them.
    pub(super) fn some_from(
        &self,
        from: u32,
        limit: usize,
    ) -> (impl Iterator<Item = (u32, &Entry)>, Option<u32>) {
        let limit = u32::try_from(limit).unwrap_or(NONE);
        let end = u32::try_from(self.end()).unwrap_or(NONE);
        let stop = from.saturating_add(limit).min(end);
        let entries = (from..stop).filter_map(|slot| Some((slot, self.get(slot)?)));
        (entries, (stop < end).then_some(stop))
    }

    #[cfg(test)]
    pub(super) fn in_list(&self, list: List) -> impl Iterator<Item = &Entry> {
        std::iter::successors(self.get(list.oldest), |entry| self.get(entry.younger))
    }
}
