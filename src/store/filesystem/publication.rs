//! How a complete, verified file gets its name and becomes visible, in that order (I5).
//!
//! Until the booking the reservation covers the file, so at no time do the files take more than
//! the ledger says (I3). Whatever fails or is dropped on the way takes the file with it first and
//! gives the room back then.

use std::io;
use std::sync::Arc;

use super::disk::{self, UnnamedFile};
use super::full_disk::Retries;
use super::index::{Claim, Found, Index, Part, Publish, Start};
use super::layout::{FileName, Shard};
use super::reservation::Reservation;
use super::shared::{Parts, Waker};
use super::sync_rounds::Durability;
use crate::store::{Key, StoreError};

/// A complete, verified file without a name; it goes before its reservation.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) file: UnnamedFile,
    pub(super) reservation: Reservation,
}

/// Whether others may have a file that becomes a blob's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written by the store.
    Own,
    /// Adopted: bears the stamp, and is exposed from the first moment.
    Adopted,
}

/// A file that has its name and is not visible yet. Dropped, it is unlinked.
#[derive(Debug)]
pub(super) struct Named {
    file: FileName,
    charge: u64,
    /// Its shard, when its directory has been made for it.
    new_shard: Option<Shard>,
    is_linked: bool,
    /// Whether it takes the place of one that may be on the disk, acknowledged (I18).
    must_sync: bool,
    origin: Origin,
    parts: Arc<Parts>,
    /// Given back last.
    reservation: Option<Reservation>,
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.is_linked {
            let claim = self.reservation.take().and_then(Reservation::into_claim);
            self.parts.abandon(self.file, Part::Value, self.charge, claim);
        }
        let generation = self.file.generation;
        self.parts.index.lock(|index| index.abandon_publication(generation));
        self.parts.write_ended.notify_waiters();
    }
}

/// Why a file has no name, and the file if it can be tried again.
pub(super) struct Failure {
    finished: Finished,
    pub(super) source: io::Error,
}

/// What became of an attempt to name a file.
enum Naming {
    Named(Named),
    /// Not needed, the blob is there.
    Overtaken,
    Failed(Failure),
}

/// Publishes a value as durably as the store promises (I18).
///
/// Cancel safe: dropped, the value is visible or its file is gone.
pub(super) async fn publish(
    parts: &Arc<Parts>,
    key: Key,
    len_bytes: u64,
    finished: Finished,
    origin: Origin,
) -> Result<(), StoreError> {
    let durability = parts.settings.durability;
    let mut finished = finished;
    let mut retries = Retries::default();
    let named = loop {
        let naming = if durability == Durability::Fsync {
            let worker = Arc::clone(parts);
            parts.pool.run(move || name(&worker, key, len_bytes, finished, origin)).await??
        } else {
            name(parts, key, len_bytes, finished, origin)?
        };
        match naming {
            Naming::Named(named) => break named,
            Naming::Overtaken => return Ok(()),
            Naming::Failed(Failure { finished: again, source })
                if disk::is_full(&source)
                    && retries.make_room(parts, parts.blocks.charge_of(len_bytes)).await =>
            {
                finished = again;
            }
            Naming::Failed(failure) => return Err(StoreError::io("name a file", failure.source)),
        }
    };
    if durability == Durability::Group {
        parts.rounds.next_round().await?;
    }
    named.book()
}

/// Names a file under a new generation.
fn name(
    parts: &Arc<Parts>,
    key: Key,
    len_bytes: u64,
    finished: Finished,
    origin: Origin,
) -> Result<Naming, StoreError> {
    let start = match finished.reservation.claim() {
        Some(claim) => parts.index.lock(|index| index.begin_publication(&key, claim)),
        None => Start::Closed,
    };
    let generation = match start {
        Start::Write(generation) => generation,
        Start::Overtaken => {
            // Never replaced: these bytes were verified and are dropped.
            parts.counters.lost_publications.add(1);
            return Ok(Naming::Overtaken);
        }
        Start::Purged => return Err(parts.cancelled_by_purge()),
        Start::Closed => return Err(StoreError::ShuttingDown),
    };
    let mut named = Named::new(parts, FileName::own(key, len_bytes, generation), false);
    named.origin = origin;
    Ok(named.take(finished).map_or_else(Naming::Failed, Naming::Named))
}

impl Named {
    /// A file to be, whose generation is given out; abandoned when dropped.
    pub(super) fn new(parts: &Arc<Parts>, file: FileName, must_sync: bool) -> Self {
        Self {
            file,
            charge: 0,
            new_shard: None,
            is_linked: false,
            must_sync,
            origin: Origin::Own,
            parts: Arc::clone(parts),
            reservation: None,
        }
    }

