//! What came, compared with what was announced: for stores that hash before the store behind them
//! could.

use super::StoreError;
use crate::digest::{Digest, HASH_BYTES};

/// Refuses bytes with another hash than their digest's.
pub(super) fn check_hash(digest: Digest, actual: [u8; HASH_BYTES]) -> Result<(), StoreError> {
    if actual == digest.hash {
        return Ok(());
    }
    Err(StoreError::HashMismatch { expected: digest, actual: const_hex::encode(actual) })
}

/// Refuses another number of bytes than the digest's.
pub(super) fn check_size(digest: Digest, received_bytes: u64) -> Result<(), StoreError> {
    let expected_bytes = digest.size_bytes;
    if received_bytes == expected_bytes {
        return Ok(());
    }
    Err(StoreError::SizeMismatch { digest, expected_bytes, received_bytes })
}

/// Refuses more bytes than the digest's.
pub(super) fn check_no_more(digest: Digest, received_bytes: u64) -> Result<(), StoreError> {
    check_size(digest, received_bytes.max(digest.size_bytes))
}

/// Why an upload does not go on behind a gap.
pub(super) fn interrupted() -> StoreError {
    StoreError::Io {
        operation: "continue an upload whose last write was interrupted",
        source: std::io::ErrorKind::Interrupted.into(),
    }
}
