//! A blob on its way out: its chunks in order, some fetched ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::list::List;
use super::presence::Presence;
use super::{Shared, list_key};
use crate::digest::{Digest, Hasher};
use crate::shutdown;
use crate::store::{BlobReader, BlobSource, BlobStore, ByteRange, Key, StoreError};

/// Bytes that are fetched ahead, unless it is one chunk that has more; so many are fetched before
/// any is handed out.
const MAX_AHEAD_BYTES: u64 = 4 << 20;

/// A part of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    chunk: Digest,
    offset: u64,
    len_bytes: u64,
}

/// The pieces of a part of a blob, none of them empty.
fn pieces(list: &List, offset: u64, len_bytes: u64) -> VecDeque<Piece> {
    let end = offset.saturating_add(len_bytes);
    let mut pieces = VecDeque::new();
    let mut start = 0_u64;
    for chunk in list.chunks() {
        let next = start.saturating_add(chunk.size_bytes);
        let (from, to) = (offset.max(start), end.min(next));
        if from < to {
            pieces.push_back(Piece { chunk, offset: from - start, len_bytes: to - from });
        }
        start = next;
        if start >= end {
            break;
        }
    }
    pieces
}

/// A piece that is being fetched, in a task of its own: the reader's client may be slow, and what
/// a fetch waits for others may need.
#[derive(Debug)]
struct Fetch {
    piece: Piece,
    outcome: oneshot::Receiver<Result<Option<Bytes>, StoreError>>,
    task: JoinHandle<()>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fetch {
    fn begin(content: &Arc<dyn BlobStore>, piece: Piece) -> Self {
        let (report, outcome) = oneshot::channel();
        let content = Arc::clone(content);
        let task = shutdown::spawn("fetch of a chunk", async move {
            drop(report.send(fetch(&*content, piece).await));
        });
        Self { piece, outcome, task }
    }
}

/// The bytes of a piece; `None` when its chunk is absent.
async fn fetch(content: &dyn BlobStore, piece: Piece) -> Result<Option<Bytes>, StoreError> {
    let range = ByteRange { offset: piece.offset, limit: Some(piece.len_bytes) };
    let Some(reader) = content.get(&Key::blob(piece.chunk), range).await? else {
        return Ok(None);
    };
    // What has another length would be another chunk.
    if reader.remaining_bytes() != piece.len_bytes {
        return Ok(None);
    }
    let data = reader.read_all().await?;
    Ok((data.len() as u64 == piece.len_bytes).then_some(data))
}

/// Opens a blob; `None` when it, or one of the chunks that are wanted, is absent.
pub(super) async fn open(
    shared: &Arc<Shared>,
    key: &Key,
    range: ByteRange,
) -> Result<Option<BlobReader>, StoreError> {
    let Some(list) = shared.read_list(key).await?.filter(|list| list.digest == key.digest) else {
        return Ok(None);
    };
    let size_bytes = list.digest.size_bytes;
    let remaining_bytes = range.len_within(size_bytes);
    let pieces = pieces(&list, range.offset, remaining_bytes);
    let only = pieces.front().filter(|_| pieces.len() == 1).copied();
    if let Some(Piece { chunk, offset, len_bytes }) = only {
        // Whoever keeps it checks it; the only chunk of a blob has the blob's hash.
        let range = ByteRange { offset, limit: Some(len_bytes) };
        return shared.content.get(&Key::blob(chunk), range).await;
    }
    if pieces.is_empty() {
        return Ok(Some(BlobReader::Bytes(Bytes::new())));
    }
    let mut presence = Presence::default();
    for piece in &pieces {
        presence.add_chunk(&*shared.content, 0, piece.chunk).await?;
    }
    if !presence.broken(&*shared.content).await?.is_empty() {
        return Ok(None);
    }
    let is_whole = remaining_bytes == size_bytes;
    let mut reader = DedupReader {
        digest: key.digest,
        pieces,
        fetches: VecDeque::new(),
        fetched: None,
        ready: Bytes::new(),
        remaining_bytes,
        hasher: is_whole.then(|| Hasher::new(key.digest.function)),
        is_broken: false,
        shared: Arc::clone(shared),
    };
    if remaining_bytes <= MAX_AHEAD_BYTES {
        return Ok(reader.collect().await?.map(BlobReader::Bytes));
    }
    // Until the first byte is there, absence can be told.
    if !reader.fetch_next().await? {
        return Ok(None);
    }
    Ok(Some(BlobReader::Stream(Box::new(reader))))
}

/// A blob of several chunks, or a part of it, being read.
#[derive(Debug)]
struct DedupReader {
    digest: Digest,
    /// Those that are still to be fetched.
    pieces: VecDeque<Piece>,
    fetches: VecDeque<Fetch>,
    /// The next piece, before it is looked at.
    fetched: Option<Bytes>,
    /// What is left of the piece before.
    ready: Bytes,
    remaining_bytes: u64,
    /// Of a whole read.
    hasher: Option<Hasher>,
    is_broken: bool,
    shared: Arc<Shared>,
}

impl DedupReader {
    /// The whole of it, which then cannot break off; `None` when a chunk is absent.
    async fn collect(mut self) -> Result<Option<Bytes>, StoreError> {
        let mut all = BytesMut::new();
        while self.remaining_bytes > 0 {
            if !self.fetch_next().await? {
                return Ok(None);
            }
            let Some(piece) = self.next_piece().await? else {
                return Err(self.shared.condemn(&list_key(&Key::blob(self.digest))).await);
            };
            self.remaining_bytes -= piece.len() as u64;
            all.extend_from_slice(&piece);
        }
        Ok(Some(all.freeze()))
    }

