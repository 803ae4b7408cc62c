//! The executable variant of a blob: a second inode with the same bytes, mode 0555.
//!
//! All holders of a link share an inode and its mode, so a blob cannot be executable for one of
//! them. The variant is made on first demand and lives exactly as long as its blob (I8): its room
//! is reserved before the copy, it is published under the generation of its blob, and whether the
//! blob is still that one is asked in the step that books the bytes (I9). Every removal of a blob
//! takes the variant with it, because there is one way out of the index.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::checksum::check_file;
use super::disk::{self, FileMode, UnnamedFile};
use super::full_disk::Retries;
use super::index::{Found, Part};
use super::layout::{LEAST_VARIANT_BYTES, Shard};
use super::mutants::{self, Mutant};
use super::pins::Pin;
use super::publication::{Finished, book_in_shard, link_in_shard, sync_names};
use super::reservation::{Reservation, reserve};
use super::shared::{Parts, Shared};
use super::sync;
use super::sync_rounds::Durability;
use crate::store::StoreError;

/// How long a variant may stay unpublished because another process has a copy of the descriptor
/// it was written through.
const WRITER_WAIT: Duration = Duration::from_secs(5);
const WRITER_PAUSE: Duration = Duration::from_millis(5);
const COPY_BYTES: usize = 1 << 20;

/// What became of making a variant: pinned, or the blob has left.
pub(super) type Made = Result<Option<Arc<Pin>>, Arc<StoreError>>;

/// Makes the variant of a blob, once for all who ask for it; `None` when the blob has left (I9).
/// As long as the result lives the blob and its variant are pinned.
///
/// Cancel safe: the work goes on for the others.
pub(super) async fn make(
    shared: &Arc<Shared>,
    blob: Found,
) -> Result<Option<Arc<Pin>>, StoreError> {
    let (mut outcome, duty) = shared.variants.join(blob.file.generation);
    if let Some(duty) = duty {
        let worker = Arc::clone(shared);
        sync::spawn("make an executable variant", async move {
            let made = make_here(&worker, blob).await;
            let made = made.map(|pin| pin.map(Arc::new)).map_err(Arc::new);
            worker.variants.end(duty, Some(made));
            worker.parts.write_ended.notify_waiters();
        });
    }
    match outcome.wait().await {
        Some(Ok(made)) => Ok(made),
        Some(Err(error)) => Err(error.duplicate()),
        None => Err(StoreError::ShuttingDown),
    }
}

async fn make_here(shared: &Arc<Shared>, blob: Found) -> Result<Option<Pin>, StoreError> {
    let parts = &shared.parts;
    // One that was made since the look that led here. While the file of one that has left may be
    // there still, none can be made: its name is taken, and its blob gone.
    let now = parts.index.lock(|index| index.refresh(&blob));
    let Some(now) = now else { return Ok(None) };
    if now.has_variant {
        let worker = Arc::clone(parts);
        let looked = move || {
            let is_good = worker.is_variant_as_left(&now.file)?;
            // Nobody else makes one meanwhile.
            if !is_good {
                worker.discard_variant(&now.file)?;
            }
            Ok(is_good)
        };
        let looked = parts.pool.run(looked).await?;
        if looked.map_err(|error| StoreError::io("look at an executable", error))? {
            return Ok(Pin::new(parts, now));
        }
        if parts.index.lock(|index| index.refresh(&blob)).is_none() {
            return Ok(None);
        }
    }
    let mut retries = Retries::default();
    loop {
        let reservation = reserve(parts, blob.file.key.kind, blob.file.len_bytes).await?;
        let (worker, found) = (Arc::clone(parts), blob);
        let written = parts.pool.run(move || write(&worker, &found, reservation)).await?;
        match written {
            Ok(Some(linked)) => return publish(parts, linked).await,
            Ok(None) => return Ok(None),
            Err(error)
                if disk::is_full(&error) && retries.make_room(parts, blob.file.len_bytes).await => {
            }
            Err(error) => return Err(StoreError::io("make an executable variant", error)),
        }
    }
}

/// A variant that has its name and is not visible yet. Dropped, it is unlinked.
struct Linked {
    parts: Arc<Parts>,
    blob: Found,
    charge: u64,
    new_shard: Option<Shard>,
    has_name: bool,
    /// Given back last.
    reservation: Option<Reservation>,
}

impl Drop for Linked {
    fn drop(&mut self) {
        let is_litter = self.has_name && !mutants::is_on(Mutant::RecheckOnlyLogs);
        if is_litter {
            let claim = self.reservation.take().and_then(Reservation::into_claim);
            self.parts.abandon(self.blob.file, Part::Variant, self.charge, claim);
        }
    }
}

