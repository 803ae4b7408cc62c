//! Clients' writes, each to the tiers that are to get it.

use std::sync::Arc;

use bytes::Bytes;

use super::fence::{Origin, Ticket};
use super::options::Writes;
use super::parts::{Parts, bounded};
use super::queue::{Item, Offer, Slot};
use super::results::{self, Incoming};
use super::upload::{BehindUpload, ThroughUpload};
use crate::store::{BeginPut, BlobStore, Key, Kind, Pin, StoreError, Upload};

/// The largest value whose bytes wait in the queue itself.
pub(super) const MAX_HELD_BYTES: usize = 1 << 20;

const NOWHERE: StoreError = StoreError::Unsupported { what: "neither tier takes writes" };

/// What became of a blob that the fast tier has.
pub(super) enum Acceptance {
    /// It may be acknowledged.
    Accepted,
    /// It must go to the slow tier first; the pin keeps it until then, if there is one.
    Refused(Ticket, Option<Pin>),
}

/// See [`BlobStore::begin_put`].
pub(super) async fn begin_put(
    parts: &Arc<Parts>,
    key: &Key,
    size_bytes: u64,
) -> Result<BeginPut, StoreError> {
    // I16: from before anything is asked of a tier.
    let ticket = parts.fence.begin(key, Origin::Client);
    match parts.roles.writes {
        Writes::Nowhere => Err(NOWHERE),
        Writes::Behind if key.kind == Kind::Blob => {
            begin_behind(parts, key, size_bytes, ticket).await
        }
        Writes::Through | Writes::Behind => begin_through(parts, key, size_bytes, ticket).await,
        Writes::Slow => begin_one(parts, &parts.slow, key, size_bytes, ticket).await,
        Writes::Fast => begin_one(parts, &parts.fast, key, size_bytes, ticket).await,
    }
}

/// Begins a write to one tier only.
async fn begin_one(
    parts: &Arc<Parts>,
    tier: &Arc<dyn BlobStore>,
    key: &Key,
    size_bytes: u64,
    ticket: Ticket,
) -> Result<BeginPut, StoreError> {
    match ticket.guard(tier.begin_put(key, size_bytes)).await? {
        BeginPut::Upload(first) if results::is_replaced(key) => {
            Ok(through(parts, key, ticket, first, None))
        }
        // From here on the tier itself refuses what a purge cuts off.
        begun => Ok(begun),
    }
}

fn through(
    parts: &Arc<Parts>,
    key: &Key,
    ticket: Ticket,
    first: Upload,
    fast: Option<Upload>,
) -> BeginPut {
    let upload = ThroughUpload { parts: Arc::clone(parts), key: *key, ticket, first, fast };
    BeginPut::Upload(Upload::Other(Box::new(upload)))
}

async fn begin_through(
    parts: &Arc<Parts>,
    key: &Key,
    size_bytes: u64,
    ticket: Ticket,
) -> Result<BeginPut, StoreError> {
    let first = match ticket.guard(parts.slow.begin_put(key, size_bytes)).await? {
        BeginPut::AlreadyPresent => return Ok(BeginPut::AlreadyPresent),
        BeginPut::Upload(first) => first,
    };
    if !takes(parts, size_bytes) {
        return Ok(through(parts, key, ticket, first, None));
    }
    let fast = match ticket.guard(bounded(parts.fast.begin_put(key, size_bytes))).await {
        Ok(BeginPut::Upload(fast)) => Some(fast),
        Ok(BeginPut::AlreadyPresent) => None,
        Err(_) if ticket.is_cut() => return Err(StoreError::Purged),
        Err(error) => {
            parts.note_fast_failure(key, &error);
            None
        }
    };
    Ok(through(parts, key, ticket, first, fast))
}

async fn begin_behind(
    parts: &Arc<Parts>,
    key: &Key,
    size_bytes: u64,
    ticket: Ticket,
) -> Result<BeginPut, StoreError> {
    let Some(slot) = slot(parts, key, size_bytes) else {
        return begin_through(parts, key, size_bytes, ticket).await;
    };
    match ticket.guard(bounded(parts.fast.begin_put(key, size_bytes))).await {
        Ok(BeginPut::Upload(fast)) => {
            let parts = Arc::clone(parts);
            let upload = BehindUpload { parts, key: *key, ticket, fast, slot };
            Ok(BeginPut::Upload(Upload::Other(Box::new(upload))))
        }
        Ok(BeginPut::AlreadyPresent) => match accept_blob(parts, key, ticket, slot).await? {
            Acceptance::Accepted => Ok(BeginPut::AlreadyPresent),
            Acceptance::Refused(ticket, _) => {
                begin_one(parts, &parts.slow, key, size_bytes, ticket).await
            }
        },
        Err(_) if ticket.is_cut() => Err(StoreError::Purged),
        Err(error) => {
            parts.note_fast_failure(key, &error);
            begin_one(parts, &parts.slow, key, size_bytes, ticket).await
        }
    }
}

