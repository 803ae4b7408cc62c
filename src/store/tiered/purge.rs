//! Purges and removals of a tiered store (I16).
//!
//! First what is on its way is cut off, then the slow tier is purged, then what was read of it
//! meanwhile is cut off, then the fast tier is purged: nothing old is left to come from anywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::fence::Origin;
use super::parts::Parts;
use crate::store::{Key, Purged, Selection, StoreError};

/// Purges both tiers and what is between them. Cancel safe: a purge that has begun goes on.
pub(super) async fn purge(parts: &Arc<Parts>, selection: Selection) -> Result<Purged, StoreError> {
    let worker = Arc::clone(parts);
    detached(parts, async move { purge_here(&worker, selection).await }).await
}

/// Removes a value from both tiers. Cancel safe: what has begun goes on.
pub(super) async fn remove(parts: &Arc<Parts>, key: Key) -> Result<bool, StoreError> {
    let worker = Arc::clone(parts);
    detached(parts, async move { remove_here(&worker, key).await }).await
}

async fn detached<T: Send + 'static>(
    parts: &Parts,
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let (report, outcome) = oneshot::channel();
    parts.spawn("purge", async move { drop(report.send(work.await)) });
    outcome.await.map_err(|_| StoreError::ShuttingDown)?
}

async fn purge_here(parts: &Parts, selection: Selection) -> Result<Purged, StoreError> {
    cut(parts, |key, origin| selection.covers(key, origin.age_seconds()));
    let slow = parts.slow.purge_selected(selection).await;
    // What began since, but may have read what was there before. Clients' own writes go on.
    cut(parts, |key, origin| {
        origin != Origin::Client && selection.covers(key, origin.age_seconds())
    });
    // Also after a failure: what is gone is gone.
    let fast = parts.fast.purge_selected(of_copies(parts, selection)).await;
    let (slow, fast) = (slow?, fast?);
    Ok(Purged {
        // Most of what the one has, the other has too.
        removed: slow.removed.max(fast.removed),
        is_drained: slow.is_drained && fast.is_drained,
    })
}

/// What to purge of the fast tier. A copy there is younger than what it is a copy of, so that
/// copies of any age are meant; what is lost too early is there in the slow tier.
fn of_copies(parts: &Parts, selection: Selection) -> Selection {
    match selection {
        Selection::ResultsOlderThan { namespace, .. } if parts.roles.has_slow => {
            Selection::ResultsOlderThan { namespace, age: Duration::ZERO }
        }
        selection => selection,
    }
}

async fn remove_here(parts: &Parts, key: Key) -> Result<bool, StoreError> {
    let is_copy = |it: &Key, origin| *it == key && origin != Origin::Client;
    cut(parts, is_copy);
    let slow = parts.slow.remove(&key).await;
    cut(parts, is_copy);
    let fast = parts.fast.remove(&key).await;
    // Both, whatever becomes of the first.
    Ok(slow? | fast?)
}

/// Cuts off what is on its way, lets go of what waits, and ends the joining of old reads.
fn cut(parts: &Parts, is_selected: impl Fn(&Key, Origin) -> bool) {
    parts.fence.cut(&is_selected);
    if let Some(queue) = &parts.queue {
        queue.cancel_cut();
    }
    parts.flights.close(|key| is_selected(key, Origin::Stored));
}
