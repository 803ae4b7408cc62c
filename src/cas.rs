//! L2: the content-addressed storage as REAPI means it, over any [`BlobStore`].
//!
//! Owns the one rule the stores do not know: the empty blob is always present and never stored
//! (reapi 9). Counts what clients find and miss.

use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{BeginPut, BlobReader, BlobStore, BlobStoreExt, ByteRange, Key, StoreError};
use crate::telemetry::hits::HitCounters;

/// The blobs of an instance.
#[derive(Clone, Debug)]
pub struct Cas {
    store: Arc<dyn BlobStore>,
    /// `None` for what the server asks for itself.
    hits: Option<Arc<HitCounters>>,
}

impl Cas {
    /// The blobs of `store`, whose reads count nowhere.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store, hits: None }
    }

    /// The same for a client: each blob that it reads or asks about counts once, as a hit or a
    /// miss, unless the answer is an error.
    #[must_use]
    pub fn counted_by(self, hits: Arc<HitCounters>) -> Self {
        Self { hits: Some(hits), ..self }
    }

    /// The same for what the server reads on the way to an answer: no client asked for that.
    #[must_use]
    pub fn uncounted(&self) -> Self {
        Self::new(Arc::clone(&self.store))
    }

    /// Counts a blob of which a client knew only a hash that [`Cas::find_by_hash`] did not know:
    /// one that it wanted to read, or only asked about.
    pub fn count_unknown_hash(&self, is_read: bool) {
        if is_read {
            self.count_read::<()>(None);
        } else {
            self.count_presence(0, 1);
        }
    }

    /// Counts a blob that a client asked to read.
    fn count_read<T>(&self, found: Option<T>) -> Option<T> {
        if let Some(hits) = &self.hits {
            hits.count_read(found.is_some());
        }
        found
    }

    fn count_presence(&self, present: usize, absent: usize) {
        if let Some(hits) = &self.hits {
            hits.count_presence(present, absent);
        }
    }

    /// Says for each digest whether it is absent, in order; refreshes the present ones.
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<Key> = digests.iter().copied().map(Key::blob).collect();
        let mut missing = self.store.find_missing(&keys).await?;
        for (digest, missing) in digests.iter().zip(&mut missing) {
            *missing &= !digest.is_empty();
        }
        let absent = missing.iter().filter(|is_missing| **is_missing).count();
        self.count_presence(missing.len() - absent, absent);
        Ok(missing)
    }

    /// Whether a blob is present; refreshes it.
    pub async fn contains(&self, digest: Digest) -> Result<bool, StoreError> {
        let is_present = digest.is_empty() || self.store.contains(&Key::blob(digest)).await?;
        self.count_presence(usize::from(is_present), usize::from(!is_present));
        Ok(is_present)
    }

    /// The digest of the blob with this hash; `None` when it is absent. No use of the blob,
    /// and counted by nobody; see [`Cas::count_unknown_hash`].
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
            return Ok(self.count_read(Some(BlobReader::Bytes(Bytes::new()))));
        }
        Ok(self.count_read(self.store.get(&Key::blob(digest), range).await?))
    }

    /// Reads a whole blob of at most `limit_bytes`; `None` when it is absent.
    pub async fn read_all(
        &self,
        digest: Digest,
        limit_bytes: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        if digest.is_empty() {
            return Ok(self.count_read(Some(Bytes::new())));
        }
        Ok(self.count_read(self.store.get_all(&Key::blob(digest), limit_bytes).await?))
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