/// See [`BlobStore::put`].
pub(super) async fn put(parts: &Arc<Parts>, key: &Key, data: Bytes) -> Result<(), StoreError> {
    if parts.roles.writes == Writes::Nowhere {
        return Err(NOWHERE);
    }
    let ticket = parts.fence.begin(key, Origin::Client);
    if results::is_replaced(key) {
        return results::store(parts, *key, ticket, Incoming::Whole(data)).await;
    }
    match parts.roles.writes {
        Writes::Behind => put_behind(parts, key, data, ticket).await,
        Writes::Through => put_through(parts, key, data, &ticket).await,
        Writes::Fast => ticket.guard(parts.fast.put(key, data)).await,
        Writes::Slow | Writes::Nowhere => ticket.guard(parts.slow.put(key, data)).await,
    }
}

async fn put_through(
    parts: &Arc<Parts>,
    key: &Key,
    data: Bytes,
    ticket: &Ticket,
) -> Result<(), StoreError> {
    ticket.guard(parts.slow.put(key, data.clone())).await?;
    put_fast(parts, key, data, ticket).await;
    Ok(())
}

/// Puts what the slow tier has into the fast one; whether it is there.
pub(super) async fn put_fast(parts: &Parts, key: &Key, data: Bytes, ticket: &Ticket) -> bool {
    if !takes(parts, data.len() as u64) {
        return false;
    }
    let outcome = ticket.guard(bounded(parts.fast.put(key, data))).await;
    if let Err(error) = &outcome
        && !ticket.is_cut()
    {
        parts.note_fast_failure(key, error);
    }
    outcome.is_ok()
}

async fn put_behind(
    parts: &Arc<Parts>,
    key: &Key,
    data: Bytes,
    ticket: Ticket,
) -> Result<(), StoreError> {
    // The fast tier pins blobs only.
    let is_held = key.kind != Kind::Blob;
    if is_held && data.len() > MAX_HELD_BYTES {
        return put_through(parts, key, data, &ticket).await;
    }
    let Some(slot) = slot(parts, key, data.len() as u64) else {
        return put_through(parts, key, data, &ticket).await;
    };
    match ticket.guard(bounded(parts.fast.put(key, data.clone()))).await {
        Ok(()) => {}
        Err(_) if ticket.is_cut() => return Err(StoreError::Purged),
        Err(error @ (StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. })) => {
            return Err(error);
        }
        Err(error) => {
            parts.note_fast_failure(key, &error);
            drop(slot);
            return ticket.guard(parts.slow.put(key, data)).await;
        }
    }
    let accepted = if is_held {
        accept_held(parts, key, ticket, slot, data.clone())?
    } else {
        accept_blob(parts, key, ticket, slot).await?
    };
    match accepted {
        Acceptance::Accepted => Ok(()),
        Acceptance::Refused(ticket, _) => ticket.guard(parts.slow.put(key, data)).await,
    }
}

/// Queues a blob that the fast tier has.
pub(super) async fn accept_blob(
    parts: &Parts,
    key: &Key,
    ticket: Ticket,
    slot: Slot,
) -> Result<Acceptance, StoreError> {
    let Some(queue) = &parts.queue else { return Ok(Acceptance::Refused(ticket, None)) };
    let pinned = bounded(parts.fast.pin(key)).await;
    // What cannot be kept there is not in the slow tier when it is evicted.
    let Ok(Some(pin)) = pinned else {
        queue.refuse(slot);
        return Ok(Acceptance::Refused(ticket, None));
    };
    let item = Item { ticket, data: None, pin: Some(pin), slot };
    offer(parts, key, item)
}

/// Queues a value with its bytes.
pub(super) fn accept_held(
    parts: &Parts,
    key: &Key,
    ticket: Ticket,
    slot: Slot,
    data: Bytes,
) -> Result<Acceptance, StoreError> {
    offer(parts, key, Item { ticket, data: Some(data), pin: None, slot })
}

fn offer(parts: &Parts, key: &Key, item: Item) -> Result<Acceptance, StoreError> {
    let Some(queue) = &parts.queue else { return Ok(Acceptance::Refused(item.ticket, item.pin)) };
    match queue.offer(key, item) {
        Offer::Accepted => Ok(Acceptance::Accepted),
        Offer::Refused(item) => Ok(Acceptance::Refused(item.ticket, item.pin)),
        Offer::Purged => Err(StoreError::Purged),
    }
}

/// A place in the queue; `None` when there is none, which is counted, or when the value is not for
/// the fast tier, or the key is being purged there.
pub(super) fn slot(parts: &Parts, key: &Key, size_bytes: u64) -> Option<Slot> {
    let queue = parts.queue.as_ref()?;
    if size_bytes > parts.fast.max_blob_bytes() || parts.fence.is_up(key) {
        return None;
    }
    queue.reserve(size_bytes)
}

/// Whether the fast tier gets clients' writes of this size now. Who waits for room there already
/// is not joined: the slow tier can do without.
fn takes(parts: &Parts, size_bytes: u64) -> bool {
    let is_writer = matches!(parts.roles.writes, Writes::Through | Writes::Behind);
    let has_room = size_bytes <= parts.fast.max_blob_bytes() && !parts.fast.is_waiting_for_room();
    is_writer && has_room
}
