//! Reading a value from its file.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{BUFFER_BYTES, Buffer};
use super::checksum::Checksum;
use super::disk::{self, Cached};
use super::index::Found;
use super::layout::RESULT_TRAILER_BYTES;
use super::shared::Shared;
use crate::shutdown;
use crate::store::{ByteRange, Key, Kind, StoreError};

/// Values up to this are checked before the first read of a part; larger ones beside it.
const CHECK_FIRST_BYTES: u64 = 1 << 20;
/// Checks beside reads that run at once.
const MAX_CHECKS: usize = 4;

/// An open value. Holds the descriptor, so eviction cannot take the bytes away, and a reader's
/// place in the index, so that the bytes stay charged until the descriptor is closed.
#[derive(Debug)]
pub struct FileReader {
    open: Arc<OpenFile>,
    offset: u64,
    remaining_bytes: u64,
    /// Present while this read covers its value whole and has to check it.
    check: Option<Checksum>,
}

/// A file and its place in the index, which end together: whoever reads the file, a blocking job
/// whose caller is gone too, keeps its bytes charged (I3).
#[derive(Debug)]
struct OpenFile {
    /// Before `entry`: the descriptor goes first, then the bytes count as free.
    file: File,
    entry: OpenEntry,
}

/// A reader's place in the index.
#[derive(Debug)]
struct OpenEntry {
    found: Found,
    shared: Arc<Shared>,
}

impl Drop for OpenEntry {
    fn drop(&mut self) {
        self.shared.parts.update(|index| index.close(&self.found));
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

    /// Acts on the outcome of a check.
    fn conclude(&self, is_right: bool) -> Result<(), StoreError> {
        if !is_right {
            return Err(self.corrupt());
        }
        self.shared.parts.index.lock(|index| index.mark_verified(&self.found));
        Ok(())
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
        let opened = match open_file(shared, found.file.path()).await {
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                // Somebody took the right to read it away: what cannot be served is not present.
                drop(open.corrupt());
                continue;
            }
            outcome => outcome?,
        };
        match opened {
            Some((file, len)) if len == found.file.file_bytes() => {
                let open = Arc::new(OpenFile { file, entry: open });
                return FileReader::start(open, range).await.map(Some);
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
    async fn start(open: Arc<OpenFile>, range: ByteRange) -> Result<Self, StoreError> {
        let found = open.entry.found;
        let len = found.file.len_bytes;
        let key = found.file.key;
        let remaining_bytes = range.len_within(len);
        // A result is small and checked each time, a blob once in the life of a process.
        let needs_check = key.kind == Kind::ActionResult || !found.verified;
        let is_whole = remaining_bytes == len;
        let check = (needs_check && is_whole).then(|| Checksum::new(&key));
        if needs_check && !is_whole && remaining_bytes > 0 && key.kind == Kind::Blob {
            if len <= CHECK_FIRST_BYTES {
                check_whole(Arc::clone(&open)).await?;
            } else {
                check_beside(&open);
            }
        }
        Ok(Self { open, offset: range.offset, remaining_bytes, check })
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
        let chunk = self.read(self.offset, want).await?;
        if let Some(check) = &mut self.check {
            check.update(&chunk);
        }
        self.offset += chunk.len() as u64;
        self.remaining_bytes -= chunk.len() as u64;
        if self.remaining_bytes == 0 {
            // I20: the last chunk is handed out only when the whole is known to be right.
            self.finish_check().await?;
        }
        Ok(Some(chunk))
    }

    async fn read(&self, offset: u64, want: usize) -> Result<Bytes, StoreError> {
        let entry = &self.open.entry;
        let mut buffer = entry.shared.buffers.take();
        let cached = disk::read_cached(&self.open.file, buffer.space(want), offset);
        match cached.map_err(|error| StoreError::io("read a blob", error))? {
            Cached::Done(0) => Err(entry.corrupt()),
            Cached::Done(read) => Ok(buffer.freeze(read)),
            Cached::WouldWait => self.read_waiting(buffer, offset, want).await,
        }
    }

    async fn read_waiting(
        &self,
        mut buffer: Buffer,
        offset: u64,
        want: usize,
    ) -> Result<Bytes, StoreError> {
        let open = Arc::clone(&self.open);
        let job = move || {
            let read = disk::read_full(&open.file, buffer.space(want), offset);
            read.map(|read| buffer.freeze(read))
        };
        let entry = &self.open.entry;
        let chunk = entry.shared.parts.pool.run(job).await?;
        let chunk = chunk.map_err(|error| StoreError::io("read a blob", error))?;
        if chunk.is_empty() { Err(entry.corrupt()) } else { Ok(chunk) }
    }

    async fn finish_check(&mut self) -> Result<(), StoreError> {
        let Some(check) = self.check.take() else {
            return Ok(());
        };
        let key = self.open.entry.found.file.key;
        let trailer = match key.kind {
            Kind::Blob => None,
            Kind::ActionResult => Some(self.read(self.offset, RESULT_TRAILER_BYTES).await?),
        };
        self.open.entry.conclude(check.matches(&key, trailer.as_deref()))
    }
}

/// Hashes a whole file. Cancel safe: the job keeps the file and its charge.
async fn check_whole(open: Arc<OpenFile>) -> Result<(), StoreError> {
    let worker = Arc::clone(&open);
    let job = move || -> std::io::Result<bool> {
        let found = worker.entry.found;
        let mut buffer = worker.entry.shared.buffers.take();
        let mut checksum = Checksum::new(&found.file.key);
        let mut offset = 0;
        loop {
            let space = buffer.space(BUFFER_BYTES);
            let read = disk::read_full(&worker.file, space, offset)?;
            checksum.update(space.get(..read).unwrap_or_default());
            offset += read as u64;
            if read == 0 || offset >= found.file.len_bytes {
                return Ok(checksum.matches(&found.file.key, None));
            }
        }
    };
    let outcome = open.entry.shared.parts.pool.run(job).await?;
    let is_right = outcome.map_err(|error| StoreError::io("read a blob", error))?;
    open.entry.conclude(is_right)
}

/// Starts the check of a large file of which a part is being read, unless one runs already: a
/// client that resumes a broken download must not wait for all of it to be read first.
fn check_beside(open: &Arc<OpenFile>) {
    let generation = open.entry.found.file.generation;
    {
        let mut checks = open.entry.shared.checks.lock();
        if checks.len() >= MAX_CHECKS || !checks.insert(generation) {
            return;
        }
    }
    let open = Arc::clone(open);
    shutdown::spawn("check beside a read", async move {
        // A mismatch has removed the entry and said so; an I/O error shows at the next read.
        drop(check_whole(Arc::clone(&open)).await);
        open.entry.shared.checks.lock().remove(&generation);
    });
}
