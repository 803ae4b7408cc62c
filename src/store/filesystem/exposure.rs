//! Files that others have links to.
//!
//! Who runs as root, or as the store's user, can write to the store's inode through a link, or
//! change its mode. Before the first link to a blob its file is stamped and its entry noted as
//! exposed; from then on every open and every pin compares. One that does not look as it was left
//! is a suspect, as after a power cut: it is hashed whole before a byte of it goes out. The order
//! of the steps matters, for the stamp is all that shows a change: an entry is a suspect before
//! its stamp is put back, it is hashed after that, and looked at once more when the hash is right.
//! After a restart a second name says that a file was exposed.
//!
//! What is not found: who puts the time back after a write.

use std::io;
use std::os::fd::BorrowedFd;

use super::checksum::check_file;
use super::disk::{self, FileMode, Look, ReadFile};
use super::index::Found;
use super::layout::FileName;
use super::pinning::Purpose;
use super::pins::CopyBy;
use super::shared::Parts;
use crate::store::Kind;

/// Times that a file may change while it is hashed.
const MAX_ROUNDS: usize = 4;
/// Files that are stamped under one hold of the lock for that.
const STAMP_BATCH: usize = 128;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;

/// What a check of a whole file found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Checked {
    /// The bytes are right, of an entry that was this when the check began.
    Right(Found),
    /// They are wrong.
    Wrong,
    /// They are wrong, and somebody changed them through a link.
    Tampered,
}

/// Whether others have, or had, links to a blob's file.
pub(super) fn is_exposed(found: &Found, look: &Look) -> bool {
    found.file.key.kind == Kind::Blob && (found.is_exposed || look.has_other_names)
}

fn is_as_left(found: &Found, look: &Look) -> bool {
    look.is_as_stamped(FileMode::Blob, found.file.file_bytes())
}

impl Parts {
    /// The entry as it is to be seen after a look at its file, which was opened after `found` was
    /// looked up; `None` when it has left.
    pub(super) fn appraise(&self, found: &Found, look: &Look) -> Option<Found> {
        if !is_exposed(found, look) {
            return Some(*found);
        }
        let is_changed = !is_as_left(found, look);
        let (is_news, now) = self.index.lock(|index| {
            let is_news = is_changed && index.distrust(found);
            // Its stamp may have been put back since the look-up, by one who hashes it now.
            (is_news, index.refresh(found))
        });
        // What another server has left never was as this store leaves it.
        if is_news && !found.is_untried {
            let key = found.file.key;
            tracing::warn!(%key, "changed through a hard link, hashed before it is served");
        }
        now
    }

    /// Hashes a whole file. Blocking.
    pub(super) fn check(
        &self,
        file: &ReadFile,
        found: &Found,
        buffer: &mut [u8],
    ) -> io::Result<Checked> {
        let mut was_changed = false;
        for _ in 0..MAX_ROUNDS {
            let look = file.look_again()?;
            // Of one that has left somebody may still read on.
            let mut now = self.appraise(found, &look).unwrap_or(*found);
            now.is_exposed = is_exposed(&now, &look);
            if now.is_exposed && !is_as_left(&now, &look) {
                was_changed = true;
                if let Err(error) = file.stamp(FileMode::Blob) {
                    // Somebody has taken the file over.
                    tracing::warn!(key = %found.file.key, %error, "mode and time not put back");
                    return Ok(Checked::Tampered);
                }
            }
            if !check_file(file, &found.file, buffer, |_, _| Ok(()))? {
                return Ok(if was_changed { Checked::Tampered } else { Checked::Wrong });
            }
            if !now.is_exposed || is_as_left(&now, &file.look_again()?) {
                return Ok(Checked::Right(now));
            }
        }
        Err(io::Error::other("somebody goes on writing to it"))
    }

