//! A blob on its way in: its chunks as they are cut, its list at the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{TryStreamExt as _, stream};

use super::Shared;
use super::chunker::Chunker;
use super::list::{List, ListBuilder};
use super::presence::Presence;
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::store::announced::{Announced, check_hash, check_size, interrupted};
use crate::store::{Key, StoreError, Upload, UploadSink};

/// Bytes of chunks that wait to be written together, unless it is one that has more.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// An upload that holds a chunk and those that wait to be written.
#[derive(Debug)]
pub(super) struct DedupUpload {
    digest: Digest,
    written_bytes: u64,
    /// `None` while a write is under way and after one was dropped or failed.
    state: Option<State>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct State {
    digest: Digest,
    chunker: Chunker,
    hasher: Hasher,
    /// The hash of the only chunk.
    only: Option<[u8; HASH_BYTES]>,
    list: ListBuilder,
    waiting: Vec<(Digest, Bytes)>,
    waiting_bytes: usize,
    /// Whether chunks have been written before those that wait.
    has_written: bool,
    /// How many purges there had been when it began.
    purges: u64,
    /// Of the list. I16: it began when this one did, so a purge cuts it off.
    upload: Upload,
}

impl State {
    /// Hashes a chunk, and has it written, with others.
    async fn add(mut self, chunk: Bytes, shared: &Shared) -> Result<Self, StoreError> {
        let waiting_bytes = self.waiting_bytes.saturating_add(chunk.len());
        let is_full = self.waiting.len() >= shared.options.max_concurrent_fetches
            || waiting_bytes > MAX_WAITING_BYTES;
        if is_full && !self.waiting.is_empty() {
            self.write_waiting(shared).await?;
            self.has_written = true;
        }
        let is_only = self.list.is_empty() && chunk.len() as u64 == self.digest.size_bytes;
        shared.processors.run_sized(chunk.len(), move || self.add_here(chunk, is_only)).await
    }

    fn add_here(mut self, chunk: Bytes, is_only: bool) -> Self {
        let digest = Digest::of(self.digest.function, &chunk);
        if is_only {
            self.only = Some(digest.hash);
        } else {
            self.hasher.update(&chunk);
        }
        self.list.push(&digest);
        self.waiting_bytes += chunk.len();
        self.waiting.push((digest, chunk));
        self
    }

    /// Writes the chunks that wait, but for those that are there.
    async fn write_waiting(&mut self, shared: &Shared) -> Result<(), StoreError> {
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        let mut seen = HashSet::new();
        let keys: Vec<Key> = waiting
            .iter()
            .filter(|(digest, _)| seen.insert(*digest))
            .map(|(digest, _)| Key::blob(*digest))
            .collect();
        let missing = shared.content.find_missing(&keys).await?;
        let mut missing: HashSet<Digest> = keys
            .iter()
            .zip(missing)
            .filter_map(|(key, is_missing)| is_missing.then_some(key.digest))
            .collect();
        let mut writes = Vec::new();
        for (digest, chunk) in waiting {
            let is_new = missing.remove(&digest);
            shared.counters.note_chunk(is_new, chunk.len() as u64);
            if is_new {
                writes.push((Key::blob(digest), chunk));
            }
        }
        let limit = shared.options.max_concurrent_fetches;
        stream::iter(writes.into_iter().map(Ok))
            .try_for_each_concurrent(limit, |(key, chunk)| {
                let content = Arc::clone(&shared.content);
                async move { content.put(&key, chunk).await }
            })
            .await
    }

    /// I20: refuses bytes that are not the digest's, before the last chunks are written.
    async fn finish(mut self, shared: &Shared) -> Result<(Arc<List>, Upload), StoreError> {
        while let Some(chunk) = self.chunker.next_at_end() {
            self = self.add(chunk, shared).await?;
        }
        let actual = match self.only {
            Some(hash) => hash,
            None => self.hasher.clone().finish(),
        };
        check_hash(self.digest, actual)?;
        self.write_waiting(shared).await?;
        let list = Arc::new(self.list.finish(self.digest));
        if self.has_written {
            let mut presence = Presence::default();
            presence.add(&*shared.content, 0, &list).await?;
            if !presence.broken(&*shared.content).await?.is_empty() {
                return Err(shared.chunks_left(self.digest, self.purges));
            }
        }
        Ok((list, self.upload))
    }
}

impl Shared {
    /// Why a blob's first chunks were gone when its last had come.
    fn chunks_left(&self, digest: Digest, purges: u64) -> StoreError {
        if self.purges.load(Ordering::SeqCst) != purges {
            return StoreError::Purged;
        }
        StoreError::NoSpace {
            size_bytes: digest.size_bytes,
            reason: "its first chunks were evicted before the last had come",
        }
    }
}

impl DedupUpload {
    pub(super) fn new(shared: &Arc<Shared>, digest: Digest, upload: Upload, purges: u64) -> Self {
        let state = State {
            digest,
            chunker: Chunker::new(shared.options),
            hasher: Hasher::new(digest.function),
            only: None,
            list: ListBuilder::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            has_written: false,
            purges,
            upload,
        };
        Self { digest, written_bytes: 0, state: Some(state), shared: Arc::clone(shared) }
    }
}

#[async_trait]
impl UploadSink for DedupUpload {
    async fn write(&mut self, mut data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        // Taken out for the duration: after a dropped write there is a gap.
        let mut state = self.state.take().ok_or_else(interrupted)?;
        Announced::of_blob(self.digest).check_more(received_bytes)?;
        while let Some(chunk) = state.chunker.next(&mut data) {
            state = state.add(chunk, &self.shared).await?;
            // A large write is many chunks.
            tokio::task::yield_now().await;
        }
        self.state = Some(state);
        self.written_bytes = received_bytes;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn is_resumable(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.upload.is_resumable())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        check_size(self.digest, self.written_bytes)?;
        let state = self.state.take().ok_or_else(interrupted)?;
        let (list, mut upload) = state.finish(&self.shared).await?;
        upload.write(list.encoded().clone()).await?;
        upload.commit().await?;
        self.shared.lists.insert(&list);
        self.shared.counters.note_blob();
        Ok(())
    }
}
