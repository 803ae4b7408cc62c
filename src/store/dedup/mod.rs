//! A store that keeps what blobs have in common once.
//!
//! A blob is cut into chunks where its bytes say so ([`fastcdc::v2020`], level 2). Chunks
//! are ordinary blobs of the store `content`, each under its own digest, and which chunks a blob
//! has is in a list in the store `index`, where also every other value is. The list stands under
//! [`Namespace::CHUNK_LISTS`], version 1; numbers are little-endian:
//!
//! ```text
//!   0   4  "CSDL"
//!   4   1  version
//!   5   1  digest function, its number in REAPI
//!   6   2  zero
//!   8   8  length of the blob
//!  16   4  number of chunks
//!  20      for each chunk its hash, 32 bytes, and its length, 4 bytes
//!     16   BLAKE3, cut off, of the blob's hash and everything before
//! ```
//!
//! A blob is there when its list and all its chunks are. Chunks that no list names any more are
//! not looked for: nobody uses them, so `content` evicts them first.

mod chunker;
mod list;
mod lists;
mod options;
mod presence;
mod reader;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

pub use options::DedupOptions;

use super::announced::{check_limit, check_size};
use super::counter::Counter;
use super::work::{Processors, put_through};
use super::{
    BeginPut, BlobReader, BlobStore, BlobStoreExt as _, ByteRange, Key, Kind, Namespace,
    PurgeScope, Purged, Selection, StoreError, Upload,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::shutdown::detached;
use list::List;
use lists::Lists;
use presence::Presence;
use upload::DedupUpload;

/// What a [`DedupStore`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DedupStats {
    /// Blobs written.
    pub blobs: u64,
    /// Chunks of blobs that were not there yet.
    pub chunks_written: u64,
    /// Chunks of blobs that were there.
    pub chunks_shared: u64,
    /// What the chunks have that were not there yet.
    pub bytes_written: u64,
    /// What the chunks have that were there.
    pub bytes_shared: u64,
    /// Lists that were found changed, or whose blob broke off in the middle of a read; removed.
    pub corrupt: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct DedupStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    index: Arc<dyn BlobStore>,
    content: Arc<dyn BlobStore>,
    options: DedupOptions,
    lists: Lists,
    processors: Processors,
    counters: Counters,
    /// Purges that have begun.
    purges: AtomicU64,
    /// For those that have not ended.
    purge_slots: Arc<Semaphore>,
    /// Held by one after the other.
    purging: tokio::sync::Mutex<()>,
}

/// Purges that may wait for each other.
const MAX_PURGES: usize = 64;

#[derive(Debug, Default)]
struct Counters {
    blobs: Counter,
    chunks_written: Counter,
    chunks_shared: Counter,
    bytes_written: Counter,
    bytes_shared: Counter,
    corrupt: Counter,
}

impl Counters {
    fn note_blob(&self) {
        self.blobs.rise();
    }

    fn note_chunk(&self, is_new: bool, len_bytes: u64) {
        let (chunks, bytes) = if is_new {
            (&self.chunks_written, &self.bytes_written)
        } else {
            (&self.chunks_shared, &self.bytes_shared)
        };
        chunks.rise();
        bytes.add(len_bytes);
    }
}

/// Where the list of a blob is, or the value itself.
fn list_key(key: &Key) -> Key {
    match key.kind {
        Kind::Blob => Key::derived(Namespace::CHUNK_LISTS, key.digest),
        Kind::ActionResult => *key,
    }
}

impl Shared {
    /// Reads the list of a blob whose size need not be known; `None` when it is absent. A wrong
    /// one is removed, and so is absent.
    async fn read_list(&self, key: &Key) -> Result<Option<Arc<List>>, StoreError> {
        let stored = list_key(key);
        let Some(reader) = self.index.get(&stored, ByteRange::ALL).await? else {
            return Ok(None);
        };
        let encoded = if list::may_have(reader.remaining_bytes()) {
            match reader.read_all().await {
                Ok(encoded) => encoded,
                Err(StoreError::Corrupt { .. }) => Bytes::new(),
                Err(error) => return Err(error),
            }
        } else {
            Bytes::new()
        };
        let Some(list) = List::parse(&encoded, key.digest.function, key.digest.hash) else {
            drop(self.condemn(&stored).await);
            return Ok(None);
        };
        let list = Arc::new(list);
        self.lists.insert(&list);
        Ok(Some(list))
    }

