//! From another server's file to an entry: link, book, unlink, in that order.
//!
//! I19: after a kill in between the file has two names and one inode; whoever finds the old name
//! next removes it. I5 is kept by what an entry of unknown truth is: hashed before it is served.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;

use super::super::disk;
use super::super::index::{Index, TakeOverRefusal, TakenOver, Victim};
use super::super::layout::{Form, Shard};
use super::super::loader::{self, Scratch};
use super::super::publication::{book_in_shard, link_in_shard};
use super::super::shared::{Parts, Waker};
use super::super::sync::Mutex;
use super::super::tombstones::Reason;
use super::candidate::{Candidate, Examined, Refusal};
use super::rewrite;
use super::sources::Source;
use crate::digest::HASH_BYTES;
use crate::store::{Key, Kind};

/// Who looks at a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onlooker {
    /// The walk, once.
    Walk,
    /// A request, maybe again and again: it says nothing of a file that stays where it is.
    Request,
}

/// Files that become entries in one step.
const BATCH: usize = 256;

/// Takes over the file that a key would have, if it is there. Blocking.
pub(super) fn by_name(parts: &Parts, source: &Source, key: &Key) -> io::Result<()> {
    let digest = &key.digest;
    let name = format!("{}-{}", digest.hash_hex().as_str(), digest.size_bytes);
    let candidate = Candidate::parse(source, None, &name).into_iter();
    take_over(parts, source, Shard::of(key), candidate, Onlooker::Request)
}

/// Takes over every file of a hash in one directory. Reads all its names. Blocking.
pub(super) fn by_hash(parts: &Parts, source: &Source, hash: &[u8; HASH_BYTES]) -> io::Result<()> {
    let mut candidates = Vec::new();
    parts.disk.visit(&source.directory, |found| {
        let candidate = Candidate::parse(source, None, &found.name);
        candidates.extend(candidate.filter(|it| it.hash == *hash));
        parts.former.go_on()
    })?;
    by_shard(parts, source, candidates)
}

/// Takes over all files of a first byte that lie in a directory of their own. Blocking.
pub(super) fn bucket(parts: &Parts, source: &Source, first_byte: u8) -> io::Result<()> {
    by_shard(parts, source, candidates(parts, source, first_byte, |_| true, Onlooker::Walk)?)?;
    source.set_done(first_byte);
    Ok(())
}

/// Takes over those of them that are wanted. Blocking.
pub(super) fn of_bucket(
    parts: &Parts,
    source: &Source,
    first_byte: u8,
    is_wanted: impl Fn(&[u8; HASH_BYTES]) -> bool,
) -> io::Result<()> {
    if source.is_done(first_byte) {
        return Ok(());
    }
    let found = candidates(parts, source, first_byte, is_wanted, Onlooker::Request)?;
    let Some(key) = found.first().and_then(|it| it.key(parts, source, 0)) else { return Ok(()) };
    take_over(parts, source, Shard::of(&key), found.into_iter(), Onlooker::Request)
}

fn candidates(
    parts: &Parts,
    source: &Source,
    first_byte: u8,
    is_wanted: impl Fn(&[u8; HASH_BYTES]) -> bool,
    onlooker: Onlooker,
) -> io::Result<Vec<Candidate>> {
    let path = source.bucket_path(first_byte);
    let mut candidates = Vec::new();
    if !parts.disk.is_directory(&path)? {
        return Ok(candidates);
    }
    let listed = parts.disk.visit(&path, |found| {
        match Candidate::parse(source, Some(first_byte), &found.name) {
            Some(candidate) => candidates.extend(Some(candidate).filter(|it| is_wanted(&it.hash))),
            None if onlooker == Onlooker::Walk => {
                tracing::warn!(path, name = found.name, "foreign file left alone");
            }
            None => {}
        }
        parts.former.go_on()
    });
    match listed {
        // That does not pass, and is said when it is measured.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        listed => listed.map(|_| candidates),
    }
}

/// Takes over files of several shards. Blocking.
pub(super) fn by_shard(
    parts: &Parts,
    source: &Source,
    mut candidates: Vec<Candidate>,
) -> io::Result<()> {
    candidates.sort_unstable_by_key(|candidate| candidate.hash);
    for of_byte in candidates.chunk_by(|one, other| one.hash.first() == other.hash.first()) {
        let key = of_byte.first().and_then(|it| it.key(parts, source, 0));
        let Some(shard) = key.map(|key| Shard::of(&key)) else { continue };
        take_over(parts, source, shard, of_byte.iter().cloned(), Onlooker::Walk)?;
    }
    Ok(())
}

