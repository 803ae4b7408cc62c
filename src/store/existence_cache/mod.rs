//! A store that remembers what another server has just said to be there.
//!
//! Before a store of this process it does nothing: asking that is as cheap as remembering, and
//! always true. Of a remote one it remembers positive answers for seconds, and has each that it
//! gives again confirmed behind the reply, which also keeps the value in use there. Absence is
//! never remembered. See `docs/adr/0020-existence-answers.md`.

mod memory;
mod refresh;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Pin, Purged, Selection, StoreError,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::shutdown;
use memory::Memory;

/// The longest time that an answer is remembered.
const LONGEST: Duration = Duration::from_secs(10);

/// What an [`ExistenceCacheStore`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct ExistenceCacheOptions {
    /// The most answers that are remembered; each takes about 200 bytes.
    pub max_entries: usize,
    /// The longest time that one is; never more than ten seconds. `None` for that.
    pub max_age: Option<Duration>,
    /// How long the backend keeps what it has said to be there, if it says so.
    pub lease: Option<Duration>,
}

impl Default for ExistenceCacheOptions {
    fn default() -> Self {
        Self { max_entries: 256 << 10, max_age: None, lease: None }
    }
}

/// What an [`ExistenceCacheStore`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExistenceCacheStats {
    /// Answers that are remembered.
    pub entries: u64,
    /// Keys that were answered from memory.
    pub hits: u64,
    /// Keys that the backend was asked for while its client waited.
    pub misses: u64,
    /// Keys that the backend was asked for behind an answer from memory.
    pub refreshes: u64,
    /// Those of them that were not there any more.
    pub disproved: u64,
}

/// Remembers for a short time what a remote backend has.
#[derive(Debug)]
pub struct ExistenceCacheStore {
    shared: Arc<Shared>,
    refresher: Option<JoinHandle<()>>,
}

/// What the store and its task share.
#[derive(Debug)]
struct Shared {
    backend: Arc<dyn BlobStore>,
    /// `None` before a backend of this process.
    memory: Option<Memory>,
    /// A refresh is wanted.
    wanted: Notify,
}

impl ExistenceCacheStore {
    /// Puts a cache before `backend`, which does something only if that is another server.
    pub fn new(
        backend: Arc<dyn BlobStore>,
        backend_is_remote: bool,
        options: ExistenceCacheOptions,
    ) -> Arc<Self> {
        let limits = [options.max_age, options.lease];
        let lifetime = limits.into_iter().flatten().fold(LONGEST, Duration::min);
        let memory = backend_is_remote.then(|| Memory::new(options.max_entries, lifetime));
        let has_memory = memory.is_some();
        let shared = Arc::new(Shared { backend, memory, wanted: Notify::new() });
        let refresher = has_memory.then(|| {
            shutdown::spawn("existence refresh", refresh::run_refresher(Arc::clone(&shared)))
        });
        Arc::new(Self { shared, refresher })
    }

    /// Gauges and counters.
    pub fn stats(&self) -> ExistenceCacheStats {
        self.shared.memory.as_ref().map(Memory::stats).unwrap_or_default()
    }
}

impl Drop for ExistenceCacheStore {
    // What it would ask is asked for nobody.
    fn drop(&mut self) {
        if let Some(refresher) = &self.refresher {
            refresher.abort();
        }
    }
}

impl Shared {
    /// Does something that takes values away, in a task of its own: what is asked and answered
    /// meanwhile must be forgotten even when the caller has gone away.
    async fn take_away<T: Send + 'static>(
        self: &Arc<Self>,
        forget: impl Fn(&Memory) + Send + 'static,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(self);
        let taking = async move {
            // I16: before, so that nobody reads it from memory; after, what was asked meanwhile.
            shared.memory.iter().for_each(&forget);
            let done = work.await;
            shared.memory.iter().for_each(&forget);
            done
        };
        shutdown::detached("existence removal", taking).await.ok_or(StoreError::ShuttingDown)?
    }
}

#[async_trait]
impl BlobStore for ExistenceCacheStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let backend = &self.shared.backend;
        let Some(memory) = &self.shared.memory else { return backend.find_missing(keys).await };
        let unknown = memory.recall(keys);
        if unknown.len() < keys.len() {
            self.shared.wanted.notify_one();
        }
        if unknown.is_empty() {
            return Ok(vec![false; keys.len()]);
        }
        let asked: Vec<Key> = unknown.iter().filter_map(|at| keys.get(*at)).copied().collect();
        // From before the question: what is taken away meanwhile is not remembered.
        let question = memory.ask();
        let answers = backend.find_missing(&asked).await?;
        question.answered(asked.iter().zip(&answers).map(|(key, missing)| (*key, *missing)));
        let mut missing = vec![false; keys.len()];
        for (at, is_missing) in unknown.into_iter().zip(answers) {
            if let Some(missing) = missing.get_mut(at) {
                *missing = is_missing;
            }
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let reader = self.shared.backend.get(key, range).await?;
        if let (None, Some(memory)) = (&reader, &self.shared.memory) {
            memory.forget(key);
        }
        Ok(reader)
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.shared.backend.begin_put(key, size_bytes).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.shared.backend.put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.shared.backend.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        let (backend, key) = (Arc::clone(&self.shared.backend), *key);
        let work = async move { backend.remove(&key).await };
        self.shared.take_away(move |memory| memory.forget(&key), work).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        let backend = Arc::clone(&self.shared.backend);
        let work = async move { backend.purge_selected(selection).await };
        self.shared.take_away(Memory::forget_all, work).await
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        self.shared.backend.pin(key).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.shared.backend.max_blob_bytes()
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.backend.is_waiting_for_room()
    }
}

/// Whether presence of such a value is remembered. A result is one question; blobs come by the
/// thousand.
fn is_remembered(key: &Key) -> bool {
    key.kind == Kind::Blob
}
