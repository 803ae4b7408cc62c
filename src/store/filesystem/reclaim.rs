//! The evictor: one long-lived task per store that keeps room free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::shared::Parts;

/// Unlinks between two looks at the index.
const BATCH: usize = 64;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_mins(1);

/// What the evictor was woken by.
enum Wake {
    Poke,
    /// An unlink failed: the next turn waits for the time to try it again.
    Failure,
    RetryDue,
    Stop,
}

/// Runs until the store closes or the last handle is dropped, then converges once more and ends
/// (I13).
///
/// It holds the parts but no handle and no sender, so it never keeps the store alive. Pokes that
/// come while it works coalesce in the channel's single place: none is lost, because a pass looks
/// at the index after the poke has been taken out.
pub(super) async fn run_evictor(
    parts: Arc<Parts>,
    mut pokes: mpsc::Receiver<()>,
    closing: CancellationToken,
) {
    let mut retry = Retry::default();
    loop {
        let retry_at = retry.due(!parts.failed.lock().is_empty());
        let wake = tokio::select! {
            biased;
            () = closing.cancelled() => Wake::Stop,
            poke = pokes.recv() => if poke.is_some() { Wake::Poke } else { Wake::Stop },
            () = parts.has_failed.notified(), if retry_at.is_none() => Wake::Failure,
            () = sleep_until_some(retry_at), if retry_at.is_some() => Wake::RetryDue,
        };
        if matches!(wake, Wake::RetryDue) {
            retry_failed(&parts).await;
            retry.back_off();
        }
        converge(&parts).await;
        if matches!(wake, Wake::Stop) {
            retry_failed(&parts).await;
            return;
        }
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
        parts.counters.evictions.add(victims.len() as u64);
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
