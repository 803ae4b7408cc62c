//! The index: which values are there, in which order they leave, and where every byte stands.
//!
//! Pure: no I/O, no await, no callback, no clock. What leaves is put into an outbox, for memory is
//! given back outside the lock; [`Index::settle`] hands it out with what became of the queue.
//! Here is what is asked and changed; [`super::room`] reserves and evicts.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::order::{Entry, Order};
use super::room::Books;
use super::writers::Writers;
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::waiters::Waiters;
use crate::store::{Key, Kind, LEASED_TENTHS, Selection};

/// A table with room for so many times what is in it is made smaller.
const MAX_SLACK: usize = 4;

/// What the index keeps of a value's bytes: a share of them.
pub(super) trait Payload: Clone {
    /// Whether somebody else has a share too.
    fn is_held(&self) -> bool;
}

/// What an index is made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) low_water_bytes: u64,
    pub(super) max_entries: Option<u64>,
    pub(super) max_age_ms: Option<u64>,
    pub(super) lease_ms: u64,
}

/// Bytes that are promised to a write, and when it began (I16).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claim must be settled by a publication or given back"]
pub(super) struct Claim {
    pub(super) bytes: u64,
    pub(super) began: u64,
}

/// What a look-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// An upload or a read: the entry becomes the youngest.
    Touch,
    /// A build is told that it is there: it gets a lease too (I21).
    Promise,
}

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Evicted,
    Expired,
    Count,
    Purged,
    Removed,
    Replaced,
}

/// What has left: its bytes count as dying until [`Index::free`].
#[derive(Debug)]
#[must_use = "its bytes must be freed"]
pub(super) struct Victim<P> {
    pub(super) payload: P,
    pub(super) charge: u64,
    /// Nobody else holds it: whoever has this frees the bytes now.
    pub(super) is_falling: bool,
}

/// What became of a publication. What is handed back was never in the index: its memory is given
/// back, then its claim.
#[derive(Debug)]
pub(super) enum Publish<P> {
    Visible,
    /// Another upload of the blob was faster.
    Overtaken(P, Claim),
    /// A purge has come between.
    Purged(P, Claim),
}

/// Removals by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removals {
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) over_count: u64,
    pub(super) purged: u64,
    pub(super) removed: u64,
    pub(super) replaced: u64,
}

/// See the module documentation. `P` is a share of a value's bytes, `W` wakes a queued reservation;
/// the index drops or calls neither.
#[derive(Debug)]
pub(super) struct Index<P, W> {
    table: HashTable<u32>,
    pub(super) order: Order<P>,
    pub(super) limits: Limits,
    pub(super) books: Books,
    pub(super) waiters: Waiters<Claim, W>,
    pub(super) writers: Writers,
    pub(super) outbox: Vec<Victim<P>>,
    pub(super) removals: Removals,
    /// Eviction has begun and goes on to the low-water mark.
    pub(super) is_refilling: bool,
    /// Keys the hash of action results, whose keys a client may choose at will.
    hash_key: RandomState,
}

