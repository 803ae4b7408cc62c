//! A store in memory that waits, fails and counts on command.
//!
//! It keeps the contract: it hashes what comes in, and refuses writes that a purge has cut off.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{
    BeginPut, BlobReader, BlobSource, BlobStore, ByteRange, Key, Kind, Pin, Purged, Selection,
    StoreError, Upload, UploadSink,
};

/// How much a reader gives at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) enum Call {
    Find,
    Get,
    Read,
    BeginPut,
    Write,
    Commit,
    Put,
    Remove,
    Purge,
}

#[derive(Debug)]
pub(in crate::store) struct Fake(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    state: Mutex<State>,
    /// The calls that wait until they are let through.
    closed: watch::Sender<HashSet<Call>>,
}

#[derive(Debug)]
struct State {
    values: HashMap<Key, Bytes>,
    pins: HashMap<Key, usize>,
    can_pin: bool,
    max_blob_bytes: u64,
    calls: HashMap<Call, usize>,
    failing: HashSet<Call>,
    /// Whether what fails says that it cannot be reached.
    is_away: bool,
    /// Cut off in this order.
    purges: Vec<Selection>,
    touched: HashSet<Key>,
    uploads: usize,
    /// Whether every call gives way once.
    yields: bool,
}

impl Fake {
    pub(in crate::store) fn new() -> Arc<Self> {
        let state = State {
            values: HashMap::new(),
            pins: HashMap::new(),
            can_pin: true,
            max_blob_bytes: 1 << 30,
            calls: HashMap::new(),
            failing: HashSet::new(),
            is_away: false,
            purges: Vec::new(),
            touched: HashSet::new(),
            uploads: 0,
            yields: false,
        };
        let closed = watch::Sender::new(HashSet::new());
        Arc::new(Self(Arc::new(Inside { state: Mutex::new(state), closed })))
    }

    /// Lets calls wait from now on.
    pub(in crate::store) fn close(&self, call: Call) {
        self.0.closed.send_if_modified(|closed| closed.insert(call));
    }

    pub(in crate::store) fn open(&self, call: Call) {
        self.0.closed.send_if_modified(|closed| closed.remove(&call));
    }

    pub(in crate::store) fn fail(&self, call: Call) {
        self.0.state.lock().failing.insert(call);
    }

    /// What fails does so because the store cannot be reached.
    pub(in crate::store) fn go_away(&self, call: Call) {
        let mut state = self.0.state.lock();
        state.failing.insert(call);
        state.is_away = true;
    }

    pub(in crate::store) fn heal(&self, call: Call) {
        self.0.state.lock().failing.remove(&call);
    }

    pub(in crate::store) fn calls(&self, call: Call) -> usize {
        self.0.state.lock().calls.get(&call).copied().unwrap_or(0)
    }

    pub(in crate::store) fn holds(&self, key: &Key) -> bool {
        self.0.state.lock().values.contains_key(key)
    }

    pub(in crate::store) fn value(&self, key: &Key) -> Option<Bytes> {
        self.0.state.lock().values.get(key).cloned()
    }

    pub(in crate::store) fn insert(&self, key: &Key, data: impl Into<Bytes>) {
        self.0.state.lock().values.insert(*key, data.into());
    }

    /// Evicts what is not pinned; whether it has left.
    pub(in crate::store) fn evict(&self, key: &Key) -> bool {
        let mut state = self.0.state.lock();
        let is_pinned = state.pins.get(key).is_some_and(|pins| *pins > 0);
        !is_pinned && state.values.remove(key).is_some()
    }

    pub(in crate::store) fn is_pinned(&self, key: &Key) -> bool {
        self.0.state.lock().pins.get(key).is_some_and(|pins| *pins > 0)
    }

    pub(in crate::store) fn never_pins(&self) {
        self.0.state.lock().can_pin = false;
    }

    pub(in crate::store) fn set_max_blob_bytes(&self, bytes: u64) {
        self.0.state.lock().max_blob_bytes = bytes;
    }

    pub(in crate::store) fn was_touched(&self, key: &Key) -> bool {
        self.0.state.lock().touched.contains(key)
    }

    /// Lets every call wait for one turn of the runtime.
    pub(in crate::store) fn yield_at_calls(&self) {
        self.0.state.lock().yields = true;
    }

    /// Uploads under way.
    pub(in crate::store) fn uploads(&self) -> usize {
        self.0.state.lock().uploads
    }
}

impl Inside {
    /// Counts a call, waits while it is closed, and fails it when it is to fail.
    async fn arrive(&self, call: Call) -> Result<(), StoreError> {
        *self.state.lock().calls.entry(call).or_default() += 1;
        let yields = self.state.lock().yields;
        if yields {
            tokio::task::yield_now().await;
        }
        let mut closed = self.closed.subscribe();
        closed.wait_for(|closed| !closed.contains(&call)).await.unwrap();
        let (fails, is_away) = {
            let state = self.state.lock();
            (state.failing.contains(&call), state.is_away)
        };
        if fails && is_away {
            return Err(StoreError::Unavailable { what: format!("{call:?} fails on command") });
        }
        if fails {
            let source = std::io::Error::other(format!("{call:?} fails on command"));
            return Err(StoreError::Io { operation: "obey", source });
        }
        Ok(())
    }

