//! Reading a value from its file.

use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{BUFFER_BYTES, Buffer};
use super::checksum::Checksum;
use super::disk::{Cached, Look, ReadFile};
use super::exposure::{self, Checked};
use super::flights::Outcome;
use super::index::{Found, Use};
use super::layout::RESULT_TRAILER_BYTES;
use super::loader;
use super::options::VerifyOnRead;
use super::pins;
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

/// Times that an entry may turn out to be no good, or leave and come again, during one call.
const MAX_ROUNDS: usize = 4;

/// How a read makes sure of its bytes.
#[derive(Debug)]
enum Check {
    /// They are known to be right.
    None,
    /// It covers the value whole and hashes it on the way.
    OnTheWay(Checksum),
    /// It covers a part; the whole is hashed beside it.
    Beside(Outcome<bool>),
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
        // Most entries are still there and nothing has become free.
        if self.shared.parts.index.lock(|index| index.close_reader(&self.found)) {
            self.shared.parts.update(|_| ());
        }
    }
}

impl OpenEntry {
    /// Acts on the outcome of a check.
    fn conclude(&self, is_right: bool) -> Result<(), StoreError> {
        if !is_right {
            return Err(self.corrupt());
        }
        self.shared.parts.index.lock(|index| index.mark_verified(&self.found));
        Ok(())
    }

    /// Whether the entry is there and no suspect: one that hashed right may have become one since.
    fn is_trusted(&self) -> bool {
        let now = self.shared.parts.index.lock(|index| index.refresh(&self.found));
        now.is_some_and(|now| !now.is_doubtful())
    }

    /// Takes in what a look at its file says; false when it is no good.
    fn appraise(&mut self, look: &Look) -> bool {
        let is_exposed = exposure::is_exposed(&self.found, look);
        self.found.is_exposed = is_exposed;
        if look.len_bytes != self.found.file.file_bytes() {
            // Torn by a crash or tampered with: a miss, healed by the next upload.
            self.condemn();
            return false;
        }
        let Some(now) = self.shared.parts.appraise(&self.found, look) else { return false };
        self.found = now;
        self.found.is_exposed = is_exposed;
        true
    }

    fn corrupt(&self) -> StoreError {
        let key = self.found.file.key;
        self.shared.parts.condemn_corrupt(&self.found.file);
        StoreError::Corrupt { key: key.to_string() }
    }

    /// Takes it out for what can be seen without reading it.
    fn condemn(&self) {
        if self.found.is_exposed {
            self.shared.parts.condemn_tampered(&self.found.file);
        } else {
            self.shared.parts.condemn_corrupt(&self.found.file);
        }
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
    loader::ensure(&shared.parts, std::slice::from_ref(key)).await?;
    for _ in 0..MAX_ROUNDS {
        let Some(open) = open_entry(shared, key, Use::Touch).await? else { return Ok(None) };
        // What may be torn or changed is hashed before the first byte goes out.
        if open.entry.found.is_doubtful() {
            check_in_full(&open).await?;
            continue;
        }
        return Ok(Some(FileReader::start(open, range)));
    }
    Ok(None)
}

/// Opens the file of an entry and counts a reader.
async fn open_entry(
    shared: &Arc<Shared>,
    key: &Key,
    purpose: Use,
) -> Result<Option<Arc<OpenFile>>, StoreError> {
    // An entry can be evicted and uploaded again between look-up and open; that is rare, so a few
    // rounds either find a stable one or the key really is gone.
    for _ in 0..MAX_ROUNDS {
        let Some(found) = shared.parts.index.lock(|index| index.open(key, purpose)) else {
            return Ok(None);
        };
        let mut open = OpenEntry { found, shared: Arc::clone(shared) };
        if found.is_former() {
            drop(open);
            pins::renew_once(shared, found).await?;
            continue;
        }
        let opened = match open_file(shared, found.file.path()).await {
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                // Somebody took the right to read it away: what cannot be served is not present.
                open.condemn();
                continue;
            }
            outcome => outcome?,
        };
        match opened {
            Some(file) if open.appraise(file.look()) => {
                return Ok(Some(Arc::new(OpenFile { file, entry: open })));
            }
            Some(_) => {}
            None => shared.parts.forget(&[found.file]),
        }
    }
    Ok(None)
}