    /// The list of a blob of which the index says that it has it.
    async fn known_list(&self, key: &Key) -> Result<Option<Arc<List>>, StoreError> {
        if let Some(list) = self.lists.get(&key.digest) {
            return Ok(Some(list));
        }
        let list = self.read_list(key).await?;
        Ok(list.filter(|list| list.digest == key.digest))
    }

    /// Purges lists, then the rest, so that few reads see one without the other. One at a time:
    /// when one has returned, none that began before it takes anything any more.
    async fn purge(&self, selection: Selection) -> Result<Purged, StoreError> {
        let blobs = PurgeScope::Namespace(Namespace::SHARED);
        let lists = Selection::Scope(PurgeScope::Namespace(Namespace::CHUNK_LISTS));
        let (index, content) = (&self.index, &self.content);
        let steps = match selection {
            Selection::Scope(scope) if scope == blobs => {
                vec![(index, lists), (content, selection)]
            }
            Selection::Scope(PurgeScope::All) | Selection::Hash(_) => {
                vec![(index, selection), (content, selection)]
            }
            Selection::Scope(_) | Selection::ResultsOlderThan { .. } => vec![(index, selection)],
        };
        let _turn = self.purging.lock().await;
        let mut outcomes = Vec::new();
        for (store, selection) in steps {
            outcomes.push(store.purge_selected(selection).await);
        }
        Purged::sum(outcomes)
    }

    /// Removes a list that leads nowhere, so that the next upload heals it.
    async fn condemn(&self, stored: &Key) -> StoreError {
        self.counters.corrupt.rise();
        let blob = Key::blob(stored.digest);
        tracing::error!(%blob, "its list of chunks is corrupt, or chunks left during a read");
        self.lists.remove(&stored.digest);
        if let Err(error) = self.index.remove(stored).await {
            tracing::error!(%blob, %error, "a list that leads nowhere stays");
        }
        StoreError::Corrupt { key: blob.to_string() }
    }
}

