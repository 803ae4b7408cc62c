//! Reading a value from its file.

use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{BUFFER_BYTES, Buffer};
use super::checks::Outcome;
use super::checksum::Checksum;
use super::disk::{Cached, ReadFile};
use super::index::Found;
use super::layout::RESULT_TRAILER_BYTES;
use super::shared::Shared;
use super::sync;
use crate::store::{ByteRange, Key, Kind, StoreError};

/// An open value. Holds the descriptor, so eviction cannot take the bytes away, and a reader's
/// place in the index, so that the bytes stay charged until the descriptor is closed.
#[derive(Debug)]
pub struct FileReader {
    open: Arc<OpenFile>,
    offset: u64,
    remaining_bytes: u64,
    check: Check,
}

/// How a read makes sure of its bytes.
#[derive(Debug)]
enum Check {
    /// They are known to be right.
    None,
    /// It covers the value whole and hashes it on the way.
    OnTheWay(Checksum),
    /// It covers a part; the whole is hashed beside it.
    Beside(Outcome),
}

/// A file and its place in the index, which end together: whoever reads the file, a blocking job
/// whose caller is gone too, keeps its bytes charged (I3).
#[derive(Debug)]
struct OpenFile {
    /// Before `entry`: the descriptor goes first, then the bytes count as free.
    file: ReadFile,
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
            Some(file) if file.len_bytes() == found.file.file_bytes() => {
                let open = Arc::new(OpenFile { file, entry: open });
                return Ok(Some(FileReader::start(open, range)));
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
async fn open_file(shared: &Shared, path: String) -> Result<Option<ReadFile>, StoreError> {
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
    fn start(open: Arc<OpenFile>, range: ByteRange) -> Self {
        let found = open.entry.found;
        let len = found.file.len_bytes;
        let key = found.file.key;
        let remaining_bytes = range.len_within(len);
        // A result is small and checked each time, a blob once in the life of a process.
        let needs_check = key.kind == Kind::ActionResult || !found.verified;
        let check = if !needs_check || remaining_bytes == 0 {
            Check::None
        } else if remaining_bytes == len {
            Check::OnTheWay(Checksum::new(&key))
        } else {
            Check::Beside(check_beside(&open))
        };
        Self { open, offset: range.offset, remaining_bytes, check }
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
        let end = self.offset + chunk.len() as u64;
        let is_last = chunk.len() as u64 == self.remaining_bytes;
        // Whatever waits is waited for before anything changes: a dropped call loses nothing.
        let proof = if is_last { self.proof(end).await? } else { Proof::Whatever };
        self.offset = end;
        self.remaining_bytes -= chunk.len() as u64;
        if let Check::OnTheWay(checksum) = &mut self.check {
            checksum.update(&chunk);
        }
        if is_last {
            // I20: the last chunk is handed out only when the whole is known to be right.
            self.conclude(&proof)?;
        }
        Ok(Some(chunk))
    }

    /// What the last chunk needs besides itself.
    async fn proof(&mut self, end: u64) -> Result<Proof, StoreError> {
        let is_result = self.open.entry.found.file.key.kind == Kind::ActionResult;
        match &mut self.check {
            Check::Beside(outcome) => Ok(Proof::Checked(outcome.wait().await?)),
            Check::OnTheWay(_) if is_result => {
                Ok(Proof::Trailer(self.read(end, RESULT_TRAILER_BYTES).await?))
            }
            Check::OnTheWay(_) | Check::None => Ok(Proof::Whatever),
        }
    }

    fn conclude(&mut self, proof: &Proof) -> Result<(), StoreError> {
        let entry = &self.open.entry;
        let key = entry.found.file.key;
        let check = std::mem::replace(&mut self.check, Check::None);
        let is_right = match (check, proof) {
            (Check::None, _) => return Ok(()),
            (Check::OnTheWay(checksum), Proof::Trailer(stored)) => {
                checksum.matches(&key, Some(stored))
            }
            (Check::OnTheWay(checksum), _) => checksum.matches(&key, None),
            (Check::Beside(_), proof) => matches!(proof, Proof::Checked(true)),
        };
        entry.conclude(is_right)
    }

    async fn read(&self, offset: u64, want: usize) -> Result<Bytes, StoreError> {
        let entry = &self.open.entry;
        let mut buffer = entry.shared.buffers.take();
        let file = &self.open.file;
        let cached = if entry.shared.parts.disk.is_memory() {
            file.read_full(buffer.space(want), offset).map(Cached::Done)
        } else {
            file.read_cached(buffer.space(want), offset)
        };
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
            let read = open.file.read_full(buffer.space(want), offset);
            read.map(|read| buffer.freeze(read))
        };
        let entry = &self.open.entry;
        let chunk = entry.shared.parts.pool.run(job).await?;
        let chunk = chunk.map_err(|error| StoreError::io("read a blob", error))?;
        if chunk.is_empty() { Err(entry.corrupt()) } else { Ok(chunk) }
    }
}

/// See [`FileReader::proof`].
enum Proof {
    /// Nothing is needed.
    Whatever,
    /// The end of an action result's file.
    Trailer(Bytes),
    /// The outcome of a check of the whole.
    Checked(bool),
}

/// Makes sure that the whole file is being hashed.
fn check_beside(open: &Arc<OpenFile>) -> Outcome {
    let shared = &open.entry.shared;
    let (outcome, duty) = shared.checks.join(open.entry.found.file.generation);
    if let Some(duty) = duty {
        let open = Arc::clone(open);
        sync::spawn("check beside a read", async move {
            let shared = Arc::clone(&open.entry.shared);
            let _permit = shared.checks.permits.acquire().await;
            let checked = check_whole(open).await;
            shared.checks.end(duty, checked.ok());
        });
    }
    outcome
}

/// Hashes a whole file and acts on what it finds.
async fn check_whole(open: Arc<OpenFile>) -> Result<bool, StoreError> {
    let worker = Arc::clone(&open);
    let job = move || -> std::io::Result<bool> {
        let found = worker.entry.found;
        let mut buffer = worker.entry.shared.buffers.take();
        let mut checksum = Checksum::new(&found.file.key);
        let mut offset = 0;
        loop {
            let space = buffer.space(BUFFER_BYTES);
            let read = worker.file.read_full(space, offset)?;
            checksum.update(space.get(..read).unwrap_or_default());
            offset += read as u64;
            if read == 0 || offset >= found.file.len_bytes {
                return Ok(checksum.matches(&found.file.key, None));
            }
        }
    };
    let outcome = open.entry.shared.parts.pool.run(job).await?;
    let is_right = outcome.map_err(|error| StoreError::io("read a blob", error))?;
    // A mismatch removes the entry at once, whoever waits for it.
    Ok(open.entry.conclude(is_right).is_ok())
}
