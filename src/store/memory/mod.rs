//! The memory store: values in memory under a hard cap, gone with the process.
//!
//! [`index`] decides, [`shared`] carries out: what has left is given back outside the lock. The cap
//! holds for what the values take, each with [`ENTRY_OVERHEAD_BYTES`] for its place in the index:
//! those that are there, those that are on their way in, and those that have left and are still
//! being read. What the allocator rounds up, and what a call needs while it runs, is not in it.

mod index;
#[cfg(test)]
mod model_tests;
mod order;
mod payload;
mod reservation;
mod room;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod upload;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use stats::MemoryStats;

use super::announced::{check_limit, check_size};
use super::{BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Pin, StoreError, Upload};
use super::{Purged, Selection};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::shutdown::{self, detached};
use index::{Index, Limits, Use};
use payload::SEGMENT_BYTES;
use reservation::reserve;
use shared::Shared;
use upload::{Filling, MemoryUpload};

/// What an entry takes besides its bytes, at most: 160 in the slab, 50 in the table, which is less
/// than an eighth full only for a moment, and what is around the bytes.
pub const ENTRY_OVERHEAD_BYTES: u64 = 384;
/// What each piece of the bytes takes besides them.
const SEGMENT_OVERHEAD_BYTES: u64 = 64;
/// Look-ups under one hold of the lock.
const LOOKUP_BATCH: usize = 512;
/// Entries that a purge looks at under one hold of the lock.
const PURGE_BATCH: u32 = 1024;
/// How long a purge waits for the writes that it has cut off to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What a value of so many bytes counts against the cap.
const fn charge_of(len_bytes: u64) -> u64 {
    let segments = len_bytes.div_ceil(SEGMENT_BYTES);
    let overhead = ENTRY_OVERHEAD_BYTES.saturating_add(segments * SEGMENT_OVERHEAD_BYTES);
    len_bytes.saturating_add(overhead)
}

/// The longest value that fits a cap.
fn longest_within(max_bytes: u64) -> u64 {
    let rest = max_bytes.saturating_sub(ENTRY_OVERHEAD_BYTES);
    let segments = rest.div_ceil(SEGMENT_BYTES + SEGMENT_OVERHEAD_BYTES);
    rest.saturating_sub(segments * SEGMENT_OVERHEAD_BYTES)
}

/// What a memory store is made with.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// The hard cap, see the module documentation.
    pub max_bytes: u64,
    /// Room that is made besides when something must be evicted for a write, so that the next ones
    /// need not evict; 0 for none.
    pub low_water_bytes: u64,
    /// The most entries; `None` for as many as fit.
    pub max_entries: Option<u64>,
    /// The longest time without a use; `None` for as long as there is room.
    pub max_age: Option<Duration>,
    /// How long a value stays for sure after a client was told that it is there (I21); zero for no
    /// promises. Such promises hold four fifths of the cap at most; beyond that, or for a write
    /// that finds nothing else to evict, the oldest is broken.
    pub lease: Duration,
    /// The largest value in bytes; `None` allows whatever fits under the cap.
    pub max_blob_bytes: Option<u64>,
    /// The longest wait of an upload for room.
    pub reserve_timeout: Duration,
}

impl MemoryOptions {
    /// The defaults for a cap.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            low_water_bytes: 0,
            max_entries: None,
            max_age: None,
            lease: Duration::from_mins(30),
            max_blob_bytes: None,
            reserve_timeout: Duration::from_secs(30),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            max_bytes: self.max_bytes,
            low_water_bytes: self.low_water_bytes,
            max_entries: self.max_entries,
            max_age_ms: self.max_age.map(milliseconds),
            lease_ms: milliseconds(self.lease),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A store of values in memory.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    max_blob_bytes: u64,
    /// Ends the task when the store is dropped.
    _closing: DropGuard,
}

impl MemoryStore {
    /// An empty store. With a [`MemoryOptions::max_age`] it must be made in a runtime.
    pub fn new(options: &MemoryOptions) -> Arc<Self> {
        let shared = Arc::new(Shared::new(Index::new(options.limits()), options.reserve_timeout));
        let closing = CancellationToken::new();
        if let Some(max_age) = options.max_age {
            // Uses note what is too old themselves; this is for a store that nobody uses.
            let expiry = run_expiry(Arc::downgrade(&shared), max_age, closing.clone());
            shutdown::spawn("expiry", expiry);
        }
        let longest = longest_within(options.max_bytes);
        Arc::new(Self {
            shared,
            max_blob_bytes: options.max_blob_bytes.map_or(longest, |it| it.min(longest)),
            _closing: closing.drop_guard(),
        })
    }

