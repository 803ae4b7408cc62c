//! How a store stops: in order, each stage bounded, and honest about how far it came.
//!
//! I17: after it no task, descriptor or temporary file is left, and the format file says `clean`
//! only if every stage has finished. A kill at any point is an unclean start and nothing worse.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::index::Index;
use super::layout::{Generation, Shard, fixed_directories};
use super::shared::{Parts, Shared};
use super::snapshots::{self, SNAPSHOT_NAME};
use super::state::FORMAT_NAME;
use super::sync::{Instant, Task, timeout};
use super::tombstone_log::REMOVED_NAME;
use super::{loader, purge};
use crate::store::PurgeScope;

/// How long a stop waits for writes, variants and purges under way.
const WRITES_STOP: Duration = Duration::from_secs(10);
/// How long it waits for all tasks of the store.
const TASKS_STOP: Duration = Duration::from_secs(10);
/// How long it waits for the disk: for the values and the snapshot.
const DISK_STOP: Duration = Duration::from_secs(30);

/// What a stop leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleanup {
    /// Everything, for the next start.
    #[default]
    Keep,
    /// Nothing of the store's own: for a store that lives as long as one job.
    Remove,
}

/// Stops the store; see [`super::FilesystemStore::shutdown`].
pub(super) async fn stop(
    shared: &Arc<Shared>,
    tasks: Vec<Task>,
    cleanup: Cleanup,
) -> io::Result<()> {
    let parts = &shared.parts;
    if cleanup == Cleanup::Remove
        && let Err(error) = purge::purge(shared, PurgeScope::All).await
    {
        tracing::warn!(%error, "not everything is removed");
    }
    // Outside of the lock: whoever waits for room wakes up and finds the store closed.
    drop(parts.index.lock(Index::close));
    parts.write_ended.notify_waiters();
    // Uploads that go on are refused at their end; what has its name already is waited for.
    let is_publishing = || parts.index.lock(|index| index.is_publishing());
    let have_ended = || !is_publishing() && shared.variants.is_empty();
    let writes_ended = parts.wait_until(WRITES_STOP, have_ended).await;
    if !writes_ended {
        tracing::warn!("writes still under way, not waiting any longer");
    }
    // A write that is refused at the last moment has ended before its file is gone.
    let are_gone =
        || parts.index.lock(|index| index.are_victims_gone() || index.has_stuck_victims());
    parts.wait_until(WRITES_STOP, are_gone).await;
    shared.close();
    let tasks_ended = end(tasks).await;
    let worker = Arc::clone(parts);
    let is_quiet = writes_ended && tasks_ended;
    let stopping = parts.pool.run_unmetered(move || {
        let stopped = match cleanup {
            Cleanup::Keep => keep(&worker, is_quiet),
            Cleanup::Remove => remove(&worker),
        };
        // Here, and nowhere else: who waits may give up, but what is written may not be another's.
        worker.disk.unlock();
        stopped
    });
    match timeout(DISK_STOP, stopping).await {
        Ok(stopped) => stopped.map_err(io::Error::other)?,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the disk did not sync in time")),
    }
}

/// Waits for the tasks; ends those that take too long. True when none did.
async fn end(tasks: Vec<Task>) -> bool {
    let mut have_ended = true;
    let until = Instant::now() + TASKS_STOP;
    for mut task in tasks {
        match timeout(until.saturating_duration_since(Instant::now()), task.join()).await {
            Ok(Ok(())) => {}
            // It was logged where it happened.
            Ok(Err(_)) => have_ended = false,
            Err(_) => {
                tracing::warn!("a task of the store is still at work, ended");
                task.abort();
                have_ended = false;
            }
        }
    }
    have_ended
}

/// Puts everything on the disk and writes down that this was the end. Blocking.
fn keep(parts: &Parts, is_quiet: bool) -> io::Result<()> {
    parts.tombstones.flush();
    // Before everything stays as it is: it may have to evict.
    let room = snapshots::make_room(parts);
    // A store that is stopped before it was read has nothing to say about what it did not read.
    let is_complete = parts.index.lock(Index::freeze);
    parts.disk.sync()?;
    let is_whole = !parts.rounds.have_failed() && parts.failed.lock().is_empty();
    let is_clean = is_quiet && is_complete && is_whole;
    let is_in_doubt = parts.is_in_doubt();
    let snapshot = room.filter(|_| is_clean).map(snapshots::write).transpose()?;
    parts.state.update(parts, |format| {
        let clock = parts.index.lock(|index| index.clock());
        if is_clean && !is_in_doubt {
            format.durable = Some(Generation(clock + 1));
            parts.state.stamp_identity(format);
        }
        format.clean = snapshot;
    })
}

/// Removes what the store has made. What is not its own stays. Blocking.
fn remove(parts: &Parts) -> io::Result<()> {
    // What the purge has not seen: what was not read yet, what came while it waited.
    let mut scratch = loader::Scratch::default();
    for shard in Shard::all() {
        loader::load_shard(parts, shard, &mut scratch)?;
    }
    purge::remove(parts, PurgeScope::All, u64::MAX);
    for shard in Shard::all() {
        parts.disk.remove_empty_directory(&shard.path());
    }
    for path in fixed_directories().iter().rev() {
        parts.disk.remove_empty_directory(path);
    }
    parts.disk.remove_empty_directory("tmp");
    // The fence must outlive what it holds back.
    if parts.index.lock(|index| index.len() > 0 || !index.are_victims_gone()) {
        return Err(io::Error::other("not everything could be removed"));
    }
    for path in [SNAPSHOT_NAME, REMOVED_NAME, FORMAT_NAME, "LOCK"] {
        parts.disk.remove_own(path)?;
    }
    Ok(())
}
