//! The evictor: one long-lived task per store that keeps room free.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::full_disk;
use super::mutants::{self, Mutant};
use super::shared::Parts;
use super::sync::{Instant, sleep_until};

/// Unlinks between two looks at the index.
const BATCH: usize = 64;
/// How long a first failure is left alone.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_mins(1);
/// How often it is noticed that time passes and that others fill or clear the disk.
const TICK: Duration = Duration::from_secs(1);

/// What the evictor was woken by.
enum Wake {
    Poke,
    RetryDue,
    Tick,
    Stop,
}

/// Runs until the store closes or the last handle is dropped, then converges once more and ends
/// (I13).
///
/// Pokes that come while it works coalesce into one: none is lost, because a pass looks at the
/// index after the poke has been taken.
pub(super) async fn run_evictor(parts: Arc<Parts>, closing: CancellationToken) {
    let mut retry = Retry::default();
    let mut tick_at = Instant::now() + TICK;
    loop {
        let retry_at = retry.due(!parts.failed.lock().is_empty());
        let wake = tokio::select! {
            biased;
            () = closing.cancelled() => Wake::Stop,
            // Rare, and so before what may never cease.
            () = sleep_until(tick_at) => Wake::Tick,
            () = sleep_until_some(retry_at) => Wake::RetryDue,
            () = parts.wake.notified() => Wake::Poke,
        };
        match wake {
            Wake::RetryDue => {
                retry_failed(&parts).await;
                retry.back_off();
            }
            Wake::Tick => {
                tick_at = Instant::now() + TICK;
                pass_time(&parts).await;
            }
            Wake::Stop if mutants::is_on(Mutant::EvictorExitsEarly) => return,
            Wake::Poke | Wake::Stop => {}
        }
        converge(&parts).await;
        if matches!(wake, Wake::Stop) {
            retry_failed(&parts).await;
            return;
        }
    }
}

/// Ends leases, looks at the disk, writes removals down.
async fn pass_time(parts: &Arc<Parts>) {
    let worker = Arc::clone(parts);
    let passed = parts.pool.run_unmetered(move || {
        let now = worker.clock.now();
        while worker.index.lock(|index| index.set_now(now)) {}
        worker.tombstones.flush();
        let is_cut = worker.index.lock(|index| {
            let books = index.ledger();
            books.limit_bytes < books.max_bytes
        });
        if is_cut || worker.settings.min_free_bytes > 0 {
            full_disk::measure(&worker)
        } else {
            Ok(())
        }
    });
    if let Ok(Err(error)) = passed.await {
        tracing::warn!(%error, "free space not known");
    }
}

/// When failed unlinks are tried again: at a fixed time, however often the evictor is poked.
#[derive(Debug)]
struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { at: None, pause: RETRY_FIRST }
    }
}

impl Retry {
    fn due(&mut self, has_failed: bool) -> Option<Instant> {
        if has_failed {
            self.at.get_or_insert_with(|| Instant::now() + self.pause);
        } else {
            *self = Self::default();
        }
        self.at
    }

    fn back_off(&mut self) {
        self.at = None;
        self.pause = (self.pause * 2).min(RETRY_LAST);
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Evicts until the queue is served and the low-water mark is free, or nothing is left to evict.
async fn converge(parts: &Arc<Parts>) {
    parts.counters.evictor_passes.add(1);
    loop {
        let victims = parts.index.lock(|index| index.evict_to_low_water(BATCH));
        if victims.is_empty() {
            return;
        }
        let worker = Arc::clone(parts);
        if let Err(error) = parts.pool.run_unmetered(move || worker.bury(victims)).await {
            tracing::error!(%error, "eviction batch lost");
            return;
        }
    }
}

async fn retry_failed(parts: &Arc<Parts>) {
    let failed = std::mem::take(&mut *parts.failed.lock());
    if failed.is_empty() {
        return;
    }
    let worker = Arc::clone(parts);
    if let Err(error) = parts.pool.run_unmetered(move || worker.bury(failed)).await {
        tracing::error!(%error, "eviction retry lost");
    }
}
