//! Whether a directory is that of another server, before anything in it is touched.
//!
//! Names of 64 digits and a number are not proof: other programs have such files too, a store of
//! action results looks the same, and a name does not tell its function. So a few files are hashed
//! first: what none of them is the hash of is nobody's to take over, or to delete as a lie.

use std::io;
use std::ops::ControlFlow;

use super::super::disk::Disk;
use super::sources::{Holds, Source};
use crate::digest::{DigestFunction, HASH_BYTES, Hasher};
use crate::former::nativelink;

/// Names that are looked at before the first request.
const MAX_NAMES: usize = 4096;
/// Files that are hashed, and their bytes in all.
const MAX_FILES: usize = 256;
const MAX_BYTES: u64 = 64 << 20;
const READ_BYTES: usize = 64 << 10;

/// Whether files in a directory are named after hashes of this function. Blocking.
pub(super) fn is_of(disk: &Disk, source: &Source, function: DigestFunction) -> io::Result<bool> {
    let named = names(disk, source)?;
    if named.is_empty() {
        return Ok(false);
    }
    // Of a result nobody knows the hash, so what is one cannot be proved, but what is none can.
    let holds_results = matches!(source.holds, Holds::Results(_));
    let mut left_bytes = MAX_BYTES;
    let mut tried = 0;
    for (name, hash) in named {
        let Some(file) = disk.open_untouched(&source.path_of(&name)).ok().flatten() else {
            continue;
        };
        let len_bytes = file.len_bytes();
        if len_bytes == 0 || len_bytes > left_bytes || tried == MAX_FILES {
            continue;
        }
        left_bytes -= len_bytes;
        tried += 1;
        let mut hashers = DigestFunction::ALL.map(|it| (it, Hasher::new(it)));
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while let Ok(read @ 1..) = file.read_full(&mut buffer, offset) {
            let piece = buffer.get(..read).unwrap_or_default();
            for (_, hasher) in &mut hashers {
                hasher.update(piece);
            }
            offset += read as u64;
        }
        let fitting = hashers.into_iter().find(|(_, hasher)| hasher.clone().finish() == hash);
        match fitting {
            Some(_) if holds_results => {
                let directory = &source.directory;
                tracing::error!(
                    directory,
                    "files of another server are left alone: configured as action results, but \
                     there are blobs among them"
                );
                return Ok(false);
            }
            Some((it, _)) if it == function => return Ok(true),
            Some((it, _)) => {
                let (directory, found) = (&source.directory, it.name());
                tracing::error!(
                    directory,
                    found,
                    "files of another server are left alone: their hashes are of another function \
                     than the configured one"
                );
                return Ok(false);
            }
            None => {}
        }
    }
    let directory = &source.directory;
    if tried == 0 || holds_results {
        // All are large, or cannot be read: whatever they are, each is hashed before it is served.
        return Ok(true);
    }
    tracing::warn!(directory, "files with names like those of blobs are left alone: none is one");
    Ok(false)
}

/// Some names in a directory that could be blobs', the smaller first.
fn names(disk: &Disk, source: &Source) -> io::Result<Vec<(String, [u8; HASH_BYTES])>> {
    let mut looked_at = 0;
    let mut named = Vec::new();
    disk.visit(&source.directory, |found| {
        looked_at += 1;
        if let Some(name) = nativelink(&found.name) {
            named.push((name.size_bytes, found.name, name.hash));
        }
        if looked_at < MAX_NAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    named.sort_unstable();
    Ok(named.into_iter().map(|(_, name, hash)| (name, hash)).collect())
}
