//! The bytes of one value, and where they count.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;

use super::index;
use super::room::Freed;
use super::shared::Shared;
use crate::store::{BlobReader, BlobSource, ByteRange, StoreError};

/// Bytes are kept in pieces of this size, so that what was announced takes memory only when it
/// comes, and nothing is copied once it is there. No chunk of a read is larger.
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;

/// Bytes in pieces, all of [`SEGMENT_BYTES`] but the last.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pieces: Vec<Vec<u8>>,
    len_bytes: u64,
}

impl Segments {
    /// Appends bytes of a value of which `announced_bytes` are to come in all.
    ///
    /// Copies: a few bytes must not keep the network's buffer that they came in.
    pub(super) fn append(&mut self, mut data: &[u8], announced_bytes: u64) {
        while !data.is_empty() {
            if self.pieces.last().is_none_or(|it| it.len() as u64 >= SEGMENT_BYTES) {
                let rest = announced_bytes.saturating_sub(self.len_bytes).min(SEGMENT_BYTES);
                self.pieces.push(Vec::with_capacity(usize::try_from(rest).unwrap_or_default()));
            }
            let Some(piece) = self.pieces.last_mut() else { return };
            let space = SEGMENT_BYTES.saturating_sub(piece.len() as u64);
            let fitting = data.len().min(usize::try_from(space).unwrap_or(usize::MAX));
            let Some((now, later)) = data.split_at_checked(fitting) else { return };
            piece.extend_from_slice(now);
            self.len_bytes += now.len() as u64;
            data = later;
        }
    }

    /// Gives back what was announced and has not come.
    pub(super) fn seal(&mut self) {
        self.pieces.shrink_to_fit();
        if let Some(last) = self.pieces.last_mut() {
            last.shrink_to_fit();
        }
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// What it takes, whether it is filled or not.
    #[cfg(test)]
    pub(super) fn capacity_bytes(&self) -> u64 {
        self.pieces.iter().map(|it| it.capacity() as u64).sum()
    }

    fn piece(&self, at: usize) -> &[u8] {
        self.pieces.get(at).map_or(&[], Vec::as_slice)
    }
}

/// The bytes of one value, held by the index and by readers; the last one to let go of them gives
/// the memory back first and has it booked then (I2).
#[derive(Debug)]
pub(super) struct Payload {
    segments: Segments,
    charge: u64,
    /// Of the one who counts it; of nobody when that is done otherwise.
    home: Weak<Shared>,
}

impl Payload {
    pub(super) fn new(segments: Segments, charge: u64, home: Weak<Shared>) -> Arc<Self> {
        Arc::new(Self { segments, charge, home })
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.segments.len_bytes()
    }

    /// Gives the memory back, if nobody else holds it, and leaves it to the caller to book that;
    /// false when it will be booked by the last one who does.
    pub(super) fn free(this: Arc<Self>) -> bool {
        let Some(mut payload) = Arc::into_inner(this) else { return false };
        payload.home = Weak::new();
        true
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.segments));
        if let Some(home) = self.home.upgrade() {
            let freed = Freed { bytes: self.charge, falling_bytes: 0 };
            home.update(|index| index.free(freed));
        }
    }
}

impl index::Payload for Arc<Payload> {
    fn is_held(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// A piece of a value as the owner of what is handed out of it.
struct Piece {
    payload: Arc<Payload>,
    at: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.payload.segments.piece(self.at)
    }
}

/// Reads a part of a value, without a copy. What is handed out counts until it is dropped.
pub(super) fn read(payload: Arc<Payload>, range: ByteRange) -> BlobReader {
    let remaining_bytes = range.len_within(payload.len_bytes());
    let reader = MemoryReader { payload, offset: range.offset, remaining_bytes };
    let first = reader.next_piece();
    if reader.remaining_bytes == first.len() as u64 {
        return BlobReader::Bytes(first);
    }
    BlobReader::Stream(Box::new(Pieces { reader, ready: first }))
}

/// Where a reader is; `remaining_bytes` and `offset` are those of what has not been handed out.
#[derive(Debug)]
struct MemoryReader {
    payload: Arc<Payload>,
    offset: u64,
    remaining_bytes: u64,
}

impl MemoryReader {
    /// What the piece at the offset has of what remains.
    fn next_piece(&self) -> Bytes {
        if self.remaining_bytes == 0 {
            return Bytes::new();
        }
        let at = usize::try_from(self.offset / SEGMENT_BYTES).unwrap_or(usize::MAX);
        let from = usize::try_from(self.offset % SEGMENT_BYTES).unwrap_or(usize::MAX);
        let mut piece = Bytes::from_owner(Piece { payload: Arc::clone(&self.payload), at });
        let mut piece = piece.split_off(from.min(piece.len()));
        piece.truncate(usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX));
        piece
    }
}

/// A reader of more than one piece.
#[derive(Debug)]
struct Pieces {
    reader: MemoryReader,
    /// Of the piece at the offset, what has not been handed out.
    ready: Bytes,
}

#[async_trait]
impl BlobSource for Pieces {
    fn remaining_bytes(&self) -> u64 {
        self.reader.remaining_bytes
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        if self.ready.is_empty() {
            self.ready = self.reader.next_piece();
        }
        if self.ready.is_empty() {
            return Ok(None);
        }
        let chunk = self.ready.split_to(self.ready.len().min(max_bytes.max(1)));
        self.reader.offset += chunk.len() as u64;
        self.reader.remaining_bytes -= chunk.len() as u64;
        Ok(Some(chunk))
    }
}
