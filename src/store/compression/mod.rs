//! A store that keeps blobs compressed in the store behind it.
//!
//! A blob is cut into blocks, and each is compressed by itself, so that a read of a part fetches
//! and decompresses only the blocks that it touches. Other values pass unchanged. What is kept for
//! a blob stands under [`Namespace::COMPRESSED`], version 1; numbers are little-endian:
//!
//! ```text
//! header, 36 bytes
//!   0   4  "CSLZ"
//!   4   1  version
//!   5   1  digest function, its number in REAPI
//!   6   2  zero
//!   8   4  length of every block but the last
//!  12   8  length of the blob
//!  20  16  BLAKE3, cut off, of the blob's hash and the 20 bytes before
//! for each block
//!   0   4  length of what is stored of it; bit 31: it is stored as it is
//!   4   8  BLAKE3, cut off, keyed with the blob's hash and the header, of the number of the block
//!          (8 bytes), the 4 bytes before, and what is stored
//!  12   n  what is stored: LZ4's block format, which is shorter than the block, or the block
//! index
//!   8 bytes for each block but the first: where it begins
//! ```
//!
//! The index bears no checksum: a wrong entry leads to bytes that are no such block. A whole read
//! needs no index, and compares the hash of what it delivers with the digest.
//!
//! Every stored byte is taken for hostile: nothing larger than one block is allocated because of
//! what it says.

mod format;
mod options;
mod reader;
#[cfg(test)]
mod tests;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;

pub use options::CompressionOptions;

use super::announced::{check_limit, check_size};
use super::counter::Counter;
use super::work::{INLINE_BYTES, Processors, put_through};
use super::{
    BeginPut, BlobReader, BlobStore, BlobStoreExt as _, ByteRange, Key, Kind, Namespace, Pin,
    PurgeScope, Purged, Selection, StoreError, Upload,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use format::Header;
use upload::{CompressedUpload, Encoder};

/// What a [`CompressionStore`] has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompressionStats {
    /// Blobs written.
    pub blobs: u64,
    /// What they have, in bytes.
    pub uncompressed_bytes: u64,
    /// What was written for them.
    pub compressed_bytes: u64,
    /// Blobs found changed, and removed.
    pub corrupt: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct CompressionStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn BlobStore>,
    options: CompressionOptions,
    processors: Processors,
    counters: Counters,
    /// Purges that have begun.
    purges: AtomicU64,
}

#[derive(Debug, Default)]
struct Counters {
    blobs: Counter,
    uncompressed_bytes: Counter,
    compressed_bytes: Counter,
    corrupt: Counter,
}

impl Shared {
    fn note_written(&self, uncompressed_bytes: u64, compressed_bytes: u64) {
        self.counters.blobs.rise();
        self.counters.uncompressed_bytes.add(uncompressed_bytes);
        self.counters.compressed_bytes.add(compressed_bytes);
    }

    /// Removes what does not stand for its blob any more, so that the next upload heals it.
    async fn condemn(&self, key: &Key) -> StoreError {
        self.counters.corrupt.rise();
        let blob = Key::blob(key.digest);
        tracing::error!(%blob, "compressed bytes are corrupt");
        if let Err(error) = self.backend.remove(key).await {
            tracing::error!(%blob, %error, "corrupt bytes stay");
        }
        StoreError::Corrupt { key: blob.to_string() }
    }

    /// The header of a blob that is written now.
    fn header(&self, digest: Digest) -> Header {
        Header { digest, block_bytes: self.options.block_bytes }
    }
}

/// What stands for a value in the store behind.
fn stored_key(key: &Key) -> Key {
    match key.kind {
        Kind::Blob => Key::derived(Namespace::COMPRESSED, key.digest),
        Kind::ActionResult => *key,
    }
}

impl CompressionStore {
    /// Keeps what it is given in `backend`. Options that are [wrong](CompressionOptions::check)
    /// become the nearest that are not.
    pub fn new(backend: Arc<dyn BlobStore>, options: CompressionOptions) -> Arc<Self> {
        let shared = Shared {
            backend,
            options: options.clamped(),
            processors: Processors::default(),
            counters: Counters::default(),
            purges: AtomicU64::new(0),
        };
        Arc::new(Self { shared: Arc::new(shared) })
    }

    /// Counters.
    pub fn stats(&self) -> CompressionStats {
        let counters = &self.shared.counters;
        CompressionStats {
            blobs: counters.blobs.get(),
            uncompressed_bytes: counters.uncompressed_bytes.get(),
            compressed_bytes: counters.compressed_bytes.get(),
            corrupt: counters.corrupt.get(),
        }
    }

