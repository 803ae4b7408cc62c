//! Purges and removals of a tiered store (I16).
//!
//! First the fence is raised, which cuts off what is on its way between the tiers and keeps more
//! from beginning, then both tiers are purged, then the fence comes down: nothing old is left to
//! come from anywhere.

use std::sync::Arc;
use std::time::Duration;

use super::fence::Taken;
use super::parts::Parts;
use super::results;
use crate::store::{Key, Purged, Selection, StoreError};

/// Purges both tiers and what is between them. Cancel safe: a purge that has begun goes on.
pub(super) async fn purge(parts: &Arc<Parts>, selection: Selection) -> Result<Purged, StoreError> {
    let worker = Arc::clone(parts);
    parts.detached("purge", async move { purge_here(&worker, selection).await }).await
}

/// Removes a value from both tiers. Cancel safe: what has begun goes on.
pub(super) async fn remove(parts: &Arc<Parts>, key: Key) -> Result<bool, StoreError> {
    let worker = Arc::clone(parts);
    parts.detached("removal", async move { remove_here(&worker, key).await }).await
}

async fn purge_here(parts: &Parts, selection: Selection) -> Result<Purged, StoreError> {
    let taken = Taken::Purged(selection);
    let raised = parts.fence.raise(taken);
    if let Some(queue) = &parts.queue {
        queue.cancel_cut();
    }
    let (slow, fast) = purge_tiers(parts, selection).await;
    // A read that began before must not be joined after.
    parts.flights.close(|key| taken.covers_stored(key));
    drop(raised);
    let (slow, fast) = (slow?, fast?);
    Ok(Purged {
        // Most of what the one has, the other has too.
        removed: slow.removed.max(fast.removed),
        is_drained: slow.is_drained && fast.is_drained,
    })
}

type Outcome = Result<Purged, StoreError>;

async fn purge_tiers(parts: &Parts, selection: Selection) -> (Outcome, Outcome) {
    let (slow, fast) = (&parts.slow, &parts.fast);
    match selection {
        // What the fast tier has is a copy, younger than what it is a copy of. So copies of any age
        // are meant; what goes too early is there in the slow tier, if that has been purged.
        Selection::ResultsOlderThan { namespace, .. }
            if parts.roles.has_slow && !parts.roles.fast_counts =>
        {
            let slow = slow.purge_selected(selection).await;
            let of_any_age = Selection::ResultsOlderThan { namespace, age: Duration::ZERO };
            let copies = if slow.is_ok() { of_any_age } else { selection };
            (slow, fast.purge_selected(copies).await)
        }
        // At the same time: both may wait for the same client's write to end.
        selection => tokio::join!(slow.purge_selected(selection), fast.purge_selected(selection)),
    }
}

async fn remove_here(parts: &Parts, key: Key) -> Result<bool, StoreError> {
    // What is being written somewhere may come to its end after a removal there, which is no fence.
    let lane = if results::is_replaced(&key) { parts.lanes.enter(&key).await.ok() } else { None };
    let raised = parts.fence.raise(Taken::Removed(key));
    if lane.is_none() {
        parts.fence.copies_ended(&key).await;
    }
    let claim = match &parts.queue {
        Some(queue) => {
            queue.cancel(|it, _| *it == key);
            queue.claim(&key).await.ok()
        }
        None => None,
    };
    let slow = parts.slow.remove(&key).await;
    let fast = parts.fast.remove(&key).await;
    parts.flights.close(|it| *it == key);
    drop((raised, claim, lane));
    // Both, whatever becomes of the first.
    Ok(slow? | fast?)
}
