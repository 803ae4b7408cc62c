//! Files of a former server that become entries.
//!
//! Until they are, the ledger charges them as unread, with what was estimated. Taking one over
//! moves its bytes to the resident ones in one step, so the books are right at every moment of a
//! walk that takes hours.

use super::Index;
use super::entry::Entry;
use super::loading::FormerFiles;
use super::removal::{Part, Victim};
use crate::store::filesystem::layout::{FileName, Generation, Shard};
use crate::store::filesystem::tombstones::Reason;
use crate::store::{Kind, Namespace};

/// A file of a former server that has its name in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenOver {
    /// The file.
    pub(crate) file: FileName,
    /// What it takes, in bytes.
    pub(crate) charge_bytes: u64,
    /// When it was used last; below the stamps of every process.
    pub(crate) stamp: u64,
    /// Whether its bytes are known to be right.
    pub(crate) is_verified: bool,
}

impl<W> Index<W> {
    /// Takes stamps before those of the first process for ones of the calendar.
    pub(crate) fn begin_after_calendar(&mut self) {
        self.order.timeline.begin_after_calendar(Generation::first_of_epoch(1).0);
    }

    /// Says that there are files of a former server. Nothing is evicted before it is known what
    /// they take; what is written meanwhile is let through.
    pub(crate) fn begin_former(&mut self) {
        self.unread.former = FormerFiles::Unknown;
    }

    /// Says whether there may be files that a purge has cut off and nobody has looked at: then its
    /// fence stays up (I16).
    pub(crate) fn keep_fences(&mut self, keeps: bool) {
        self.unread.keeps_fences = keeps;
    }

    /// Says what they take. From now on the oldest known may leave for a write; what there is over
    /// the limit stays until all are known (I14).
    pub(crate) fn measure_former(&mut self, bytes: u64) {
        self.unread.former = FormerFiles::Known(bytes);
        self.book_unread();
        self.ledger.bear_excess();
    }

    /// Says that all are taken over or left, and what those that are left take.
    pub(crate) fn end_former(&mut self, left_bytes: u64) {
        self.unread.former = FormerFiles::None;
        self.book_unread();
        self.ledger.end_excess();
        self.change_overhead(left_bytes, 0);
    }

    /// Says that a file of the former server is gone.
    pub(crate) fn drop_former(&mut self, bytes: u64) {
        self.unread.former = self.unread.former.without(bytes);
        self.book_unread();
    }

    /// Says that one that was taken over has only its old name again.
    pub(crate) fn restore_former(&mut self, bytes: u64) {
        self.unread.former = self.unread.former.with(bytes);
        self.book_unread();
    }

    /// A generation for a file that was there at `since`. It must be taken over or abandoned.
    pub(crate) fn begin_take_over(
        &mut self,
        namespace: Namespace,
        since: u64,
    ) -> Result<Generation, TakeOverRefusal> {
        if self.is_closed {
            return Err(TakeOverRefusal::Closed);
        }
        if self.writers.fences.cuts_off(namespace, since) {
            return Err(TakeOverRefusal::Purged);
        }
        let generation = Generation(self.order.tick());
        self.writers.begin_publication(generation);
        Ok(generation)
    }

    /// Makes linked files of one shard entries, each in the place that its last use gives it; what
    /// they replace, and what a purge has cut off meanwhile, are victims. `taken` are in the order
    /// of their stamps. After a stop nothing is taken over, and all are victims: the second result
    /// is false, and their old names must stay.
    pub(crate) fn take_over(
        &mut self,
        shard: Shard,
        taken: &[TakenOver],
        since: u64,
    ) -> (Vec<Victim>, bool) {
        let mut victims = Vec::new();
        let mut entries = Vec::with_capacity(taken.len());
        for it in taken {
            self.writers.end_publication(it.file.generation);
            self.unread.former = self.unread.former.without(it.charge_bytes);
            self.ledger.adopt(it.charge_bytes);
            let is_purged = self.writers.fences.cuts_off(it.file.key.namespace, since);
            if is_purged || self.is_frozen {
                self.ledger.condemn(it.charge_bytes);
                let reason = is_purged.then_some(Reason::Purged);
                victims.push(Victim::new(it.file, Part::Value, it.charge_bytes, reason));
                continue;
            }
            let known = self.find(&it.file.key);
            if known.is_some_and(|slot| self.outdoes(slot, it)) {
                self.ledger.condemn(it.charge_bytes);
                victims.push(Victim::new(it.file, Part::Value, it.charge_bytes, None));
                continue;
            }
            victims.extend(known.and_then(|slot| self.take(slot, Reason::Replaced)));
            let mut entry = Entry::new(&it.file, it.charge_bytes, it.stamp);
            entry.set_verified(it.is_verified);
            entries.push(entry);
        }
        self.book_unread();
        for slot in self.order.insert_former(shard, entries) {
            self.enter(slot);
        }
        (victims, !self.is_frozen)
    }
}

impl<W> Index<W> {
    /// Whether a blob is better than a file that was found: known to be right, of this server, or
    /// as little known.
    fn outdoes(&self, slot: u32, other: &TakenOver) -> bool {
        let is_better =
            |entry: &Entry| entry.is_verified() || !self.is_doubtful(entry) || !other.is_verified;
        let entry = self.order.slots.get(slot);
        other.file.key.kind == Kind::Blob && entry.is_some_and(is_better)
    }
}

/// Why a file of a former server is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeOverRefusal {
    /// A purge has cut it off.
    Purged,
    /// The store has stopped.
    Closed,
}
