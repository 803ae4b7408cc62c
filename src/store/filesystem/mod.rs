//! placeholder
use super::{BeginPut, BlobReader, BlobStore, ByteRange, Key, StoreError};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of a filesystem store.
#[derive(Clone, Debug)]
pub struct FilesystemOptions {
    /// The directory.
    pub root: PathBuf,
    /// The cap in bytes of allocated blocks.
    pub max_bytes: u64,
    /// The largest blob; `None` derives it from the cap.
    pub max_blob_bytes: Option<u64>,
}
/// What a store holds and has done; gauges in bytes.
#[derive(Clone, Debug, Default)]
pub struct StoreStats {
    /// Charges of all entries.
    pub resident_bytes: u64,
    /// Live reservations.
    pub reserved_bytes: u64,
    /// Removed, files not gone yet.
    pub dying_bytes: u64,
    /// Number of entries.
    pub entries: u64,
}
/// x
#[derive(Debug)]
pub struct FilesystemStore;
impl FilesystemStore {
    /// Opens.
    pub async fn open(_options: FilesystemOptions) -> Result<Arc<Self>, StoreError> { todo!() }
    /// Gauges and counters.
    pub fn stats(&self) -> StoreStats { todo!() }
    /// Stops.
    pub async fn shutdown(&self) { todo!() }
}
#[async_trait::async_trait]
impl BlobStore for FilesystemStore {
    async fn find_missing(&self, _keys: &[Key]) -> Result<Vec<bool>, StoreError> { todo!() }
    async fn get(&self, _key: &Key, _range: ByteRange) -> Result<Option<BlobReader>, StoreError> { todo!() }
    async fn begin_put(&self, _key: &Key, _size_bytes: u64) -> Result<BeginPut, StoreError> { todo!() }
    async fn put(&self, _key: &Key, _data: Bytes) -> Result<(), StoreError> { todo!() }
    fn max_blob_bytes(&self) -> u64 { todo!() }
}
/// x
#[derive(Debug)]
pub struct FilesystemUpload;
impl FilesystemUpload {
    pub(crate) async fn write(&mut self, _data: Bytes) -> Result<(), StoreError> { todo!() }
    pub(crate) fn written_bytes(&self) -> u64 { todo!() }
    pub(crate) fn is_overtaken(&self) -> bool { todo!() }
    pub(crate) async fn commit(self) -> Result<(), StoreError> { todo!() }
}
/// x
#[derive(Debug)]
pub struct FileReader;
impl FileReader {
    pub(crate) fn remaining_bytes(&self) -> u64 { todo!() }
    pub(crate) async fn next(&mut self, _max_bytes: usize) -> Result<Option<Bytes>, StoreError> { todo!() }
}
