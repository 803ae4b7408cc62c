//! What another server's files take.

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;

use super::super::disk::FormerLook;
use super::super::layout::{Shard, VALUES_DIR, fixed_directories};
use super::super::shared::Parts;
use super::super::start::OWN_FILES;
use super::candidate::Candidate;
use super::owned::{is_entry, without_own};
use super::sources::{Layout, Source};
use crate::store::Key;

/// What is in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) bytes: u64,
    /// Files whose names are those of values.
    pub(super) candidates: u64,
}

/// How closely files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// At their names.
    Names,
    /// At each of them.
    Files,
}

/// Of the directories by first byte how many are measured for an estimate of all.
const SAMPLES: u8 = 8;

/// Files whose other names are looked for in one go.
const MAX_DOUBTFUL: usize = 1 << 16;

/// A file up to this is taken to have the size in its name, for an estimate.
const BELIEVED_BYTES: u64 = 1 << 20;

/// Estimates what is in a directory of another server's, without a look at each file: it may be
/// one of millions, and writes wait for an answer. Where files may have names of the store's
/// already, names alone would count them twice. Blocking.
pub(super) fn estimate(parts: &Parts, source: &Source) -> io::Result<Measure> {
    if source.layout == Layout::Flat {
        let is_first = parts.index.lock(|index| index.len() == 0);
        let look = if is_first { Look::Names } else { Look::Files };
        return Tape::new(parts, source, look).flat();
    }
    let mut tape = Tape::new(parts, source, Look::Files);
    let step = u8::MAX / SAMPLES + 1;
    for bucket in (0..SAMPLES).map(|number| number * step) {
        tape.add_names(Some(bucket))?;
    }
    let all = tape.read()?;
    let scale = u64::from(step);
    let directories_bytes = parts.disk.allocated_at(&source.directory)?.saturating_add(
        parts.disk.allocated_at(&source.bucket_path(0))?.saturating_mul(u64::from(u8::MAX) + 1),
    );
    let bytes = all.bytes.saturating_mul(scale).saturating_add(directories_bytes);
    Ok(Measure { bytes, candidates: all.candidates.saturating_mul(scale) })
}

/// Measures a directory of another server's as `du` would, its own blocks included, without the
/// files that the store has under another name, visible or about to go. It is right if no name of
/// another server's goes meanwhile. Blocking.
pub(super) fn measure(parts: &Parts, source: &Source) -> io::Result<Measure> {
    let mut tape = Tape::new(parts, source, Look::Files);
    if source.layout == Layout::Flat {
        return tape.flat();
    }
    tape.all.bytes = parts.disk.allocated_at(&source.directory)?;
    for found in parts.disk.list(&source.directory)?.unwrap_or_default() {
        match bucket_of(&found.name) {
            Some(bucket) => {
                tape.all.bytes += parts.disk.allocated_at(&source.bucket_path(bucket))?;
                tape.add_names(Some(bucket))?;
            }
            None => tape.all.bytes += parts.disk.allocated_below(&source.path_of(&found.name)),
        }
    }
    tape.read()
}

/// The first byte that a directory is named after.
fn bucket_of(name: &str) -> Option<u8> {
    let byte = u8::from_str_radix(name, 16).ok()?;
    (format!("{byte:02x}") == name).then_some(byte)
}

/// Adds up what is in one directory of another server's.
struct Tape<'a> {
    parts: &'a Parts,
    source: &'a Source,
    look: Look,
    all: Measure,
    /// Files with several names, none of them that of the entry of their key. One may be that of a
    /// victim, which is charged until it is unlinked.
    doubtful: Vec<(Key, FormerLook)>,
}

impl<'a> Tape<'a> {
    fn new(parts: &'a Parts, source: &'a Source, look: Look) -> Self {
        Self { parts, source, look, all: Measure::default(), doubtful: Vec::new() }
    }

    fn flat(mut self) -> io::Result<Measure> {
        if self.source.is_root() {
            self.add_root()?;
        } else {
            self.all.bytes = self.parts.disk.allocated_at(&self.source.directory)?;
            self.add_names(None)?;
        }
        self.read()
    }

    fn read(mut self) -> io::Result<Measure> {
        self.settle_doubts()?;
        Ok(self.all)
    }