    fn now(&self) -> usize {
        self.state.lock().purges.len()
    }

    fn publish(&self, key: &Key, data: Bytes, begun: usize) -> Result<(), StoreError> {
        if key.kind == Kind::Blob {
            verify(key, &data)?;
        }
        let mut state = self.state.lock();
        if state.purges[begun..].iter().any(|purge| purge.covers(key, 0)) {
            return Err(StoreError::Purged);
        }
        state.values.insert(*key, data);
        Ok(())
    }
}

fn verify(key: &Key, data: &[u8]) -> Result<(), StoreError> {
    let expected = key.digest;
    if data.len() as u64 != expected.size_bytes {
        return Err(StoreError::SizeMismatch {
            digest: expected,
            expected_bytes: expected.size_bytes,
            received_bytes: data.len() as u64,
        });
    }
    let actual = Digest::of(expected.function, data);
    if actual != expected {
        return Err(StoreError::HashMismatch { expected, actual: actual.to_string() });
    }
    Ok(())
}

#[async_trait]
impl BlobStore for Fake {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        // An answer is as old as the question.
        let missing = keys.iter().map(|key| !self.holds(key)).collect();
        self.0.state.lock().touched.extend(keys);
        self.0.arrive(Call::Find).await?;
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let found = self.value(key);
        self.0.arrive(Call::Get).await?;
        Ok(found.map(|data| {
            let start = usize::try_from(range.offset).unwrap().min(data.len());
            let len = usize::try_from(range.len_within(data.len() as u64)).unwrap();
            let data = data.slice(start..start + len);
            let source = Source { inside: Arc::clone(&self.0), data };
            BlobReader::Stream(Box::new(source))
        }))
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        let begun = self.0.now();
        self.0.arrive(Call::BeginPut).await?;
        let limit_bytes = self.max_blob_bytes();
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes });
        }
        if key.kind == Kind::Blob && self.holds(key) {
            return Ok(BeginPut::AlreadyPresent);
        }
        self.0.state.lock().uploads += 1;
        let sink = Sink { inside: Arc::clone(&self.0), key: *key, begun, data: Vec::new() };
        Ok(BeginPut::Upload(Upload::Other(Box::new(sink))))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let begun = self.0.now();
        self.0.arrive(Call::Put).await?;
        let (size_bytes, limit_bytes) = (data.len() as u64, self.max_blob_bytes());
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes });
        }
        self.0.publish(key, data, begun)
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        let state = self.0.state.lock();
        let mut blobs = state.values.keys().filter(|key| key.kind == Kind::Blob);
        let found = blobs.find(|it| it.digest.function == function && it.digest.hash == hash);
        Ok(found.map(|key| key.digest))
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.0.arrive(Call::Remove).await?;
        Ok(self.0.state.lock().values.remove(key).is_some())
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.0.arrive(Call::Purge).await?;
        let mut state = self.0.state.lock();
        state.purges.push(selection);
        let before = state.values.len();
        state.values.retain(|key, _| !selection.covers(key, 0));
        Ok(Purged { removed: (before - state.values.len()) as u64, is_drained: true })
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        let mut state = self.0.state.lock();
        if !state.can_pin || !state.values.contains_key(key) {
            return Ok(None);
        }
        *state.pins.entry(*key).or_default() += 1;
        Ok(Some(Pin::new(Hold { inside: Arc::clone(&self.0), key: *key })))
    }

    fn max_blob_bytes(&self) -> u64 {
        self.0.state.lock().max_blob_bytes
    }
}

#[derive(Debug)]
struct Hold {
    inside: Arc<Inside>,
    key: Key,
}

impl Drop for Hold {
    fn drop(&mut self) {
        *self.inside.state.lock().pins.get_mut(&self.key).unwrap() -= 1;
    }
}

#[derive(Debug)]
struct Source {
    inside: Arc<Inside>,
    data: Bytes,
}

#[async_trait]
impl BlobSource for Source {
    fn remaining_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        self.inside.arrive(Call::Read).await?;
        if self.data.is_empty() {
            return Ok(None);
        }
        let len = self.data.len().min(max_bytes).min(CHUNK_BYTES);
        Ok(Some(self.data.split_to(len)))
    }
}

#[derive(Debug)]
struct Sink {
    inside: Arc<Inside>,
    key: Key,
    begun: usize,
    data: Vec<u8>,
}

#[async_trait]
impl UploadSink for Sink {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.inside.arrive(Call::Write).await?;
        self.data.extend_from_slice(&data);
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    fn is_resumable(&self) -> bool {
        true
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.inside.arrive(Call::Commit).await?;
        let data = std::mem::take(&mut self.data);
        self.inside.publish(&self.key, data.into(), self.begun)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.inside.state.lock().uploads -= 1;
    }
}
