//! Names of another server's that are kept beside the store's, so that it can be gone back to.
//!
//! A file stays on the disk as long as it has a name, and a name that stays would be taken over
//! again. So the old name goes with the entry, but not when the entry is only rewritten: then the
//! original is a file by itself from there on, and is charged as one.

use std::io;
use std::sync::atomic::Ordering;

use super::super::disk::FormerLook;
use super::super::index::Victim;
use super::super::layout::{FileName, Form, Shard};
use super::super::shared::Parts;
use super::super::tombstones::Reason;
use super::candidate::Candidate;
use super::owned::{is_entry, without_own};
use super::sources::{Holds, Layout, Source};
use crate::digest::HASH_BYTES;
use crate::store::Key;

/// Whether there may be old names of a value.
pub(in crate::store::filesystem) fn may_have(parts: &Parts, key: &Key) -> bool {
    parts.former.keeps_originals() && parts.former.sources_of(key).next().is_some()
}

/// Lets the old names of a victim go, then its own. An old name that does not go keeps its own:
/// both are tried again, and a purge is not over before. Blocking.
pub(in crate::store::filesystem) fn release(
    parts: &Parts,
    victim: &Victim,
    unlink_own: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let _held = parts.former.originals.lock();
    parts.former.releases.fetch_add(1, Ordering::Relaxed);
    let file = &victim.file;
    let own = parts.disk.look_at_former(&file.path())?;
    let is_rewritten = matches!(victim.reason, Some(Reason::Replaced) | None);
    if is_rewritten && let (Form::Former, Some(own)) = (file.form, own) {
        // That may be one of many, and nobody but the other server has a name of such a file: the
        // old directory need not be listed for each that is read first.
        unlink_own()?;
        charge(parts, if own.has_one_name { 0 } else { own.allocated_bytes });
        return Ok(());
    }
    // Another file may be right where this one was not.
    let is_wrong = matches!(victim.reason, Some(Reason::Corrupt | Reason::Missing));
    let mut left_bytes = 0;
    for Old { path, look, form } in names_of(parts, file)? {
        // Somebody may have removed the store's name, and then the other has its charge: that of
        // the same form, as far as can be told. Of several, each is charged (I3: not too little).
        let is_own = own.map_or(form == file.form, |own| look.is_same_file(&own));
        if is_rewritten || (is_wrong && own.is_none()) {
            left_bytes += if is_own { look.allocated_bytes } else { 0 };
        } else if is_own {
            parts.disk.unlink(&path)?;
        } else if !is_wrong {
            unlink_original(parts, Some(&file.key), &path, &look)?;
        }
    }
    unlink_own()?;
    charge(parts, left_bytes);
    Ok(())
}

/// Removes what there is under old names of a hash when its entries have gone: what was rewritten
/// and then lost has an original and no entry, and the next start would find it (I16). Blocking.
pub(in crate::store::filesystem) fn remove_of_hash(
    parts: &Parts,
    hash: &[u8; HASH_BYTES],
) -> io::Result<()> {
    let of_hash = |source| seen(candidates(parts, source, hash));
    remove(parts, hash, parts.former.sources.iter(), of_hash)
}

/// The same of one key.
pub(in crate::store::filesystem) fn remove_of_key(parts: &Parts, key: &Key) -> io::Result<()> {
    let of_key = |source| seen(candidates_of(parts, source, key));
    remove(parts, &key.digest.hash, parts.former.sources_of(key), of_key)
}

