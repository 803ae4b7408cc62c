//! A value on its way into the store.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::checksum::Checksum;
use super::disk::{FileMode, UnnamedFile};
use super::index::Publish;
use super::layout::{FileName, Shard};
use super::pool::Pool;
use super::reservation::Reservation;
use super::shared::{Parts, Shared};
use crate::store::{Key, Kind, StoreError};

/// Work up to this is done where it arrives; a hop to a blocking thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

/// A file up to this is freed where it is dropped.
const INLINE_FREE_BYTES: u64 = 8 << 20;

/// A streamed upload: space reserved, bytes hashed as they are written, nothing visible (I5).
#[derive(Debug)]
pub struct FilesystemUpload {
    key: Key,
    size_bytes: u64,
    written_bytes: u64,
    /// `None` while a write is under way and after one was dropped or failed.
    sink: Option<Sink>,
    shared: Arc<Shared>,
}

/// What a write adds to; the file goes before the reservation is given back.
#[derive(Debug)]
struct Sink {
    file: UnnamedFile,
    checksum: Checksum,
    reservation: Reservation,
}

impl Sink {
    fn write(&mut self, data: &[u8], offset: u64) -> Result<(), StoreError> {
        self.checksum.update(data);
        self.file.write_at(data, offset).map_err(|error| StoreError::io("write a blob", error))
    }
}

impl Drop for FilesystemUpload {
    // Freeing a large file takes the file system milliseconds: not on a runtime's thread.
    fn drop(&mut self) {
        if self.written_bytes > INLINE_FREE_BYTES
            && let Some(sink) = self.sink.take()
        {
            Pool::detach(move || drop(sink));
        }
    }
}

impl FilesystemUpload {
    /// Opens an unnamed file for a value whose space is reserved.
    pub(super) fn new(
        shared: Arc<Shared>,
        key: Key,
        size_bytes: u64,
        reservation: Reservation,
    ) -> Result<Self, StoreError> {
        let created = shared.parts.disk.create(FileMode::Blob);
        let file = created.map_err(|error| StoreError::io("create a file", error))?;
        let sink = Some(Sink { file, checksum: Checksum::new(&key), reservation });
        Ok(Self { key, size_bytes, written_bytes: 0, sink, shared })
    }

    /// See [`crate::store::Upload::write`].
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        if received_bytes > self.size_bytes {
            self.sink = None;
            return Err(self.size_mismatch(received_bytes));
        }
        // Taken out for the duration: an upload whose write was dropped halfway is unusable,
        // and says so, rather than continue behind a gap.
        let mut sink = self.sink.take().ok_or_else(interrupted)?;
        let offset = self.written_bytes;
        let sink = if data.len() <= INLINE_BYTES {
            sink.write(&data, offset).map(|()| sink)
        } else {
            let job = move || sink.write(&data, offset).map(|()| sink);
            self.shared.parts.pool.run(job).await?
        }?;
        self.sink = Some(sink);
        self.written_bytes = received_bytes;
        Ok(())
    }

    /// See [`crate::store::Upload::written_bytes`].
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// See [`crate::store::Upload::is_resumable`].
    pub(crate) fn is_resumable(&self) -> bool {
        self.sink.is_some()
    }

    /// See [`crate::store::Upload::is_overtaken`].
    pub(crate) fn is_overtaken(&self) -> bool {
        self.key.kind == Kind::Blob && self.shared.parts.index.lock(|index| index.touch(&self.key))
    }

    /// See [`crate::store::Upload::commit`].
    pub(crate) fn commit(mut self) -> Result<(), StoreError> {
        if self.written_bytes != self.size_bytes {
            return Err(self.size_mismatch(self.written_bytes));
        }
        let Sink { file, checksum, reservation } = self.sink.take().ok_or_else(interrupted)?;
        if let Some(trailer) = checksum.seal(&self.key)? {
            let written = file.write_at(&trailer, self.size_bytes);
            written.map_err(|error| StoreError::io("write a result", error))?;
        }
        publish(&self.shared, self.key, self.size_bytes, reservation, file)
    }

    fn size_mismatch(&self, received_bytes: u64) -> StoreError {
        StoreError::SizeMismatch {
            digest: self.key.digest,
            expected_bytes: self.size_bytes,
            received_bytes,
        }
    }
}