    fn fetch_ahead(&mut self) {
        let mut ahead_bytes: u64 = self.fetches.iter().map(|it| it.piece.len_bytes).sum();
        while self.fetches.len() < self.shared.options.max_concurrent_fetches
            && let Some(piece) = self.pieces.pop_front_if(|piece| {
                ahead_bytes == 0 || ahead_bytes.saturating_add(piece.len_bytes) <= MAX_AHEAD_BYTES
            })
        {
            ahead_bytes = ahead_bytes.saturating_add(piece.len_bytes);
            self.fetches.push_back(Fetch::begin(&self.shared.content, piece));
        }
    }

    /// Waits for the next piece; false when its chunk is absent. Cancel safe.
    async fn fetch_next(&mut self) -> Result<bool, StoreError> {
        if self.fetched.is_some() {
            return Ok(true);
        }
        self.fetch_ahead();
        let Some(fetch) = self.fetches.front_mut() else { return Ok(false) };
        let outcome = (&mut fetch.outcome).await;
        self.fetches.pop_front();
        self.fetched = outcome.map_err(|_| StoreError::ShuttingDown)??;
        self.fetch_ahead();
        Ok(self.fetched.is_some())
    }

    /// The next piece; `None` when it is not there or wrong. Cancel safe.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        if !self.fetch_next().await? {
            return Ok(None);
        }
        let Some(piece) = self.fetched.clone() else { return Ok(None) };
        if let Some(mut hasher) = self.hasher.clone() {
            let data = piece.clone();
            let job = move || {
                hasher.update(&data);
                hasher
            };
            self.hasher = Some(self.shared.processors.run_sized(piece.len(), job).await?);
        }
        self.fetched = None;
        // I20: before anything of the last piece is handed out, the whole is known to be right.
        let is_last = piece.len() as u64 == self.remaining_bytes;
        let is_right = match self.hasher.take_if(|_| is_last) {
            Some(hasher) => hasher.finish() == self.digest.hash,
            None => true,
        };
        Ok(is_right.then_some(piece))
    }
}

#[async_trait]
impl BlobSource for DedupReader {
    fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        if self.remaining_bytes == 0 {
            return Ok(None);
        }
        if self.ready.is_empty() {
            let piece = if self.is_broken { None } else { self.next_piece().await? };
            let Some(piece) = piece else {
                // Before the wait: a dropped call must not go on behind a gap.
                let is_news = !std::mem::replace(&mut self.is_broken, true);
                let key = Key::blob(self.digest);
                if is_news {
                    return Err(self.shared.condemn(&list_key(&key)).await);
                }
                return Err(StoreError::Corrupt { key: key.to_string() });
            };
            self.ready = piece;
        }
        let chunk = self.ready.split_to(self.ready.len().min(max_bytes.max(1)));
        self.remaining_bytes -= chunk.len() as u64;
        Ok(Some(chunk))
    }
}
