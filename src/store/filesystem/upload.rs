//! A value on its way into the store.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::checksum::Checksum;
use super::disk::{self, FileMode, UnnamedFile};
use super::full_disk::Retries;
use super::pool::Pool;
use super::publication::{Finished, Origin, publish};
use super::reservation::{Reservation, reserve};
use super::shared::Shared;
use crate::store::announced::{Announced, interrupted};
use crate::store::{Key, Kind, StoreError};

/// Work up to this is done where it arrives; a hop to a blocking thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

/// A file up to this is freed where it is dropped.
const INLINE_FREE_BYTES: u64 = 8 << 20;

/// A streamed upload: space reserved, bytes hashed as they are written, nothing visible (I5).
#[derive(Debug)]
pub struct FilesystemUpload {
    key: Key,
    announced: Announced,
    written_bytes: u64,
    /// `None` while a write is under way and after one was dropped or failed.
    sink: Option<Sink>,
    shared: Arc<Shared>,
}

/// What a write adds to; the file goes before the reservation is given back.
#[derive(Debug)]
struct Sink {
    checksum: Checksum,
    finished: Finished,
}

impl Sink {
    /// After a failure the same may be tried again.
    fn write(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.finished.file.write_at(data, offset)?;
        self.checksum.update(data);
        Ok(())
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
    pub(super) async fn open(
        shared: Arc<Shared>,
        key: Key,
        size_bytes: u64,
        reservation: Reservation,
    ) -> Result<Self, StoreError> {
        let file = create(&shared, size_bytes).await?;
        let finished = Finished { file, reservation };
        let sink = Some(Sink { checksum: Checksum::new(&key), finished });
        let announced = Announced::of(&key, size_bytes);
        Ok(Self { key, announced, written_bytes: 0, sink, shared })
    }

    /// See [`crate::store::Upload::write`].
    pub(crate) async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        // Taken out for the duration: an upload whose write was dropped halfway is unusable,
        // and says so, rather than continue behind a gap.
        let sink = self.sink.take().ok_or_else(interrupted)?;
        self.announced.check_more(received_bytes)?;
        let (sink, mut outcome) = self.write_once(sink, data.clone()).await?;
        let (mut sink, mut retries) = (sink, Retries::default());
        let missing_bytes = self.announced.size_bytes - self.written_bytes;
        while outcome.as_ref().is_err_and(disk::is_full)
            && retries.make_room(&self.shared.parts, missing_bytes).await
        {
            (sink, outcome) = self.write_once(sink, data.clone()).await?;
        }
        outcome.map_err(|error| StoreError::io("write a blob", error))?;
        self.sink = Some(sink);
        self.written_bytes = received_bytes;
        Ok(())
    }

    async fn write_once(
        &self,
        mut sink: Sink,
        data: Bytes,
    ) -> Result<(Sink, io::Result<()>), StoreError> {
        let offset = self.written_bytes;
        let is_small = data.len() <= INLINE_BYTES;
        let job = move || {
            let outcome = sink.write(&data, offset);
            (sink, outcome)
        };
        if is_small { Ok(job()) } else { self.shared.parts.pool.run(job).await }
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
        self.key.kind == Kind::Blob && self.shared.parts.has_whole(&self.key)
    }

    /// See [`crate::store::Upload::commit`].
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let len_bytes = self.written_bytes;
        self.announced.check_end(len_bytes)?;
        let Sink { checksum, finished } = self.sink.take().ok_or_else(interrupted)?;
        if let Some(trailer) = checksum.seal(&self.key)? {
            let written = finished.file.write_at(&trailer, len_bytes);
            written.map_err(|error| StoreError::io("write a result", error))?;
        }
        publish(&self.shared.parts, self.key, len_bytes, finished, Origin::Own).await?;
        self.shared.note_write(&self.key, len_bytes);
        Ok(())
    }
}

async fn create(shared: &Arc<Shared>, size_bytes: u64) -> Result<UnnamedFile, StoreError> {
    let parts = &shared.parts;
    let (mut created, mut retries) = (parts.disk.create(FileMode::Blob), Retries::default());
    while created.as_ref().is_err_and(disk::is_full) && retries.make_room(parts, size_bytes).await {
        created = parts.disk.create(FileMode::Blob);
    }
    created.map_err(|error| StoreError::io("create a file", error))
}

/// Stores bytes that are whole in memory in one step: verify, create, write, link, book.
///
/// I20: bytes are hashed on the way in, always, before they are visible.
pub(super) async fn store_whole(
    shared: &Arc<Shared>,
    key: Key,
    data: Bytes,
) -> Result<(), StoreError> {
    let parts = &shared.parts;
    let len_bytes = data.len() as u64;
    let mut retries = Retries::default();
    let finished = loop {
        let reservation = reserve(parts, key.kind, len_bytes).await?;
        match write_whole(shared, key, data.clone(), reservation).await {
            Err(StoreError::Io { source, .. })
                if disk::is_full(&source) && retries.make_room(parts, len_bytes).await => {}
            outcome => break outcome,
        }
    };
    let finished = finished.map_err(StoreError::without_full_disk)?;
    publish(parts, key, len_bytes, finished, Origin::Own).await
}

async fn write_whole(
    shared: &Arc<Shared>,
    key: Key,
    data: Bytes,
    reservation: Reservation,
) -> Result<Finished, StoreError> {
    let worker = Arc::clone(shared);
    let is_small = data.len() <= INLINE_BYTES;
    let job = move || {
        let trailer = checksum_of(&key, &data).seal(&key)?;
        let failed = |source| StoreError::Io { operation: "write a value", source };
        let file = worker.parts.disk.create(FileMode::Blob).map_err(failed)?;
        let finished = Finished { file, reservation };
        finished.file.write_at(&data, 0).map_err(failed)?;
        if let Some(trailer) = trailer {
            finished.file.write_at(&trailer, data.len() as u64).map_err(failed)?;
        }
        Ok(finished)
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
