//! What is in files: hashed once, and read in pieces when it has to go somewhere.

use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::caller::Stop;
use super::inventory::{Cursor, Inventory, changed, failed, refuse};
use crate::digest::{Digest, DigestFunction, Hasher};
use crate::staging::StageError;
use crate::staging::jobs::Jobs;
use crate::trees::on_disk::File;

/// Files that are hashed in one job, and bytes: then it is the turn of others.
const FILES_PER_JOB: usize = 32;
const BYTES_PER_JOB: usize = 64 << 20;
/// Bytes that are read and hashed at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Each has descriptors of its own.
const MAX_WORKERS: usize = 8;

/// What is known about a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) is_executable: bool,
}

/// What tells whether a file is another one, or has been written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// File system and number.
    pub(super) inode: (u64, u64),
    size_bytes: u64,
    mtime: (i64, i64),
    mode: u32,
}

impl Stamp {
    /// As an open file is now.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            inode: (metadata.dev(), metadata.ino()),
            size_bytes: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
        })
    }
}

/// How files are hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashing {
    pub(super) function: DigestFunction,
    /// Larger ones are refused before they are read.
    pub(super) max_blob_bytes: u64,
}

/// One of those who hash files at the same time.
struct Worker {
    inventory: Arc<Inventory>,
    cursor: Cursor,
    hashing: Hashing,
    stop: Stop,
    buffer: Vec<u8>,
    /// A file that is hashed in several jobs.
    begun: Option<Begun>,
}

/// A file of which some is hashed.
struct Begun {
    file: File,
    /// As it was before.
    stamp: Stamp,
    hasher: Hasher,
    size_bytes: u64,
}

/// Hashes all files, in their order.
pub(super) async fn hash(
    jobs: &Jobs,
    inventory: &Arc<Inventory>,
    hashing: Hashing,
    stop: &Stop,
) -> Result<Vec<Content>, StageError> {
    let parts = inventory.files.len().div_ceil(FILES_PER_JOB);
    let next = AtomicUsize::new(0);
    let workers = jobs.width().min(MAX_WORKERS).min(parts);
    let hashed = (0..workers).map(|_| Worker::run(jobs, inventory, hashing, stop, &next));
    let mut parts: Vec<_> = try_join_all(hashed).await?.into_iter().flatten().collect();
    parts.sort_unstable_by_key(|(first, _)| *first);
    Ok(parts.into_iter().flat_map(|(_, contents)| contents).collect())
}

impl Worker {
    /// Takes files as long as there are any.
    async fn run(
        jobs: &Jobs,
        inventory: &Arc<Inventory>,
        hashing: Hashing,
        stop: &Stop,
        next: &AtomicUsize,
    ) -> Result<Vec<(usize, Vec<Content>)>, StageError> {
        let mut worker = Self {
            inventory: Arc::clone(inventory),
            cursor: Cursor::new(inventory),
            hashing,
            stop: stop.clone(),
            buffer: vec![0; BUFFER_BYTES],
            begun: None,
        };
        let mut parts = Vec::new();
        loop {
            let first = next.fetch_add(FILES_PER_JOB, Ordering::Relaxed);
            let end = inventory.files.len().min(first + FILES_PER_JOB);
            if first >= end {
                return Ok(parts);
            }
            let mut contents = Vec::new();
            while first + contents.len() < end {
                let rest = first + contents.len()..end;
                let job = move || {
                    let some = worker.hash_some(rest);
                    (worker, some)
                };
                let some;
                (worker, some) = jobs.run(job).await?;
                contents.append(&mut some?);
            }
            parts.push((first, contents));
        }
    }

    /// Hashes files as far as one job goes; gives those that it has come to the end of.
    fn hash_some(&mut self, files: Range<usize>) -> Result<Vec<Content>, StageError> {
        let mut bytes_left = BYTES_PER_JOB;
        let mut contents = Vec::new();
        for at in files {
            let Some(content) = self.hash_one(at, &mut bytes_left)? else { break };
            contents.push(content);
        }
        Ok(contents)
    }

    fn begin(&mut self, at: usize) -> Result<Begun, StageError> {
        let file = self.cursor.file(at)?;
        let stamp = Stamp::of(&file)
            .map_err(|error| failed("read", self.inventory.path_of_file(at), error))?;
        let limit = self.hashing.max_blob_bytes;
        if stamp.size_bytes > limit {
            let problem = format!(
                "has {} bytes, and values over {limit} bytes are not stored",
                stamp.size_bytes
            );
            return Err(refuse(self.inventory.path_of_file(at), problem));
        }
        Ok(Begun { file, stamp, hasher: Hasher::new(self.hashing.function), size_bytes: 0 })
    }

    /// Hashes a file; `None` when another job has to go on with it.
    fn hash_one(
        &mut self,
        at: usize,
        bytes_left: &mut usize,
    ) -> Result<Option<Content>, StageError> {
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin(at)?,
        };
        let path = || self.inventory.path_of_file(at);
        let failed = |error| failed("read", path(), error);
        let before = begun.stamp;
        // One that grows as fast as it is read has an end all the same.
        while begun.size_bytes <= before.size_bytes {
            self.stop.check()?;
            if *bytes_left == 0 {
                self.begun = Some(begun);
                return Ok(None);
            }
            let len = match begun.file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            begun.hasher.update(self.buffer.get(..len).unwrap_or_default());
            begun.size_bytes += len as u64;
            *bytes_left = bytes_left.saturating_sub(len);
        }
        let Begun { file, hasher, size_bytes, .. } = begun;
        if size_bytes != before.size_bytes || Stamp::of(&file).map_err(failed)? != before {
            return Err(changed(path()));
        }
        let digest = Digest { function: self.hashing.function, hash: hasher.finish(), size_bytes };
        // The owner's bit: group and others may have less by the worker's umask.
        Ok(Some(Content { digest, is_executable: before.mode & 0o100 != 0 }))
    }
}

/// Reads a piece that must be there; `None` when the file ends before.
pub(super) fn read_piece(file: &File, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
    let mut piece = vec![0; len];
    match file.read_exact_at(&mut piece, offset) {
        Ok(()) => Ok(Some(piece.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
