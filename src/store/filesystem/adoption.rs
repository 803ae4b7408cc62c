//! How a file that somebody gives up becomes a blob's own, without a copy.
//!
//! Whoever may still write to it is the danger. So it is made the store's and read-only first;
//! then nobody may be seen to have it open for writing; then it is stamped, hashed through the
//! open descriptor, and looked at once more. From the first moment its entry counts as exposed:
//! a writer that could not be seen, in another container for example, is found by the next open
//! of the blob, as one that writes through a link is ([`super::exposure`]).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::checksum::check_file;
use super::disk::{FileMode, ForeignFile};
use super::layout::{FileName, Generation};
use super::publication::{Finished, Origin, publish};
use super::reservation::{Reservation, reserve};
use super::shared::{Parts, Shared};
use super::sync;
use crate::store::{Key, StoreError};

/// Files below this are copied sooner than adopted.
const LEAST_BYTES: u64 = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// Adopts a file; false when that cannot be, and the file is what it was, as far as possible.
///
/// Cancel safe: what has begun goes on to its end.
pub(super) async fn adopt(
    shared: &Arc<Shared>,
    key: &Key,
    file: OwnedFd,
) -> Result<bool, StoreError> {
    if key.digest.size_bytes < LEAST_BYTES {
        return Ok(false);
    }
    // I2: room first.
    let reservation = reserve(&shared.parts, key.kind, key.digest.size_bytes).await?;
    let (report, outcome) = oneshot::channel();
    let (worker, key) = (Arc::clone(shared), *key);
    sync::spawn("adopt a file", async move {
        drop(report.send(adopt_into(&worker, &key, file, reservation).await));
    });
    outcome.await.unwrap_or(Err(StoreError::ShuttingDown))
}

async fn adopt_into(
    shared: &Arc<Shared>,
    key: &Key,
    file: OwnedFd,
    reservation: Reservation,
) -> Result<bool, StoreError> {
    let parts = &shared.parts;
    let (worker, key) = (Arc::clone(parts), *key);
    let taken = parts.pool.run(move || take_over(&worker, &key, file)).await?;
    let Some(foreign) = taken.map_err(failed)? else { return Ok(false) };
    let len_bytes = key.digest.size_bytes;
    let unnamed = match foreign.unnamed() {
        Ok(unnamed) => unnamed,
        Err(error) => {
            parts.pool.run(move || foreign.give_back()).await?;
            return Err(failed(error));
        }
    };
    let finished = Finished { file: unnamed, reservation };
    if let Err(error) = publish(parts, key, len_bytes, finished, Origin::Adopted).await {
        parts.pool.run(move || foreign.give_back()).await?;
        return if is_unfit(&error) { Ok(false) } else { Err(error) };
    }
    shared.note_write(&key, len_bytes);
    Ok(true)
}

fn failed(source: io::Error) -> StoreError {
    StoreError::io("adopt a file", source)
}

/// Whether it is the file that cannot be linked into the store: it is on another mount, or marked
/// as one that cannot have links.
fn is_unfit(error: &StoreError) -> bool {
    let unfit = [io::ErrorKind::CrossesDevices, io::ErrorKind::PermissionDenied];
    matches!(error, StoreError::Io { source, .. } if unfit.contains(&source.kind()))
}

/// Makes the file the store's and hashes it; `None` when it is not fit, and given back. Blocking.
fn take_over(parts: &Parts, key: &Key, file: OwnedFd) -> io::Result<Option<ForeignFile>> {
    let len_bytes = key.digest.size_bytes;
    let most_bytes = parts.blocks.charge_of(len_bytes);
    let Some(foreign) = parts.disk.inspect(file, len_bytes, most_bytes)? else { return Ok(None) };
    match is_right(&foreign, key) {
        Ok(true) => Ok(Some(foreign)),
        Ok(false) => {
            foreign.give_back();
            Ok(None)
        }
        Err(error) => {
            foreign.give_back();
            Err(error)
        }
    }
}

/// Whether the bytes are the blob's, and nobody has changed them or named them meanwhile.
fn is_right(foreign: &ForeignFile, key: &Key) -> io::Result<bool> {
    if !foreign.take_over()? {
        return Ok(false);
    }
    let len_bytes = key.digest.size_bytes;
    let file = foreign.read()?;
    // Its generation is given out when it is named.
    let name = FileName::own(*key, len_bytes, Generation(0));
    if !check_file(&file, &name, &mut vec![0; READ_BYTES], |_, _| Ok(()))? {
        return Ok(false);
    }
    let look = file.look_again()?;
    Ok(look.is_as_stamped(FileMode::Blob, len_bytes) && !look.has_other_names)
}