impl<P: Payload, W> Index<P, W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            table: HashTable::new(),
            order: Order::new(limits.lease_ms),
            limits,
            books: Books::default(),
            waiters: Waiters::default(),
            writers: Writers::default(),
            outbox: Vec::new(),
            removals: Removals::default(),
            is_refilling: false,
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

    fn find_where(&self, key: &Key, is_it: impl Fn(&Key) -> bool) -> Option<u32> {
        let is_it = |slot: &u32| self.order.get(*slot).is_some_and(|entry| is_it(&entry.key));
        self.table.find(Self::hash(&self.hash_key, key), is_it).copied()
    }

    fn find(&self, key: &Key) -> Option<u32> {
        self.find_where(key, |it| it == key)
    }

    /// What leases hold at most.
    pub(super) fn most_leased(&self) -> u64 {
        self.limits.max_bytes / 10 * LEASED_TENTHS
    }

    /// Looks a key up and notes its use. What has not been used for too long is not there.
    pub(super) fn look_up(&mut self, key: &Key, purpose: Use) -> Option<&Entry<P>> {
        let slot = self.find(key)?;
        if self.is_over_age(slot) {
            self.take(slot, Reason::Expired);
            return None;
        }
        match purpose {
            Use::Touch => self.order.touch(slot),
            Use::Promise => self.order.promise(slot, self.most_leased()),
        }
        self.order.get(slot)
    }

    /// The blob with this hash, whatever its size: bytes are verified, so there is one at most.
    pub(super) fn blob_with_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Option<Digest> {
        let any_size = Key::blob(Digest { function, hash, size_bytes: 0 });
        let slot = self.find_where(&any_size, |it| {
            it.kind == Kind::Blob && it.digest.function == function && it.digest.hash == hash
        })?;
        if self.is_over_age(slot) {
            return None;
        }
        self.order.get(slot).map(|entry| entry.key.digest)
    }

    /// Whether an entry that may go was not used for longer than is allowed.
    pub(super) fn is_over_age(&self, slot: u32) -> bool {
        let Some(most) = self.limits.max_age_ms else { return false };
        let age = |it: &Entry<P>| self.order.now_ms().saturating_sub(it.used_ms);
        self.order.get(slot).is_some_and(|it| it.is_free() && age(it) > most)
    }

    /// Makes a value visible, books what it takes, and ends the claim (I5).
    pub(super) fn publish(
        &mut self,
        key: Key,
        claim: Claim,
        charge: u64,
        payload: P,
    ) -> Publish<P> {
        if self.writers.is_fenced(&key, claim.began) {
            return Publish::Purged(payload, claim);
        }
        let there = self.find(&key);
        if let Some(slot) = there
            && key.kind == Kind::Blob
        {
            // Never replaced: these bytes were verified and are dropped.
            self.order.touch(slot);
            return Publish::Overtaken(payload, claim);
        }
        // I21: what takes the place of something that is promised is promised too.
        let was_promised =
            there.and_then(|slot| self.order.get(slot)).is_some_and(Entry::is_leased);
        if let Some(slot) = there {
            self.take(slot, Reason::Replaced);
        }
        self.unreserve(claim);
        self.books.enter(charge);
        let slot = self.order.insert(key, payload, charge);
        let (order, hash_key) = (&self.order, &self.hash_key);
        let hash_of = |slot: &u32| order.get(*slot).map_or(0, |it| Self::hash(hash_key, &it.key));
        self.table.insert_unique(Self::hash(hash_key, &key), slot, hash_of);
        if was_promised {
            self.order.promise(slot, self.most_leased());
        }
        Publish::Visible
    }

    /// Takes a value out; false when it is not there.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        let Some(slot) = self.find(key) else { return false };
        let was_there = !self.is_over_age(slot);
        self.take(slot, Reason::Removed);
        was_there
    }

    /// Puts an entry into the outbox.
    pub(super) fn take(&mut self, slot: u32, reason: Reason) {
        let Some(key) = self.order.get(slot).map(|entry| entry.key) else { return };
        let hash = Self::hash(&self.hash_key, &key);
        if let Ok(bucket) = self.table.find_entry(hash, |it| *it == slot) {
            bucket.remove();
        }
        let Some((entry, moved)) = self.order.remove(slot) else { return };
        if let Some(before) = moved {
            self.follow(before, slot);
        }
        self.shrink();
        let is_falling = !entry.payload.is_held();
        self.books.leave(entry.charge, is_falling);
        let charge = entry.charge;
        self.outbox.push(Victim { payload: entry.payload, charge, is_falling });
        self.count(reason);
    }

    /// Has the table know the slot of an entry that has moved.
    fn follow(&mut self, before: u32, slot: u32) {
        let Some(entry) = self.order.get(slot) else { return };
        let hash = Self::hash(&self.hash_key, &entry.key);
        if let Some(place) = self.table.find_mut(hash, |it| *it == before) {
            *place = slot;
        }
    }

    /// What the table takes falls with the number of entries.
    fn shrink(&mut self) {
        let wanted = self.table.len().saturating_mul(MAX_SLACK).max(64);
        if self.table.capacity() > wanted.saturating_mul(2) {
            let (order, hash_key) = (&self.order, &self.hash_key);
            let hash_of =
                |slot: &u32| order.get(*slot).map_or(0, |it| Self::hash(hash_key, &it.key));
            self.table.shrink_to(wanted / 2, hash_of);
        }
    }

    fn count(&mut self, reason: Reason) {
        let counter = match reason {
            Reason::Evicted => &mut self.removals.evicted,
            Reason::Expired => &mut self.removals.expired,
            Reason::Count => &mut self.removals.over_count,
            Reason::Purged => &mut self.removals.purged,
            Reason::Removed => &mut self.removals.removed,
            Reason::Replaced => &mut self.removals.replaced,
        };
        *counter += 1;
    }

    /// Keeps an entry from eviction; gives what [`Index::unpin`] needs to know it again (I7).
    pub(super) fn pin(&mut self, key: &Key) -> Option<u64> {
        let born = self.look_up(key, Use::Touch)?.born;
        let slot = self.find(key)?;
        self.order.pin(slot).then_some(born)
    }

    /// Ends what [`Index::pin`] began; nothing when the entry has left meanwhile (I7).
    pub(super) fn unpin(&mut self, key: &Key, born: u64) {
        if let Some(slot) = self.find(key)
            && self.order.get(slot).is_some_and(|it| it.born == born)
        {
            self.order.unpin(slot, self.most_leased());
        }
    }

    /// Puts up a fence (I16): no write of what is selected that has begun becomes visible any more.
    /// Gives its moment; `None` when there are too many.
    pub(super) fn raise_fence(&mut self, selection: Selection) -> Option<u64> {
        let moment = self.order.tick();
        self.writers.raise_fence(selection, moment).then_some(moment)
    }

    /// Takes out what is selected and was there at `moment`, of `limit` entries below the slot
    /// `from`; gives where to go on. Downwards: what moves into the place of one that leaves has
    /// been looked at.
    pub(super) fn purge_below(
        &mut self,
        selection: &Selection,
        moment: u64,
        from: u32,
        limit: u32,
    ) -> Option<u32> {
        let from = from.min(u32::try_from(self.order.len()).unwrap_or(u32::MAX));
        let end = from.saturating_sub(limit);
        for slot in (end..from).rev() {
            let is_selected = self.order.get(slot).is_some_and(|it| {
                let age_ms = self.order.now_ms().saturating_sub(it.written_ms);
                it.born < moment && selection.covers(&it.key, age_ms / 1000)
            });
            if is_selected {
                self.take(slot, Reason::Purged);
            }
        }
        (end > 0).then_some(end)
    }

    /// What the table and the slab take.
    #[cfg(test)]
    pub(super) fn table_bytes(&self) -> usize {
        self.table.allocation_size() + self.order.slab_bytes()
    }

    /// The table names every entry by its slot, and the books are the sums of the entries.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.order.check();
        let entries = self.order.in_order();
        assert_eq!(self.table.len(), entries.len());
        for entry in &entries {
            let slot = self.find(&entry.key).unwrap();
            assert_eq!(self.order.get(slot).unwrap().born, entry.born);
        }
        let charges = entries.iter().map(|it| it.charge).sum::<u64>();
        assert_eq!(self.books.resident_bytes, charges, "I1");
        assert_eq!(self.books.errors, 0, "I4");
        assert!(self.books.total() <= self.limits.max_bytes, "I2: {:?}", self.books);
        assert!(self.books.falling_bytes <= self.books.dying_bytes);
        assert!(self.order.leased_bytes() <= self.most_leased(), "I21");
    }
}
