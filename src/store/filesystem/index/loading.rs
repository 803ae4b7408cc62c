//! What former processes left, and what this one leaves to the next.
//!
//! Shards are read one by one, on demand or in the background. Until a shard is read the ledger
//! charges it with what it takes at most, so that the cap holds from the first write on.

use super::entry::Entry;
use super::removal::{Part, Victim};
use super::writers::Fences;
use super::{Claim, Index, Orphan};
use crate::store::filesystem::layout::{Generation, Shard};
use crate::store::filesystem::snapshot::Record;
use crate::store::filesystem::tombstones::Reason;
use crate::store::waiters::Grant;

/// What shards that are not read yet take.
#[derive(Clone, Debug)]
pub(crate) enum UnreadShards {
    /// After a clean stop: exactly so much each.
    Exact(Vec<u64>),
    /// After a crash: together at most so much.
    AtMost(u64),
}

/// Which shards have been read.
#[derive(Debug)]
pub(super) struct Unread {
    is_read: Vec<bool>,
    left: usize,
    /// Of those left, the ones that cannot be read.
    hopeless: usize,
    sizes: UnreadShards,
    /// What they take at most.
    bytes: u64,
    /// What a former server has left.
    pub(super) former: FormerFiles,
    /// Whether there may be files of theirs that a purge has cut off.
    pub(super) keeps_fences: bool,
}

/// The files of a former server that are not the store's yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FormerFiles {
    /// There are none.
    #[default]
    None,
    /// Nobody has looked.
    Unknown,
    /// They take about so much.
    Known(u64),
}

impl FormerFiles {
    fn bytes(self) -> u64 {
        match self {
            Self::None | Self::Unknown => 0,
            Self::Known(bytes) => bytes,
        }
    }

    pub(super) fn with(self, bytes: u64) -> Self {
        match self {
            Self::None | Self::Unknown => self,
            Self::Known(all) => Self::Known(all.saturating_add(bytes)),
        }
    }

    pub(super) fn without(self, bytes: u64) -> Self {
        match self {
            Self::None | Self::Unknown => self,
            Self::Known(all) => Self::Known(all.saturating_sub(bytes)),
        }
    }
}

impl Unread {
    /// Everything is known.
    pub(super) fn nothing() -> Self {
        Self {
            is_read: vec![true; Shard::COUNT],
            left: 0,
            hopeless: 0,
            sizes: UnreadShards::AtMost(0),
            bytes: 0,
            former: FormerFiles::None,
            keeps_fences: false,
        }
    }

    /// Whether there are entries that are not known yet.
    pub(super) fn is_some(&self) -> bool {
        self.has_unread_shards() || self.former == FormerFiles::Unknown
    }

    pub(super) fn has_unread_shards(&self) -> bool {
        self.left > self.hopeless
    }
}

impl<W> Index<W> {
    /// Says that nothing has been read yet, before anything else is said.
    ///
    /// About `entries` are expected: a table that grows keeps everybody waiting, and leaves holes.
    pub(crate) fn begin_loading(&mut self, sizes: UnreadShards, entries: usize) {
        let (slots, hash_key) = (&self.order.slots, &self.hash_key);
        self.table.reserve(entries, |slot| {
            slots.get(*slot).map_or(0, |entry| Self::hash(hash_key, &entry.key()))
        });
        let bytes = match &sizes {
            UnreadShards::Exact(sizes) => sizes.iter().sum(),
            UnreadShards::AtMost(bytes) => *bytes,
        };
        let Unread { former, keeps_fences, .. } = self.unread;
        let (is_read, left) = (vec![false; Shard::COUNT], Shard::COUNT);
        self.unread = Unread { is_read, left, hopeless: 0, sizes, bytes, former, keeps_fences };
        self.book_unread();
    }

    pub(super) fn book_unread(&mut self) {
        self.ledger.set_unread(self.unread.bytes.saturating_add(self.unread.former.bytes()));
    }

