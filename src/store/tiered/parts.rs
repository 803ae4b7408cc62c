//! What a tiered store and its tasks share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::{Counters, TieredStats};
use super::fence::Fence;
use super::flights::Flights;
use super::options::{Roles, TieredOptions};
use super::queue::Queue;
use super::results::Lanes;
use crate::shutdown;
use crate::store::{BlobReader, BlobStore, ByteRange, Key, StoreError};

/// The longest wait for a fast tier that the slow one can do without.
const FAST_PATIENCE: Duration = Duration::from_secs(10);

/// What a tiered store and its tasks share. The store holds it, and tells the tasks to end when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) fast: Arc<dyn BlobStore>,
    pub(super) slow: Arc<dyn BlobStore>,
    pub(super) roles: Roles,
    pub(super) fence: Arc<Fence>,
    pub(super) flights: Arc<Flights>,
    pub(super) lanes: Lanes,
    /// `None` when writes are not acknowledged before the slow tier has them.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) max_attempts: u32,
    pub(super) counters: Counters,
    pub(super) tasks: TaskTracker,
    /// Ends the tasks that clients can do without.
    pub(super) broken_off: CancellationToken,
}

/// Whether a value is on its way to the slow tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    No,
    /// Its bytes are in the queue.
    Held,
    /// Its bytes are in the fast tier.
    InFast,
}

impl Parts {
    pub(super) fn new(
        fast: Arc<dyn BlobStore>,
        slow: Arc<dyn BlobStore>,
        options: &TieredOptions,
    ) -> Arc<Self> {
        let roles = Roles::of(options);
        let behind =
            options.write_behind.filter(|_| roles.writes == super::options::Writes::Behind);
        let queue = behind.map(|behind| Queue::new(&behind, fast.max_blob_bytes()));
        Arc::new(Self {
            fast,
            slow,
            roles,
            fence: Arc::default(),
            flights: Arc::default(),
            lanes: Lanes::default(),
            queue,
            max_attempts: behind.map_or(1, |behind| behind.max_attempts.max(1)),
            counters: Counters::default(),
            tasks: TaskTracker::new(),
            broken_off: CancellationToken::new(),
        })
    }

    /// Spawns a task that a stop waits for.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        drop(shutdown::spawn(name, self.tasks.track_future(task)));
    }

    /// Begins work in a task of its own that a stop waits for, and that goes on when nobody waits
    /// for its outcome any more.
    pub(super) fn detached<T, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let done = shutdown::detached(name, self.tasks.track_future(work));
        async move { done.await.ok_or(StoreError::ShuttingDown)? }
    }

    /// Accepts nothing any more, lets go of what is queued, and ends copies and populations.
    pub(super) fn break_off(&self) {
        self.broken_off.cancel();
        if let Some(queue) = &self.queue {
            queue.close();
            let left = queue.cancel(|_, _| true);
            if left > 0 {
                tracing::error!(left, "acknowledged values are in the fast tier only");
            }
        }
    }

    /// Opens a value in the fast tier; an error of it is as good as absence.
    pub(super) async fn open_fast(&self, key: &Key, range: ByteRange) -> Option<BlobReader> {
        if !self.roles.has_fast {
            return None;
        }
        match bounded(self.fast.get(key, range)).await {
            Ok(reader) => {
                if reader.is_some() {
                    self.counters.hits_fast.rise();
                }
                reader
            }
            Err(error) => {
                self.counters.fast_read_failures.rise();
                tracing::warn!(%error, %key, "fast tier failed a read");
                None
            }
        }
    }

    /// Opens a value that waits in the queue.
    pub(super) fn open_held(&self, key: &Key, range: ByteRange) -> Option<BlobReader> {
        let data = self.held(key)?;
        self.counters.hits_fast.rise();
        let start = usize::try_from(range.offset).unwrap_or(usize::MAX).min(data.len());
        let len = usize::try_from(range.len_within(data.len() as u64)).unwrap_or_default();
        Some(BlobReader::Bytes(data.slice(start..start.saturating_add(len).min(data.len()))))
    }

    /// Opens a value in the slow tier.
    pub(super) async fn open_slow(
        &self,
        key: &Key,
        range: ByteRange,
    ) -> Result<Option<BlobReader>, StoreError> {
        let reader = if self.roles.has_slow { self.slow.get(key, range).await? } else { None };
        let counter =
            if reader.is_some() { &self.counters.hits_slow } else { &self.counters.misses };
        counter.rise();
        Ok(reader)
    }

    /// The bytes of a value that waits in the queue.
    pub(super) fn held(&self, key: &Key) -> Option<Bytes> {
        self.queue.as_ref()?.held(key)
    }

    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.is_pending(key))
    }

    /// For each key whether it is on its way to the slow tier.
    pub(super) fn pending(&self, keys: &[Key]) -> Vec<Pending> {
        let Some(queue) = self.queue.as_ref().filter(|queue| !queue.is_idle()) else {
            return Vec::new();
        };
        let pending = |key| match (queue.is_pending(key), queue.held(key)) {
            (_, Some(_)) => Pending::Held,
            (true, None) => Pending::InFast,
            (false, None) => Pending::No,
        };
        keys.iter().map(pending).collect()
    }

    /// Makes absence of an error of the fast tier, unless its word is the only one.
    pub(super) fn excuse_fast<T>(&self, error: StoreError) -> Result<Option<T>, StoreError> {
        if !self.roles.has_slow {
            return Err(error);
        }
        self.counters.fast_read_failures.rise();
        tracing::warn!(%error, "fast tier failed a look-up");
        Ok(None)
    }

    /// Says that the fast tier goes without a value that was written.
    pub(super) fn note_fast_failure(&self, key: &Key, error: &StoreError) {
        self.counters.fast_write_failures.rise();
        tracing::warn!(%error, %key, "fast tier failed a write");
    }

    pub(super) fn stats(&self) -> TieredStats {
        let counters = &self.counters;
        let mut stats = TieredStats {
            hits_fast: counters.hits_fast.get(),
            hits_slow: counters.hits_slow.get(),
            misses: counters.misses.get(),
            populations: counters.populations.get(),
            population_failures: counters.population_failures.get(),
            fast_read_failures: counters.fast_read_failures.get(),
            fast_write_failures: counters.fast_write_failures.get(),
            ..TieredStats::default()
        };
        if let Some(queue) = &self.queue {
            queue.add_stats(&mut stats);
        }
        stats
    }
}

/// Does not wait for the fast tier for ever (I23).
pub(super) async fn bounded<T>(
    work: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    tokio::time::timeout(FAST_PATIENCE, work).await.unwrap_or_else(|_| {
        let what = "the fast tier did not answer in time".to_owned();
        Err(StoreError::Unavailable { what })
    })
}
