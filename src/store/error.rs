//! The closed set of ways a store can refuse or fail. `grpc::status` maps it to the wire.

use std::io;

use crate::digest::Digest;

/// Why a store did not do what it was asked. Absence is not among them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes do not hash to the digest they were sent under. The sender's mistake.
    #[error("the data hashes to {actual}, not to the digest {expected} it was sent under")]
    HashMismatch {
        /// The digest announced.
        expected: Digest,
        /// The hash of what came, as text.
        actual: String,
    },
    /// The bytes are more or fewer than announced. The sender's mistake.
    #[error("received {received_bytes} bytes for {digest}, whose size is {expected_bytes}")]
    SizeMismatch {
        /// The digest announced.
        digest: Digest,
        /// Bytes announced.
        expected_bytes: u64,
        /// Bytes received, counted up to the one that was too many.
        received_bytes: u64,
    },
    /// The value is over a configured limit and nothing was evicted for it.
    #[error("a value of {size_bytes} bytes is over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The value's size.
        size_bytes: u64,
        /// The limit that refused it.
        limit_bytes: u64,
    },
    /// No room could be made in time, or the disk has none.
    #[error("no space for {size_bytes} bytes: {reason}")]
    NoSpace {
        /// Bytes asked for.
        size_bytes: u64,
        /// What stands in the way.
        reason: &'static str,
    },
    /// Stored bytes are not what they were when they were stored. The entry has been removed.
    #[error("stored bytes of {key} are corrupt; the entry has been removed")]
    Corrupt {
        /// The entry, as text.
        key: String,
    },
    /// A purge came between the beginning and the end of the write. The same write, begun anew,
    /// works.
    #[error("a purge has cut this write off; it may be sent again")]
    Purged,
    /// So many purges are unfinished that no more can be begun.
    #[error("too many purges are unfinished")]
    TooManyPurges,
    /// What another server has to do was not done: it cannot be reached, is overloaded, or did not
    /// answer in time. The same may work later.
    #[error("{what}")]
    Unavailable {
        /// Which server, and what it said.
        what: String,
    },
    /// The store cannot do this at all.
    #[error("{what}")]
    Unsupported {
        /// What it cannot do.
        what: &'static str,
    },
    /// The store is stopping and takes no more work.
    #[error("the store is shutting down")]
    ShuttingDown,
    /// The file system failed.
    #[error("{operation}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Wraps a failed file operation; a full disk or quota becomes [`StoreError::NoSpace`].
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull => Self::NoSpace { size_bytes: 0, reason: "disk full" },
            io::ErrorKind::QuotaExceeded => Self::NoSpace { size_bytes: 0, reason: "quota" },
            _ => Self::Io { operation, source },
        }
    }

    /// The same error, a failure for want of disk space as what it is.
    pub(crate) fn without_full_disk(self) -> Self {
        match self {
            Self::Io { operation, source } => Self::io(operation, source),
            error => error,
        }
    }

    /// The same error once more, for each of those who waited for one outcome.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::HashMismatch { expected, actual } => {
                Self::HashMismatch { expected: *expected, actual: actual.clone() }
            }
            Self::SizeMismatch { digest, expected_bytes, received_bytes } => Self::SizeMismatch {
                digest: *digest,
                expected_bytes: *expected_bytes,
                received_bytes: *received_bytes,
            },
            Self::TooLarge { size_bytes, limit_bytes } => {
                Self::TooLarge { size_bytes: *size_bytes, limit_bytes: *limit_bytes }
            }
            Self::NoSpace { size_bytes, reason } => {
                Self::NoSpace { size_bytes: *size_bytes, reason }
            }
            Self::Corrupt { key } => Self::Corrupt { key: key.clone() },
            Self::Purged => Self::Purged,
            Self::Unavailable { what } => Self::Unavailable { what: what.clone() },
            Self::Unsupported { what } => Self::Unsupported { what },
            Self::TooManyPurges => Self::TooManyPurges,
            Self::ShuttingDown => Self::ShuttingDown,
            Self::Io { operation, source } => {
                let source = source.raw_os_error().map_or_else(
                    || io::Error::new(source.kind(), source.to_string()),
                    io::Error::from_raw_os_error,
                );
                Self::Io { operation, source }
            }
        }
    }
}