    /// Gauges and counters.
    pub fn stats(&self) -> MemoryStats {
        self.shared.look(|index| MemoryStats::of(index, &self.shared.counters))
    }

    /// Whether a blob is there already; touches it.
    fn has_blob(&self, key: &Key) -> bool {
        key.kind == Kind::Blob
            && self.shared.update(|index| index.look_up(key, Use::Touch).is_some())
    }

    async fn reserve(&self, key: Key, size_bytes: u64) -> Result<Filling, StoreError> {
        let reservation = reserve(&self.shared, key, size_bytes).await?;
        Ok(Filling::new(&key, reservation))
    }
}

/// Lets go of what was not used for too long. Ends with the store.
async fn run_expiry(
    shared: std::sync::Weak<Shared>,
    max_age: Duration,
    closing: CancellationToken,
) {
    let pause = (max_age / 16).clamp(Duration::from_millis(100), Duration::from_mins(1));
    while closing.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        shared.update(|_| ());
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let mut missing = Vec::with_capacity(keys.len());
        for batch in keys.chunks(LOOKUP_BATCH) {
            self.shared.update(|index| {
                missing.extend(batch.iter().map(|key| index.look_up(key, Use::Promise).is_none()));
            });
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let payload = self
            .shared
            .update(|index| index.look_up(key, Use::Touch).map(|entry| Arc::clone(&entry.payload)));
        let counters = &self.shared.counters;
        let counter = if payload.is_some() { &counters.hits } else { &counters.misses };
        counter.add(1);
        Ok(payload.map(|payload| payload::read(payload, range)))
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        check_limit(size_bytes, self.max_blob_bytes)?;
        if self.has_blob(key) {
            return Ok(BeginPut::AlreadyPresent);
        }
        let filling = self.reserve(*key, size_bytes).await?;
        // Another upload of the blob may have ended while this one waited for room.
        if self.has_blob(key) {
            return Ok(BeginPut::AlreadyPresent);
        }
        let upload = MemoryUpload::new(&self.shared, *key, size_bytes, filling);
        Ok(BeginPut::Upload(Upload::Other(Box::new(upload))))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = data.len() as u64;
        check_limit(received_bytes, self.max_blob_bytes)?;
        if key.kind == Kind::Blob {
            check_size(key.digest, received_bytes)?;
        }
        if self.has_blob(key) {
            return self.shared.processors.verify(key.digest, data).await;
        }
        let filling = self.reserve(*key, received_bytes).await?;
        let filling = filling.append_all(&self.shared, data, received_bytes).await?;
        filling.publish(&self.shared, *key)
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        Ok(self.shared.update(|index| index.blob_with_hash(function, hash)))
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.shared.update(|index| index.remove(key)))
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        let shared = Arc::clone(&self.shared);
        let purging = async move { purge(&shared, selection).await };
        detached("purge", purging).await.ok_or(StoreError::ShuttingDown)?
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        let born = self.shared.update(|index| index.pin(key));
        let hold = |born| Pin::new(Hold { shared: Arc::clone(&self.shared), key: *key, born });
        Ok(born.map(hold))
    }

    fn max_blob_bytes(&self) -> u64 {
        self.max_blob_bytes
    }

    fn is_waiting_for_room(&self) -> bool {
        self.shared.look(|index| !index.waiters.is_empty())
    }
}

async fn purge(shared: &Shared, selection: Selection) -> Result<Purged, StoreError> {
    shared.counters.purges.add(1);
    // I16: from here on no write that has begun brings anything back.
    let moment = shared.update(|index| index.raise_fence(selection));
    let moment = moment.ok_or(StoreError::TooManyPurges)?;
    let mut removed = 0;
    let mut next = Some(u32::MAX);
    while let Some(from) = next {
        next = shared.update(|index| {
            let before = index.removals.purged;
            let rest = index.purge_below(&selection, moment, from, PURGE_BATCH);
            removed += index.removals.purged - before;
            rest
        });
        tokio::task::yield_now().await;
    }
    let have_ended = || shared.look(|index| !index.writers.has_fenced(&selection, moment));
    let is_drained = shared.wait_until(DRAIN, have_ended).await;
    tracing::info!(what = %selection, removed, is_drained, "purged from memory");
    Ok(Purged { removed, is_drained })
}

/// Keeps an entry until it is dropped.
#[derive(Debug)]
struct Hold {
    shared: Arc<Shared>,
    key: Key,
    born: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.update(|index| index.unpin(&self.key, self.born));
    }
}
