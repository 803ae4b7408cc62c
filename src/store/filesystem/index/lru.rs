//! The entries, packed, and the order in which they leave.
//!
//! A slab with an intrusive doubly linked list: 88 bytes an entry, every operation O(1).

use super::super::layout::{FileName, Generation};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{Key, Kind, Namespace};

const NONE: u32 = u32::MAX;
/// The unit of stored charges, that of `st_blocks`.
const SECTOR_BYTES: u64 = 512;

/// One value: its name, its charge and its place in the order.
#[derive(Debug)]
pub(super) struct Entry {
    hash: [u8; HASH_BYTES],
    namespace: Namespace,
    size_bytes: u64,
    pub(super) generation: Generation,
    /// Length of an action result; the length of a blob is its digest's size.
    result_bytes: u32,
    charge_sectors: u32,
    /// Neighbors in the order, `NONE` at the ends; `next` chains the free slots too.
    older: u32,
    younger: u32,
    pub(super) readers: u32,
    kind: Kind,
    function: DigestFunction,
    pub(super) is_verified: bool,
    is_free: bool,
}

const _: () = assert!(std::mem::size_of::<Entry>() <= 88, "1 M entries must stay under 120 MB");

impl Entry {
    pub(super) fn new(file: &FileName, charge_bytes: u64, is_verified: bool) -> Self {
        let FileName { key, len_bytes, generation } = file;
        Self {
            hash: key.digest.hash,
            namespace: key.namespace,
            size_bytes: key.digest.size_bytes,
            generation: *generation,
            result_bytes: u32::try_from(*len_bytes).unwrap_or(u32::MAX),
            charge_sectors: u32::try_from(charge_bytes.div_ceil(SECTOR_BYTES)).unwrap_or(u32::MAX),
            older: NONE,
            younger: NONE,
            readers: 0,
            kind: key.kind,
            function: key.digest.function,
            is_verified,
            is_free: false,
        }
    }

    fn key(&self) -> Key {
        let digest =
            Digest { function: self.function, hash: self.hash, size_bytes: self.size_bytes };
        Key { namespace: self.namespace, kind: self.kind, digest }
    }

    pub(super) fn charge_bytes(&self) -> u64 {
        u64::from(self.charge_sectors) * SECTOR_BYTES
    }

    pub(super) fn file(&self) -> FileName {
        let len_bytes = match self.kind {
            Kind::Blob => self.size_bytes,
            Kind::ActionResult => u64::from(self.result_bytes),
        };
        FileName { key: self.key(), len_bytes, generation: self.generation }
    }
}

/// The slab.
#[derive(Debug)]
pub(super) struct Slots {
    entries: Vec<Entry>,
    free: u32,
    oldest: u32,
    youngest: u32,
    len: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { entries: Vec::new(), free: NONE, oldest: NONE, youngest: NONE, len: 0 }
    }
}

impl Slots {
    pub(super) fn get(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize).filter(|entry| !entry.is_free)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize).filter(|entry| !entry.is_free)
    }

    pub(super) fn key(&self, slot: u32) -> Option<Key> {
        self.get(slot).map(Entry::key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    pub(super) fn insert_youngest(&mut self, entry: Entry) -> u32 {
        let reused = self.free;
        let slot = if let Some(place) = self.entries.get_mut(reused as usize) {
            self.free = place.younger;
            *place = entry;
            reused
        } else {
            let slot = u32::try_from(self.entries.len()).unwrap_or(NONE);
            assert!(slot < NONE, "four billion entries are beyond any cap this store accepts");
            self.entries.push(entry);
            slot
        };
        self.len += 1;
        self.link_youngest(slot);
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        self.get(slot)?;
        self.unlink(slot);
        let free = self.free;
        let place = self.entries.get_mut(slot as usize)?;
        let vacant = Entry { younger: free, is_free: true, ..*place };
        self.free = slot;
        self.len -= 1;
        Some(std::mem::replace(place, vacant))
    }

    pub(super) fn move_to_young_end(&mut self, slot: u32) {
        if self.youngest != slot {
            self.unlink(slot);
            self.link_youngest(slot);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(entry) = self.entries.get(slot as usize) else {
            return;
        };
        let (older, younger) = (entry.older, entry.younger);
        match self.entries.get_mut(older as usize) {
            Some(neighbor) => neighbor.younger = younger,
            None => self.oldest = younger,
        }
        match self.entries.get_mut(younger as usize) {
            Some(neighbor) => neighbor.older = older,
            None => self.youngest = older,
        }
    }

    fn link_youngest(&mut self, slot: u32) {
        let older = self.youngest;
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.older = older;
            entry.younger = NONE;
        }
        match self.entries.get_mut(older as usize) {
            Some(neighbor) => neighbor.younger = slot,
            None => self.oldest = slot,
        }
        self.youngest = slot;
    }

    /// The entries in `limit` slots from `from` on, and the slot behind them.
    pub(super) fn some_from(
        &self,
        from: u32,
        limit: usize,
    ) -> (impl Iterator<Item = &Entry>, Option<u32>) {
        let start = (from as usize).min(self.entries.len());
        let end = start.saturating_add(limit).min(self.entries.len());
        let part = self.entries.get(start..end).unwrap_or_default();
        let rest = (end < self.entries.len()).then(|| u32::try_from(end).unwrap_or(NONE));
        (part.iter().filter(|entry| !entry.is_free), rest)
    }

    #[cfg(test)]
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Entry> {
        std::iter::successors(self.get(self.oldest), |entry| self.get(entry.younger))
    }
}
