//! Unlinking what has left the index, and keeping the directories' own sizes true meanwhile.

use std::collections::BTreeSet;
use std::io;

use super::former::originals;
use super::index::{Claim, Part, Victim};
use super::layout::{FileName, Shard, fixed_directories};
use super::shared::Parts;
use super::tombstones::Reason;

/// Victims that are unlinked where a write has gone over the number of entries.
const OVER_COUNT_BURST: usize = 32;

impl Parts {
    /// Unlinks victims, frees their bytes, serves the queue with them. A failed unlink is counted
    /// and kept for the evictor's retry, its bytes charged. Blocking; never under the index lock.
    pub(super) fn bury(&self, victims: Vec<Victim>) {
        if victims.is_empty() {
            return;
        }
        self.note(&victims);
        let mut buried = Vec::with_capacity(victims.len());
        for victim in victims {
            match self.unlink(&victim) {
                Ok(()) => buried.push(victim),
                Err(error) => self.keep_failed(victim, &error),
            }
        }
        if buried.is_empty() {
            return;
        }
        self.settle_directories(&buried);
        self.update(|index| buried.into_iter().for_each(|victim| index.bury(victim)));
    }

    /// I8: a variant goes before its blob, so that at no time there is one without the other.
    fn unlink(&self, victim: &Victim) -> io::Result<()> {
        let file = &victim.file;
        match victim.part {
            Part::Value => self.unlink_value(victim),
            Part::ValueAndVariant => {
                self.disk.unlink(&file.variant_path())?;
                self.unlink_value(victim)
            }
            Part::Variant => self.disk.unlink(&file.variant_path()),
            Part::GoneVariant => Ok(()),
        }
    }

    fn unlink_value(&self, victim: &Victim) -> io::Result<()> {
        let path = victim.file.path();
        let unlink = || self.disk.unlink(&path);
        if originals::may_have(self, &victim.file.key) {
            originals::release(self, victim, unlink)
        } else {
            unlink()
        }
    }

    /// Unlinks a file that has a name and never became visible, and gives back what was reserved
    /// for it. One that cannot be unlinked stays charged and is tried again, as an evicted one is
    /// (I3, I15).
    pub(super) fn abandon(&self, file: FileName, part: Part, charge: u64, claim: Option<Claim>) {
        let path = if part == Part::Variant { file.variant_path() } else { file.path() };
        let unlinked = self.disk.unlink(&path);
        let shard = Shard::of(&file.key);
        self.directory_sizes.exclusive(shard, || self.settle_directory(shard, true));
        let Err(error) = unlinked else {
            self.update(|index| claim.into_iter().for_each(|claim| index.unreserve(claim)));
            return;
        };
        let victim = self.update(|index| index.condemn_abandoned(file, part, charge, claim));
        self.keep_failed(victim, &error);
    }

    /// Books what the directory of a shard takes, removed before if it may be and nothing is in it.
    /// Only while nobody else measures it.
    pub(super) fn settle_directory(&self, shard: Shard, may_be_removed: bool) {
        if may_be_removed {
            self.disk.remove_empty_directory(&shard.path());
        }
        let bytes = self.disk.allocated_at(&shard.path()).ok();
        self.index.lock(|index| index.settle_shard(shard, bytes));
    }

    /// Counts removals, once each, and remembers them.
    fn note(&self, victims: &[Victim]) {
        let fresh = || victims.iter().filter(|it| !it.is_stuck());
        for victim in fresh() {
            if let Some(reason) = victim.reason {
                self.counters.removals(reason).add(1);
            }
        }
        self.tombstones.add(fresh(), self.clock.now());
    }

    fn keep_failed(&self, mut victim: Victim, error: &io::Error) {
        // I15: every failure counts; that the file is gone already is none.
        self.counters.evict_unlink_failures.add(1);
        tracing::warn!(key = %victim.file.key, %error, "evicted file not unlinked");
        self.index.lock(|index| index.stick(&mut victim));
        self.failed.lock().push(victim);
        self.poke_evictor();
    }

