//! A store whose use is counted: `NativeLink`'s `cache_metrics`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::counter::Counter;
use super::{BeginPut, BlobReader, BlobStore, ByteRange, Key, Pin, Purged, Selection, StoreError};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};

/// See the module documentation.
#[derive(Debug)]
pub struct CountedStore {
    backend: Arc<dyn BlobStore>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    hits: Counter,
    misses: Counter,
    present: Counter,
    absent: Counter,
    writes: Counter,
    already_present: Counter,
    failures: Counter,
}

/// How a store was used since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountedStats {
    /// Reads that found something.
    pub hits: u64,
    /// Reads that found nothing.
    pub misses: u64,
    /// Keys that were reported present.
    pub present: u64,
    /// Keys that were reported missing.
    pub absent: u64,
    /// Writes that were begun or made.
    pub writes: u64,
    /// Writes of what was there already.
    pub already_present: u64,
    /// Calls that failed.
    pub failures: u64,
}

impl CountedStore {
    /// Counts the use of `backend`.
    pub fn new(backend: Arc<dyn BlobStore>) -> Arc<Self> {
        Arc::new(Self { backend, counters: Counters::default() })
    }

    /// Counters.
    pub fn stats(&self) -> CountedStats {
        let counters = &self.counters;
        CountedStats {
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            present: counters.present.get(),
            absent: counters.absent.get(),
            writes: counters.writes.get(),
            already_present: counters.already_present.get(),
            failures: counters.failures.get(),
        }
    }

    fn counted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|_| self.counters.failures.rise())
    }
}

#[async_trait]
impl BlobStore for CountedStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let missing = self.counted(self.backend.find_missing(keys).await)?;
        let absent = missing.iter().filter(|is_missing| **is_missing).count();
        self.counters.absent.add(absent as u64);
        self.counters.present.add((missing.len() - absent) as u64);
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let found = self.counted(self.backend.get(key, range).await)?;
        let counter = if found.is_some() { &self.counters.hits } else { &self.counters.misses };
        counter.rise();
        Ok(found)
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        let begun = self.counted(self.backend.begin_put(key, size_bytes).await)?;
        let is_new = matches!(begun, BeginPut::Upload(_));
        let counter = if is_new { &self.counters.writes } else { &self.counters.already_present };
        counter.rise();
        Ok(begun)
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.counted(self.backend.put(key, data).await)?;
        self.counters.writes.rise();
        Ok(())
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.counted(self.backend.find_by_hash(function, hash).await)
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.counted(self.backend.remove(key).await)
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.counted(self.backend.purge_selected(selection).await)
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        self.backend.pin(key).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.backend.max_blob_bytes()
    }

    fn is_waiting_for_room(&self) -> bool {
        self.backend.is_waiting_for_room()
    }
}
