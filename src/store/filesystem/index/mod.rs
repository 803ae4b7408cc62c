//! The index: which values are there, in which order they leave, and where every byte stands.
//!
//! Pure: no I/O, no await, no callback, no clock, no logging. It hands out tokens that say what
//! must be done outside: a [`Victim`] must be unlinked and given back with [`Index::bury`], granted
//! waiters must be told, a [`Claim`] must end. One critical section is one method call.
//!
//! Here are the look-ups; [`room`] reserves and evicts, [`publication`] makes visible, [`removal`]
//! takes out, [`loading`] reads what former processes left and writes what later ones will read.

mod entry;
mod former;
mod ledger;
mod loading;
mod order;
mod publication;
mod removal;
mod room;
mod slots;
mod timeline;
mod trust;
mod writers;

#[cfg(test)]
mod full_model_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::layout::{FileName, Form, Generation, Shard};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::waiters::Waiters;
use crate::store::{Key, Kind, LEASED_TENTHS};
use entry::{Entry, Place};
pub(crate) use former::{TakeOverRefusal, TakenOver};
use ledger::Ledger;
pub(crate) use ledger::LedgerSnapshot;
use loading::Unread;
pub(crate) use loading::UnreadShards;
use order::Order;
pub(crate) use publication::{Publish, Start};
pub(crate) use removal::{Part, Victim};
pub(crate) use room::Reserve;
pub(crate) use timeline::calendar_stamp;
pub(crate) use trust::Pinning;
pub(crate) use writers::Fences;
use writers::Writers;

/// What becomes of a write when leases hold what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeasePolicy {
    /// The oldest lease is broken, and counted.
    #[default]
    BreakOldest,
    /// The write is refused; leases may come to hold everything.
    RefuseWrites,
}

/// What an index is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The cap.
    pub(crate) max_bytes: u64,
    /// Bytes that the evictor keeps free.
    pub(crate) low_water_bytes: u64,
    /// Most entries.
    pub(crate) max_entries: Option<u64>,
    /// Longest time without a use, in seconds.
    pub(crate) max_age_seconds: Option<u64>,
    /// How long a promise to a build holds, in seconds; 0 for no promises.
    pub(crate) lease_seconds: u64,
    pub(crate) lease_policy: LeasePolicy,
}

/// Bytes that are promised to a write, and when it began (I16).
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claim must be settled by a publication or given back"]
pub(crate) struct Claim {
    pub(crate) bytes: u64,
    pub(super) began: u64,
}

/// A present entry, as a look-up found it.
#[expect(clippy::struct_excessive_bools, reason = "what is known of an entry, each by itself")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The file that holds it.
    pub(crate) file: FileName,
    /// Whether this process has seen its bytes hash right.
    pub(crate) is_verified: bool,
    /// Whether a crash may have torn it, or somebody changed it: to be hashed before anything is
    /// said of it.
    pub(crate) is_suspect: bool,
    /// Whether another server has left it and nobody has used it since: to be hashed as well, for
    /// that server may have been cut off while it wrote.
    pub(crate) is_untried: bool,
    /// Whether its executable variant is there.
    pub(crate) has_variant: bool,
    /// Whether others have, or had, links to its file.
    pub(crate) is_exposed: bool,
    slot: u32,
}

impl Found {
    /// Whether it is hashed before anything is said of it.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_suspect || self.is_untried
    }

    /// Whether its file is as another server wrote it, and is rewritten before it is read.
    pub(crate) fn is_former(&self) -> bool {
        self.file.form == Form::Former
    }
}

/// An entry as its operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SurveyedEntry {
    pub(crate) key: Key,
    /// What the file of its value takes.
    pub(crate) value_bytes: u64,
    /// What its executable variant takes.
    pub(crate) variant_bytes: u64,
    /// Seconds since its last use.
    pub(crate) unused_seconds: u64,
}

/// What an entry was last used for, and what keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// Seconds since the last use.
    pub unused_seconds: u64,
    /// Whether it is promised to a build.
    pub is_leased: bool,
    /// Whether its file is being linked right now.
    pub is_pinned: bool,
}

