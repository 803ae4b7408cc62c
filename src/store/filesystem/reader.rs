//! Reading a value from its file.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{BUFFER_BYTES, Buffer};
use super::disk::{self, Cached};
use super::index::Found;
use super::shared::Shared;
use crate::digest::Hasher;
use crate::store::{ByteRange, Key, Kind, StoreError};

/// An open value. Holds the descriptor, so eviction cannot take the bytes away, and a reader's
/// place in the index, so that the bytes stay charged until the descriptor is closed.
#[derive(Debug)]
pub struct FileReader {
    /// Before `open`: the descriptor goes first, then the bytes count as free.
    file: Arc<File>,
    open: OpenEntry,
    offset: u64,
    remaining_bytes: u64,
    /// Present while this read is the first of its entry and covers it whole.
    check: Option<Hasher>,
}

/// A reader's place in the index.
#[derive(Debug)]
struct OpenEntry {
    found: Found,
    shared: Arc<Shared>,
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        let parts = &self.shared.parts;
        let grants = parts.index.lock(|index| {
            index.close(&self.found);
            index.grant()
        });
        parts.deliver(grants);
    }
}

impl OpenEntry {
    /// Removes an entry that turned out to be no good, unless it is a newer one by now (I7).
    fn condemn(&self) -> bool {
        let file = self.found.file;
        let victim = self.shared.parts.index.lock(|index| index.remove(&file));
        let is_removed = victim.is_some();
        if let Some(victim) = victim {
            self.shared.parts.bury(vec![victim]);
        }
        is_removed
    }

    fn corrupt(&self) -> StoreError {
        let key = self.found.file.key;
        if self.condemn() {
            self.shared.parts.counters.corrupt_blobs.add(1);
            tracing::error!(%key, "stored bytes are corrupt, entry removed");
        }
        StoreError::Corrupt { key: key.to_string() }
    }
}

/// Opens a value; `None` when it is absent or its file is not what it should be.
///
/// Cancel safe.
pub(super) async fn open(
    shared: &Arc<Shared>,
    key: &Key,
    range: ByteRange,
) -> Result<Option<FileReader>, StoreError> {
    // An entry can be evicted and uploaded again between look-up and open; that is rare, so a few
    // rounds either find a stable one or the key really is gone.
    for _ in 0..4 {
        let Some(found) = shared.parts.index.lock(|index| index.open(key)) else {
            return Ok(None);
        };
        let open = OpenEntry { found, shared: Arc::clone(shared) };
        match open_file(shared, found.file.path()).await? {
            Some((file, len)) if len == found.file.len_bytes => {
                return FileReader::start(file, open, range).await.map(Some);
            }
            Some(_) => {
                // Torn by a crash or tampered with: a miss, healed by the next upload.
                drop(open.corrupt());
            }
            None if open.condemn() => {
                shared.parts.counters.index_file_missing.add(1);
                tracing::warn!(%key, "file of an entry is gone, entry removed");
            }
            None => {}
        }
    }
    Ok(None)
}

/// Opens where it is when the kernel has the path in memory, else on a blocking thread.
async fn open_file(shared: &Shared, path: String) -> Result<Option<(File, u64)>, StoreError> {
    let parts = &shared.parts;
    let outcome = match parts.disk.open_file_cached(&path) {
        Ok(Cached::Done(opened)) => Ok(opened),
        Ok(Cached::WouldWait) => {
            let worker = Arc::clone(parts);
            parts.pool.run(move || worker.disk.open_file(&path)).await?
        }
        Err(error) => Err(error),
    };
    outcome.map_err(|error| StoreError::io("open a blob", error))
}

impl FileReader {
    async fn start(file: File, open: OpenEntry, range: ByteRange) -> Result<Self, StoreError> {
        let len = open.found.file.len_bytes;
        let key = open.found.file.key;
        let remaining_bytes = range.len_within(len);
        let needs_check = key.kind == Kind::Blob && !open.found.verified;
        let is_whole = remaining_bytes == len;
        let check = (needs_check && is_whole).then(|| Hasher::new(key.digest.function));
        let file = Arc::new(file);
        let reader = Self { file, open, offset: range.offset, remaining_bytes, check };
        if needs_check && !is_whole && remaining_bytes > 0 {
            reader.check_whole().await?;
        }
        Ok(reader)
    }

    /// Bytes still to come.
    pub(crate) fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// See [`crate::store::BlobReader::next`].
    pub(crate) async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        if self.remaining_bytes == 0 {
            return Ok(None);
        }
        let rest = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
        let want = rest.min(max_bytes).clamp(1, BUFFER_BYTES);
        let chunk = self.read(want).await?;
        if let Some(hasher) = &mut self.check {
            hasher.update(&chunk);
        }
        self.offset += chunk.len() as u64;
        self.remaining_bytes -= chunk.len() as u64;
        if self.remaining_bytes == 0 {
            // I20: the last chunk is handed out only when the whole is known to be right.
            self.finish_check()?;
        }
        Ok(Some(chunk))
    }

    async fn read(&self, want: usize) -> Result<Bytes, StoreError> {
        let mut buffer = self.open.shared.buffers.take();
        let cached = disk::read_cached(&self.file, buffer.space(want), self.offset);
        match cached.map_err(|error| StoreError::io("read a blob", error))? {
            Cached::Done(0) => Err(self.open.corrupt()),
            Cached::Done(read) => Ok(buffer.freeze(read)),
            Cached::WouldWait => self.read_waiting(buffer, want).await,
        }
    }

    async fn read_waiting(&self, mut buffer: Buffer, want: usize) -> Result<Bytes, StoreError> {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let job = move || {
            let read = disk::read_full(&file, buffer.space(want), offset);
            read.map(|read| buffer.freeze(read))
        };
        let chunk = self.open.shared.parts.pool.run(job).await?;
        let chunk = chunk.map_err(|error| StoreError::io("read a blob", error))?;
        if chunk.is_empty() { Err(self.open.corrupt()) } else { Ok(chunk) }
    }

    fn finish_check(&mut self) -> Result<(), StoreError> {
        let Some(hasher) = self.check.take() else {
            return Ok(());
        };
        let found = self.open.found;
        if hasher.finish() != found.file.key.digest.hash {
            return Err(self.open.corrupt());
        }
        self.open.shared.parts.index.lock(|index| index.mark_verified(&found));
        Ok(())
    }

    /// Hashes the whole file before a part of it is served for the first time.
    async fn check_whole(&self) -> Result<(), StoreError> {
        let found = self.open.found;
        let file = Arc::clone(&self.file);
        let mut buffer = self.open.shared.buffers.take();
        let job = move || -> std::io::Result<bool> {
            let mut hasher = Hasher::new(found.file.key.digest.function);
            let mut offset = 0;
            loop {
                let space = buffer.space(BUFFER_BYTES);
                let read = disk::read_full(&file, space, offset)?;
                hasher.update(space.get(..read).unwrap_or_default());
                offset += read as u64;
                if read == 0 || offset >= found.file.len_bytes {
                    return Ok(hasher.finish() == found.file.key.digest.hash);
                }
            }
        };
        let outcome = self.open.shared.parts.pool.run(job).await?;
        if !outcome.map_err(|error| StoreError::io("read a blob", error))? {
            return Err(self.open.corrupt());
        }
        self.open.shared.parts.index.lock(|index| index.mark_verified(&found));
        Ok(())
    }
}
