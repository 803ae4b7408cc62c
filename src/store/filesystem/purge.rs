//! Purges: what is there goes, and what is on its way never arrives (I16).
//!
//! A purge raises a fence on the line of logical time and writes it down before anything else.
//! From then on nothing older becomes visible: a write that began before the fence is refused at
//! its publication, a file that lies on the disk behind it is unlinked when its shard is read, in
//! this process or after a crash. Taking out what is there is then only tidying up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::former::{self, originals};
use super::loader;
use super::shared::{Parts, Shared};
use super::sync::{self, Mutex};
use super::tombstones::Reason;
use crate::store::{Key, PurgeScope, Purged, StoreError};

/// Slots looked at under one hold of the index lock.
const BATCH: usize = 1024;
/// How long a purge waits for the writes that it has cut off to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// Why what a purge takes out has left.
pub(super) const REASON: Reason = Reason::Purged;

/// The purges of one store.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The fences of those under way.
    active: Mutex<Vec<u64>>,
}

impl Purges {
    /// Looks at something while no purge begins or ends, with the fence of the oldest under way.
    pub(super) fn hold<R>(&self, look: impl FnOnce(Option<u64>) -> R) -> R {
        let active = self.active.lock();
        look(active.iter().min().copied())
    }
}

/// Purges what is there now and what began before. When it returns nothing older is readable or
/// can ever become so, restarts included.
///
/// Cancel safe: a purge that has begun goes on.
pub(super) async fn purge(shared: &Arc<Shared>, scope: PurgeScope) -> Result<Purged, StoreError> {
    let (report, outcome) = oneshot::channel();
    let worker = Arc::clone(shared);
    sync::spawn("purge", async move {
        drop(report.send(purge_here(&worker.parts, scope).await));
    });
    outcome.await.map_err(|_| StoreError::ShuttingDown)?
}

async fn purge_here(parts: &Arc<Parts>, scope: PurgeScope) -> Result<Purged, StoreError> {
    parts.counters.purges.add(1);
    let fence = {
        // Known to be under way before it is up, so that no sync takes it down too early.
        let mut active = parts.purges.active.lock();
        let fence = parts.index.lock(|index| index.raise_fence(scope));
        active.extend(fence);
        fence
    };
    let Some(fence) = fence else {
        let is_closed = parts.index.lock(|index| index.is_closed());
        return Err(if is_closed { StoreError::ShuttingDown } else { StoreError::TooManyPurges });
    };
    let outcome = purge_behind(parts, scope, fence).await;
    parts.purges.active.lock().retain(|it| *it != fence);
    outcome
}

async fn purge_behind(
    parts: &Arc<Parts>,
    scope: PurgeScope,
    fence: u64,
) -> Result<Purged, StoreError> {
    let worker = Arc::clone(parts);
    // Durable before anything is told (I16).
    let written = parts.pool.run_unmetered(move || worker.state.update(&worker, |_| ())).await?;
    // Also when that failed: the fence is up, and may be written down by the next who writes.
    let worker = Arc::clone(parts);
    let removed = parts.pool.run_unmetered(move || remove(&worker, scope, fence)).await?;
    let have_ended = || parts.index.lock(|index| index.writers_before(fence)) == 0;
    let is_drained = parts.wait_until(DRAIN, have_ended).await;
    written.map_err(|error| StoreError::io("write a purge down", error))?;
    let root = parts.disk.root_path().display();
    tracing::info!(%root, what = ?scope, removed, is_drained, "purged");
    Ok(Purged { removed, is_drained })
}

/// Takes out and unlinks everything behind a fence. Blocking.
pub(super) fn remove(parts: &Parts, scope: PurgeScope, fence: u64) -> u64 {
    let mut removed = 0;
    let mut next = Some(0);
    while let Some(from) = next {
        let (victims, rest) = parts.index.lock(|index| index.purge_from(scope, fence, from, BATCH));
        removed += victims.len() as u64;
        parts.bury(victims);
        next = rest;
    }
    removed
}

/// Removes one value for a client; false when it was not there. Cancel safe: it has or has not.
pub(super) async fn remove_one(shared: &Arc<Shared>, key: Key) -> Result<bool, StoreError> {
    let parts = &shared.parts;
    loader::ensure(parts, &[key]).await?;
    let worker = Arc::clone(parts);
    let job = move || {
        // Or it would be taken over once more.
        let _held = former::hold(&worker, &key.digest.hash);
        let victim = worker.index.lock(|index| {
            let found = index.peek(&key)?;
            index.remove(&found.file, REASON)
        });
        let is_removed = victim.is_some();
        worker.bury(victim.into_iter().collect());
        originals::remove_of_key(&worker, &key)?;
        Ok(is_removed)
    };
    let removed: io::Result<bool> = parts.pool.run(job).await?;
    removed.map_err(|error| StoreError::io("remove a value", error))
}
