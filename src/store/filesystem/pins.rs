//! Files that somebody makes hard links to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, FileMode};
use super::full_disk;
use super::index::{Found, Use};
use super::layout::FileName;
use super::publication::{Finished, Named};
use super::reader;
use super::reservation::{Reservation, reserve};
use super::shared::{Parts, Shared};
use super::{loader, variants};
use crate::store::{Key, StoreError};

/// Times that a blob may leave and come again during one call.
const MAX_ROUNDS: usize = 8;

/// Keeps an entry from eviction as long as it lives.
#[derive(Debug)]
pub(super) struct Pin {
    parts: Arc<Parts>,
    found: Found,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.parts.update(|index| index.unpin(&self.found));
    }
}

impl Pin {
    /// Pins an entry; `None` when it has left.
    pub(super) fn new(parts: &Arc<Parts>, found: Found) -> Option<Self> {
        let is_pinned = parts.index.lock(|index| index.pin(&found));
        is_pinned.then(|| Self::of_pinned(parts, found))
    }

    /// Takes over a pin that was made with the entry.
    pub(super) fn of_pinned(parts: &Arc<Parts>, found: Found) -> Self {
        Self { parts: Arc::clone(parts), found }
    }
}

/// A blob's file, or that of its executable variant, which stays until this is dropped: eviction
/// passes it over. Only a purge, or the discovery that its bytes are wrong, takes it away.
#[derive(Debug)]
pub struct PinnedFile {
    shared: Arc<Shared>,
    pin: Pin,
    is_executable: bool,
}

impl PinnedFile {
    /// Where it is. Mode 0444, or 0555 for an executable; other holders of links share the inode,
    /// so nobody may change it.
    pub fn path(&self) -> PathBuf {
        self.shared.parts.disk.root_path().join(self.relative_path())
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.pin.found.file.len_bytes
    }

    fn relative_path(&self) -> String {
        let file = &self.pin.found.file;
        if self.is_executable { file.variant_path() } else { file.path() }
    }

    /// Makes a hard link to it at `target`, which must be on the same file system and not there
    /// yet. `false` when the blob has left the store, by a purge or because it was corrupt.
    ///
    /// An inode has only so many links (65,000 on ext4). When they are used up the store makes a
    /// fresh one, charged like any other. Blocking work happens elsewhere. Not cancel safe: a
    /// dropped call may have made the link.
    pub async fn link(&mut self, target: &Path) -> Result<bool, StoreError> {
        for _ in 0..MAX_ROUNDS {
            let (worker, path) = (Arc::clone(&self.shared.parts), self.relative_path());
            let to = target.to_owned();
            let linked = self.shared.parts.pool.run(move || worker.disk.link_out(&path, &to));
            match linked.await? {
                Ok(()) => return Ok(true),
                Err(error) if disk::is_out_of_links(&error) => {
                    if !self.renew().await? {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // Another holder may have renewed it, and this inode left.
                    let key = self.pin.found.file.key;
                    let now = self.shared.parts.index.lock(|index| index.peek(&key));
                    if now.is_none_or(|now| now.file == self.pin.found.file) {
                        return self.after_missing(error);
                    }
                    if !self.follow().await? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(StoreError::io("make a hard link", error)),
            }
        }
        Err(StoreError::io("make a hard link", io::Error::other("inodes fill up too fast")))
    }

    /// Either the file is gone or the directory to link it into is not there.
    fn after_missing(&self, error: io::Error) -> Result<bool, StoreError> {
        let parts = &self.shared.parts;
        match parts.disk.exists(&self.relative_path()) {
            Ok(false) => {
                let file = self.pin.found.file;
                if self.is_executable {
                    parts.forget_variants(&[file]);
                } else {
                    parts.forget(&[file]);
                }
                Ok(false)
            }
            Ok(true) | Err(_) => Err(StoreError::io("make a hard link", error)),
        }
    }

    /// Moves to a fresh inode of the same bytes; false when the blob has left.
    async fn renew(&mut self) -> Result<bool, StoreError> {
        renew(&self.shared.parts, &self.pin.found).await?;
        self.follow().await
    }

    /// Pins what holds the bytes now; false when nothing does.
    async fn follow(&mut self) -> Result<bool, StoreError> {
        let key = self.pin.found.file.key;
        let fresh = pin(&self.shared, &key, self.is_executable).await?;
        let Some(fresh) = fresh else { return Ok(false) };
        *self = fresh;
        Ok(true)
    }
}

/// Pins a blob for links, or its executable variant, made on first demand; `None` when the blob is
/// absent or leaves meanwhile. The bytes are known to be right.
pub(super) async fn pin(
    shared: &Arc<Shared>,
    key: &Key,
    is_executable: bool,
) -> Result<Option<PinnedFile>, StoreError> {
    let parts = &shared.parts;
    loader::ensure(parts, std::slice::from_ref(key)).await?;
    for _ in 0..MAX_ROUNDS {
        let Some(found) = parts.index.lock(|index| index.look_up(key, Use::Touch)) else {
            return Ok(None);
        };
        // Held until this call has a pin of its own.
        let mut made = None;
        if is_executable && !found.has_variant {
            made = variants::make(shared, found).await?;
            if made.is_none() {
                return Ok(None);
            }
        }
        // A link outlives every later check, so the first look is a full one (I20).
        if !is_executable && !found.is_verified && !reader::verify(shared, key).await? {
            continue;
        }
        let pin = Pin::new(parts, found);
        drop(made);
        if let Some(pin) = pin {
            return Ok(Some(PinnedFile { shared: Arc::clone(shared), pin, is_executable }));
        }
    }
    Ok(None)
}

/// Puts a fresh copy of a blob in its place, whose inode has all its links left. The old one
/// leaves with its variant; links that were made to it stay what they are.
async fn renew(parts: &Arc<Parts>, old: &Found) -> Result<(), StoreError> {
    parts.counters.renewals.add(1);
    let bytes = old.file.len_bytes;
    let reservation = reserve(parts, old.file.key.kind, bytes).await?;
    let (worker, old) = (Arc::clone(parts), *old);
    let renewed = parts.pool.run(move || copy_blob(&worker, &old, reservation)).await?;
    match renewed {
        Ok(Some(named)) => named.book_renewed(&old),
        // It has left, or somebody else has renewed it.
        Ok(None) => Ok(()),
        Err(error) if disk::is_full(&error) => {
            // Who links tries again, a few times.
            full_disk::make_room(parts, bytes).await;
            Ok(())
        }
        Err(error) => Err(StoreError::io("copy a blob to a fresh inode", error)),
    }
}

/// Copies a blob to a fresh generation that has its name; `None` when the blob has left or turned
/// out to be no good. Blocking.
fn copy_blob(
    parts: &Arc<Parts>,
    old: &Found,
    reservation: Reservation,
) -> io::Result<Option<Named>> {
    let Some(claim) = reservation.claim() else { return Ok(None) };
    let Some(generation) = parts.index.lock(|index| index.begin_renewal(old, claim)) else {
        return Ok(None);
    };
    // I18: what it takes the place of may be on the disk, acknowledged.
    let named = Named::new(parts, FileName { generation, ..old.file }, true);
    let finished = Finished { file: parts.disk.create(FileMode::Blob)?, reservation };
    match variants::copy(parts, old, &finished.file) {
        Ok(true) => named.take(finished).map(Some).map_err(|failure| failure.source),
        Ok(false) => {
            parts.condemn_corrupt(&old.file);
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parts.forget_if_missing(&old.file);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
