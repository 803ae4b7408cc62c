//! L1: the contract that every store keeps, and the stores.
//!
//! A store maps a [`Key`] to bytes. It never answers "present" for bytes it cannot serve, never
//! makes bytes visible before they are verified, and reports absence as `None`, never as an error.
//! Nothing here knows gRPC or HTTP.

mod announced;
pub mod compression;
pub mod counted;
mod counter;
pub mod dedup;
mod error;
pub mod existence_cache;
pub mod filesystem;
mod key;
pub mod memory;
pub mod noop;
mod purge;
mod reader;
pub mod remote;
mod reuse;
pub mod routing;
#[cfg(test)]
mod spy_tests;
pub mod tiered;
mod verified;
mod waiters;
pub(crate) mod work;

use async_trait::async_trait;
use bytes::Bytes;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};

pub use error::StoreError;
pub use key::{Key, Kind, Namespace};
pub use purge::{PurgeScope, Purged, Selection};
pub use reader::{BlobReader, BlobSource, ByteRange};

/// Of the cap, the part that leases hold at most, in tenths: a fifth always churns.
const LEASED_TENTHS: u64 = 8;

/// What [`BlobStore::begin_put`] found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once; a box would cost more")]
pub enum BeginPut {
    /// Space is reserved; write the bytes and commit.
    Upload(Upload),
    /// The blob is there already (never for an action result); it has been touched.
    AlreadyPresent,
}

/// A content-addressed store with an action cache beside it.
///
/// The primitives are few and dyn-safe; [`BlobStoreExt`] has the convenient spellings. All are
/// cancel-safe: dropping a future or an [`Upload`] leaves nothing visible and gives all space back.
#[async_trait]
pub trait BlobStore: Send + Sync + std::fmt::Debug + 'static {
    /// Says for each key whether it is absent, in the order of `keys`.
    ///
    /// Every present key moves to the young end of the eviction order in the same step (reapi 15),
    /// and gets a lease where the store grants any: a client is told that it is there.
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError>;

    /// Opens a value for reading, from `range.offset` on; `None` when it is absent.
    ///
    /// The reader stays valid when the entry is evicted meanwhile. A `range` that starts behind the
    /// end gives an empty reader.
    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError>;

    /// Reserves space for a value of `size_bytes` and starts writing it.
    ///
    /// For a blob `size_bytes` must be the digest's size; of a [derived](Key::derived) value it is
    /// the most that will come. Waits, bounded, for eviction to make room.
    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError>;

    /// Stores a value that is whole in memory.
    ///
    /// The bytes of a blob are verified even when the blob is there already.
    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError>;

    /// The digest of the blob with this hash; `None` when it is absent.
    ///
    /// For clients that know no sizes. Is no use of the blob and no promise.
    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError>;

    /// Removes a value; false when it was not there.
    ///
    /// A write of it that is under way may make it visible again, and a power cut soon after may
    /// bring it back: a purge is what takes things away for good.
    async fn remove(&self, key: &Key) -> Result<bool, StoreError>;

    /// Takes out what is selected. When it returns, nothing of it that was written or begun before
    /// the call is readable or can become so, restarts included (I16). Writes that begin later are
    /// not delayed.
    ///
    /// Cancel safe: a purge that has begun goes on.
    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError>;

    /// Keeps a blob from being evicted until the pin is dropped; `None` when it is absent, and from
    /// a store that cannot. Purges take it out all the same.
    async fn pin(&self, _key: &Key) -> Result<Option<Pin>, StoreError> {
        Ok(None)
    }

    /// The largest value that can ever be stored, in bytes.
    fn max_blob_bytes(&self) -> u64;

    /// Whether somebody waits for room now.
    fn is_waiting_for_room(&self) -> bool {
        false
    }
}

/// Convenience over [`BlobStore`].
#[async_trait]
pub trait BlobStoreExt: BlobStore {
    /// Whether `key` is present; touches it.
    async fn contains(&self, key: &Key) -> Result<bool, StoreError> {
        let missing = self.find_missing(std::slice::from_ref(key)).await?;
        Ok(missing == [false])
    }

    /// Reads a whole value into one buffer; `None` when it is absent.
    ///
    /// Refuses values over `limit_bytes` with [`StoreError::TooLarge`] before reading.
    async fn get_all(&self, key: &Key, limit_bytes: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(reader) = self.get(key, ByteRange::ALL).await? else {
            return Ok(None);
        };
        if reader.remaining_bytes() > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes: reader.remaining_bytes(), limit_bytes });
        }
        reader.read_all().await.map(Some)
    }
}

impl<S: BlobStore + ?Sized> BlobStoreExt for S {}

/// A blob stays while this lives, see [`BlobStore::pin`].
#[derive(Debug)]
pub struct Pin {
    _hold: Box<dyn std::fmt::Debug + Send + Sync>,
}

impl Pin {
    /// Keeps what `hold` keeps.
    pub fn new(hold: impl std::fmt::Debug + Send + Sync + 'static) -> Self {
        Self { _hold: Box::new(hold) }
    }
}

/// Where the bytes of an [`Upload::Other`] go. Dropping it aborts.
#[async_trait]
pub trait UploadSink: Send + Sync + std::fmt::Debug {
    /// See [`Upload::write`].
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError>;

    /// See [`Upload::written_bytes`].
    fn written_bytes(&self) -> u64;

    /// See [`Upload::is_resumable`].
    fn is_resumable(&self) -> bool;

    /// See [`Upload::is_overtaken`].
    fn is_overtaken(&self) -> bool {
        false
    }

    /// See [`Upload::commit`].
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// A value on its way in. Dropping it aborts: nothing becomes visible, all space is given back.
///
/// An enum rather than a trait object: the store that most writes end in costs no dynamic call per
/// chunk.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the one that most uploads are")]
pub enum Upload {
    /// Into a [`filesystem::FilesystemStore`].
    Filesystem(filesystem::FilesystemUpload),
    /// Into anything else.
    Other(Box<dyn UploadSink>),
}

impl Upload {
    /// Appends `data`. More bytes than were announced are refused at once (reapi 68).
    ///
    /// After an error the upload is good for nothing but dropping. Not cancel safe: after a dropped
    /// `write` the upload may not be [resumable](Upload::is_resumable).
    pub async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        match self {
            Self::Filesystem(upload) => upload.write(data).await,
            Self::Other(upload) => upload.write(data).await,
        }
    }

    /// Bytes appended so far.
    pub fn written_bytes(&self) -> u64 {
        match self {
            Self::Filesystem(upload) => upload.written_bytes(),
            Self::Other(upload) => upload.written_bytes(),
        }
    }

    /// Whether [`Upload::write`] can go on at [`Upload::written_bytes`]: false after a failed write
    /// and after one whose future was dropped.
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::Filesystem(upload) => upload.is_resumable(),
            Self::Other(upload) => upload.is_resumable(),
        }
    }

    /// Whether a concurrent upload has made the same blob visible, so that this one may end early
    /// (reapi 70). Touches the blob when it has.
    pub fn is_overtaken(&self) -> bool {
        match self {
            Self::Filesystem(upload) => upload.is_overtaken(),
            Self::Other(upload) => upload.is_overtaken(),
        }
    }

    /// Verifies size and hash, then makes the value visible.
    ///
    /// Cancel safe: a dropped `commit` has published or has not, and accounts for either.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Filesystem(upload) => upload.commit().await,
            Self::Other(upload) => upload.commit().await,
        }
    }
}
