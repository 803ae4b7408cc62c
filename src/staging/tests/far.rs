//! A store behind, which counts what is read from it and can keep to itself what it has.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::digest::HASH_BYTES;
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::{BeginPut, BlobReader, ByteRange, Purged, Selection};

#[derive(Debug)]
pub(super) struct Far {
    blobs: Arc<MemoryStore>,
    reads: Mutex<BTreeMap<Digest, u64>>,
    /// What it says it has and does not give.
    pub(super) withheld: Mutex<Option<Digest>>,
}

impl Far {
    pub(super) fn new() -> Arc<Self> {
        let blobs = MemoryStore::new(&MemoryOptions::new(64 << 20));
        Arc::new(Self { blobs, reads: Mutex::default(), withheld: Mutex::default() })
    }

    /// How often a blob was read.
    pub(super) fn reads(&self, digest: &Digest) -> u64 {
        self.reads.lock().get(digest).copied().unwrap_or_default()
    }
}

#[async_trait]
impl BlobStore for Far {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        self.blobs.find_missing(keys).await
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        *self.reads.lock().entry(key.digest).or_default() += 1;
        if *self.withheld.lock() == Some(key.digest) {
            return Ok(None);
        }
        self.blobs.get(key, range).await
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.blobs.begin_put(key, size_bytes).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.blobs.put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.blobs.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.blobs.remove(key).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.blobs.purge_selected(selection).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.blobs.max_blob_bytes()
    }
}