fn remove<'a>(
    parts: &Parts,
    hash: &[u8; HASH_BYTES],
    sources: impl Iterator<Item = &'a Source>,
    candidates: impl Fn(&'a Source) -> io::Result<Option<Vec<Candidate>>>,
) -> io::Result<()> {
    if !parts.former.has_left.load(Ordering::Acquire) {
        return Ok(());
    }
    let is_stuck = |victim: &Victim| victim.file.key.digest.hash == *hash;
    if parts.failed.lock().iter().any(is_stuck) {
        return Err(io::Error::other("a file of it could not be unlinked; it is tried again"));
    }
    let _held = parts.former.originals.lock();
    for source in sources {
        for candidate in candidates(source)?.unwrap_or_default() {
            let look = parts.disk.look_at_former(&candidate.path)?;
            let Some(look) = look.filter(|look| look.is_file) else { continue };
            let key = candidate.key(parts, source, look.len_bytes);
            if let Some(key) = key
                && is_entry(parts, &key, &look)?
            {
                // Of another size than what goes, say: it goes with its entry.
                continue;
            }
            parts.former.releases.fetch_add(1, Ordering::Relaxed);
            unlink_original(parts, key.as_ref(), &candidate.path, &look)?;
        }
    }
    Ok(())
}

/// Removes an old name whose file is charged by itself, unless it has a name of the store's still:
/// that of a victim, which has its charge until it is unlinked.
fn unlink_original(
    parts: &Parts,
    key: Option<&Key>,
    path: &str,
    look: &FormerLook,
) -> io::Result<()> {
    let is_dying = match key {
        Some(key) if !look.has_one_name => {
            without_own(parts, Shard::of(key), &[(*key, *look)])?.is_empty()
        }
        _ => false,
    };
    parts.disk.unlink(path)?;
    if !is_dying {
        discharge(parts, look.allocated_bytes);
    }
    Ok(())
}

/// Books a file that has only its old name from now on.
fn charge(parts: &Parts, bytes: u64) {
    let is_done = parts.former.is_done();
    parts.index.lock(|index| {
        if is_done { index.change_overhead(bytes, 0) } else { index.restore_former(bytes) }
    });
}

fn discharge(parts: &Parts, bytes: u64) {
    let is_done = parts.former.is_done();
    parts.update(
        |index| {
            if is_done { index.change_overhead(0, bytes) } else { index.drop_former(bytes) }
        },
    );
}

/// A file under an old name.
struct Old {
    path: String,
    look: FormerLook,
    form: Form,
}

/// The files under old names of a value.
fn names_of(parts: &Parts, file: &FileName) -> io::Result<Vec<Old>> {
    let mut names = Vec::new();
    for source in parts.former.sources_of(&file.key) {
        let candidates = seen(candidates_of(parts, source, &file.key))?.unwrap_or_default();
        for candidate in candidates {
            let look = seen(parts.disk.look_at_former(&candidate.path))?.flatten();
            let (look, form) = (look.filter(|look| look.is_file), candidate.form);
            names.extend(look.map(|look| Old { path: candidate.path, look, form }));
        }
    }
    Ok(names)
}

/// What may not be looked at was not taken over.
fn seen<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// The old names that a key may have in a directory.
fn candidates_of(parts: &Parts, source: &Source, key: &Key) -> io::Result<Vec<Candidate>> {
    let digest = &key.digest;
    if (source.layout, source.holds) != (Layout::Flat, Holds::Blobs) {
        return candidates(parts, source, &digest.hash);
    }
    // The one name that says everything.
    let name = format!("{}-{}", digest.hash_hex().as_str(), digest.size_bytes);
    Ok(Candidate::parse(source, None, &name).into_iter().collect())
}

/// The old names that begin with a hash. Reads all names of a directory.
fn candidates(
    parts: &Parts,
    source: &Source,
    hash: &[u8; HASH_BYTES],
) -> io::Result<Vec<Candidate>> {
    let [first, ..] = *hash;
    let bucket = (source.layout == Layout::Buckets).then_some(first);
    let path = source.path_in(bucket);
    if !parts.disk.is_directory(&path)? {
        return Ok(Vec::new());
    }
    let found = parts.disk.list(&path)?.unwrap_or_default();
    let candidates = found.iter().filter_map(|it| Candidate::parse(source, bucket, &it.name));
    Ok(candidates.filter(|it| it.hash == *hash).collect())
}