/// What a look-up is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// None: the store itself looks.
    Look,
    /// An upload or a read: the entry becomes the youngest.
    Touch,
    /// A build is told that it is there: it gets a lease too (I21).
    Promise,
}

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
    order: Order,
    limits: Limits,
    ledger: Ledger,
    waiters: Waiters<Claim, W>,
    writers: Writers,
    orphans: HashMap<Generation, Orphan>,
    variants: u64,
    suspects: u64,
    /// Victims whose unlink failed.
    stuck_victims: usize,
    /// Unlinks that failed since the last one that did not.
    failures_in_a_row: usize,
    unread: Unread,
    /// Set at a stop: nothing becomes visible any more.
    is_closed: bool,
    /// Set at the end of a stop: nothing leaves any more either.
    is_frozen: bool,
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
    /// An empty index. The first generation will be above `clock`.
    pub(crate) fn new(limits: Limits, clock: u64) -> Self {
        let age = limits.max_age_seconds.unwrap_or_default();
        Self {
            table: HashTable::new(),
            order: Order::new(clock, limits.lease_seconds, age),
            limits,
            ledger: Ledger::new(limits.max_bytes, limits.low_water_bytes),
            waiters: Waiters::default(),
            writers: Writers::default(),
            orphans: HashMap::new(),
            variants: 0,
            suspects: 0,
            stuck_victims: 0,
            failures_in_a_row: 0,
            unread: Unread::nothing(),
            is_closed: false,
            is_frozen: false,
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
        let slots = &self.order.slots;
        self.table.find(hash, |slot| slots.get(*slot).is_some_and(|it| it.is_of(key))).copied()
    }

    fn found(&self, slot: u32) -> Option<Found> {
        let entry = self.order.slots.get(slot)?;
        Some(Found {
            file: entry.file(),
            is_verified: entry.is_verified(),
            is_suspect: entry.is_suspect(),
            is_untried: self.is_untried(entry),
            has_variant: entry.has_variant(),
            is_exposed: entry.is_exposed(),
            slot,
        })
    }

    /// The slot of an entry that was found before, if it still is this generation. I7.
    fn still(&self, found: &Found) -> Option<u32> {
        let generation = found.file.generation;
        let is_same = |entry: &Entry| entry.generation == generation;
        self.order.slots.get(found.slot).is_some_and(is_same).then_some(found.slot)
    }

    /// Looks a key up without using it.
    pub(crate) fn peek(&self, key: &Key) -> Option<Found> {
        self.find(key).and_then(|slot| self.found(slot))
    }

    /// How the entry that is this very file was used last; `None` when it has left.
    pub(crate) fn last_use(&self, file: &FileName) -> Option<LastUse> {
        let entry = self.order.slots.get(self.find(&file.key)?)?;
        (entry.generation == file.generation).then(|| LastUse {
            unused_seconds: self.order.timeline.age(entry.stamp),
            is_leased: entry.is_leased(),
            is_pinned: entry.place() == Place::Pinned,
        })
    }

    /// The blob with this hash, whatever its size: bytes are verified, so there is one at most.
    pub(crate) fn blob_with_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Option<Digest> {
        let any_size = Key::blob(Digest { function, hash, size_bytes: 0 });
        let slots = &self.order.slots;
        let digest_of = |slot: &u32| {
            let key = slots.get(*slot)?.key();
            let is_it = |it: &Digest| it.function == function && it.hash == hash;
            Some(key.digest).filter(|it| key.kind == Kind::Blob && is_it(it))
        };
        let is_it = |slot: &u32| digest_of(slot).is_some();
        self.table.find(Self::hash(&self.hash_key, &any_size), is_it).and_then(digest_of)
    }

    /// Whether another server has left it and it is not known to be right.
    fn is_untried(&self, entry: &Entry) -> bool {
        !entry.is_verified() && self.order.timeline.is_of_calendar(entry.stamp)
    }

    /// Whether it is hashed before anything is said of it.
    fn is_doubtful(&self, entry: &Entry) -> bool {
        entry.is_suspect() || self.is_untried(entry)
    }

    /// Looks a key up and notes its use. A suspect is found but gets no lease before it is known
    /// to be whole.
    pub(crate) fn look_up(&mut self, key: &Key, purpose: Use) -> Option<Found> {
        let slot = self.find(key)?;
        let entry = self.order.slots.get(slot)?;
        let (is_suspect, is_untried) = (entry.is_suspect(), self.is_untried(entry));
        match purpose {
            // It keeps the stamp by which it is known.
            _ if is_untried => {}
            Use::Promise if !is_suspect => self.promise(slot),
            Use::Touch | Use::Promise => self.order.touch(slot),
            Use::Look => {}
        }
        self.found(slot)
    }

    fn promise(&mut self, slot: u32) {
        let most_bytes = match self.limits.lease_policy {
            // Which one is the oldest is known when all are.
            LeasePolicy::BreakOldest if !self.unread.is_some() => {
                self.ledger.limit_bytes() / 10 * LEASED_TENTHS
            }
            LeasePolicy::BreakOldest | LeasePolicy::RefuseWrites => u64::MAX,
        };
        self.order.promise(slot, most_bytes);
    }

    /// Looks a key up, notes its use and counts a reader, who must say [`Index::close_reader`] at
    /// the end.
    pub(crate) fn open(&mut self, key: &Key, purpose: Use) -> Option<Found> {
        let Found { slot, .. } = self.look_up(key, purpose)?;
        let entry = self.order.slots.get_mut(slot)?;
        entry.readers = entry.readers.checked_add(1)?;
        self.found(slot)
    }

    /// Ends what [`Index::open`] began; true when bytes have become free by that. I7: finds the
    /// entry by generation, wherever it is now.
    pub(crate) fn close_reader(&mut self, found: &Found) -> bool {
        let generation = found.file.generation;
        if let Some(slot) = self.still(found)
            && let Some(entry) = self.order.slots.get_mut(slot)
        {
            entry.readers = entry.readers.saturating_sub(1);
            return false;
        }
        let Some(orphan) = self.orphans.get_mut(&generation) else {
            self.ledger.note_error();
            return false;
        };
        orphan.readers = orphan.readers.saturating_sub(1);
        self.free_orphan_if_gone(generation)
    }

    /// Says what time it is, in seconds since 1970, and ends leases; true when more are to end.
    pub(crate) fn set_now(&mut self, now: u64) -> bool {
        self.order.set_now(now)
    }

    /// Up to `limit` entries in no particular order, and where to go on; `None` at the end.
    /// Entries that come or go between two calls may be missed or seen.
    pub(crate) fn some_from(&self, from: u32, limit: usize) -> (Vec<Found>, Option<u32>) {
        let (entries, rest) = self.order.slots.some_from(from, limit);
        (entries.filter_map(|(slot, _)| self.found(slot)).collect(), rest)
    }

    /// What some entries are and take, as [`Index::some_from`] gives them.
    pub(crate) fn survey_from(&self, from: u32, limit: usize) -> (Vec<SurveyedEntry>, Option<u32>) {
        let (entries, rest) = self.order.slots.some_from(from, limit);
        let surveyed = entries.map(|(_, entry)| SurveyedEntry {
            key: entry.key(),
            value_bytes: entry.file_charge_bytes(),
            variant_bytes: entry.variant_bytes(),
            unused_seconds: self.order.timeline.age(entry.stamp),
        });
        (surveyed.collect(), rest)
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of entries with an executable variant.
    pub(crate) fn variants(&self) -> u64 {
        self.variants
    }

    /// Bytes of the entries under a lease, and how many leases were broken.
    pub(crate) fn leases(&self) -> (u64, u64) {
        (self.order.leased_bytes(), self.order.leases_broken())
    }

    /// Charges of the entries that are pinned.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.order.pinned_bytes()
    }

    /// Seconds since the last use of the entry that was used longest ago and may go; an entry
    /// under a lease is younger than that.
    pub(crate) fn oldest_age_seconds(&mut self) -> Option<u64> {
        let (stamp, _) = self.order.oldest_free()?;
        Some(self.order.timeline.age(stamp))
    }

    /// Number of files that are gone from the map but held open by readers, of queued waiters, and
    /// of writes under way.
    pub(crate) fn pending(&self) -> (usize, usize, usize) {
        (self.orphans.len(), self.waiters.len(), self.writers.len())
    }

    /// The books.
    pub(crate) fn ledger(&self) -> LedgerSnapshot {
        self.ledger.snapshot()
    }

    /// Every file, the first to go first.
    #[cfg(test)]
    pub(crate) fn files(&self) -> Vec<FileName> {
        self.order.in_order().into_iter().map(Entry::file).collect()
    }

    /// Every file's path, those of variants too.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> Vec<String> {
        let paths = |entry: &Entry| {
            let variant = entry.has_variant().then(|| entry.file().variant_path());
            [Some(entry.file().path()), variant].into_iter().flatten().collect::<Vec<_>>()
        };
        self.order.in_order().into_iter().flat_map(paths).collect()
    }

    fn insert(&mut self, entry: Entry, recovered: Option<bool>) -> u32 {
        let slot = match recovered {
            Some(is_leased) => self.order.insert_recovered(entry, is_leased),
            None => self.order.insert_youngest(entry),
        };
        self.enter(slot);
        slot
    }

    /// Makes an entry that is in the order one that is found.
    fn enter(&mut self, slot: u32) {
        let Some(entry) = self.order.slots.get(slot) else { return };
        let hash = Self::hash(&self.hash_key, &entry.key());
        let (slots, hash_key) = (&self.order.slots, &self.hash_key);
        self.table.insert_unique(hash, slot, |slot| {
            slots.get(*slot).map_or(0, |entry| Self::hash(hash_key, &entry.key()))
        });
    }

    /// Recomputes every sum from the entries. I1, I2, I4.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.order.check();
        let books = self.ledger.snapshot();
        let entries = self.order.in_order();
        let resident: u64 = entries.iter().map(|it| it.charge_bytes()).sum();
        assert_eq!(books.resident_bytes, resident, "I1: resident is the sum of the charges");
        assert_eq!(books.ledger_errors, 0, "I4: no subtraction underflows");
        assert!(books.total_bytes() <= books.max_bytes, "I2: {books:?}");
        assert_eq!(self.table.len(), self.order.slots.len());
        for entry in &entries {
            assert!(self.find(&entry.key()).is_some(), "every entry is found by its key");
        }
        let variants = entries.iter().filter(|it| it.has_variant()).count() as u64;
        assert_eq!(self.variants, variants, "I8");
        let held: u64 = self.orphans.values().map(|it| it.charge).sum();
        assert_eq!(books.held_bytes, held);
    }
}