/// Takes over files of one shard.
fn take_over(
    parts: &Parts,
    source: &Source,
    shard: Shard,
    candidates: impl Iterator<Item = Candidate>,
    onlooker: Onlooker,
) -> io::Result<()> {
    // A shard that is read later would find what is linked now, and book it twice.
    loader::load_shard(parts, shard, &mut Scratch::default())?;
    let _held = parts.former.stripe(shard.first_byte()).map(Mutex::lock);
    if parts.former.is_done() {
        // What is left has been booked as that.
        return Ok(());
    }
    let mut examined = Vec::new();
    for candidate in candidates {
        parts.check_open()?;
        let path = candidate.path.clone();
        let looked_at = candidate.examine(parts, source).unwrap_or_else(|error| {
            tracing::warn!(path, %error, "file of another server cannot be looked at");
            None
        });
        match looked_at {
            Some(Ok(it)) => examined.push(it),
            Some(Err((path, look, refusal)))
                if onlooker == Onlooker::Walk
                    || (refusal.is_lie() && !parts.former.keeps_originals()) =>
            {
                refuse(parts, &path, look.allocated_bytes, refusal);
            }
            Some(Err(_)) | None => {}
        }
    }
    examined.sort_unstable_by_key(|it| it.stamp);
    for batch in examined.chunks(BATCH) {
        let mut taking = Taking::new(parts, shard);
        let outcome = batch.iter().try_for_each(|it| taking.take(it));
        // What has its name is booked, whatever became of the next.
        taking.book();
        outcome?;
    }
    Ok(())
}

/// Notes why a file is not taken over; one that lies goes.
fn refuse(parts: &Parts, path: &str, allocated_bytes: u64, refusal: Refusal) {
    tracing::warn!(path, reason = refusal.reason(), "file of another server not taken over");
    if !refusal.is_lie() {
        parts.counters.former_left.add(1);
        return;
    }
    parts.counters.former_dropped.add(1);
    drop_original(parts, path, allocated_bytes);
}

/// Removes a file that nobody needs under this name, unless names are kept.
fn drop_original(parts: &Parts, path: &str, allocated_bytes: u64) {
    if parts.former.keeps_originals() || parts.check_open().is_err() {
        return;
    }
    parts.former.releases.fetch_add(1, Ordering::Relaxed);
    match parts.disk.unlink(path) {
        Ok(()) => parts.update(|index| index.drop_former(allocated_bytes)),
        // It is measured again at the end.
        Err(error) => tracing::warn!(path, %error, "file of another server not removed"),
    }
}

/// What a file is to an entry of its key.
enum Comparison {
    /// There is no such entry.
    New,
    /// It is the entry's own, under its old name.
    Same,
    /// The entry stays.
    Worse,
    /// It takes the entry's place; its bytes are right.
    Better,
    /// Its bytes are wrong.
    Wrong,
}

/// Files of one shard that are being taken over.
struct Taking<'a> {
    parts: &'a Parts,
    shard: Shard,
    new_shard: Option<Shard>,
    keys: HashSet<Key>,
    taken: Vec<TakenOver>,
    /// Their old names.
    paths: Vec<String>,
}

impl<'a> Taking<'a> {
    fn new(parts: &'a Parts, shard: Shard) -> Self {
        let (keys, taken, paths) = (HashSet::new(), Vec::new(), Vec::new());
        Self { parts, shard, new_shard: None, keys, taken, paths }
    }

    fn take(&mut self, it: &Examined) -> io::Result<()> {
        if !self.keys.insert(it.key) {
            self.book();
            self.keys.insert(it.key);
        }
        let is_verified = match self.compare(it)? {
            Comparison::New => false,
            Comparison::Better => true,
            Comparison::Same => {
                drop_original(self.parts, &it.path, it.look.allocated_bytes);
                return Ok(());
            }
            Comparison::Worse => {
                self.parts.counters.former_duplicates.add(1);
                drop_original(self.parts, &it.path, it.look.allocated_bytes);
                return Ok(());
            }
            Comparison::Wrong => {
                refuse(self.parts, &it.path, it.look.allocated_bytes, Refusal::Hash);
                return Ok(());
            }
        };
        self.link(it, is_verified)
    }