/// Hashes a value unless that has been done; false when it has left or is not what it should be.
pub(super) async fn verify(shared: &Arc<Shared>, key: &Key) -> Result<bool, StoreError> {
    match open_entry(shared, key, Use::Touch).await? {
        Some(open) if open.entry.found.is_verified => Ok(true),
        Some(open) => check_in_full(&open).await,
        None => Ok(false),
    }
}

/// Hashes what the disk has of an entry; a mismatch removes it.
pub(super) async fn verify_on_disk(
    shared: &Arc<Shared>,
    found: &Found,
) -> Result<bool, StoreError> {
    let key = &found.file.key;
    let Some(open) = open_entry(shared, key, Use::Look).await? else { return Ok(false) };
    let worker = Arc::clone(&open);
    // Or the hash would be of what is in memory.
    let dropped = shared.parts.pool.run(move || worker.file.drop_cached()).await?;
    dropped.map_err(|error| StoreError::io("read a blob", error))?;
    check_in_full(&open).await
}

/// Waits for a check of the whole file, which all who want one share; false when the entry has
/// left, or has become a suspect while that check was under way.
async fn check_in_full(open: &Arc<OpenFile>) -> Result<bool, StoreError> {
    let is_right = check_beside(open).wait().await.ok_or_else(check_failed)?;
    Ok(is_right && open.entry.is_trusted())
}

fn check_failed() -> StoreError {
    StoreError::Io {
        operation: "check a file",
        source: std::io::Error::other("it could not be read"),
    }
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
        let needs_check = match open.entry.shared.parts.settings.verify_on_read {
            // What stands for a blob bears checksums of its own, for each of its parts.
            _ if key.is_derived() => false,
            // A result is small and checked each time.
            _ if key.kind == Kind::ActionResult => true,
            // What a failed sync has dropped is right only as long as it is in memory.
            VerifyOnRead::First => {
                !found.is_verified || open.entry.shared.parts.rounds.have_failed()
            }
            VerifyOnRead::Always => true,
            VerifyOnRead::Never => false,
        };
        let check = if !needs_check || remaining_bytes == 0 {
            Check::None
        } else if remaining_bytes == len {
            Check::OnTheWay(Checksum::new(&key))
        } else {
            Check::Beside(check_beside(&open))
        };
        Self { open, offset: range.offset, remaining_bytes, check }
    }

    /// Length of the whole value.
    pub(super) fn len_bytes(&self) -> u64 {
        self.open.entry.found.file.len_bytes
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
            Check::Beside(outcome) => {
                let is_right = outcome.wait().await.ok_or_else(check_failed)?;
                Ok(Proof::Checked(is_right))
            }
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
fn check_beside(open: &Arc<OpenFile>) -> Outcome<bool> {
    let shared = &open.entry.shared;
    let (outcome, duty) = shared.checks.join(open.entry.found.file.generation);
    if let Some(duty) = duty {
        let open = Arc::clone(open);
        sync::spawn("check a whole file", async move {
            let shared = Arc::clone(&open.entry.shared);
            let _permit = shared.check_permits.acquire().await;
            let checked = check_whole(open).await;
            shared.checks.end(duty, checked.ok());
        });
    }
    outcome
}

/// Hashes a whole file and acts on what it finds.
async fn check_whole(open: Arc<OpenFile>) -> Result<bool, StoreError> {
    let worker = Arc::clone(&open);
    let job = move || {
        let mut buffer = worker.entry.shared.buffers.take();
        let parts = &worker.entry.shared.parts;
        let checked = parts.check(&worker.file, &worker.entry.found, buffer.space(BUFFER_BYTES))?;
        // A mismatch removes the entry at once, whoever waits for it.
        match checked {
            Checked::Right(found) => parts.index.lock(|index| index.mark_verified(&found)),
            Checked::Wrong => drop(worker.entry.corrupt()),
            Checked::Tampered => parts.condemn_tampered(&worker.entry.found.file),
        }
        Ok(matches!(checked, Checked::Right(_)))
    };
    let outcome = open.entry.shared.parts.pool.run(job).await?;
    outcome.map_err(|error| StoreError::io("read a blob", error))
}
