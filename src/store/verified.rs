//! Whole blobs from a source that is not believed, hashed on the way.
//!
//! Owns what is handed out of them, and when: the last of it waits until all of the blob has come
//! and has the digest's hash (I20).

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BlobSource, ByteRange, StoreError};
use crate::digest::{Digest, Hasher};

/// A part of a blob, or all of it, read from a source of the whole blob.
///
/// The source is asked up to its end, past the part that is wanted.
pub(super) struct Verified {
    source: Box<dyn BlobSource>,
    digest: Digest,
    wanted: Range<u64>,
    received_bytes: u64,
    delivered_bytes: u64,
    /// May be handed out.
    ready: Bytes,
    /// The last that is wanted of what has come.
    held: Bytes,
    state: State,
    mismatch: Box<dyn Fn() -> StoreError + Send + Sync>,
}

enum State {
    Hashing(Hasher),
    /// The hash was right; the source has not ended yet.
    Matched,
    Ended,
    Failed(StoreError),
}

impl Verified {
    /// Reads `range` of the blob `digest` from `source`, which begins at the blob's first byte.
    ///
    /// `mismatch` makes the error for a source with other bytes, and is asked once.
    pub(super) fn new(
        source: Box<dyn BlobSource>,
        digest: Digest,
        range: ByteRange,
        mismatch: impl Fn() -> StoreError + Send + Sync + 'static,
    ) -> Self {
        let start = range.offset.min(digest.size_bytes);
        Self {
            source,
            digest,
            wanted: start..start.saturating_add(range.len_within(digest.size_bytes)),
            received_bytes: 0,
            delivered_bytes: 0,
            ready: Bytes::new(),
            held: Bytes::new(),
            state: State::Hashing(Hasher::new(digest.function)),
            mismatch: Box::new(mismatch),
        }
    }

    /// Takes in what the source has given; `None` is its end.
    fn take_in(&mut self, chunk: Option<Bytes>) -> Result<(), StoreError> {
        let Some(chunk) = chunk else {
            if self.received_bytes == 0 && self.digest.size_bytes == 0 {
                self.match_hash()?;
            }
            return match self.state {
                State::Matched => {
                    self.state = State::Ended;
                    self.ready = std::mem::take(&mut self.held);
                    Ok(())
                }
                _ => Err(self.fail()),
            };
        };
        let from = self.received_bytes;
        self.received_bytes = from.saturating_add(chunk.len() as u64);
        if self.received_bytes > self.digest.size_bytes {
            return Err(self.fail());
        }
        if let State::Hashing(hasher) = &mut self.state {
            hasher.update(&chunk);
        }
        let part = cut(chunk, from, &self.wanted);
        if !part.is_empty() {
            self.ready = std::mem::replace(&mut self.held, part);
        }
        if self.received_bytes == self.digest.size_bytes { self.match_hash() } else { Ok(()) }
    }

    fn match_hash(&mut self) -> Result<(), StoreError> {
        let State::Hashing(hasher) = std::mem::replace(&mut self.state, State::Matched) else {
            return Ok(());
        };
        if hasher.finish() == self.digest.hash { Ok(()) } else { Err(self.fail()) }
    }

    fn fail(&mut self) -> StoreError {
        let error = (self.mismatch)();
        self.held = Bytes::new();
        self.state = State::Failed(error.duplicate());
        error
    }
}

/// The part of `chunk`, which begins at `from`, that lies within `wanted`.
fn cut(mut chunk: Bytes, from: u64, wanted: &Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at.saturating_sub(from)).unwrap_or(usize::MAX);
    let end = within(wanted.end).min(chunk.len());
    let start = within(wanted.start).min(end);
    chunk.truncate(end);
    chunk.split_off(start)
}

#[async_trait]
impl BlobSource for Verified {
    fn remaining_bytes(&self) -> u64 {
        (self.wanted.end - self.wanted.start).saturating_sub(self.delivered_bytes)
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let State::Failed(error) = &self.state {
                return Err(error.duplicate());
            }
            if !self.ready.is_empty() {
                let chunk = self.ready.split_to(self.ready.len().min(max_bytes));
                self.delivered_bytes = self.delivered_bytes.saturating_add(chunk.len() as u64);
                return Ok(Some(chunk));
            }
            if matches!(self.state, State::Ended) {
                return Ok(None);
            }
            let chunk = self.source.next(max_bytes).await?;
            self.take_in(chunk)?;
        }
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("source", &self.source)
            .field("digest", &self.digest)
            .field("wanted", &self.wanted)
            .field("received_bytes", &self.received_bytes)
            .finish_non_exhaustive()
    }
}