    fn add_names(&mut self, bucket: Option<u8>) -> io::Result<()> {
        let source = self.source;
        let path = source.path_in(bucket);
        match self.visit(bucket, &path) {
            // That does not pass, and nothing in it was taken over.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(path, %error, "directory of another server cannot be listed");
                self.all.candidates += 1;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(outcome) => outcome,
        }
    }

    /// Fails when the directory cannot be listed; the result is what became of its files.
    fn visit(&mut self, bucket: Option<u8>, path: &str) -> io::Result<io::Result<()>> {
        let parts = self.parts;
        // A link, or anything else of a directory's name, takes what it takes itself.
        if !parts.disk.is_directory(path)? {
            return Ok(Ok(()));
        }
        let mut outcome = Ok(());
        parts.disk.visit(path, |found| {
            outcome = self.add(bucket, &format!("{path}/{}", found.name));
            if outcome.is_ok() { parts.former.go_on() } else { ControlFlow::Break(()) }
        })?;
        Ok(outcome)
    }

    /// Of the root only what is not the store's own.
    fn add_root(&mut self) -> io::Result<()> {
        let (parts, root) = (self.parts, self.source);
        let mut own: HashSet<String> = OWN_FILES.iter().map(|name| (*name).to_owned()).collect();
        own.extend(fixed_directories());
        own.extend(parts.former.sources.iter().map(|source| source.directory.clone()));
        if parts.former.has_values {
            own.extend([VALUES_DIR.to_owned(), crate::former::RAW_DIR.to_owned()]);
        }
        let mut outcome = Ok(());
        parts.disk.visit(&root.directory, |found| {
            if !own.contains(&found.name) {
                outcome = self.add(None, &found.name);
            }
            if outcome.is_ok() { parts.former.go_on() } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn add(&mut self, bucket: Option<u8>, path: &str) -> io::Result<()> {
        let disk = &self.parts.disk;
        let name = path.rsplit('/').next().unwrap_or(path);
        let candidate = Candidate::parse(self.source, bucket, name);
        self.all.candidates += u64::from(candidate.is_some());
        let bytes = match (&candidate, self.look) {
            (Some(candidate), Look::Files) => self.own_bytes(candidate),
            // A name can say anything: what it says of a large file is looked at, and those are
            // few.
            (Some(candidate), Look::Names) => match candidate.size_bytes.unwrap_or(1) {
                size_bytes if size_bytes < BELIEVED_BYTES => {
                    self.parts.blocks.charge_of(size_bytes)
                }
                _ => self.own_bytes(candidate),
            },
            (None, Look::Files) => disk.allocated_below(path),
            // It may be a directory of anything, and is measured at the end.
            (None, Look::Names) => 0,
        };
        self.all.bytes = self.all.bytes.saturating_add(bytes);
        if self.doubtful.len() < MAX_DOUBTFUL { Ok(()) } else { self.settle_doubts() }
    }

    /// What a file takes that is not the store's under another name, as far as that is known.
    fn own_bytes(&mut self, candidate: &Candidate) -> u64 {
        let parts = self.parts;
        let look = parts.disk.look_at_former(&candidate.path).ok().flatten();
        let Some(look) = look.filter(|look| look.is_file) else {
            return parts.disk.allocated_below(&candidate.path);
        };
        if look.has_one_name {
            return look.allocated_bytes;
        }
        let Some(key) = candidate.key(parts, self.source, look.len_bytes) else {
            return look.allocated_bytes;
        };
        if !is_entry(parts, &key, &look).unwrap_or(false) {
            self.doubtful.push((key, look));
        }
        0
    }

    /// Adds the doubtful files that have no name among the store's.
    fn settle_doubts(&mut self) -> io::Result<()> {
        self.doubtful.sort_unstable_by_key(|it| shard_of(it).index());
        for of_shard in self.doubtful.chunk_by(|one, other| shard_of(one) == shard_of(other)) {
            let Some(shard) = of_shard.first().map(shard_of) else { continue };
            let left = without_own(self.parts, shard, of_shard)?;
            let bytes = left.iter().map(|look| look.allocated_bytes);
            self.all.bytes = bytes.fold(self.all.bytes, u64::saturating_add);
        }
        self.doubtful.clear();
        Ok(())
    }
}

fn shard_of((key, _): &(Key, FormerLook)) -> Shard {
    Shard::of(key)
}