    /// Whether the shard has been read.
    pub(crate) fn is_read(&self, shard: Shard) -> bool {
        self.unread.is_read.get(shard.index()).is_none_or(|it| *it)
    }

    /// Whether there are shards that are being read.
    pub(crate) fn has_unread_shards(&self) -> bool {
        self.unread.has_unread_shards()
    }

    /// Says that the shards left cannot be read: they are waited for no longer. What is asked of
    /// them is an error until they can.
    pub(crate) fn give_up_unread(&mut self) {
        self.unread.hopeless = self.unread.left;
        self.unread.bytes = 0;
        self.book_unread();
    }

    /// Shards that have not been read.
    pub(crate) fn unread_shards(&self) -> usize {
        self.unread.left
    }

    /// Adds what a shard was found to hold, in the order of last use, and what its directory and
    /// foreign files in it take. Nothing when it has been read already.
    ///
    /// Of two generations of one key the newest stays. The others, and what a purge has cut off
    /// (I16), are victims.
    pub(crate) fn load_shard(
        &mut self,
        shard: Shard,
        records: &[Record],
        directory_bytes: u64,
        foreign_bytes: u64,
    ) -> Vec<Victim> {
        let Some(is_read) = self.unread.is_read.get_mut(shard.index()).filter(|it| !**it) else {
            return Vec::new();
        };
        *is_read = true;
        self.unread.left -= 1;
        self.unread.hopeless = self.unread.hopeless.min(self.unread.left);
        let charges = records.iter().map(|it| it.charge_bytes + it.variant_bytes);
        let taken: u64 = charges.sum::<u64>() + directory_bytes + foreign_bytes;
        let known = match &self.unread.sizes {
            UnreadShards::Exact(sizes) => sizes.get(shard.index()).copied().unwrap_or_default(),
            UnreadShards::AtMost(_) => taken,
        };
        let rest = self.unread.bytes.saturating_sub(known);
        self.unread.bytes = if self.unread.has_unread_shards() { rest } else { 0 };
        self.book_unread();
        self.settle_shard(shard, Some(directory_bytes));
        self.change_overhead(foreign_bytes, 0);
        records.iter().filter_map(|record| self.adopt(record)).collect()
    }

    fn adopt(&mut self, record: &Record) -> Option<Victim> {
        let Record { file, charge_bytes, variant_bytes, .. } = *record;
        self.ledger.adopt(charge_bytes + variant_bytes);
        let refuse = |index: &mut Self, reason: Option<Reason>| {
            index.ledger.condemn(charge_bytes + variant_bytes);
            let part = if variant_bytes > 0 { Part::ValueAndVariant } else { Part::Value };
            Some(Victim::new(file, part, charge_bytes + variant_bytes, reason))
        };
        if self.writers.fences.cuts_off(file.key.namespace, file.generation.0) {
            return refuse(self, Some(Reason::Purged));
        }
        let mut older = None;
        if let Some(slot) = self.find(&file.key) {
            let stays = self.order.slots.get(slot).map(|it| it.generation) > Some(file.generation);
            if stays {
                return refuse(self, None);
            }
            older = self.take(slot, Reason::Replaced);
        }
        let mut entry = Entry::new(&file, charge_bytes, record.stamp);
        entry.set_variant_bytes(variant_bytes);
        entry.set_suspect(record.is_suspect);
        self.suspects += u64::from(record.is_suspect);
        self.variants += u64::from(variant_bytes > 0);
        self.insert(entry, Some(record.is_leased));
        older
    }

    /// Entries that a power cut may have torn.
    pub(crate) fn suspects(&self) -> u64 {
        self.suspects
    }

    /// Takes over the fences and the line of time of former processes.
    pub(crate) fn recover(&mut self, fences: Fences, timeline: &[(u64, u64)], now: u64) {
        self.writers.fences = fences;
        self.order.timeline.recover(timeline, now);
    }