impl DedupStore {
    /// Keeps lists and results in `index`, chunks in `content`; they may be one store. Options
    /// that are [wrong](DedupOptions::check) become the nearest that are not.
    pub fn new(
        index: Arc<dyn BlobStore>,
        content: Arc<dyn BlobStore>,
        options: DedupOptions,
    ) -> Arc<Self> {
        let shared = Shared {
            index,
            content,
            options: options.clamped(),
            lists: Lists::default(),
            processors: Processors::default(),
            counters: Counters::default(),
            purges: AtomicU64::new(0),
            purge_slots: Arc::new(Semaphore::new(MAX_PURGES)),
            purging: tokio::sync::Mutex::new(()),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    /// Counters.
    pub fn stats(&self) -> DedupStats {
        let counters = &self.shared.counters;
        DedupStats {
            blobs: counters.blobs.get(),
            chunks_written: counters.chunks_written.get(),
            chunks_shared: counters.chunks_shared.get(),
            bytes_written: counters.bytes_written.get(),
            bytes_shared: counters.bytes_shared.get(),
            corrupt: counters.corrupt.get(),
        }
    }

    /// Purges that have begun.
    fn purges(&self) -> u64 {
        self.shared.purges.load(Ordering::SeqCst)
    }

    /// Begins a write that came when there had been so many purges.
    async fn begin(&self, key: &Key, purges: u64) -> Result<BeginPut, StoreError> {
        let min_bytes = u64::from(self.shared.options.min_bytes);
        let most = list::list_bytes(key.digest.size_bytes.div_ceil(min_bytes));
        match self.shared.index.begin_put(&list_key(key), most).await? {
            // I16: the index knows nothing of a write that was still looking for its blob.
            BeginPut::Upload(_) if self.purges() != purges => Err(StoreError::Purged),
            BeginPut::Upload(upload) => {
                let upload = DedupUpload::new(&self.shared, key.digest, upload, purges);
                Ok(BeginPut::Upload(Upload::Other(Box::new(upload))))
            }
            BeginPut::AlreadyPresent => Ok(BeginPut::AlreadyPresent),
        }
    }

    /// Marks the blobs as missing that are not whole. Lists are read a few at a time.
    async fn find_broken(&self, keys: &[Key], missing: &mut [bool]) -> Result<(), StoreError> {
        let content = &*self.shared.content;
        let mut presence = Presence::default();
        let listed: Vec<(usize, &Key)> = keys
            .iter()
            .enumerate()
            .filter(|(at, key)| key.kind == Kind::Blob && missing.get(*at) == Some(&false))
            .collect();
        for some in listed.chunks(self.shared.options.max_concurrent_fetches) {
            let lists = join_all(some.iter().map(|(_, key)| self.shared.known_list(key))).await;
            for ((at, _), list) in some.iter().zip(lists) {
                match list? {
                    Some(list) => presence.add(content, *at, &list).await?,
                    None => mark(missing, *at),
                }
            }
        }
        for at in presence.broken(content).await? {
            mark(missing, at);
        }
        Ok(())
    }
}

fn mark(missing: &mut [bool], at: usize) {
    if let Some(missing) = missing.get_mut(at) {
        *missing = true;
    }
}

#[async_trait]
impl BlobStore for DedupStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let stored: Vec<Key> = keys.iter().map(list_key).collect();
        let mut missing = self.shared.index.find_missing(&stored).await?;
        self.find_broken(keys, &mut missing).await?;
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        match key.kind {
            Kind::Blob => reader::open(&self.shared, key, range).await,
            Kind::ActionResult => self.shared.index.get(key, range).await,
        }
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        check_limit(size_bytes, self.max_blob_bytes())?;
        if key.kind != Kind::Blob {
            return self.shared.index.begin_put(key, size_bytes).await;
        }
        check_size(key.digest, size_bytes)?;
        let purges = self.purges();
        if self.contains(key).await? {
            return Ok(BeginPut::AlreadyPresent);
        }
        self.begin(key, purges).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let len = data.len() as u64;
        if key.kind != Kind::Blob {
            check_limit(len, self.max_blob_bytes())?;
            return self.shared.index.put(key, data).await;
        }
        put_through(self.begin_put(key, len).await?, key, data, &self.shared.processors).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        let any_size = Key::blob(Digest { function, hash, size_bytes: 0 });
        let list = self.shared.read_list(&any_size).await?;
        Ok(list.map(|list| list.digest))
    }

    /// Chunks stay: others may share them.
    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.shared.index.remove(&list_key(key)).await
    }

    /// I16: without its list a blob is gone, and the list of an upload was begun when the upload
    /// was, so the fences of the index are enough for what has begun there; the rest sees that
    /// there was a purge. Chunks only follow.
    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.shared.purges.fetch_add(1, Ordering::SeqCst);
        let slots = Arc::clone(&self.shared.purge_slots);
        let slot = slots.try_acquire_owned().map_err(|_| StoreError::TooManyPurges)?;
        let shared = Arc::clone(&self.shared);
        let purging = async move {
            let purged = shared.purge(selection).await;
            drop(slot);
            purged
        };
        detached("purge of chunked blobs", purging).await.ok_or(StoreError::ShuttingDown)?
    }

    /// What has a list that may be kept, and fits even if it shares no chunk.
    fn max_blob_bytes(&self) -> u64 {
        let chunks = list::max_chunks(self.shared.index.max_blob_bytes());
        let listed = chunks.saturating_mul(u64::from(self.shared.options.min_bytes));
        listed.min(self.shared.content.max_blob_bytes())
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.index.is_waiting_for_room() || self.shared.content.is_waiting_for_room()
    }
}
