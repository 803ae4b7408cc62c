//! Files that somebody makes hard links to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{self, FileMode, ReadFile};
use super::former;
use super::index::Found;
use super::layout::{FileName, Form};
use super::pinning::{self, Purpose};
use super::publication::{Finished, Named};
use super::reservation::{Reservation, reserve};
use super::shared::{Parts, Shared};
use super::sync_rounds::Durability;
use super::{full_disk, sync, variants};
use crate::digest::Digest;
use crate::store::StoreError;

/// Times that an inode may run out of links during one call.
const MAX_ROUNDS: usize = 8;
/// Pins that end under one hold of the index lock.
const BATCH: usize = 512;

/// Keeps an entry from eviction as long as it lives.
#[derive(Debug)]
pub(super) struct Pin {
    parts: Arc<Parts>,
    found: Found,
    /// Not when it has been ended together with others.
    is_held: bool,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if self.is_held {
            self.parts.update(|index| index.unpin(&self.found));
        }
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
        Self { parts: Arc::clone(parts), found, is_held: true }
    }
}

/// What came of an attempt to make a hard link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// It is there.
    Linked,
    /// The blob has left the store, by a purge or because it was corrupt.
    Left,
    /// There is no link to be had of this inode any more: [`PinnedFile::renewed`] finds one of
    /// which there is.
    OutOfLinks,
    /// The directory is on another file system.
    CrossDevice,
}

/// How bytes may get from a blob to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyBy {
    /// The two share their blocks. Only bytes that are to be hashed again are copied.
    Reflink,
    /// The same where the file system can, else a copy.
    Any,
}

/// A blob's file, or that of its executable variant, which stays until this is dropped: eviction
/// passes it over. Only a purge, or the discovery that its bytes are wrong, takes it away.
///
/// Of one blob there are at most 65,535 of these.
#[derive(Debug)]
pub struct PinnedFile {
    shared: Arc<Shared>,
    pin: Pin,
    is_executable: bool,
}

impl PinnedFile {
    pub(super) fn new(shared: &Arc<Shared>, pin: Pin, is_executable: bool) -> Self {
        Self { shared: Arc::clone(shared), pin, is_executable }
    }

    /// Where it is. Mode 0444, or 0555 for an executable; other holders of links share the inode,
    /// so nobody may change it.
    pub fn path(&self) -> PathBuf {
        self.shared.parts.disk.root_path().join(self.relative_path())
    }

    /// The blob.
    pub fn digest(&self) -> Digest {
        self.pin.found.file.key.digest
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.pin.found.file.len_bytes
    }

    fn purpose(&self) -> Purpose {
        if self.is_executable { Purpose::Run } else { Purpose::Link }
    }

    fn relative_path(&self) -> String {
        let file = &self.pin.found.file;
        if self.is_executable { file.variant_path() } else { file.path() }
    }

