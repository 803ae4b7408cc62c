//! A value on its way into memory.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::charge_of;
use super::index::{Publish, Use};
use super::payload::{Payload, Segments};
use super::reservation::Reservation;
use super::shared::Shared;
use crate::digest::Hasher;
use crate::store::announced::{Announced, check_hash, interrupted};
use crate::store::{Key, Kind, StoreError, UploadSink};

/// A streamed upload: room reserved, bytes hashed as they come, nothing visible (I5).
#[derive(Debug)]
pub(super) struct MemoryUpload {
    key: Key,
    announced: Announced,
    written_bytes: u64,
    /// `None` while a write is under way and after one was dropped or failed.
    filling: Option<Filling>,
    shared: Arc<Shared>,
}

/// What a write adds to.
#[derive(Debug)]
pub(super) struct Filling {
    /// `None` for what does not hash to its name.
    hasher: Option<Hasher>,
    /// Before `reservation`: the memory goes first, then its room is free.
    segments: Segments,
    reservation: Reservation,
}

impl Filling {
    pub(super) fn new(key: &Key, reservation: Reservation) -> Self {
        let hasher = (key.kind == Kind::Blob).then(|| Hasher::new(key.digest.function));
        Self { hasher, segments: Segments::default(), reservation }
    }

    fn append(&mut self, data: &[u8], announced_bytes: u64) {
        self.segments.append(data, announced_bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(data);
        }
    }

    /// Appends here or, when it is much, on another thread; goes on there when the caller is gone.
    pub(super) async fn append_all(
        mut self,
        shared: &Shared,
        data: Bytes,
        announced_bytes: u64,
    ) -> Result<Self, StoreError> {
        let len = data.len();
        let job = move || {
            self.append(&data, announced_bytes);
            self
        };
        shared.processors.run_sized(len, job).await
    }

    /// I20: bytes are hashed on the way in, always, before they are visible.
    pub(super) fn publish(mut self, shared: &Arc<Shared>, key: Key) -> Result<(), StoreError> {
        if let Some(hasher) = self.hasher.take() {
            check_hash(key.digest, hasher.finish())?;
        }
        let Self { mut segments, reservation, .. } = self;
        segments.seal();
        let Some(claim) = reservation.into_claim() else { return Err(StoreError::ShuttingDown) };
        let charge = charge_of(segments.len_bytes());
        let payload = Payload::new(segments, charge, Arc::downgrade(shared));
        let (own, claim, counter, outcome) =
            match shared.update(|index| index.publish(key, claim, charge, payload)) {
                Publish::Visible => return Ok(()),
                Publish::Overtaken(own, claim) => {
                    (own, claim, &shared.counters.lost_publications, Ok(()))
                }
                Publish::Purged(own, claim) => {
                    let counter = &shared.counters.purge_cancelled_writes;
                    (own, claim, counter, Err(StoreError::Purged))
                }
            };
        // I2: the memory goes first, then its room is free.
        Payload::free(own);
        shared.update(|index| index.unreserve(claim));
        counter.add(1);
        outcome
    }
}

impl MemoryUpload {
    pub(super) fn new(shared: &Arc<Shared>, key: Key, size_bytes: u64, filling: Filling) -> Self {
        let shared = Arc::clone(shared);
        let announced = Announced::of(&key, size_bytes);
        Self { key, announced, written_bytes: 0, filling: Some(filling), shared }
    }
}

#[async_trait]
impl UploadSink for MemoryUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        // Taken out for the duration: an upload whose write was dropped halfway is unusable, and
        // says so.
        let filling = self.filling.take().ok_or_else(interrupted)?;
        self.announced.check_more(received_bytes)?;
        let announced_bytes = self.announced.size_bytes;
        self.filling = Some(filling.append_all(&self.shared, data, announced_bytes).await?);
        self.written_bytes = received_bytes;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn is_resumable(&self) -> bool {
        self.filling.is_some()
    }

    fn is_overtaken(&self) -> bool {
        self.key.kind == Kind::Blob
            && self.shared.update(|index| index.look_up(&self.key, Use::Touch).is_some())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.announced.check_end(self.written_bytes)?;
        let filling = self.filling.take().ok_or_else(interrupted)?;
        filling.publish(&self.shared, self.key)
    }
}
