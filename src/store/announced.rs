//! What comes, compared with what was announced.

use super::{Key, StoreError};
use crate::digest::{Digest, HASH_BYTES};

/// How many bytes are to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    digest: Digest,
    pub(super) size_bytes: u64,
    /// Whether fewer are as good, as for a [derived](Key::derived) value.
    is_most: bool,
}

impl Announced {
    pub(super) fn of(key: &Key, size_bytes: u64) -> Self {
        Self { digest: key.digest, size_bytes, is_most: key.is_derived() }
    }

    pub(super) fn of_blob(digest: Digest) -> Self {
        Self { digest, size_bytes: digest.size_bytes, is_most: false }
    }

    /// Refuses more bytes than were announced (reapi 68).
    pub(super) fn check_more(&self, received_bytes: u64) -> Result<(), StoreError> {
        if received_bytes > self.size_bytes { self.refuse(received_bytes) } else { Ok(()) }
    }

    /// Refuses another number of bytes than was announced.
    pub(super) fn check_end(&self, received_bytes: u64) -> Result<(), StoreError> {
        let is_right = received_bytes == self.size_bytes || self.is_most;
        if is_right { Ok(()) } else { self.refuse(received_bytes) }
    }

    fn refuse(&self, received_bytes: u64) -> Result<(), StoreError> {
        let (digest, expected_bytes) = (self.digest, self.size_bytes);
        Err(StoreError::SizeMismatch { digest, expected_bytes, received_bytes })
    }
}

/// Refuses another number of bytes than the digest's.
pub(super) fn check_size(digest: Digest, received_bytes: u64) -> Result<(), StoreError> {
    Announced::of_blob(digest).check_end(received_bytes)
}

/// Refuses bytes with another hash than their digest's.
pub(super) fn check_hash(digest: Digest, actual: [u8; HASH_BYTES]) -> Result<(), StoreError> {
    if actual == digest.hash {
        return Ok(());
    }
    Err(StoreError::HashMismatch { expected: digest, actual: const_hex::encode(actual) })
}

/// Refuses more than a store takes.
pub(super) fn check_limit(size_bytes: u64, limit_bytes: u64) -> Result<(), StoreError> {
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { size_bytes, limit_bytes });
    }
    Ok(())
}

/// Why an upload does not go on behind a gap.
pub(super) fn interrupted() -> StoreError {
    StoreError::Io {
        operation: "continue an upload whose last write was interrupted",
        source: std::io::ErrorKind::Interrupted.into(),
    }
}
