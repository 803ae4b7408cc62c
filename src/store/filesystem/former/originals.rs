//! Names of another server's that are kept beside the store's, so that it can be gone back to.
//!
//! A file stays on the disk as long as it has a name, and a name that stays would be taken over
//! again. So the old name goes with the entry, but not when the entry is only rewritten: then the
//! original is a file by itself from there on, and is charged as one.

use std::io;
use std::sync::atomic::Ordering;

use super::super::disk::FormerLook;
use super::super::index::Victim;
use super::super::layout::FileName;
use super::super::shared::Parts;
use super::super::tombstones::Reason;
use super::candidate::Candidate;
use super::sources::{Holds, Layout, Source};

/// The file of a victim, looked at before it is unlinked; `None` where no names are kept.
pub(in crate::store::filesystem) fn look(parts: &Parts, victim: &Victim) -> Option<FormerLook> {
    let former = &parts.former;
    if !former.keeps_originals() || former.sources_of(&victim.file.key).next().is_none() {
        return None;
    }
    parts.disk.look_at_former(&victim.file.path()).ok()?
}

/// Lets the old names of a victim go, then its own, which `own` is a look at. An old name that
/// does not go keeps its own: both are tried again, and a purge is not over before. Blocking.
pub(in crate::store::filesystem) fn release(
    parts: &Parts,
    victim: &Victim,
    own: &FormerLook,
    unlink_own: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let _held = parts.former.originals.lock();
    let is_rewritten = matches!(victim.reason, Some(Reason::Replaced) | None);
    // Another file may be right where this one was not.
    let is_wrong = matches!(victim.reason, Some(Reason::Corrupt | Reason::Missing));
    let mut left_bytes = 0;
    for (path, look) in names_of(parts, &victim.file) {
        let is_own = look.is_same_file(own);
        if is_rewritten {
            left_bytes += if is_own { look.allocated_bytes } else { 0 };
        } else if is_own || !is_wrong {
            parts.disk.unlink(&path)?;
            if !is_own {
                discharge(parts, look.allocated_bytes);
            }
        }
    }
    unlink_own()?;
    charge(parts, left_bytes);
    parts.former.releases.fetch_add(1, Ordering::Relaxed);
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

/// The old names of a value that there are, with what they are.
fn names_of(parts: &Parts, file: &FileName) -> Vec<(String, FormerLook)> {
    let mut names = Vec::new();
    for source in parts.former.sources_of(&file.key) {
        for candidate in candidates(parts, source, file) {
            let look = parts.disk.look_at_former(&candidate.path).ok().flatten();
            names.extend(look.filter(|it| it.is_file).map(|look| (candidate.path, look)));
        }
    }
    names
}

fn candidates(parts: &Parts, source: &Source, file: &FileName) -> Vec<Candidate> {
    let digest = &file.key.digest;
    let [first, ..] = digest.hash;
    let (path, bucket) = match source.layout {
        Layout::Flat if source.holds == Holds::Blobs => {
            let name = format!("{}-{}", digest.hash_hex().as_str(), digest.size_bytes);
            return Candidate::parse(source, None, &name).into_iter().collect();
        }
        Layout::Flat => (source.directory.clone(), None),
        Layout::Buckets => (source.bucket_path(first), Some(first)),
    };
    let found = parts.disk.list(&path).ok().flatten().unwrap_or_default();
    let candidates = found.iter().filter_map(|it| Candidate::parse(source, bucket, &it.name));
    candidates.filter(|it| it.hash == digest.hash).collect()
}
