//! How durable an acknowledged write is, and how much of the store is known to be on the disk.
//!
//! I18: what the classes promise. A power cut takes what the kernel had not written yet, and the
//! names of files before their bytes. One `syncfs` makes both of everything so far durable, at a
//! fraction of what a sync for each file costs, so writers share rounds of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::layout::Generation;
use super::shared::Parts;
use super::sync::{Instant, sleep, sleep_until};
use crate::store::StoreError;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process. A power cut may take what the last `sync_interval` brought; what is
    /// left of it is never served wrong.
    #[default]
    Async,
    /// A power cut too: acknowledged after a sync that many writes share.
    Group,
    /// A power cut too: file and directory are synced for each write.
    Fsync,
}

/// The rounds of one store.
#[derive(Debug)]
pub(super) struct SyncRounds {
    /// Wakes the task for a round of the group class. Holds one call.
    wake: Notify,
    /// The number of the last round that has begun.
    begun: AtomicU64,
    /// The number of the last round that has ended, and of the last that failed.
    ended: watch::Sender<(u64, u64)>,
    /// Whether a sync has failed: what it should have put on the disk may never get there, and a
    /// later one that succeeds says nothing about it.
    has_failed: AtomicBool,
    /// How many changes there had been at the last checkpoint that was complete.
    written_down: AtomicU64,
}

impl Default for SyncRounds {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            begun: AtomicU64::new(0),
            ended: watch::channel((0, 0)).0,
            has_failed: AtomicBool::new(false),
            written_down: AtomicU64::new(u64::MAX),
        }
    }
}

impl SyncRounds {
    /// Waits for a round that begins after this call. Cancel safe.
    ///
    /// A failed round is final for all who wait for it: the kernel has dropped what it could not
    /// write, and a second sync would say that all is well.
    pub(super) async fn next_round(&self) -> Result<(), StoreError> {
        let mut ended = self.ended.subscribe();
        let round = self.begun.load(Ordering::SeqCst) + 1;
        self.wake.notify_one();
        let closed = |_| StoreError::ShuttingDown;
        let (_, failed) = *ended.wait_for(|(last, _)| *last >= round).await.map_err(closed)?;
        if failed >= round {
            let source = io::Error::other("the disk did not take what was written");
            return Err(StoreError::Io { operation: "sync a round of writes", source });
        }
        Ok(())
    }

    /// Whether the disk has dropped something that was written.
    pub(super) fn have_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn end(&self, round: u64, is_synced: bool) {
        self.ended.send_modify(|(last, failed)| {
            *last = round;
            if !is_synced {
                *failed = round;
            }
        });
    }
}

/// Runs the rounds until the store closes: those that the group class asks for, and one each
/// `sync_interval`.
pub(super) async fn run_syncer(parts: Arc<Parts>, closing: CancellationToken) {
    // Kept over the turns: writes that never cease must not put it off.
    let mut due_at = Instant::now() + parts.settings.sync_interval;
    loop {
        let is_due = tokio::select! {
            biased;
            () = closing.cancelled() => return finish(&parts).await,
            () = sleep_until(due_at) => true,
            () = parts.rounds.wake.notified() => false,
        };
        if is_due {
            due_at = Instant::now() + parts.settings.sync_interval;
            checkpoint(&parts).await;
        } else {
            // Those who come meanwhile share the round.
            sleep(parts.settings.group_interval).await;
            sync_round(&parts).await;
        }
    }
}

/// The last round, for those who still wait and those who come too late.
async fn finish(parts: &Arc<Parts>) {
    if parts.settings.durability == Durability::Group {
        sync_round(parts).await;
    }
    parts.rounds.ended.send_modify(|(last, _)| *last = u64::MAX);
}

async fn sync_round(parts: &Arc<Parts>) -> bool {
    let round = parts.rounds.begin();
    let worker = Arc::clone(parts);
    let synced = parts.pool.run_unmetered(move || worker.disk.sync()).await;
    let is_synced = matches!(synced, Ok(Ok(())));
    if !is_synced {
        parts.rounds.has_failed.store(true, Ordering::Release);
        parts.counters.sync_failures.add(1);
        tracing::error!(outcome = ?synced, "what was written may not be on the disk");
    }
    parts.rounds.end(round, is_synced);
    is_synced
}

/// Syncs and writes down what is on the disk now, unless nothing has changed.
async fn checkpoint(parts: &Arc<Parts>) {
    let changes = parts.counters.changes();
    if parts.rounds.written_down.load(Ordering::Relaxed) == changes {
        return;
    }
    let mark = Mark::take(parts);
    if !sync_round(parts).await {
        return;
    }
    let worker = Arc::clone(parts);
    let written = parts.pool.run_unmetered(move || mark.write_down(&worker)).await;
    match written {
        Ok(Ok(true)) => parts.rounds.written_down.store(changes, Ordering::Relaxed),
        Ok(Ok(false)) => {}
        outcome => tracing::warn!(?outcome, "what is on the disk is not written down"),
    }
}

/// What a sync that begins now will have put on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Every file of a generation below this has its name.
    named_below: Generation,
    /// Every removal for a purge up to this has been made.
    purged_before: u64,
}

impl Mark {
    pub(super) fn take(parts: &Parts) -> Self {
        let purged_before = parts.purged_before();
        let named_below = parts.index.lock(|index| index.all_named_below());
        Self { named_below, purged_before }
    }

    /// After the sync; false when there are files in doubt, so that it must be done again.
    /// Blocking.
    pub(super) fn write_down(self, parts: &Parts) -> io::Result<bool> {
        parts.index.lock(|index| index.lower_fences(self.purged_before));
        // While there are files that the last power cut may have torn, a crash must find them
        // above the mark again.
        let is_in_doubt = parts.is_in_doubt();
        parts.state.update(parts, |format| {
            if !is_in_doubt {
                format.durable = Some(self.named_below);
                parts.state.stamp_identity(format);
            }
        })?;
        Ok(!is_in_doubt)
    }
}
