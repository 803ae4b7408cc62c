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
        self.bytes += other.bytes;
        self.candidates += other.candidates;
    }
}

/// Measures a directory of another server's as `du` would, its own blocks included, without the
/// files that the store has under another name. Blocking.
pub(super) fn measure(parts: &Parts, source: &Source) -> io::Result<Measure> {
    if source.is_root() {
        return names_in_root(parts, source);
    }
    let mut all = Measure { bytes: parts.disk.allocated_at(&source.directory)?, candidates: 0 };
    if source.layout == Layout::Flat {
        all.add(names_in(parts, source, None)?);
        return Ok(all);
    }
    for found in parts.disk.list(&source.directory)?.unwrap_or_default() {
        let Some(bucket) = bucket_of(&found.name) else {
            all.bytes += parts.disk.allocated_below(&source.path_of(&found.name));
            continue;
        };
        all.bytes += parts.disk.allocated_at(&source.bucket_path(bucket))?;
        all.add(names_in(parts, source, Some(bucket))?);
    }
    Ok(all)
}

/// The first byte that a directory is named after.
fn bucket_of(name: &str) -> Option<u8> {
    let byte = u8::from_str_radix(name, 16).ok()?;
    (format!("{byte:02x}") == name).then_some(byte)
}

fn names_in(parts: &Parts, source: &Source, bucket: Option<u8>) -> io::Result<Measure> {
    let path = bucket.map_or_else(|| source.directory.clone(), |it| source.bucket_path(it));
    let mut all = Measure::default();
    parts.disk.visit(&path, |found| {
        all.add(one(parts, source, bucket, &format!("{path}/{}", found.name), &found.name));
        parts.former.go_on()
    })?;
    Ok(all)
}

/// Of the root only what is not the store's own.
fn names_in_root(parts: &Parts, root: &Source) -> io::Result<Measure> {
    let mut own: HashSet<String> = OWN_FILES.iter().map(|name| (*name).to_owned()).collect();
    own.extend(fixed_directories());
    own.extend([ADMIN_SOCKET.to_owned()]);
    own.extend(parts.former.sources.iter().map(|source| source.directory.clone()));
    if parts.settings.has_set_aside {
        own.extend([VALUES_DIR.to_owned(), crate::former::RAW_DIR.to_owned()]);
    }
    let mut all = Measure::default();
    parts.disk.visit(&root.directory, |found| {
        if !own.contains(&found.name) {
            all.add(one(parts, root, None, &found.name, &found.name));
        }
        parts.former.go_on()
    })?;
    Ok(all)
}

fn one(parts: &Parts, source: &Source, bucket: Option<u8>, path: &str, name: &str) -> Measure {
    let Some(candidate) = Candidate::parse(source, bucket, name) else {
        return Measure { bytes: parts.disk.allocated_below(path), candidates: 0 };
    };
    let look = parts.disk.look_at_former(path).ok().flatten();
    let bytes = match look {
        Some(look) if look.is_file => {
            let key = candidate.key(parts, source, look.len_bytes);
            let entry = key.and_then(|key| parts.index.lock(|index| index.peek(&key)));
            let own = entry.and_then(|it| parts.disk.look_at_former(&it.file.path()).ok()?);
            if own.is_some_and(|own| own.is_same_file(&look)) { 0 } else { look.allocated_bytes }
        }
        _ => parts.disk.allocated_below(path),
    };
    Measure { bytes, candidates: 1 }
}
