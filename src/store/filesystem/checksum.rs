//! How bytes are known to be those that were meant: on the way in and on the way out (I20).
//!
//! A blob hashes to its digest. An action result does not, so its file ends with a checksum over
//! its key and its bytes; a result that was stored under another key is as wrong as a changed one.

use std::io;

use super::disk::ReadFile;
use super::layout::{FileName, RESULT_TRAILER_BYTES};
use crate::digest::Hasher;
use crate::store::announced::check_hash;
use crate::store::{Key, Kind, StoreError};

/// Separates these checksums from every other use of BLAKE3.
const CONTEXT: &str = "castellan 2026 action result on disk";

/// The end of an action result's file.
pub(super) type Trailer = [u8; RESULT_TRAILER_BYTES];

/// A check under way over the bytes of one value.
#[derive(Debug)]
pub(super) enum Checksum {
    /// Of a blob.
    Blob(Hasher),
    /// Of an action result. Boxed: the state is 2 KiB.
    Result(Box<blake3::Hasher>),
}

impl Checksum {
    pub(super) fn new(key: &Key) -> Self {
        match key.kind {
            Kind::Blob => Self::Blob(Hasher::new(key.digest.function)),
            Kind::ActionResult => {
                let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
                hasher.update(&key.namespace.0);
                hasher.update(key.digest.function.name().as_bytes());
                hasher.update(&key.digest.hash);
                hasher.update(&key.digest.size_bytes.to_le_bytes());
                Self::Result(Box::new(hasher))
            }
        }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Blob(hasher) => hasher.update(data),
            Self::Result(hasher) => {
                hasher.update(data);
            }
        }
    }

    /// Ends the way in: refuses a blob that is not its digest's, or gives what a result's file
    /// ends with.
    pub(super) fn seal(self, key: &Key) -> Result<Option<Trailer>, StoreError> {
        match self {
            Self::Result(hasher) => Ok(Some(trailer(&hasher))),
            Self::Blob(hasher) => check_hash(key.digest, hasher.finish()).map(|()| None),
        }
    }

    /// Ends the way out: whether the bytes are those of `key`. `stored` is the end of the file,
    /// for a result.
    pub(super) fn matches(self, key: &Key, stored: Option<&[u8]>) -> bool {
        match self {
            Self::Blob(hasher) => hasher.finish() == key.digest.hash,
            Self::Result(hasher) => stored == Some(trailer(&hasher).as_slice()),
        }
    }
}

/// Reads a whole file piece by piece and says whether its bytes are those that its name promises.
/// Each piece of the value goes through `take`, with its offset. Blocking.
pub(super) fn check_file(
    file: &ReadFile,
    name: &FileName,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<bool> {
    if file.len_bytes() != name.file_bytes() {
        return Ok(false);
    }
    let mut checksum = Checksum::new(&name.key);
    let mut offset = 0;
    while offset < name.len_bytes {
        let rest = usize::try_from(name.len_bytes - offset).unwrap_or(usize::MAX);
        let want = rest.min(buffer.len());
        let space = buffer.get_mut(..want).unwrap_or_default();
        let read = file.read_full(space, offset)?;
        let piece = space.get(..read).unwrap_or_default();
        if piece.is_empty() {
            return Ok(false);
        }
        checksum.update(piece);
        take(piece, offset)?;
        offset += read as u64;
    }
    let mut stored = Trailer::default();
    let has_trailer = name.key.kind == Kind::ActionResult;
    if has_trailer {
        file.read_full(&mut stored, offset)?;
    }
    Ok(checksum.matches(&name.key, has_trailer.then_some(stored.as_slice())))
}

fn trailer(hasher: &blake3::Hasher) -> Trailer {
    let mut trailer = Trailer::default();
    hasher.finalize_xof().fill(&mut trailer);
    trailer
}
