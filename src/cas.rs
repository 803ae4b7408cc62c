//! L2: the content-addressed storage as REAPI means it, over any [`BlobStore`].
//!
//! Owns the one rule the stores do not know: the empty blob is always present and never stored
//! (reapi 9).

use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{BeginPut, BlobReader, BlobStore, BlobStoreExt, ByteRange, Key, StoreError};

/// The blobs of an instance.
#[derive(Clone, Debug)]
pub struct Cas {
    store: Arc<dyn BlobStore>,
}

impl Cas {
    /// The blobs of `store`.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store }
    }

    /// Says for each digest whether it is absent, in order; refreshes the present ones.
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<Key> = digests.iter().copied().map(Key::blob).collect();
        let mut missing = self.store.find_missing(&keys).await?;
        for (digest, missing) in digests.iter().zip(&mut missing) {
            *missing &= !digest.is_empty();
        }
        Ok(missing)
    }

    /// Whether a blob is present; refreshes it.
    pub async fn contains(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(digest.is_empty() || self.store.contains(&Key::blob(digest)).await?)
    }

    /// The digest of the blob with this hash; `None` when it is absent. No use of the blob.
    pub async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        if hash == function.empty_hash() {
            return Ok(Some(Digest { function, hash, size_bytes: 0 }));
        }
        self.store.find_by_hash(function, hash).await
    }

    /// Opens a blob; `None` when it is absent.
    pub async fn read(
        &self,
        digest: Digest,
        range: ByteRange,
    ) -> Result<Option<BlobReader>, StoreError> {
        if digest.is_empty() {
            return Ok(Some(BlobReader::Bytes(Bytes::new())));
        }
        self.store.get(&Key::blob(digest), range).await
    }

    /// Reads a whole blob of at most `limit_bytes`; `None` when it is absent.
    pub async fn read_all(
        &self,
        digest: Digest,
        limit_bytes: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        if digest.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        self.store.get_all(&Key::blob(digest), limit_bytes).await
    }

    /// Stores a blob that is whole in memory.
    pub async fn put(&self, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        if digest.is_empty() {
            return match data.len() as u64 {
                0 => Ok(()),
                received_bytes => {
                    Err(StoreError::SizeMismatch { digest, expected_bytes: 0, received_bytes })
                }
            };
        }
        self.store.put(&Key::blob(digest), data).await
    }

    /// Starts an upload; the empty blob is already present.
    pub async fn begin_upload(&self, digest: Digest) -> Result<BeginPut, StoreError> {
        if digest.is_empty() {
            return Ok(BeginPut::AlreadyPresent);
        }
        self.store.begin_put(&Key::blob(digest), digest.size_bytes).await
    }

    /// Whether somebody waits for room now.
    pub fn is_waiting_for_room(&self) -> bool {
        self.store.is_waiting_for_room()
    }

    /// Whether the blobs are in `store`.
    pub(crate) fn is_in(&self, store: &Arc<dyn BlobStore>) -> bool {
        Arc::ptr_eq(&self.store, store)
    }

    /// The largest blob that can be stored, in bytes.
    pub fn max_blob_bytes(&self) -> u64 {
        self.store.max_blob_bytes()
    }
}