    /// The fences, to be written down.
    pub(crate) fn fences(&self) -> &Fences {
        &self.writers.fences
    }

    /// Takes fences down behind which nothing is left, on the disk either: `gone_before` is a
    /// moment whose removals have been synced since. I16.
    pub(crate) fn lower_fences(&mut self, gone_before: u64) {
        if self.unread.left == 0 && !self.unread.keeps_fences {
            self.writers.lower_fences(gone_before);
        }
    }

    /// The present moment: every generation and every use so far is at or before it.
    pub(crate) fn clock(&self) -> u64 {
        self.order.clock()
    }

    /// Every file of a generation below this has its name by now. To be asked before a sync: they
    /// are on the disk after it (I18).
    pub(crate) fn all_named_below(&self) -> Generation {
        let now = Generation(self.order.clock() + 1);
        self.writers.oldest_publication().unwrap_or(now).min(now)
    }

    /// Refuses what is not visible yet from now on. Those who wait for room get none: what they
    /// waited with is to be dropped.
    pub(crate) fn close(&mut self) -> Vec<Grant<Claim, W>> {
        self.is_closed = true;
        let waiting: Vec<Grant<Claim, W>> = std::iter::from_fn(|| self.waiters.pop()).collect();
        for Grant { claim, .. } in &waiting {
            self.end_write(claim.began);
        }
        waiting
    }

    /// Whether [`Index::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Keeps everything as it is from now on; true when the disk holds exactly what the entries
    /// say (I17).
    pub(crate) fn freeze(&mut self) -> bool {
        self.is_closed = true;
        self.is_frozen = true;
        // A write that has not named its file leaves nothing: it is refused, and its file has no
        // name.
        !self.is_publishing() && self.unread.left == 0 && self.are_victims_gone()
    }

    /// Whether the files of all that has left the map are gone from the disk.
    pub(crate) fn are_victims_gone(&self) -> bool {
        let are_buried = self.orphans.values().all(|Orphan { is_unlinked, .. }| *is_unlinked);
        let books = self.ledger.snapshot();
        are_buried && books.dying_bytes == books.held_bytes
    }

    /// Whether there are files that have or get their name and are not booked yet.
    pub(crate) fn is_publishing(&self) -> bool {
        self.writers.oldest_publication().is_some()
    }

    /// Whether there are files that could not be unlinked.
    pub(crate) fn has_stuck_victims(&self) -> bool {
        self.stuck_victims > 0
    }

    /// Shard and slot of the entries in up to `limit` slots, and where to go on; `None` at the end.
    pub(crate) fn slots_from(&self, from: u32, limit: usize) -> (Vec<(Shard, u32)>, Option<u32>) {
        let (entries, rest) = self.order.slots.some_from(from, limit);
        (entries.map(|(slot, entry)| (entry.shard(), slot)).collect(), rest)
    }

    /// What is to be known of the entries in these slots after a restart. Slots that are free, or
    /// now of another shard, are left out.
    pub(crate) fn records(&self, shard: Shard, slots: &[u32]) -> Vec<Record> {
        let entries = slots.iter().filter_map(|slot| self.order.slots.get(*slot));
        entries
            .filter(|entry| entry.shard() == shard)
            .map(|entry| Record {
                file: entry.file(),
                charge_bytes: entry.file_charge_bytes(),
                variant_bytes: entry.variant_bytes(),
                stamp: entry.stamp,
                is_leased: entry.is_leased(),
                is_suspect: entry.is_suspect(),
            })
            .collect()
    }

    /// Pairs of logical time and seconds since 1970.
    pub(crate) fn timeline(&self) -> Vec<(u64, u64)> {
        self.order.timeline.points()
    }

    /// What the directory of each shard takes.
    pub(crate) fn shard_bytes(&self) -> &[u64] {
        &self.shard_bytes
    }
}
