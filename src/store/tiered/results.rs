//! Values that are replaced: in both tiers the later one must win.
//!
//! Writes of one key, and reads that fill the fast tier with it, happen one at a time, in tasks
//! that end however soon their clients go away: so the fast tier never keeps a value that is older
//! than the slow tier's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::fence::{Origin, Ticket};
use super::flights::{Duty, Followed, Joined, Landing, follow};
use super::options::Writes;
use super::parts::{Parts, bounded};
use super::upload::commit_fast;
use super::writes::{Acceptance, MAX_HELD_BYTES, accept_held, put_fast, slot};
use crate::store::{BlobReader, ByteRange, Key, Kind, StoreError, Upload};

/// Keys that share a lane wait for each other.
const LANES: usize = 64;
/// The longest wait for those before in a lane.
const LANE_PATIENCE: Duration = Duration::from_secs(30);
/// A larger value is read past the fast tier.
const MAX_FETCH_BYTES: u64 = 4 << 20;

/// Whether a later value takes the place of an earlier one with other content. Of a derived value
/// any is as good as any other.
pub(super) fn is_replaced(key: &Key) -> bool {
    key.kind == Kind::ActionResult && !key.is_derived()
}

/// One at a time for each key.
#[derive(Debug)]
pub(super) struct Lanes(Vec<Arc<Mutex<()>>>);

impl Default for Lanes {
    fn default() -> Self {
        Self((0..LANES).map(|_| Arc::default()).collect())
    }
}

impl Lanes {
    /// Waits, bounded, for those before.
    pub(super) async fn enter(&self, key: &Key) -> Result<OwnedMutexGuard<()>, StoreError> {
        let [first, ..] = key.digest.hash;
        let lane = self.0.get(usize::from(first) % LANES).ok_or(StoreError::ShuttingDown)?;
        timeout(LANE_PATIENCE, Arc::clone(lane).lock_owned()).await.map_err(|_| {
            StoreError::Unavailable { what: format!("earlier work on {key} is still under way") }
        })
    }
}

/// Reads a whole value that the fast tier did not have. Cancel safe.
pub(super) async fn read(parts: &Arc<Parts>, key: &Key) -> Result<Option<BlobReader>, StoreError> {
    let progress = match parts.flights.join(key) {
        Joined::Leader(duty) => {
            let progress = duty.follow();
            parts.spawn("fetch a result", fetch(Arc::clone(parts), *key, duty));
            progress
        }
        Joined::Follower(progress) => progress,
    };
    match follow(progress).await {
        Followed::Landed(Landing::Whole(data)) => {
            parts.counters.hits_slow.rise();
            Ok(Some(BlobReader::Bytes(data)))
        }
        Followed::Landed(Landing::Absent) => {
            parts.counters.misses.rise();
            Ok(None)
        }
        // Whoever reads it there learns why.
        Followed::Landed(_) | Followed::Abandoned | Followed::Stalled => {
            parts.open_slow(key, ByteRange::ALL).await
        }
    }
}

async fn fetch(parts: Arc<Parts>, key: Key, duty: Duty) {
    // I16: from before the slow tier is asked.
    let ticket = parts.fence.begin(&key, Origin::Stored);
    let Ok(lane) = parts.lanes.enter(&key).await else {
        return duty.end(Landing::NotInFast);
    };
    let landing = fetch_alone(&parts, &key, &ticket).await.unwrap_or(Landing::NotInFast);
    // Before the lane is free: a reader who comes after the next write must not join.
    duty.end(landing);
    drop(lane);
}

async fn fetch_alone(parts: &Parts, key: &Key, ticket: &Ticket) -> Result<Landing, StoreError> {
    // What was written while this waited is newer than what the slow tier has.
    if let Some(data) = parts.held(key) {
        return Ok(Landing::Whole(data));
    }
    if let Ok(Some(reader)) = bounded(parts.fast.get(key, ByteRange::ALL)).await {
        return fetched(reader).await;
    }
    let Some(reader) = parts.slow.get(key, ByteRange::ALL).await? else {
        return Ok(Landing::Absent);
    };
    let landing = fetched(reader).await?;
    if let Landing::Whole(data) = &landing {
        let filled = ticket.guard(bounded(parts.fast.put(key, data.clone()))).await;
        match filled {
            Ok(()) => parts.counters.populations.rise(),
            Err(error) => {
                parts.counters.population_failures.rise();
                tracing::debug!(%error, %key, "no copy in the fast tier");
            }
        }
    }
    Ok(landing)
}

