//! Purges of a part, looked at before and then carried out.
//!
//! A fence cuts off a namespace or everything. What is chosen otherwise has no place on the line of
//! logical time: it is taken out, writes of a purged hash that are under way are revoked, and a
//! sync makes it last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::former::{self, originals};
use super::purge::{self, DRAIN};
use super::shared::{Parts, Shared};
use super::sync;
use crate::store::{Purged, Selection, StoreError};

/// Slots looked at under one hold of the index lock.
const BATCH: usize = 1024;

/// What a selection holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Number of entries.
    pub entries: u64,
    /// What they take, in bytes, executable variants included.
    pub charged_bytes: u64,
}

/// Counts what a purge would take out. Waits until every directory has been read.
pub(super) async fn select(
    parts: &Arc<Parts>,
    selection: Selection,
) -> Result<Selected, StoreError> {
    wait_for_loader(parts).await?;
    wait_for_former(parts, &selection).await?;
    let mut selected = Selected::default();
    let mut next = Some(0);
    while let Some(from) = next {
        let (batch, rest) = parts.index.lock(|index| index.selected_from(&selection, from, BATCH));
        selected.entries += batch.len() as u64;
        selected.charged_bytes += batch.iter().map(|(_, bytes)| bytes).sum::<u64>();
        next = rest;
        tokio::task::yield_now().await;
    }
    Ok(selected)
}

/// Takes out what is selected. When it returns, nothing of it that was written or begun before the
/// call is readable or can become so, restarts included (I16).
///
/// Cancel safe: a purge that has begun goes on.
pub(super) async fn purge(
    shared: &Arc<Shared>,
    selection: Selection,
) -> Result<Purged, StoreError> {
    if let Selection::Scope(scope) = selection {
        return purge::purge(shared, scope).await;
    }
    let (report, outcome) = oneshot::channel();
    let worker = Arc::clone(&shared.parts);
    sync::spawn("purge", async move {
        drop(report.send(purge_here(&worker, selection).await));
    });
    outcome.await.map_err(|_| StoreError::ShuttingDown)?
}

async fn purge_here(parts: &Arc<Parts>, selection: Selection) -> Result<Purged, StoreError> {
    wait_for_loader(parts).await?;
    wait_for_former(parts, &selection).await?;
    if parts.index.lock(|index| index.is_closed()) {
        return Err(StoreError::ShuttingDown);
    }
    parts.counters.purges.add(1);
    let failures = || parts.counters.evict_unlink_failures.get();
    let failed_before = failures();
    // I16: from here on no write that has begun brings it back. One under way is of no age yet.
    let revoked = match selection {
        Selection::Hash(hash) => {
            let revoked = parts.index.lock(|index| index.revoke(hash));
            Some(revoked.ok_or(StoreError::TooManyPurges)?)
        }
        Selection::Scope(_) | Selection::ResultsOlderThan { .. } => None,
    };
    let removed = remove(parts, selection).await?;
    let have_ended =
        || revoked.is_none_or(|at| parts.index.lock(|index| index.writers_before(at)) == 0);
    let is_drained = parts.wait_until(DRAIN, have_ended).await;
    parts.rounds.next_round().await?;
    if failures() != failed_before {
        // A crash would bring back what still has its file.
        let source = std::io::Error::other("a file could not be unlinked; it is tried again");
        return Err(StoreError::Io { operation: "purge", source });
    }
    let root = parts.disk.root_path().display();
    tracing::info!(%root, what = %selection, removed, is_drained, "purged");
    Ok(Purged { removed, is_drained })
}

async fn remove(parts: &Arc<Parts>, selection: Selection) -> Result<u64, StoreError> {
    let worker = Arc::clone(parts);
    let job = move || {
        let _held = match &selection {
            // Or it would be taken over once more.
            Selection::Hash(hash) => former::hold(&worker, hash),
            Selection::Scope(_) | Selection::ResultsOlderThan { .. } => None,
        };
        let mut removed = 0;
        let mut next = Some(0);
        while let Some(from) = next {
            let (victims, rest) = worker.index.lock(|index| {
                let (batch, rest) = index.selected_from(&selection, from, BATCH);
                let files = batch.into_iter().map(|(file, _)| file);
                let victims = files.filter_map(|file| index.remove(&file, purge::REASON));
                (victims.collect::<Vec<_>>(), rest)
            });
            removed += victims.len() as u64;
            worker.bury(victims);
            next = rest;
        }
        if let Selection::Hash(hash) = &selection {
            originals::remove_of_hash(&worker, hash)?;
        }
        Ok(removed)
    };
    let removed: io::Result<u64> = parts.pool.run_unmetered(job).await?;
    removed.map_err(|error| StoreError::io("purge", error))
}

/// How long a purge waits for directories that are still being read.
const LOADING: Duration = Duration::from_mins(1);

/// Makes sure that what another server has left of a selection is taken over.
async fn wait_for_former(parts: &Arc<Parts>, selection: &Selection) -> Result<(), StoreError> {
    let is_done = || parts.former.is_done();
    let source = match *selection {
        _ if is_done() => return Ok(()),
        Selection::Hash(hash) => {
            let worker = Arc::clone(parts);
            let sought = parts.pool.run_unmetered(move || former::seek_hash(&worker, &hash));
            sought.await?.err()
        }
        Selection::Scope(_) | Selection::ResultsOlderThan { .. } => {
            let is_done = parts.wait_until(LOADING, is_done).await;
            (!is_done).then(|| std::io::ErrorKind::TimedOut.into())
        }
    };
    let operation = "wait until what another server has left is taken over";
    source.map_or(Ok(()), |source| Err(StoreError::Io { operation, source }))
}

async fn wait_for_loader(parts: &Arc<Parts>) -> Result<(), StoreError> {
    let is_read = || parts.index.lock(|index| index.unread_shards()) == 0;
    if is_read() || parts.wait_until(LOADING, is_read).await {
        return Ok(());
    }
    let source = std::io::ErrorKind::TimedOut.into();
    Err(StoreError::Io { operation: "wait until every directory is read", source })
}
