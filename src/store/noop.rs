//! A store that keeps nothing: every write succeeds, every read misses.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Purged, Selection, StoreError, Upload,
    UploadSink,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES, Hasher};

/// See the module documentation.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopStore;

impl NoopStore {
    /// A store that keeps nothing.
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }
}

#[async_trait]
impl BlobStore for NoopStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        Ok(vec![true; keys.len()])
    }

    async fn get(&self, _key: &Key, _range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        Ok(None)
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        let hasher = (key.kind == Kind::Blob).then(|| Hasher::new(key.digest.function));
        let sink = Discarded { key: *key, size_bytes, written_bytes: 0, hasher };
        Ok(BeginPut::Upload(Upload::Other(Box::new(sink))))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let size_bytes = match key.kind {
            Kind::Blob => key.digest.size_bytes,
            Kind::ActionResult => data.len() as u64,
        };
        let BeginPut::Upload(mut upload) = self.begin_put(key, size_bytes).await? else {
            return Ok(());
        };
        upload.write(data).await?;
        upload.commit().await
    }

    async fn find_by_hash(
        &self,
        _function: DigestFunction,
        _hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        Ok(None)
    }

    async fn remove(&self, _key: &Key) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn purge_selected(&self, _selection: Selection) -> Result<Purged, StoreError> {
        Ok(Purged { removed: 0, is_drained: true })
    }

    fn max_blob_bytes(&self) -> u64 {
        u64::MAX
    }
}

/// An upload to nowhere. A sender's mistake is one here too.
#[derive(Debug)]
struct Discarded {
    key: Key,
    size_bytes: u64,
    written_bytes: u64,
    hasher: Option<Hasher>,
}

impl Discarded {
    fn size_mismatch(&self, received_bytes: u64) -> StoreError {
        let (digest, expected_bytes) = (self.key.digest, self.size_bytes);
        StoreError::SizeMismatch { digest, expected_bytes, received_bytes }
    }
}

#[async_trait]
impl UploadSink for Discarded {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        if received_bytes > self.size_bytes {
            return Err(self.size_mismatch(received_bytes));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&data);
        }
        self.written_bytes = received_bytes;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn is_resumable(&self) -> bool {
        true
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        if self.written_bytes != self.size_bytes && !self.key.is_derived() {
            return Err(self.size_mismatch(self.written_bytes));
        }
        let Some(hasher) = self.hasher else { return Ok(()) };
        let hash = hasher.finish();
        if hash == self.key.digest.hash {
            return Ok(());
        }
        Err(StoreError::hash_mismatch(self.key.digest, hash))
    }
}
