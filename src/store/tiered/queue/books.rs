//! What is in the queue and what became of the rest: no waiting, no locks, no stores.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::super::fence::Mark;
use super::Item;
use crate::store::Key;
use crate::store::tiered::counters::TieredStats;

/// How a copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::tiered) enum Outcome {
    Persisted,
    Failed,
    Cancelled,
}

/// The books of one queue. Items leave it whole: they are dropped where no lock is held.
#[derive(Debug)]
pub(super) struct Books {
    max_items: u64,
    max_bytes: u64,
    /// Reserved, waiting and being copied.
    held_items: u64,
    held_bytes: u64,
    entries: HashMap<Key, Entry>,
    /// The keys of what waits, first come first.
    order: VecDeque<Key>,
    pub(super) is_closed: bool,
    offered: u64,
    accepted: u64,
    write_drops: u64,
    persisted: u64,
    failed: u64,
    cancelled: u64,
    queued_bytes: u64,
    in_flight: u64,
}

#[derive(Debug, Default)]
struct Entry {
    queued: Option<Item>,
    /// Being copied, or written by somebody who goes past the queue.
    is_busy: bool,
    flying: Option<Flying>,
}

/// What is being copied.
#[derive(Debug)]
struct Flying {
    /// Its bytes, unless they are in the fast tier.
    data: Option<Bytes>,
    mark: Mark,
}

impl Entry {
    /// I16: what has been cut off is pending no more, even if its copy has not heard of it.
    fn flying(&self) -> Option<&Flying> {
        self.flying.as_ref().filter(|flying| !flying.mark.is_cut())
    }
}

impl Books {
    pub(super) fn new(max_items: u64, max_bytes: u64) -> Self {
        Self {
            max_items,
            max_bytes,
            held_items: 0,
            held_bytes: 0,
            entries: HashMap::new(),
            order: VecDeque::new(),
            is_closed: false,
            offered: 0,
            accepted: 0,
            write_drops: 0,
            persisted: 0,
            failed: 0,
            cancelled: 0,
            queued_bytes: 0,
            in_flight: 0,
        }
    }

    pub(super) fn reserve(&mut self, bytes: u64) -> bool {
        let has_bytes = self.held_bytes.saturating_add(bytes) <= self.max_bytes;
        if self.is_closed || self.held_items >= self.max_items || !has_bytes {
            self.drop_write();
            return false;
        }
        self.held_items += 1;
        self.held_bytes += bytes;
        true
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        self.held_items = self.held_items.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    /// At every place where a write is not accepted (I15).
    pub(super) fn drop_write(&mut self) {
        self.offered += 1;
        self.write_drops += 1;
    }

    /// Gives back the earlier value that waited, or the item when it is not taken.
    pub(super) fn offer(&mut self, key: &Key, item: Item) -> Result<Option<Item>, Item> {
        if self.is_closed {
            self.drop_write();
            return Err(item);
        }
        self.offered += 1;
        self.accepted += 1;
        self.queued_bytes += item.slot.bytes;
        let entry = self.entries.entry(*key).or_default();
        let replaced = entry.queued.replace(item);
        match &replaced {
            // The later one has the place of the earlier.
            Some(earlier) => {
                self.cancelled += 1;
                self.queued_bytes = self.queued_bytes.saturating_sub(earlier.slot.bytes);
            }
            None => self.order.push_back(*key),
        }
        Ok(replaced)
    }

    /// The first value whose key is not busy.
    pub(super) fn take(&mut self) -> Option<(Key, Item)> {
        let at = self.ready_at()?;
        let key = self.order.remove(at)?;
        let entry = self.entries.get_mut(&key)?;
        let item = entry.queued.take()?;
        entry.is_busy = true;
        let (data, mark) = (item.data.clone(), item.ticket.mark());
        entry.flying = Some(Flying { data, mark });
        self.queued_bytes = self.queued_bytes.saturating_sub(item.slot.bytes);
        self.in_flight += 1;
        Some((key, item))
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready_at().is_some()
    }

    fn ready_at(&self) -> Option<usize> {
        let is_ready = |key| self.entries.get(key).is_some_and(|it| !it.is_busy);
        self.order.iter().position(is_ready)
    }

    /// Whether nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_closed && self.order.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.order.is_empty() && self.in_flight == 0
    }

    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|it| it.queued.is_some() || it.flying().is_some())
    }

    pub(super) fn held(&self, key: &Key) -> Option<Bytes> {
        let entry = self.entries.get(key)?;
        match (&entry.queued, entry.flying()) {
            (Some(item), _) => item.data.clone(),
            (None, Some(flying)) => flying.data.clone(),
            (None, None) => None,
        }
    }

    /// Ends a copy; whether another value of the key waits.
    pub(super) fn end(&mut self, key: &Key, outcome: Outcome) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Persisted => self.persisted += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Cancelled => self.cancelled += 1,
        }
        if let Some(entry) = self.entries.get_mut(key) {
            entry.flying = None;
        }
        self.release(key)
    }

    pub(super) fn claim(&mut self, key: &Key) -> bool {
        let entry = self.entries.entry(*key).or_default();
        !std::mem::replace(&mut entry.is_busy, true)
    }

    /// Whether another value of the key waits.
    pub(super) fn release(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        entry.is_busy = false;
        let has_next = entry.queued.is_some();
        if !has_next {
            self.entries.remove(key);
        }
        has_next
    }

    pub(super) fn cancel(&mut self, is_selected: impl Fn(&Key, &Item) -> bool) -> Vec<Item> {
        let entries = &mut self.entries;
        let mut cancelled = Vec::new();
        self.order.retain(|key| {
            let Some(entry) = entries.get_mut(key) else { return false };
            let Some(item) = entry.queued.take_if(|item| is_selected(key, item)) else {
                return true;
            };
            cancelled.push(item);
            if !entry.is_busy {
                entries.remove(key);
            }
            false
        });
        let bytes: u64 = cancelled.iter().map(|it| it.slot.bytes).sum();
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.cancelled += cancelled.len() as u64;
        cancelled
    }

    pub(super) fn add_stats(&self, stats: &mut TieredStats) {
        stats.offered = self.offered;
        stats.accepted = self.accepted;
        stats.write_drops = self.write_drops;
        stats.persisted = self.persisted;
        stats.failed = self.failed;
        stats.cancelled = self.cancelled;
        stats.queued_items = self.order.len() as u64;
        stats.queued_bytes = self.queued_bytes;
        stats.in_flight = self.in_flight;
    }
}
