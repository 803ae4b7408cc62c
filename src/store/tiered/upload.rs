//! Values that come in pieces.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::copies;
use super::fence::Ticket;
use super::parts::{Parts, bounded};
use super::queue::Slot;
use super::results::{self, Incoming};
use super::writes::{Acceptance, accept_blob};
use crate::store::{Key, StoreError, Upload, UploadSink};

/// A value on its way into the tier that answers for it, and if that is the slow one, into the fast
/// one at the same time.
#[derive(Debug)]
pub(super) struct ThroughUpload {
    pub(super) parts: Arc<Parts>,
    pub(super) key: Key,
    pub(super) ticket: Ticket,
    pub(super) first: Upload,
    /// `None` when the fast tier is not to get it, or has failed, or while a write is under way.
    pub(super) fast: Option<Upload>,
}

#[async_trait]
impl UploadSink for ThroughUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        // Taken out for the duration: after a dropped write nobody knows what it has.
        let fast = self.fast.take();
        let first = self.first.write(data.clone());
        let (written, fast) = tokio::join!(first, write_fast(&self.parts, &self.key, fast, data));
        written?;
        self.fast = fast;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.first.written_bytes()
    }

    fn is_resumable(&self) -> bool {
        self.first.is_resumable()
    }

    fn is_overtaken(&self) -> bool {
        self.first.is_overtaken()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { parts, key, ticket, first, fast } = *self;
        if results::is_replaced(&key) {
            return results::store(&parts, key, ticket, Incoming::Upload { first, fast }).await;
        }
        first.commit().await?;
        commit_fast(&parts, &key, &ticket, fast).await;
        Ok(())
    }
}

async fn write_fast(parts: &Parts, key: &Key, fast: Option<Upload>, data: Bytes) -> Option<Upload> {
    let mut fast = fast?;
    match bounded(fast.write(data)).await {
        Ok(()) => Some(fast),
        Err(error) => {
            parts.note_fast_failure(key, &error);
            None
        }
    }
}

/// Makes a value visible that the slow tier has; whether it is.
pub(super) async fn commit_fast(
    parts: &Parts,
    key: &Key,
    ticket: &Ticket,
    fast: Option<Upload>,
) -> bool {
    let Some(fast) = fast else { return false };
    let outcome = bounded(fast.commit()).await;
    if let Err(error) = &outcome
        && !ticket.is_cut()
    {
        parts.note_fast_failure(key, error);
    }
    outcome.is_ok()
}

/// A blob on its way into the fast tier, with a place in the queue to the slow one.
#[derive(Debug)]
pub(super) struct BehindUpload {
    pub(super) parts: Arc<Parts>,
    pub(super) key: Key,
    pub(super) ticket: Ticket,
    pub(super) fast: Upload,
    pub(super) slot: Slot,
}

#[async_trait]
impl UploadSink for BehindUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.fast.write(data).await
    }

    fn written_bytes(&self) -> u64 {
        self.fast.written_bytes()
    }

    fn is_resumable(&self) -> bool {
        self.fast.is_resumable()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { parts, key, ticket, fast, slot } = *self;
        fast.commit().await?;
        match accept_blob(&parts, &key, ticket, slot).await? {
            Acceptance::Accepted => Ok(()),
            // `_pin` keeps it there until it is copied.
            Acceptance::Refused(ticket, _pin) => {
                copies::copy(&parts, &key, None, &ticket).await.map_err(Into::into)
            }
        }
    }
}
