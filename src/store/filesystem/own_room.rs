//! Room for the store's own files while they are rewritten.
//!
//! A file and its successor are there at the same time. The successor's room is booked as overhead
//! before it is begun, by eviction if need be, so that the files never take more than the books
//! say (I3) and both never more than the cap (I2).

use super::shared::Parts;

/// Bytes booked for a file that is being written; given back when dropped.
#[derive(Debug)]
pub(super) struct OwnRoom<'a> {
    parts: &'a Parts,
    bytes: u64,
}

impl Drop for OwnRoom<'_> {
    fn drop(&mut self) {
        self.settle(0, 0);
    }
}

impl<'a> OwnRoom<'a> {
    /// Books room; `None` when there is none to be had at once. Blocking.
    pub(super) fn make(parts: &'a Parts, bytes: u64) -> Option<Self> {
        loop {
            let victims = match parts.index.lock(|index| index.take_overhead(bytes)) {
                Ok(()) => return Some(Self { parts, bytes }),
                Err(victims) if victims.is_empty() => return None,
                Err(victims) => victims,
            };
            parts.bury(victims);
        }
    }

    pub(super) fn parts(&self) -> &'a Parts {
        self.parts
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the room back and books what the file takes `now` where it took `before`.
    pub(super) fn settle(&mut self, now: u64, before: u64) {
        let bytes = std::mem::take(&mut self.bytes);
        self.parts.update(|index| {
            index.change_overhead(0, bytes);
            index.change_overhead(now, before);
        });
    }
}