    /// Books the directories from which files were unlinked, where they take less now; removes
    /// empty ones where directories take too much of the cap. Before the files' bytes are free:
    /// whoever sees those free sees this done.
    fn settle_directories(&self, unlinked: &[Victim]) {
        let is_heavy = self.index.lock(|index| index.is_overhead_heavy());
        if !is_heavy && !self.disk.directories_shrink() {
            return;
        }
        let shards: BTreeSet<Shard> = unlinked.iter().map(|it| Shard::of(&it.file.key)).collect();
        for shard in shards {
            self.directory_sizes.exclusive(shard, || self.settle_directory(shard, is_heavy));
        }
    }

    /// Takes out what a write has brought over the limit on the number of entries.
    pub(super) fn evict_over_count(&self) {
        let victims = self.index.lock(|index| index.evict_over_count(OVER_COUNT_BURST));
        self.bury(victims);
    }

    /// Takes out entries whose files somebody else deleted; those of the store's own deletions are
    /// out already (I7: by generation, so a newer file of the key is not meant).
    pub(super) fn forget(&self, gone: &[FileName]) {
        let victims: Vec<Victim> = self.index.lock(|index| {
            gone.iter().filter_map(|file| index.remove(file, Reason::Missing)).collect()
        });
        self.bury_missing(victims);
    }

    /// The same for executable variants; their blobs stay. The next variant of a blob has the name
    /// of the last one, so a late word is about nothing when there is a file again (I7).
    pub(super) fn forget_variants(&self, gone: &[FileName]) {
        if gone.is_empty() {
            return;
        }
        // Between the look at the disk and the index the next one must not come to be.
        let exits = self.variant_exits.lock();
        let is_gone = |file: &&FileName| {
            let found = self.index.lock(|index| index.peek(&file.key));
            found.is_some_and(|it| it.has_variant && it.file == **file)
                && matches!(self.disk.exists(&file.variant_path()), Ok(false))
        };
        let gone: Vec<&FileName> = gone.iter().filter(is_gone).collect();
        let victims: Vec<Victim> = self
            .index
            .lock(|index| gone.iter().filter_map(|file| index.remove_variant(file)).collect());
        drop(exits);
        self.bury_missing(victims);
    }

    /// Takes out an entry if its file is gone.
    pub(super) fn forget_if_missing(&self, file: &FileName) {
        if matches!(self.disk.exists(&file.path()), Ok(false)) {
            self.forget(&[*file]);
        }
    }

    /// Takes out an entry whose bytes are not what was stored; says whether it was there.
    pub(super) fn condemn_corrupt(&self, file: &FileName) -> bool {
        let victim = self.index.lock(|index| index.remove(file, Reason::Corrupt));
        if victim.is_some() {
            tracing::error!(key = %file.key, "stored bytes are corrupt, entry removed");
        }
        let was_there = victim.is_some();
        self.bury(victim.into_iter().collect());
        was_there
    }

    fn bury_missing(&self, victims: Vec<Victim>) {
        if victims.is_empty() {
            return;
        }
        self.counters.index_file_missing.add(victims.len() as u64);
        tracing::warn!(entries = victims.len(), "files were deleted by somebody else");
        self.bury(victims);
    }

    /// Makes the directory of a shard, watched before its first file; its parents too, should
    /// somebody have removed them.
    pub(super) fn make_shard(&self, shard: Shard) -> io::Result<()> {
        let path = shard.path();
        match self.disk.make_directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for parent in fixed_directories() {
                    self.disk.make_directory(&parent)?;
                }
                self.disk.make_directory(&path)?;
            }
            outcome => outcome?,
        }
        if let Some(deletions) = &self.deletions {
            deletions.watch(shard, &self.disk.absolute(&path));
        }
        Ok(())
    }
}
