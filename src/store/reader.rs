//! Reading a value.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{StoreError, filesystem::FileReader};

/// Which part of a value to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub offset: u64,
    /// At most this many bytes; `None` reads to the end.
    pub limit: Option<u64>,
}

impl ByteRange {
    /// The whole value.
    pub const ALL: Self = Self { offset: 0, limit: None };

    /// The number of bytes this selects of a value of `size_bytes`.
    pub fn len_within(self, size_bytes: u64) -> u64 {
        let rest = size_bytes.saturating_sub(self.offset);
        self.limit.map_or(rest, |limit| limit.min(rest))
    }
}

/// Where the bytes of a [`BlobReader::Stream`] come from.
#[async_trait]
pub trait BlobSource: Send + Sync + std::fmt::Debug {
    /// See [`BlobReader::remaining_bytes`].
    fn remaining_bytes(&self) -> u64;

    /// See [`BlobReader::next`].
    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError>;
}

/// A value being read. Pulled, never pushed: a slow client holds one chunk, not the blob.
///
/// An enum rather than a trait object: the stores that most reads end in cost no dynamic call per
/// chunk.
#[derive(Debug)]
pub enum BlobReader {
    /// From a file of the filesystem store.
    File(FileReader),
    /// From memory.
    Bytes(Bytes),
    /// From anything else.
    Stream(Box<dyn BlobSource>),
}

impl BlobReader {
    /// Bytes that are still to come.
    pub fn remaining_bytes(&self) -> u64 {
        match self {
            Self::File(reader) => reader.remaining_bytes(),
            Self::Bytes(data) => data.len() as u64,
            Self::Stream(source) => source.remaining_bytes(),
        }
    }

    /// The next chunk of at most `max_bytes`; `None` at the end.
    ///
    /// A reader that ends with `None` has delivered exactly the stored bytes (I20); corruption is
    /// [`StoreError::Corrupt`] before the last chunk is handed out. Cancel safe.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::File(reader) => reader.next(max_bytes).await,
            Self::Bytes(data) if data.is_empty() => Ok(None),
            Self::Bytes(data) => Ok(Some(data.split_to(data.len().min(max_bytes)))),
            Self::Stream(source) => source.next(max_bytes).await,
        }
    }

    /// The rest as one buffer. The caller bounds the size beforehand.
    pub async fn read_all(mut self) -> Result<Bytes, StoreError> {
        const CHUNK_BYTES: usize = 4 << 20;
        let Some(first) = self.next(CHUNK_BYTES).await? else {
            return Ok(Bytes::new());
        };
        // Most values fit one chunk and are handed on without a copy.
        if self.remaining_bytes() == 0 {
            // I20: the end must be asked for, so that a late mismatch is still reported.
            return match self.next(CHUNK_BYTES).await? {
                None => Ok(first),
                Some(rest) => Ok([first, rest].concat().into()),
            };
        }
        let rest = usize::try_from(self.remaining_bytes()).unwrap_or_default();
        let mut all = BytesMut::with_capacity(first.len().saturating_add(rest));
        all.extend_from_slice(&first);
        while let Some(chunk) = self.next(CHUNK_BYTES).await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}
