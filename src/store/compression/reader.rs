//! A blob on its way out: fetched, checked and decompressed block by block.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::format::{ENTRY_BYTES, FRAME_BYTES, Frame, HEADER_BYTES, Header, Seal};
use super::{Shared, stored_key};
use crate::digest::Hasher;
use crate::store::{BlobReader, BlobSource, ByteRange, Key, StoreError};

/// The most that is asked of the store behind at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Stored bytes, in pieces of one's choice.
#[derive(Debug)]
struct Input {
    reader: BlobReader,
    fetched: Bytes,
    /// The beginning of a piece that goes on in bytes to be fetched.
    piece: BytesMut,
    /// How many more are likely to be wanted.
    ahead_bytes: u64,
}

impl Input {
    fn new(reader: BlobReader, ahead_bytes: u64) -> Self {
        Self { reader, fetched: Bytes::new(), piece: BytesMut::new(), ahead_bytes }
    }

    /// The next `len` bytes; `None` when there are fewer. Cancel safe, if it is called again for
    /// as many.
    async fn take(&mut self, len: usize) -> Result<Option<Bytes>, StoreError> {
        loop {
            if self.piece.is_empty() && self.fetched.len() >= len {
                return Ok(Some(self.fetched.split_to(len)));
            }
            let missing = len.saturating_sub(self.piece.len());
            let more = self.fetched.split_to(missing.min(self.fetched.len()));
            self.piece.extend_from_slice(&more);
            if self.piece.len() >= len {
                return Ok(Some(self.piece.split().freeze()));
            }
            let missing = len - self.piece.len();
            let ahead = usize::try_from(self.ahead_bytes).unwrap_or(PIECE_BYTES);
            let ask = ahead.min(PIECE_BYTES).max(missing);
            let Some(fetched) = self.reader.next(ask).await? else { return Ok(None) };
            self.ahead_bytes = self.ahead_bytes.saturating_sub(fetched.len() as u64);
            self.fetched = fetched;
        }
    }
}