fn interrupted() -> StoreError {
    StoreError::Io {
        operation: "continue an upload whose last write was interrupted",
        source: io::ErrorKind::Interrupted.into(),
    }
}

/// Stores bytes that are whole in memory in one step: verify, create, write, link, book.
///
/// I20: bytes are hashed on the way in, always, before they are visible.
pub(super) async fn store_whole(
    shared: &Arc<Shared>,
    key: Key,
    data: Bytes,
    reservation: Reservation,
) -> Result<(), StoreError> {
    let worker = Arc::clone(shared);
    let is_small = data.len() <= INLINE_BYTES;
    let job = move || {
        let trailer = checksum_of(&key, &data).seal(&key)?;
        let created = worker.parts.disk.create(FileMode::Blob);
        let file = created.map_err(|error| StoreError::io("create a file", error))?;
        let written = file.write_at(&data, 0).and_then(|()| match trailer {
            Some(trailer) => file.write_at(&trailer, data.len() as u64),
            None => Ok(()),
        });
        written.map_err(|error| StoreError::io("write a value", error))?;
        publish(&worker, key, data.len() as u64, reservation, file)
    };
    if is_small { job() } else { shared.parts.pool.run(job).await? }
}

/// Verifies bytes whose blob is there already and need not be stored.
pub(super) async fn verify_whole(shared: &Shared, key: Key, data: Bytes) -> Result<(), StoreError> {
    let is_small = data.len() <= INLINE_BYTES;
    let job = move || checksum_of(&key, &data).seal(&key).map(|_| ());
    if is_small { job() } else { shared.parts.pool.run(job).await? }
}

fn checksum_of(key: &Key, data: &[u8]) -> Checksum {
    let mut checksum = Checksum::new(key);
    checksum.update(data);
    checksum
}

/// Gives a complete, verified file its name and makes it visible, in that order (I5).
///
/// Until the booking the reservation covers the file, so at no time do the files take more than
/// the ledger says (I3); on every error the file is dropped before the reservation, which is why
/// they are parameters in this order.
fn publish(
    shared: &Arc<Shared>,
    key: Key,
    len_bytes: u64,
    reservation: Reservation,
    file: UnnamedFile,
) -> Result<(), StoreError> {
    let parts = &shared.parts;
    if key.kind == Kind::Blob && parts.index.lock(|index| index.touch(&key)) {
        // Never replaced: these bytes were verified and are dropped, file before reservation.
        parts.counters.lost_publications.add(1);
        drop(file);
        drop(reservation);
        return Ok(());
    }
    let name = FileName { key, len_bytes, generation: shared.next_generation() };
    let expected = parts.blocks.charge_of(name.file_bytes());
    let charge = file
        .settled_bytes(name.file_bytes(), expected)
        .map_err(|error| StoreError::io("stat a new file", error))?;
    let new_shard =
        link(parts, &file, &name).map_err(|error| StoreError::io("name a file", error))?;
    // A temporary name goes before the bytes are booked as those of one file.
    drop(file);
    let class_bytes = new_shard.and_then(|it| parts.disk.allocated_at(&it.class_path()).ok());
    let folder = Shard::of(&key);
    let outcome = parts.directory_sizes.measure(&parts.disk, folder, |folder_bytes| {
        parts.update(|index| {
            let outcome = index.publish(name, reservation.into_bytes(), charge);
            index.settle_shard(folder, folder_bytes);
            index.settle_class(folder, class_bytes.unwrap_or_default());
            outcome
        })
    });
    match outcome {
        Publish::Inserted => {}
        Publish::Replaced(older) => shared.parts.bury(vec![older]),
        Publish::Lost(own) => {
            parts.counters.lost_publications.add(1);
            shared.parts.bury(vec![own]);
        }
    }
    Ok(())
}

/// Links the file; makes its shard's directory, and returns it, when this is the first file in it.
fn link(parts: &Parts, file: &UnnamedFile, name: &FileName) -> io::Result<Option<Shard>> {
    match parts.disk.link(file, &name.path()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = Shard::of(&name.key);
            parts.directory_sizes.exclusive(folder, || {
                parts.make_shard(folder)?;
                parts.disk.link(file, &name.path())?;
                Ok(Some(folder))
            })
        }
        outcome => outcome.map(|()| None),
    }
}
