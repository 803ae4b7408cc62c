//! The tiered store: a fast store before a slow one.
//!
//! The slow tier says what is there; the fast one holds copies, and what is on its way to the slow
//! one. Neither a full nor a failing fast tier fails anything, but where it is the only one that
//! takes writes. Read in this order: [`options`], [`populate`], [`upload`], [`writes`], [`queue`],
//! [`copies`], [`results`], [`fence`], [`purge`].

mod copies;
mod counters;
mod fence;
mod flights;
mod options;
mod parts;
mod populate;
mod purge;
mod queue;
mod results;
#[cfg(test)]
pub(super) mod tests;
mod upload;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use counters::TieredStats;
pub use options::{Direction, TieredOptions, WriteBehindOptions};

use super::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Pin, Purged, Selection, StoreError,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use parts::{Parts, bounded};

/// How long a stop waits for what it has broken off.
const GRACE: Duration = Duration::from_secs(5);

/// A fast store before a slow one.
#[derive(Debug)]
pub struct TieredStore {
    parts: Arc<Parts>,
}

impl TieredStore {
    /// Puts `fast` before `slow`. Copies behind writes go on in tasks of their own until
    /// [`TieredStore::shutdown`], or until the store is dropped.
    pub fn new(
        fast: Arc<dyn BlobStore>,
        slow: Arc<dyn BlobStore>,
        options: TieredOptions,
    ) -> Arc<Self> {
        let parts = Parts::new(fast, slow, &options);
        let workers = options.write_behind.map_or(0, |it| it.max_concurrent_copies.max(1));
        for _ in 0..workers {
            parts.spawn("copies to the slow tier", copies::run_worker(Arc::clone(&parts)));
        }
        Arc::new(Self { parts })
    }

    /// Gauges and counters.
    pub fn stats(&self) -> TieredStats {
        self.parts.stats()
    }

    /// Accepts no more writes behind, copies what is queued until `deadline` has passed, and ends
    /// every task (I17). What is left then counts as cancelled. Writes that come later go through.
    ///
    /// Lasts at most a few seconds longer than `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        let parts = &self.parts;
        if let Some(queue) = &parts.queue {
            queue.close();
        }
        parts.tasks.close();
        if tokio::time::timeout(deadline, parts.tasks.wait()).await.is_ok() {
            return;
        }
        parts.break_off();
        if tokio::time::timeout(GRACE, parts.tasks.wait()).await.is_err() {
            let left = parts.tasks.len();
            tracing::warn!(left, "tasks of a tiered store are still at work");
        }
    }

    /// Waits until no task has anything to do.
    #[cfg(test)]
    async fn quiesce(&self) {
        loop {
            let is_idle = self.parts.queue.as_ref().is_none_or(|queue| queue.is_idle());
            if is_idle && self.parts.flights.len() == 0 && self.parts.fence.len() == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for TieredStore {
    fn drop(&mut self) {
        self.parts.break_off();
    }
}

#[async_trait]
impl BlobStore for TieredStore {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let parts = &self.parts;
        if !parts.roles.has_fast {
            return parts.slow.find_missing(keys).await;
        }
        if !parts.roles.has_slow {
            return parts.fast.find_missing(keys).await;
        }
        // Before the slow tier is asked: what it gets after its answer is pending now.
        let pending = parts.pending(keys);
        // The fast tier is asked in any case: that keeps there what is in use.
        let (slow, fast) =
            tokio::join!(parts.slow.find_missing(keys), bounded(parts.fast.find_missing(keys)));
        let fast = fast.unwrap_or_else(|error| {
            tracing::debug!(%error, "fast tier not asked");
            vec![true; keys.len()]
        });
        if parts.roles.fast_counts && !fast.contains(&true) && fast.len() == keys.len() {
            return Ok(fast);
        }
        let mut missing = slow?;
        for (at, is_missing) in missing.iter_mut().enumerate() {
            let is_in_fast = fast.get(at) == Some(&false);
            let is_ahead = match pending.get(at) {
                Some(parts::Pending::Held) => true,
                Some(parts::Pending::InFast) => is_in_fast,
                Some(parts::Pending::No) | None => parts.roles.fast_counts && is_in_fast,
            };
            *is_missing &= !is_ahead;
        }
        Ok(missing)
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        let parts = &self.parts;
        if let Some(reader) = parts.open_fast(key, range).await {
            return Ok(Some(reader));
        }
        if let Some(reader) = parts.open_held(key, range) {
            return Ok(Some(reader));
        }
        // Of what is no blob the size is not known.
        let size_bytes = (key.kind == Kind::Blob).then_some(key.digest.size_bytes);
        let reads_all = range.limit.is_none_or(|limit| size_bytes.is_some_and(|it| limit >= it));
        let is_too_large = size_bytes.is_some_and(|it| it > parts.fast.max_blob_bytes());
        if !parts.roles.populates || range.offset > 0 || !reads_all || is_too_large {
            return parts.open_slow(key, range).await;
        }
        if results::is_replaced(key) {
            results::read(parts, key).await
        } else {
            populate::read(parts, key).await
        }
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        writes::begin_put(&self.parts, key, size_bytes).await
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        writes::put(&self.parts, key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        let parts = &self.parts;
        if parts.roles.has_fast {
            let found = parts.fast.find_by_hash(function, hash).await;
            if let Some(digest) = found.or_else(|error| parts.excuse_fast(error))? {
                let key = Key::blob(digest);
                // The slow tier may know by size what it does not know by hash alone.
                if parts.roles.fast_counts
                    || parts.is_pending(&key)
                    || parts.slow.find_missing(&[key]).await? == [false]
                {
                    return Ok(Some(digest));
                }
            }
        }
        if !parts.roles.has_slow && parts.roles.has_fast {
            return Ok(None);
        }
        parts.slow.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        purge::remove(&self.parts, *key).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        purge::purge(&self.parts, selection).await
    }

    async fn pin(&self, key: &Key) -> Result<Option<Pin>, StoreError> {
        let parts = &self.parts;
        let slow = if parts.roles.has_slow { parts.slow.pin(key).await? } else { None };
        let fast = if parts.roles.has_fast {
            let pinned = bounded(parts.fast.pin(key)).await;
            pinned.or_else(|error| parts.excuse_fast(error))?
        } else {
            None
        };
        // What only the fast tier keeps is missing when the slow one has evicted it.
        let is_kept = slow.is_some() || (fast.is_some() && parts.roles.fast_counts);
        Ok(is_kept.then(|| Pin::new((slow, fast))))
    }

    fn max_blob_bytes(&self) -> u64 {
        let parts = &self.parts;
        let decides = if parts.roles.answers_fast() { &parts.fast } else { &parts.slow };
        decides.max_blob_bytes()
    }

    fn is_waiting_for_room(&self) -> bool {
        self.parts.fast.is_waiting_for_room() || self.parts.slow.is_waiting_for_room()
    }
}