/// Reads the header of a blob whose size need not be known; `None` when the blob is absent or its
/// header has changed.
pub(super) async fn read_header(
    shared: &Arc<Shared>,
    key: &Key,
) -> Result<Option<Header>, StoreError> {
    let range = ByteRange { offset: 0, limit: Some(HEADER_BYTES as u64) };
    let Some(reader) = shared.backend.get(&stored_key(key), range).await? else {
        return Ok(None);
    };
    match take_header(shared, key, &mut Input::new(reader, HEADER_BYTES as u64)).await {
        Ok(header) => Ok(Some(header)),
        Err(StoreError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn take_header(shared: &Shared, key: &Key, input: &mut Input) -> Result<Header, StoreError> {
    let encoded = input.take(HEADER_BYTES).await?;
    let max_block_bytes = shared.options.max_decode_block_bytes;
    let header = encoded.and_then(|encoded| {
        Header::parse(&encoded, key.digest.function, key.digest.hash, max_block_bytes)
    });
    match header {
        Some(header) => Ok(header),
        None => Err(shared.condemn(&stored_key(key)).await),
    }
}

/// Opens a blob; `None` when it is absent.
pub(super) async fn open(
    shared: &Arc<Shared>,
    key: &Key,
    range: ByteRange,
) -> Result<Option<BlobReader>, StoreError> {
    let stored = stored_key(key);
    let Some(reader) = shared.backend.get(&stored, ByteRange::ALL).await? else {
        return Ok(None);
    };
    let total_bytes = reader.remaining_bytes();
    // The header, and what follows if that is wanted.
    let likely = shared.header(key.digest);
    let ahead_bytes = if range.offset == 0 {
        likely.most_of(likely.blocks_in(range.len_within(key.digest.size_bytes)))
    } else {
        0
    };
    let mut input = Input::new(reader, ahead_bytes.saturating_add(HEADER_BYTES as u64));
    let header = take_header(shared, key, &mut input).await?;
    // The hash with another size is the name of no blob.
    if header.digest != key.digest {
        return Ok(None);
    }
    let remaining_bytes = range.len_within(header.digest.size_bytes);
    if remaining_bytes == 0 {
        return Ok(Some(BlobReader::Bytes(Bytes::new())));
    }
    let block_bytes = u64::from(header.block_bytes);
    let first = range.offset / block_bytes;
    let behind = header.blocks_in(range.offset.saturating_add(remaining_bytes));
    let most_bytes = header.most_of(behind.saturating_sub(first));
    if first == 0 {
        input.ahead_bytes = most_bytes.saturating_sub(input.fetched.len() as u64);
    } else {
        let Some(index) = total_bytes.checked_sub(header.index_bytes()) else {
            return Err(shared.condemn(&stored).await);
        };
        let place = Place { index, number: first, most_bytes };
        let Some(moved) = place.seek(shared, &stored).await? else { return Ok(None) };
        input = moved;
    }
    let is_whole = remaining_bytes == header.digest.size_bytes;
    Ok(Some(BlobReader::Stream(Box::new(CompressedReader {
        header,
        seal: header.seal(),
        number: first,
        frame: None,
        stored: None,
        input,
        ready: Bytes::new(),
        skip: usize::try_from(range.offset % block_bytes).unwrap_or(usize::MAX),
        remaining_bytes,
        hasher: is_whole.then(|| Hasher::new(header.digest.function)),
        unread_bytes: total_bytes.saturating_sub(HEADER_BYTES as u64),
        is_corrupt: false,
        key: stored,
        shared: Arc::clone(shared),
    }))))
}

/// Where a part is.
struct Place {
    /// Where the index begins.
    index: u64,
    /// The first block that is wanted; not the first of all.
    number: u64,
    /// The most that it takes with those that are wanted behind it.
    most_bytes: u64,
}

impl Place {
    /// Goes there; `None` when the blob has left.
    async fn seek(&self, shared: &Shared, stored: &Key) -> Result<Option<Input>, StoreError> {
        let entry_bytes = ENTRY_BYTES as u64;
        let range = ByteRange {
            offset: self.index.saturating_add((self.number - 1).saturating_mul(entry_bytes)),
            limit: Some(entry_bytes),
        };
        let Some(reader) = shared.backend.get(stored, range).await? else { return Ok(None) };
        let Some(entry) = Input::new(reader, entry_bytes).take(ENTRY_BYTES).await? else {
            return Err(shared.condemn(stored).await);
        };
        let offset = u64::from_le_bytes(entry.as_ref().try_into().unwrap_or_default());
        let limit = self.most_bytes.min(self.index.saturating_sub(offset));
        let range = ByteRange { offset, limit: Some(limit) };
        let reader = shared.backend.get(stored, range).await?;
        Ok(reader.map(|reader| Input::new(reader, limit)))
    }
}

/// A blob, or a part of it, being read.
#[derive(Debug)]
struct CompressedReader {
    header: Header,
    seal: Seal,
    /// Of the next block.
    number: u64,
    /// The next block's, once it is read.
    frame: Option<Frame>,
    /// What is stored of the next block, once it is read.
    stored: Option<Bytes>,
    input: Input,
    /// What is left of the block before.
    ready: Bytes,
    /// What to leave out of the first block.
    skip: usize,
    remaining_bytes: u64,
    /// Of a whole read.
    hasher: Option<Hasher>,
    /// What is stored behind the blocks that have been read; of a whole read.
    unread_bytes: u64,
    is_corrupt: bool,
    key: Key,
    shared: Arc<Shared>,
}

impl CompressedReader {
    /// The next block; `None` when it is not what was stored. Cancel safe.
    async fn next_block(&mut self) -> Result<Option<Bytes>, StoreError> {
        let block_len = self.header.block_len(self.number);
        let frame = if let Some(frame) = self.frame {
            frame
        } else {
            let Some(encoded) = self.input.take(FRAME_BYTES).await? else { return Ok(None) };
            let Some(frame) = Frame::parse(&encoded, block_len) else { return Ok(None) };
            *self.frame.insert(frame)
        };
        if self.stored.is_none() {
            self.stored = self.input.take(frame.stored_bytes()).await?;
        }
        let Some(stored) = self.stored.clone() else { return Ok(None) };
        let (seal, number, hasher) = (self.seal, self.number, self.hasher.clone());
        let job = move || {
            let block = seal.decode_block(number, frame, stored, block_len)?;
            let hasher = hasher.map(|mut hasher| {
                hasher.update(&block);
                hasher
            });
            Some((block, hasher))
        };
        let Some((block, hasher)) = self.shared.processors.run_sized(block_len, job).await? else {
            return Ok(None);
        };
        let read_bytes = FRAME_BYTES.saturating_add(frame.stored_bytes());
        self.unread_bytes = self.unread_bytes.saturating_sub(read_bytes as u64);
        (self.frame, self.stored, self.hasher) = (None, None, hasher);
        self.number += 1;
        Ok(self.is_right().then_some(block))
    }

    /// I20: before anything of the last block is handed out, the whole is known to be right.
    fn is_right(&mut self) -> bool {
        if self.number < self.header.blocks() {
            return true;
        }
        self.hasher.take().is_none_or(|hasher| {
            let is_complete = self.unread_bytes == self.header.index_bytes();
            is_complete && hasher.finish() == self.header.digest.hash
        })
    }
}

#[async_trait]
impl BlobSource for CompressedReader {
    fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        if self.remaining_bytes == 0 {
            return Ok(None);
        }
        if self.ready.is_empty() {
            let block = if self.is_corrupt { None } else { self.next_block().await? };
            let Some(mut block) = block else {
                // Before the wait: a dropped call must not go on behind a gap.
                let is_news = !std::mem::replace(&mut self.is_corrupt, true);
                if is_news {
                    return Err(self.shared.condemn(&self.key).await);
                }
                return Err(StoreError::Corrupt { key: Key::blob(self.key.digest).to_string() });
            };
            drop(block.split_to(self.skip.min(block.len())));
            self.skip = 0;
            let rest = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX);
            block.truncate(rest);
            self.ready = block;
        }
        let chunk = self.ready.split_to(self.ready.len().min(max_bytes.max(1)));
        self.remaining_bytes -= chunk.len() as u64;
        Ok(Some(chunk))
    }
}
