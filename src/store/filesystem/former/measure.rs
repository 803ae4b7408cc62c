//! What another server's files take.

use std::collections::HashSet;
use std::io;

use super::super::layout::{ADMIN_SOCKET, VALUES_DIR, fixed_directories};
use super::super::shared::Parts;
use super::super::start::OWN_FILES;
use super::candidate::Candidate;
use super::sources::{Layout, Source};

/// What is in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) bytes: u64,
    /// Files whose names are those of values.
    pub(super) candidates: u64,
}

impl Measure {
    fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.candidates = self.candidates.saturating_add(other.candidates);
    }
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

/// A file up to this is taken to have the size in its name, for an estimate.
const BELIEVED_BYTES: u64 = 1 << 20;

/// Estimates what is in a directory of another server's, without a look at each file: it may be
/// one of millions, and writes wait for an answer. Blocking.
pub(super) fn estimate(parts: &Parts, source: &Source) -> io::Result<Measure> {
    if source.layout == Layout::Flat {
        return flat(parts, source, Look::Names);
    }
    let mut all = Measure::default();
    let step = u8::MAX / SAMPLES + 1;
    for bucket in (0..SAMPLES).map(|number| number * step) {
        all.add(names_in(parts, source, Some(bucket), Look::Files)?);
    }
    let scale = u64::from(step);
    let directories_bytes = parts.disk.allocated_at(&source.directory)?.saturating_add(
        parts.disk.allocated_at(&source.bucket_path(0))?.saturating_mul(u64::from(u8::MAX) + 1),
    );
    let bytes = all.bytes.saturating_mul(scale).saturating_add(directories_bytes);
    Ok(Measure { bytes, candidates: all.candidates.saturating_mul(scale) })
}

/// Measures a directory of another server's as `du` would, its own blocks included, without the
/// files that the store has under another name. Blocking.
pub(super) fn measure(parts: &Parts, source: &Source) -> io::Result<Measure> {
    if source.layout == Layout::Flat {
        return flat(parts, source, Look::Files);
    }
    let mut all = Measure { bytes: parts.disk.allocated_at(&source.directory)?, candidates: 0 };
    for found in parts.disk.list(&source.directory)?.unwrap_or_default() {
        match bucket_of(&found.name) {
            Some(bucket) => {
                all.bytes += parts.disk.allocated_at(&source.bucket_path(bucket))?;
                all.add(names_in(parts, source, Some(bucket), Look::Files)?);
            }
            None => all.bytes += parts.disk.allocated_below(&source.path_of(&found.name)),
        }
    }
    Ok(all)
}

fn flat(parts: &Parts, source: &Source, look: Look) -> io::Result<Measure> {
    if source.is_root() {
        return names_in_root(parts, source, look);
    }
    let mut all = Measure { bytes: parts.disk.allocated_at(&source.directory)?, candidates: 0 };
    all.add(names_in(parts, source, None, look)?);
    Ok(all)
}

/// The first byte that a directory is named after.
fn bucket_of(name: &str) -> Option<u8> {
    let byte = u8::from_str_radix(name, 16).ok()?;
    (format!("{byte:02x}") == name).then_some(byte)
}

fn names_in(parts: &Parts, source: &Source, bucket: Option<u8>, look: Look) -> io::Result<Measure> {
    let path = bucket.map_or_else(|| source.directory.clone(), |it| source.bucket_path(it));
    let mut all = Measure::default();
    // A link, or anything else of a directory's name, takes what it takes itself.
    if !parts.disk.is_directory(&path)? {
        return Ok(all);
    }
    parts.disk.visit(&path, |found| {
        all.add(one(parts, source, bucket, &format!("{path}/{}", found.name), look));
        parts.former.go_on()
    })?;
    Ok(all)
}

/// Of the root only what is not the store's own.
fn names_in_root(parts: &Parts, root: &Source, look: Look) -> io::Result<Measure> {
    let mut own: HashSet<String> = OWN_FILES.iter().map(|name| (*name).to_owned()).collect();
    own.extend(fixed_directories());
    own.extend([ADMIN_SOCKET.to_owned()]);
    own.extend(parts.former.sources.iter().map(|source| source.directory.clone()));
    if parts.former.has_values {
        own.extend([VALUES_DIR.to_owned(), crate::former::RAW_DIR.to_owned()]);
    }
    let mut all = Measure::default();
    parts.disk.visit(&root.directory, |found| {
        if !own.contains(&found.name) {
            all.add(one(parts, root, None, &found.name, look));
        }
        parts.former.go_on()
    })?;
    Ok(all)
}

fn one(parts: &Parts, source: &Source, bucket: Option<u8>, path: &str, look: Look) -> Measure {
    let name = path.rsplit('/').next().unwrap_or(path);
    let candidate = Candidate::parse(source, bucket, name);
    let bytes = match (&candidate, look) {
        (Some(candidate), Look::Files) => own_bytes(parts, source, candidate),
        // A name can say anything: what it says of a large file is looked at, and those are few.
        (Some(candidate), Look::Names) => match candidate.size_bytes.unwrap_or(1) {
            size_bytes if size_bytes < BELIEVED_BYTES => parts.blocks.charge_of(size_bytes),
            _ => own_bytes(parts, source, candidate),
        },
        (None, Look::Files) => parts.disk.allocated_below(path),
        // It may be a directory of anything, and is measured at the end.
        (None, Look::Names) => 0,
    };
    Measure { bytes, candidates: u64::from(candidate.is_some()) }
}

/// What a file takes that is not the store's under another name.
fn own_bytes(parts: &Parts, source: &Source, candidate: &Candidate) -> u64 {
    let look = parts.disk.look_at_former(&candidate.path).ok().flatten();
    let Some(look) = look.filter(|look| look.is_file) else {
        return parts.disk.allocated_below(&candidate.path);
    };
    // Whatever the index says: one whose other name is about to go is charged when it has gone.
    if look.has_one_name {
        return look.allocated_bytes;
    }
    if !parts.index.lock(|index| index.are_victims_gone()) {
        return 0;
    }
    let key = candidate.key(parts, source, look.len_bytes);
    let entry = key.and_then(|key| parts.index.lock(|index| index.peek(&key)));
    let own = entry.and_then(|it| parts.disk.look_at_former(&it.file.path()).ok()?);
    if own.is_some_and(|own| own.is_same_file(&look)) { 0 } else { look.allocated_bytes }
}
