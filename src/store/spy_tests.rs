//! A store for tests that notes what is asked of the one behind it, and fails when it is told to.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use super::*;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    FindMissing(usize),
    Get(Key, ByteRange),
    BeginPut(Key, u64),
    Put(Key),
    Remove(Key),
    Purge(Selection),
}

#[derive(Debug, Default)]
struct Notes {
    calls: Mutex<Vec<Call>>,
    delivered_bytes: AtomicU64,
    fails_to_write: AtomicBool,
    fails_to_read: AtomicBool,
    /// Look-ups wait while somebody has it to write.
    lookups: tokio::sync::RwLock<()>,
}

#[derive(Debug)]
pub(super) struct Spy {
    behind: Arc<dyn BlobStore>,
    notes: Arc<Notes>,
}

impl Spy {
    pub(super) fn new(behind: Arc<dyn BlobStore>) -> Arc<Self> {
        Arc::new(Self { behind, notes: Arc::default() })
    }

    /// What was asked for since this was asked last.
    pub(super) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.notes.calls.lock())
    }

    /// What was read since this was asked last.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.notes.delivered_bytes.swap(0, Ordering::Relaxed)
    }

    pub(super) fn fail_to_write(&self, fails: bool) {
        self.notes.fails_to_write.store(fails, Ordering::Relaxed);
    }

    pub(super) fn fail_to_read(&self, fails: bool) {
        self.notes.fails_to_read.store(fails, Ordering::Relaxed);
    }

    /// Look-ups have no answer until the result is dropped.
    pub(super) async fn hold_lookups(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.notes.lookups.write().await
    }

    /// Waits until a look-up has come.
    pub(super) async fn looked_up(&self) {
        let is_lookup = |call: &Call| matches!(call, Call::FindMissing(_));
        while !self.calls().iter().any(is_lookup) {
            tokio::task::yield_now().await;
        }
    }

    fn note(&self, call: Call) {
        self.notes.calls.lock().push(call);
    }
}

fn check(fails: &AtomicBool) -> Result<(), StoreError> {
    if fails.load(Ordering::Relaxed) {
        return Err(StoreError::Unavailable { what: "told to fail".to_owned() });
    }
    Ok(())
}

#[derive(Debug)]
struct SpyReader(BlobReader, Arc<Notes>);

#[async_trait]
impl BlobSource for SpyReader {
    fn remaining_bytes(&self) -> u64 {
        self.0.remaining_bytes()
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        check(&self.1.fails_to_read)?;
        let chunk = self.0.next(max_bytes).await?;
        let len = chunk.as_ref().map_or(0, Bytes::len) as u64;
        self.1.delivered_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(chunk)
    }
}

#[derive(Debug)]
struct SpyUpload(Upload, Arc<Notes>);

#[async_trait]
impl UploadSink for SpyUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        check(&self.1.fails_to_write)?;
        self.0.write(data).await
    }

    fn written_bytes(&self) -> u64 {
        self.0.written_bytes()
    }

    fn is_resumable(&self) -> bool {
        self.0.is_resumable()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        check(&self.1.fails_to_write)?;
        self.0.commit().await
    }
}

#[async_trait]
impl BlobStore for Spy {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        self.note(Call::FindMissing(keys.len()));
        let _turn = self.notes.lookups.read().await;
        self.behind.find_missing(keys).await
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        self.note(Call::Get(*key, range));
        check(&self.notes.fails_to_read)?;
        let reader = self.behind.get(key, range).await?;
        let spied = |it| BlobReader::Stream(Box::new(SpyReader(it, Arc::clone(&self.notes))));
        Ok(reader.map(spied))
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.note(Call::BeginPut(*key, size_bytes));
        check(&self.notes.fails_to_write)?;
        match self.behind.begin_put(key, size_bytes).await? {
            BeginPut::Upload(upload) => {
                let spied = SpyUpload(upload, Arc::clone(&self.notes));
                Ok(BeginPut::Upload(Upload::Other(Box::new(spied))))
            }
            BeginPut::AlreadyPresent => Ok(BeginPut::AlreadyPresent),
        }
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.note(Call::Put(*key));
        check(&self.notes.fails_to_write)?;
        self.behind.put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.behind.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.note(Call::Remove(*key));
        self.behind.remove(key).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.note(Call::Purge(selection));
        self.behind.purge_selected(selection).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.behind.max_blob_bytes()
    }
}

/// A store on a directory of its own, behind a spy.
pub(super) struct Scratch {
    pub(super) files: Arc<FilesystemStore>,
    pub(super) spy: Arc<Spy>,
    _directory: tempfile::TempDir,
}

impl Scratch {
    pub(super) async fn open() -> Self {
        Self::with_cap(256 << 20).await
    }

    pub(super) async fn with_cap(cap_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = FilesystemOptions {
            lease: std::time::Duration::ZERO,
            scrub_bytes_per_second: 0,
            ..FilesystemOptions::new(directory.path(), Cap::Bytes(cap_bytes))
        };
        let files = FilesystemStore::open(options).await.unwrap();
        let behind: Arc<dyn BlobStore> = Arc::clone(&files) as _;
        Self { spy: Spy::new(behind), files, _directory: directory }
    }

    /// No reservation is left, and every upload's and reader's bytes have been given back.
    pub(super) async fn assert_idle(&self) {
        for _ in 0..100_000 {
            let stats = self.files.stats();
            if (stats.reserved_bytes, stats.dying_bytes) == (0, 0) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{:?}", self.files.stats());
    }
}

/// Bytes that cannot be compressed.
pub(super) fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data.into()
}

/// Bytes that can be compressed.
pub(super) fn text(seed: u64, len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(seed);
    let words = ["blob", "store", "digest", "action", "result", "\n"];
    let mut text = String::new();
    while text.len() < len {
        text.push_str(words[random.usize(..words.len())]);
        text.push(' ');
    }
    text.truncate(len);
    text.into()
}

pub(super) fn key_of(data: &[u8]) -> Key {
    Key::blob(Digest::of(DigestFunction::Blake3, data))
}

pub(super) async fn read(store: &dyn BlobStore, key: &Key) -> Option<Bytes> {
    store.get_all(key, u64::MAX).await.unwrap()
}

pub(super) async fn read_part(
    store: &dyn BlobStore,
    key: &Key,
    offset: usize,
    limit: usize,
) -> Bytes {
    let range = ByteRange { offset: offset as u64, limit: Some(limit as u64) };
    store.get(key, range).await.unwrap().unwrap().read_all().await.unwrap()
}

/// Uploads in pieces of `piece` bytes.
pub(super) async fn stream(
    store: &dyn BlobStore,
    key: &Key,
    data: &Bytes,
    piece: usize,
) -> Result<(), StoreError> {
    let mut upload = begin(store, key).await;
    let mut data = data.clone();
    while !data.is_empty() {
        upload.write(data.split_to(data.len().min(piece))).await?;
    }
    upload.commit().await
}

pub(super) async fn begin(store: &dyn BlobStore, key: &Key) -> Upload {
    match store.begin_put(key, key.digest.size_bytes).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("{key} is present"),
    }
}

pub(super) async fn is_missing(store: &dyn BlobStore, key: &Key) -> bool {
    store.find_missing(&[*key]).await.unwrap() == [true]
}

/// Polls a future so often and then drops it; what it gave if it has ended.
pub(super) async fn poll_only<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}