    /// Copies a blob to a file outside of the store; false when its bytes are wrong, which takes
    /// it out, `None` when it may only share its blocks and cannot. Blocking.
    pub(super) fn copy_out(
        &self,
        source: &ReadFile,
        found: &Found,
        to: BorrowedFd<'_>,
        allow: CopyBy,
    ) -> io::Result<Option<bool>> {
        let is_trusted = |look: &Look| {
            let has_length = look.len_bytes == found.file.file_bytes();
            has_length && self.appraise(found, look).is_some_and(|now| now.is_verified)
        };
        if is_trusted(source.look()) {
            if !source.clone_to(to)? {
                if allow == CopyBy::Reflink {
                    return Ok(None);
                }
                source.copy_to(to, found.file.file_bytes())?;
            }
            if is_trusted(&source.look_again()?) {
                return Ok(Some(true));
            }
        }
        let write = |piece: &[u8], offset| disk::write_out(to, piece, offset);
        let is_right = check_file(source, &found.file, &mut vec![0; COPY_BYTES], write)?;
        let look = source.look_again()?;
        if !is_right && is_exposed(found, &look) && !is_as_left(found, &look) {
            self.condemn_tampered(&found.file);
        } else if !is_right {
            self.condemn_corrupt(&found.file);
        }
        Ok(Some(is_right))
    }

    /// Takes out an entry whose bytes somebody has changed.
    pub(super) fn condemn_tampered(&self, file: &FileName) {
        if self.condemn_corrupt(file) {
            self.counters.tampered.add(1);
        }
    }

    /// Readies the files of pinned entries for links; which of them are ready. Blocking.
    pub(super) fn expose(&self, pinned: &[(Found, Purpose)]) -> io::Result<Vec<bool>> {
        let mut ready = Vec::with_capacity(pinned.len());
        for (found, purpose) in pinned {
            ready.push(match purpose {
                Purpose::Keep => true,
                Purpose::Run => self.is_variant_as_left(&found.file)?,
                Purpose::Link if found.is_exposed => self.is_blob_as_left(found)?,
                // Below.
                Purpose::Link => false,
            });
        }
        let is_first = |(_, (found, purpose)): &(usize, &(Found, Purpose))| {
            *purpose == Purpose::Link && !found.is_exposed
        };
        let first: Vec<(usize, Found)> =
            pinned.iter().enumerate().filter(is_first).map(|(at, it)| (at, it.0)).collect();
        for batch in first.chunks(STAMP_BATCH) {
            for at in self.expose_first(batch)? {
                ready.get_mut(at).into_iter().for_each(|it| *it = true);
            }
        }
        Ok(ready)
    }

    /// Stamps the files of entries that are exposed for the first time; the places of those that
    /// are ready.
    fn expose_first(&self, batch: &[(usize, Found)]) -> io::Result<Vec<usize>> {
        // One at a time: a stamp after the first link could cover up a change.
        let _held = self.exposing.lock();
        let now: Vec<(usize, Option<Found>)> = self
            .index
            .lock(|index| batch.iter().map(|(at, found)| (*at, index.refresh(found))).collect());
        let mut stamped = Vec::with_capacity(batch.len());
        let is_fresh = |it: &Found| !it.is_exposed && it.is_verified;
        for (at, found) in now.into_iter().filter_map(|(at, it)| Some((at, it.filter(is_fresh)?))) {
            if self.disk.stamp(&found.file.path())? {
                stamped.push((at, found));
            } else {
                self.forget_if_missing(&found.file);
            }
        }
        self.index.lock(|index| stamped.iter().for_each(|(_, found)| index.mark_exposed(found)));
        Ok(stamped.into_iter().map(|(at, _)| at).collect())
    }

    fn is_blob_as_left(&self, found: &Found) -> io::Result<bool> {
        let Some(look) = self.disk.look(&found.file.path())? else {
            self.forget_if_missing(&found.file);
            return Ok(false);
        };
        Ok(self.appraise(found, &look).is_some_and(|now| now.is_verified))
    }

    /// Whether the variant of a blob is there and as it was made. It always bears a stamp.
    pub(super) fn is_variant_as_left(&self, file: &FileName) -> io::Result<bool> {
        let look = self.disk.look(&file.variant_path())?;
        Ok(look.is_some_and(|it| it.is_as_stamped(FileMode::Executable, file.file_bytes())))
    }

    /// Takes out a variant that is not as it was made. Only while nobody makes the next one, which
    /// has the same name. Blocking.
    pub(super) fn discard_variant(&self, file: &FileName) -> io::Result<()> {
        let path = file.variant_path();
        let exits = self.variant_exits.lock();
        let is_there = self.disk.exists(&path)?;
        self.disk.unlink(&path)?;
        // Unless the kernel's word of the deletion was faster.
        let victim = self.index.lock(|index| index.remove_variant(file));
        drop(exits);
        if is_there {
            tracing::warn!(key = %file.key, "executable changed through a hard link, made anew");
            self.counters.tampered.add(1);
        }
        self.bury(victim.into_iter().collect());
        Ok(())
    }
}