/// Writes a variant and names it; `None` when the blob has left. Blocking.
fn write(parts: &Arc<Parts>, blob: &Found, reservation: Reservation) -> io::Result<Option<Linked>> {
    let finished = Finished { file: parts.disk.create(FileMode::Executable)?, reservation };
    finished.file.mark_writer()?;
    match copy(parts, blob, &finished.file) {
        Ok(true) => {}
        Ok(false) => {
            parts.condemn_corrupt(&blob.file);
            return Ok(None);
        }
        // Its file is gone: evicted meanwhile, or deleted by somebody.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            parts.forget_if_missing(&blob.file);
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let expected = parts.blocks.charge_of(blob.file.len_bytes);
    let settled = finished.file.settled_bytes(blob.file.len_bytes, expected)?;
    finished.file.stamp(FileMode::Executable)?;
    let is_durable = parts.settings.durability == Durability::Fsync;
    if is_durable {
        finished.file.sync()?;
    }
    let shard = Shard::of(&blob.file.key);
    let path = blob.file.variant_path();
    if mutants::is_on(Mutant::DeleteByFixedName) {
        parts.disk.unlink(&path)?;
    }
    let new_shard = link_in_shard(parts, shard, || parts.disk.link(&finished.file, &path))?;
    let Finished { file, reservation } = finished;
    let linked = Linked {
        parts: Arc::clone(parts),
        blob: *blob,
        charge: settled.max(LEAST_VARIANT_BYTES),
        new_shard,
        has_name: true,
        reservation: Some(reservation),
    };
    // Closed before anybody may run it.
    drop(file);
    if is_durable {
        sync_names(parts, shard)?;
    }
    Ok(Some(linked))
}

/// Copies a blob's bytes; false when they are not the blob's. Shares its blocks where the file
/// system can and the bytes are known to be right. Blocking.
pub(super) fn copy(parts: &Parts, blob: &Found, to: &UnnamedFile) -> io::Result<bool> {
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let source = parts.disk.open_file(&blob.file.path())?.ok_or_else(missing)?;
    let now = parts.appraise(blob, source.look()).unwrap_or(*blob);
    let is_trusted = now.is_verified && source.len_bytes() == blob.file.len_bytes;
    // Looked at again: what came in between has been shared too.
    if is_trusted
        && to.clone_from(&source)?
        && parts.appraise(blob, &source.look_again()?).unwrap_or(*blob).is_verified
    {
        return Ok(true);
    }
    let len_bytes = usize::try_from(source.len_bytes()).unwrap_or(COPY_BYTES);
    let mut buffer = vec![0; COPY_BYTES.min(len_bytes)];
    check_file(&source, &blob.file, &mut buffer, |piece, offset| to.write_at(piece, offset))
}

/// Waits until nobody can write to the variant, then books it if its blob is still there.
async fn publish(parts: &Arc<Parts>, mut linked: Linked) -> Result<Option<Pin>, StoreError> {
    wait_for_writers(parts, &linked).await?;
    if parts.settings.durability == Durability::Group {
        parts.rounds.next_round().await?;
    }
    let shard = Shard::of(&linked.blob.file.key);
    let (blob, charge) = (linked.blob, linked.charge);
    #[cfg(all(test, feature = "shuttle"))]
    if mutants::is_on(Mutant::CountAfterInsertion) {
        return Ok(publish_uncounted(parts, linked));
    }
    let is_booked = {
        let claim = linked.reservation.as_ref().and_then(Reservation::claim);
        let Some(claim) = claim else { return Err(StoreError::ShuttingDown) };
        // I9: the recheck and the booking are one step.
        book_in_shard(parts, shard, linked.new_shard, |index| {
            index.publish_variant(&blob, claim, charge)
        })
    };
    if !is_booked {
        parts.counters.orphaned_variants.add(1);
        return Ok(None);
    }
    linked.has_name = false;
    // The claim has been settled by the booking.
    let _settled = linked.reservation.take().and_then(Reservation::into_claim);
    Ok(Some(Pin::of_pinned(parts, blob)))
}

/// A process that was forked while the variant was written has a copy of the descriptor until it
/// runs its program, and the kernel runs no file that is open for writing (`ETXTBSY`). The mark
/// on the open file is gone when the last copy is closed.
async fn wait_for_writers(parts: &Arc<Parts>, linked: &Linked) -> Result<(), StoreError> {
    let path = linked.blob.file.variant_path();
    let mut waited = Duration::ZERO;
    loop {
        let has_writer = parts.disk.has_writer(&path);
        match has_writer {
            Ok(false) => return Ok(()),
            Ok(true) if waited < WRITER_WAIT => {
                sync::sleep(WRITER_PAUSE).await;
                waited += WRITER_PAUSE;
            }
            Ok(true) => {
                let source = io::ErrorKind::ExecutableFileBusy.into();
                return Err(StoreError::Io { operation: "publish an executable", source });
            }
            Err(error) => return Err(StoreError::io("probe an executable", error)),
        }
    }
}

/// For a mutant: see [`Mutant::CountAfterInsertion`].
#[cfg(all(test, feature = "shuttle"))]
fn publish_uncounted(parts: &Arc<Parts>, mut linked: Linked) -> Option<Pin> {
    let (blob, charge) = (linked.blob, linked.charge);
    if !parts.index.lock(|index| index.show_variant_uncounted(&blob, charge)) {
        return None;
    }
    linked.has_name = false;
    let claim = linked.reservation.take().and_then(Reservation::into_claim)?;
    let is_pinned = parts.update(|index| index.count_variant(&blob, claim, charge));
    is_pinned.then(|| Pin::of_pinned(parts, blob))
}