    fn compare(&mut self, it: &Examined) -> io::Result<Comparison> {
        let parts = self.parts;
        let Some(found) = parts.index.lock(|index| index.peek(&it.key)) else {
            return Ok(Comparison::New);
        };
        let Some(own) = parts.disk.look_at_former(&found.file.path())? else {
            parts.forget(&[found.file]);
            return Ok(Comparison::New);
        };
        if own.is_same_file(&it.look) {
            return Ok(Comparison::Same);
        }
        // One that was rewritten has its original beside it.
        let is_rewritten = it.form == Form::Former && !found.is_former();
        // Nor is one that has come, or was used, since.
        if found.is_verified || is_rewritten || !found.is_doubtful() {
            return Ok(Comparison::Worse);
        }
        if it.key.kind == Kind::ActionResult {
            // They come in the order of time.
            return Ok(Comparison::Better);
        }
        // That may take long, and nothing stays between its names for it.
        self.book();
        let opened = parts.disk.open_untouched(&it.path)?;
        let is_casblob = it.form == Form::Former;
        let is_right = |file| rewrite::is_right(&file, &it.key, it.len_bytes, is_casblob);
        let is_right = opened.map_or(Ok(false), is_right)?;
        Ok(if is_right { Comparison::Better } else { Comparison::Wrong })
    }

    fn link(&mut self, it: &Examined, is_verified: bool) -> io::Result<()> {
        let (parts, since) = (self.parts, self.parts.former.since);
        let began = parts.index.lock(|index| index.begin_take_over(it.key.namespace, since));
        let generation = match began {
            Ok(generation) => generation,
            Err(TakeOverRefusal::Purged) => {
                drop_purged(parts, it);
                return Ok(());
            }
            Err(TakeOverRefusal::Closed) => return Err(io::ErrorKind::Interrupted.into()),
        };
        let file = it.file_name(generation);
        let path = file.path();
        let linked = link_in_shard(parts, self.shard, || parts.disk.link_former(&it.path, &path));
        match linked {
            Ok(new_shard) => {
                self.new_shard = self.new_shard.or(new_shard);
                let charge_bytes = it.look.allocated_bytes;
                self.taken.push(TakenOver { file, charge_bytes, stamp: it.stamp, is_verified });
                self.paths.push(it.path.clone());
                Ok(())
            }
            Err(error) => {
                parts.index.lock(|index| index.abandon_publication(generation));
                let refusal = match error.kind() {
                    io::ErrorKind::NotFound => return Ok(()),
                    _ if disk::is_full(&error) => return Err(error),
                    io::ErrorKind::CrossesDevices => Refusal::Device,
                    io::ErrorKind::PermissionDenied => Refusal::Owner,
                    _ => Refusal::Unreadable,
                };
                refuse(parts, &it.path, it.look.allocated_bytes, refusal);
                Ok(())
            }
        }
    }

    /// Makes what has its name visible, and removes the old names.
    fn book(&mut self) {
        let parts = self.parts;
        self.keys.clear();
        let (taken, paths) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.paths));
        if taken.is_empty() {
            return;
        }
        let since = parts.former.since;
        let booked = book_in_shard(parts, self.shard, self.new_shard.take(), |index| {
            index.take_over(self.shard, &taken, since)
        });
        let (mut victims, is_open) = booked;
        parts.former.releases.fetch_add(1, Ordering::Relaxed);
        parts.counters.former_taken_over.add(taken.len() as u64);
        parts.counters.publications.add(taken.len() as u64);
        if is_open && !parts.former.keeps_originals() {
            let named = taken.iter().zip(paths);
            let stuck = named.filter_map(|(it, path)| {
                let error = parts.disk.unlink(&path).err()?;
                tracing::warn!(path, %error, "old name not removed, the file is left alone");
                Some(*it)
            });
            victims.extend(give_back(parts, &stuck.collect::<Vec<_>>()));
        }
        parts.bury(victims);
    }
}

/// Gives files back whose old names cannot be removed: two names of one file would go at different
/// times, and its bytes with the last.
fn give_back(parts: &Parts, stuck: &[TakenOver]) -> Vec<Victim> {
    let take = |index: &mut Index<Waker>| {
        let victims = stuck.iter().filter_map(|it| {
            let victim = index.remove(&it.file, Reason::Replaced)?;
            index.restore_former(it.charge_bytes);
            Some(victim)
        });
        victims.collect::<Vec<_>>()
    };
    parts.counters.former_left.add(stuck.len() as u64);
    parts.index.lock(take)
}

/// Removes what a purge has cut off, under whatever name.
fn drop_purged(parts: &Parts, it: &Examined) {
    parts.former.releases.fetch_add(1, Ordering::Relaxed);
    match parts.disk.unlink(&it.path) {
        Ok(()) => parts.update(|index| index.drop_former(it.look.allocated_bytes)),
        Err(error) => tracing::warn!(path = it.path, %error, "purged file not removed"),
    }
}