async fn fetched(reader: BlobReader) -> Result<Landing, StoreError> {
    if reader.remaining_bytes() > MAX_FETCH_BYTES {
        return Ok(Landing::NotInFast);
    }
    reader.read_all().await.map(Landing::Whole)
}

/// A value that a client writes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub(super) enum Incoming {
    Whole(Bytes),
    Upload {
        /// Into the tier that answers for it.
        first: Upload,
        fast: Option<Upload>,
    },
}

/// Stores a value in the place of an earlier one. Cancel safe: what has begun goes on.
pub(super) async fn store(
    parts: &Arc<Parts>,
    key: Key,
    ticket: Ticket,
    incoming: Incoming,
) -> Result<(), StoreError> {
    // Here, so that what is begun and dropped comes before what is begun later.
    let lane = parts.lanes.enter(&key).await?;
    let worker = Arc::clone(parts);
    let storing = async move {
        let stored = store_here(&worker, &key, ticket, incoming).await;
        drop(lane);
        stored
    };
    parts.detached("store a result", storing).await
}

async fn store_here(
    parts: &Parts,
    key: &Key,
    ticket: Ticket,
    incoming: Incoming,
) -> Result<(), StoreError> {
    match (incoming, parts.roles.writes) {
        (Incoming::Whole(data), Writes::Fast) => ticket.guard(parts.fast.put(key, data)).await,
        (Incoming::Upload { first, .. }, Writes::Fast) => first.commit().await,
        (Incoming::Whole(data), Writes::Behind) => store_behind(parts, key, ticket, data).await,
        (incoming, _) => store_through(parts, key, &ticket, incoming).await,
    }
}

async fn store_behind(
    parts: &Parts,
    key: &Key,
    ticket: Ticket,
    data: Bytes,
) -> Result<(), StoreError> {
    let is_small = data.len() <= MAX_HELD_BYTES;
    let Some(slot) = is_small.then(|| slot(parts, key, data.len() as u64)).flatten() else {
        return store_through(parts, key, &ticket, Incoming::Whole(data)).await;
    };
    if !put_fast(parts, key, data.clone(), &ticket).await {
        drop(slot);
        return store_through(parts, key, &ticket, Incoming::Whole(data)).await;
    }
    match accept_held(parts, key, ticket, slot, data.clone())? {
        Acceptance::Accepted => Ok(()),
        Acceptance::Refused(ticket, _) => {
            store_through(parts, key, &ticket, Incoming::Whole(data)).await
        }
    }
}

/// Stores a value in the slow tier, and then in the fast one or nowhere else.
async fn store_through(
    parts: &Parts,
    key: &Key,
    ticket: &Ticket,
    incoming: Incoming,
) -> Result<(), StoreError> {
    // An earlier value that is being copied would come after this one.
    let claim = match &parts.queue {
        Some(queue) => Some(queue.claim(key).await?),
        None => None,
    };
    let stored = match incoming {
        Incoming::Whole(data) => {
            ticket.guard(parts.slow.put(key, data.clone())).await.map(|()| (Some(data), None))
        }
        Incoming::Upload { first, fast } => first.commit().await.map(|()| (None, fast)),
    };
    let (data, fast) = stored.inspect_err(|_| {
        tracing::debug!(%key, "slow tier did not take a result");
    })?;
    if let Some(claim) = &claim {
        claim.supersede();
    }
    let is_in_fast = match data {
        Some(data) => put_fast(parts, key, data, ticket).await,
        None => commit_fast(parts, key, ticket, fast).await,
    };
    if !is_in_fast {
        forget_in_fast(parts, key).await;
    }
    Ok(())
}

/// Takes an earlier value out of the fast tier, which did not get the later one.
async fn forget_in_fast(parts: &Parts, key: &Key) {
    if !parts.roles.has_fast {
        return;
    }
    if let Err(error) = bounded(parts.fast.remove(key)).await {
        tracing::error!(%error, %key, "fast tier may have an outdated result");
    }
}