    /// Whether a blob is there, as far as its header says; touches it.
    async fn has_blob(&self, key: &Key) -> Result<bool, StoreError> {
        if !self.shared.backend.contains(&stored_key(key)).await? {
            return Ok(false);
        }
        let header = reader::read_header(&self.shared, key).await?;
        Ok(header.is_some_and(|header| header.digest == key.digest))
    }

    /// Purges that have begun.
    fn purges(&self) -> u64 {
        self.shared.purges.load(Ordering::SeqCst)
    }

    /// Begins a write that came when there had been so many purges.
    async fn begin(&self, key: &Key, purges: u64) -> Result<BeginPut, StoreError> {
        let most = self.shared.header(key.digest).worst_case();
        match self.shared.backend.begin_put(&stored_key(key), most).await? {
            // I16: the store behind knows nothing of a write that was still looking for its blob.
            BeginPut::Upload(_) if self.purges() != purges => Err(StoreError::Purged),
            BeginPut::Upload(upload) => {
                let upload = CompressedUpload::new(&self.shared, key.digest, upload);
                Ok(BeginPut::Upload(Upload::Other(Box::new(upload))))
            }
            BeginPut::AlreadyPresent => Ok(BeginPut::AlreadyPresent),
        }
    }
}

#[async_trait]
impl BlobStore for CompressionStore {
    /// Asks about names only: the same hash with another size counts as there until it is read.
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<Key> = keys.iter().map(stored_key).collect();
        self.shared.backend.find_missing(&keys).await
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        match key.kind {
            Kind::Blob => reader::open(&self.shared, key, range).await,
            Kind::ActionResult => self.shared.backend.get(key, range).await,
        }
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        check_limit(size_bytes, self.max_blob_bytes())?;
        if key.kind != Kind::Blob {
            return self.shared.backend.begin_put(key, size_bytes).await;
        }
        check_size(key.digest, size_bytes)?;
        let purges = self.purges();
        if self.has_blob(key).await? {
            return Ok(BeginPut::AlreadyPresent);
        }
        self.begin(key, purges).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let (shared, len) = (&self.shared, data.len() as u64);
        check_limit(len, self.max_blob_bytes())?;
        if key.kind != Kind::Blob {
            return shared.backend.put(key, data).await;
        }
        if data.len() > INLINE_BYTES.min(shared.options.block_bytes as usize) {
            return put_through(self.begin_put(key, len).await?, key, data, &shared.processors)
                .await;
        }
        check_size(key.digest, len)?;
        let purges = self.purges();
        if self.has_blob(key).await? {
            return shared.processors.verify(key.digest, data).await;
        }
        let header = shared.header(key.digest);
        let encoded = Encoder::new(header).finish(data, &shared.processors).await?;
        let encoded_bytes = encoded.len() as u64;
        // I16: from here on nothing is waited for until the store behind knows of the write.
        if self.purges() != purges {
            return Err(StoreError::Purged);
        }
        shared.backend.put(&stored_key(key), encoded).await?;
        shared.note_written(len, encoded_bytes);
        Ok(())
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        let any_size = Key::blob(Digest { function, hash, size_bytes: 0 });
        let header = reader::read_header(&self.shared, &any_size).await?;
        Ok(header.map(|header| header.digest))
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.shared.backend.remove(&stored_key(key)).await
    }

    /// I16: what has begun in the store behind is under a namespace that is purged with the blobs
    /// or under the hash, so its fences are enough; the rest sees that there was a purge.
    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.shared.purges.fetch_add(1, Ordering::SeqCst);
        let backend = &self.shared.backend;
        if selection != Selection::Scope(PurgeScope::Namespace(Namespace::SHARED)) {
            return backend.purge_selected(selection).await;
        }
        let compressed = Selection::Scope(PurgeScope::Namespace(Namespace::COMPRESSED));
        // Both begin when this does: dropped, both go on.
        let both = [backend.purge_selected(compressed), backend.purge_selected(selection)];
        Purged::sum(join_all(both).await)
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        self.shared.backend.pin(&stored_key(key)).await
    }

    /// The largest blob that fits even if nothing of it can be compressed.
    fn max_blob_bytes(&self) -> u64 {
        let limit_bytes = self.shared.backend.max_blob_bytes();
        format::largest_within(limit_bytes, self.shared.options.block_bytes)
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.backend.is_waiting_for_room()
    }
}
