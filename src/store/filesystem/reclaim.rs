//! The evictor: one long-lived task per store that keeps room free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::shared::Parts;

/// Unlinks between two looks at the index.
const BATCH: usize = 64;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_mins(1);

/// What the evictor was woken by.
enum Wake {
    Poke,
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
    let mut backoff = RETRY_FIRST;
    loop {
        let has_failed = !parts.failed.lock().is_empty();
        let wake = tokio::select! {
            biased;
            () = closing.cancelled() => Wake::Stop,
            poke = pokes.recv() => if poke.is_some() { Wake::Poke } else { Wake::Stop },
            () = sleep(backoff), if has_failed => Wake::RetryDue,
        };
        match wake {
            Wake::RetryDue => {
                retry_failed(&parts).await;
                backoff = (backoff * 2).min(RETRY_LAST);
            }
            _ if !has_failed => backoff = RETRY_FIRST,
            _ => {}
        }
        converge(&parts).await;
        if matches!(wake, Wake::Stop) {
            retry_failed(&parts).await;
            return;
        }
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
