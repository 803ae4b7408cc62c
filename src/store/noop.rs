//! A store that keeps nothing: every write succeeds, every read misses.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::announced::{Announced, check_hash};
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
        Ok(BeginPut::Upload(Upload::Other(Box::new(Discarded::new(key, size_bytes)))))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let size_bytes = match key.kind {
            Kind::Blob => key.digest.size_bytes,
            Kind::ActionResult => data.len() as u64,
        };
        let mut sink = Box::new(Discarded::new(key, size_bytes));
        sink.write(data).await?;
        sink.commit().await
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
        Ok(Purged::NOTHING)
    }

    fn max_blob_bytes(&self) -> u64 {
        u64::MAX
    }
}

/// An upload to nowhere. A sender's mistake is one here too.
#[derive(Debug)]
struct Discarded {
    digest: Digest,
    announced: Announced,
    written_bytes: u64,
    /// `None` for what does not hash to its name.
    hasher: Option<Hasher>,
}

impl Discarded {
    fn new(key: &Key, size_bytes: u64) -> Self {
        let hasher = (key.kind == Kind::Blob).then(|| Hasher::new(key.digest.function));
        let announced = Announced::of(key, size_bytes);
        Self { digest: key.digest, announced, written_bytes: 0, hasher }
    }
}

#[async_trait]
impl UploadSink for Discarded {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        self.announced.check_more(received_bytes)?;
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
        self.announced.check_end(self.written_bytes)?;
        self.hasher.map_or(Ok(()), |hasher| check_hash(self.digest, hasher.finish()))
    }
}