    /// Gives the file its name.
    pub(super) fn take(mut self, finished: Finished) -> Result<Self, Failure> {
        if let Err(source) = self.link(&finished.file) {
            return Err(Failure { finished, source });
        }
        let Finished { file, reservation } = finished;
        // A temporary name goes before the bytes are booked as those of one file.
        drop(file);
        self.reservation = Some(reservation);
        Ok(self)
    }

    fn link(&mut self, file: &UnnamedFile) -> io::Result<()> {
        let parts = &self.parts;
        let is_durable = self.must_sync || parts.settings.durability == Durability::Fsync;
        let file_bytes = self.file.file_bytes();
        self.charge = file.settled_bytes(file_bytes, parts.blocks.charge_of(file_bytes))?;
        if is_durable {
            // Final, whatever it was: the kernel has dropped what it could not write.
            file.sync().map_err(io::Error::other)?;
        }
        let path = self.file.path();
        self.new_shard =
            link_in_shard(parts, Shard::of(&self.file.key), || parts.disk.link(file, &path))?;
        self.is_linked = true;
        if is_durable {
            sync_names(parts, Shard::of(&self.file.key))?;
        }
        Ok(())
    }

    /// Makes it visible and books it.
    fn book(self) -> Result<(), StoreError> {
        match self.origin {
            Origin::Own => self.book_as(Index::publish),
            Origin::Adopted => self.book_as(Index::publish_exposed),
        }
    }

    /// Makes it visible in the place of the generation that it is a copy of, if that is still
    /// there.
    pub(super) fn book_renewed(self, old: &Found) -> Result<(), StoreError> {
        self.book_as(|index, file, claim, charge| index.publish_renewed(old, file, claim, charge))
    }

    fn book_as(
        mut self,
        publish: impl FnOnce(&mut Index<Waker>, FileName, Claim, u64) -> Publish,
    ) -> Result<(), StoreError> {
        let claim = self.reservation.take().and_then(Reservation::into_claim);
        let Some(claim) = claim else { return Err(StoreError::ShuttingDown) };
        self.is_linked = false;
        let (file, charge) = (self.file, self.charge);
        let outcome = book_in_shard(&self.parts, Shard::of(&file.key), self.new_shard, |index| {
            publish(index, file, claim, charge)
        });
        settle(&self.parts, outcome)
    }
}

/// Buries what a publication leaves over.
fn settle(parts: &Parts, outcome: Publish) -> Result<(), StoreError> {
    match outcome {
        Publish::Inserted => {}
        Publish::Replaced(older) => parts.bury(vec![older]),
        Publish::Lost(own) => {
            parts.counters.lost_publications.add(1);
            parts.bury(vec![own]);
        }
        Publish::Purged(own) => {
            parts.bury(vec![own]);
            return Err(parts.cancelled_by_purge());
        }
        Publish::Closed(own) => {
            parts.bury(vec![own]);
            return Err(StoreError::ShuttingDown);
        }
    }
    parts.counters.publications.add(1);
    if parts.settings.has_entry_limit {
        parts.evict_over_count();
    }
    Ok(())
}

/// Links a file into a shard; makes the directory, and returns the shard, when this is the first
/// file in it.
pub(super) fn link_in_shard(
    parts: &Parts,
    shard: Shard,
    link: impl Fn() -> io::Result<()>,
) -> io::Result<Option<Shard>> {
    match link() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parts.directory_sizes.exclusive(shard, || {
                parts.make_shard(shard)?;
                // I3: an empty directory takes room as well.
                link().inspect_err(|_| parts.settle_directory(shard, true))?;
                Ok(Some(shard))
            })
        }
        outcome => outcome.map(|()| None),
    }
}

/// Books a file that was linked into a shard, and what its directory takes now, in one step.
pub(super) fn book_in_shard<R>(
    parts: &Parts,
    shard: Shard,
    new_shard: Option<Shard>,
    book: impl FnOnce(&mut Index<Waker>) -> R,
) -> R {
    let class_bytes = new_shard.and_then(|it| parts.disk.allocated_at(&it.class_path()).ok());
    parts.directory_sizes.measure(&parts.disk, shard, |shard_bytes| {
        parts.update(|index| {
            let outcome = book(index);
            index.settle_shard(shard, shard_bytes);
            index.settle_class(shard, class_bytes.unwrap_or_default());
            outcome
        })
    })
}

/// Puts the names in a shard on the disk, and the shard's own, which another write may have made.
pub(super) fn sync_names(parts: &Parts, shard: Shard) -> io::Result<()> {
    parts.disk.sync_directory(&shard.path())?;
    parts.disk.sync_directory(&shard.class_path())
}