    /// Ends many pins at once, for much less than it takes to drop each.
    pub fn release(mut pins: Vec<Self>) {
        for batch in pins.chunks_mut(BATCH) {
            let Some(parts) = batch.first().map(|first| Arc::clone(&first.pin.parts)) else {
                return;
            };
            // One of another store ends with its drop.
            let own = batch.iter_mut().filter(|it| Arc::ptr_eq(&it.pin.parts, &parts));
            parts.update(|index| {
                for file in own {
                    index.unpin(&file.pin.found);
                    file.pin.is_held = false;
                }
            });
        }
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
            match self.judge(linked.await?)? {
                LinkOutcome::Linked => return Ok(true),
                LinkOutcome::OutOfLinks => {
                    let Some(fresh) = self.renewed().await? else { return Ok(false) };
                    *self = fresh;
                }
                LinkOutcome::Left => return Ok(false),
                LinkOutcome::CrossDevice => {
                    return Err(failed_link(io::ErrorKind::CrossesDevices.into()));
                }
            }
        }
        Err(failed_link(io::Error::other("inodes fill up too fast")))
    }

    /// Makes a hard link to it in a directory, where nothing may have that name yet. One call to
    /// the file system, made right here: blocking.
    pub fn link_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &str,
    ) -> Result<LinkOutcome, StoreError> {
        self.judge(self.shared.parts.disk.link_out_at(&self.relative_path(), directory, name))
    }

    /// What came of an attempt to make a link.
    fn judge(&self, linked: io::Result<()>) -> Result<LinkOutcome, StoreError> {
        let Err(error) = linked else { return Ok(LinkOutcome::Linked) };
        match error.kind() {
            _ if disk::is_out_of_links(&error) => Ok(LinkOutcome::OutOfLinks),
            io::ErrorKind::CrossesDevices => Ok(LinkOutcome::CrossDevice),
            io::ErrorKind::NotFound => self.after_missing(error),
            _ => Err(failed_link(error)),
        }
    }

    /// Either the file is gone or the directory to link it into is not there.
    fn after_missing(&self, error: io::Error) -> Result<LinkOutcome, StoreError> {
        let parts = &self.shared.parts;
        let file = self.pin.found.file;
        if self.is_current() && parts.disk.exists(&self.relative_path()).unwrap_or(true) {
            return Err(failed_link(error));
        }
        if self.is_executable {
            parts.forget_variants(&[file]);
        } else {
            parts.forget_if_missing(&file);
        }
        // Another holder may have renewed it, or its variant is being made anew.
        let is_there = parts.index.lock(|index| index.peek(&file.key)).is_some();
        Ok(if is_there { LinkOutcome::OutOfLinks } else { LinkOutcome::Left })
    }

    /// Whether the file that is pinned is the one of which links are made now.
    fn is_current(&self) -> bool {
        let file = &self.pin.found.file;
        let now = self.shared.parts.index.lock(|index| index.peek(&file.key));
        now.is_some_and(|now| now.file == *file && (now.has_variant || !self.is_executable))
    }

    /// Writes the bytes to the beginning of an empty file that is open for writing; `false` when
    /// the blob has left the store. What the file holds after `false` or an error is not said.
    /// Blocking.
    pub fn copy_to(&self, file: impl AsFd, allow: CopyBy) -> Result<bool, StoreError> {
        let Some(source) = self.open_source().map_err(failed_copy)? else { return Ok(false) };
        let (source, found) = source;
        let copied = self.shared.parts.copy_out(&source, &found, file.as_fd(), allow);
        copied.map_err(failed_copy)?.ok_or(StoreError::Unsupported {
            what: "sharing the blocks of a blob with a file that is there",
        })
    }

    /// Opens the blob's own file, which has the bytes of its variant too.
    fn open_source(&self) -> io::Result<Option<(ReadFile, Found)>> {
        let parts = &self.shared.parts;
        // Another holder may have renewed it.
        let key = self.pin.found.file.key;
        let now = parts.index.lock(|index| index.peek(&key)).filter(|now| !now.is_former());
        let Some(now) = now else { return Ok(None) };
        let opened = parts.disk.open_file(&now.file.path())?;
        if opened.is_none() {
            parts.forget_if_missing(&now.file);
        }
        Ok(opened.map(|file| (file, now)))
    }

    /// The same bytes in an inode of which links can be had, when this one has none left; `None`
    /// when the blob has left. The store makes one, charged like any other, unless another holder
    /// has done so.
    ///
    /// Cancel safe.
    pub async fn renewed(&self) -> Result<Option<Self>, StoreError> {
        if self.is_current() {
            renew_once(&self.shared, self.pin.found).await?;
        }
        pinning::pin(&self.shared, self.pin.found.file.key, self.purpose()).await
    }
}

fn failed_link(source: io::Error) -> StoreError {
    StoreError::io("make a hard link", source)
}

fn failed_copy(source: io::Error) -> StoreError {
    StoreError::io("copy a blob out of the store", source)
}

/// What became of a renewal.
pub(super) type Renewed = Result<(), Arc<StoreError>>;

/// Renews a blob, or rewrites a value that has another form, once for all who ask for it.
///
/// Cancel safe: the work goes on for the others.
pub(super) async fn renew_once(shared: &Arc<Shared>, old: Found) -> Result<(), StoreError> {
    let (mut outcome, duty) = shared.renewals.join(old.file.generation);
    if let Some(duty) = duty {
        let worker = Arc::clone(shared);
        sync::spawn("renew a blob", async move {
            let renewed = renew(&worker.parts, &old).await.map_err(Arc::new);
            worker.renewals.end(duty, Some(renewed));
        });
    }
    match outcome.wait().await {
        Some(renewed) => renewed.map_err(|error| error.duplicate()),
        None => Err(StoreError::ShuttingDown),
    }
}

/// Puts a fresh copy of a blob in its place, whose inode has all its links left. The old one
/// leaves with its variant; links that were made to it stay what they are.
async fn renew(parts: &Arc<Parts>, old: &Found) -> Result<(), StoreError> {
    let bytes = old.file.len_bytes;
    let reservation = reserve(parts, old.file.key.kind, bytes).await?;
    let (worker, old) = (Arc::clone(parts), *old);
    // The copy takes the place of the old file here too: beside one that another server has left
    // there are names to be looked for.
    let job = move || -> io::Result<Result<(), StoreError>> {
        let named = copy_blob(&worker, &old, reservation)?;
        // Or it has left, or somebody else has renewed it.
        Ok(named.map_or(Ok(()), |named| named.book_renewed(&old)))
    };
    match parts.pool.run(job).await? {
        Ok(booked) => booked,
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
    parts.counters.renewals.add(1);
    // I18: what it takes the place of may be on the disk, acknowledged; what another server has
    // left was acknowledged by nobody here.
    let must_sync = old.file.form == Form::Own || parts.settings.durability != Durability::Async;
    let file = FileName { generation, form: Form::Own, ..old.file };
    let named = Named::new(parts, file, must_sync);
    let finished = Finished { file: parts.disk.create(FileMode::Blob)?, reservation };
    let copied = match old.file.form {
        Form::Own => variants::copy(parts, old, &finished.file),
        Form::Former => former::rewrite::rewrite(parts, &old.file, &finished.file),
    };
    match copied {
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
