//! A value on its way into memory.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::charge_of;
use super::index::{Publish, Use};
use super::payload::{Payload, Segments};
use super::reservation::Reservation;
use super::shared::Shared;
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::store::{Key, Kind, StoreError, UploadSink};

/// Work up to this is done where it arrives; a hop to another thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

/// A streamed upload: room reserved, bytes hashed as they come, nothing visible (I5).
#[derive(Debug)]
pub(super) struct MemoryUpload {
    key: Key,
    /// Announced; of a derived value the most.
    size_bytes: u64,
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
        let is_small = data.len() <= INLINE_BYTES;
        let job = move || {
            self.append(&data, announced_bytes);
            self
        };
        if is_small { Ok(job()) } else { shared.pool.run(job).await }
    }

    /// I20: bytes are hashed on the way in, always, before they are visible.
    pub(super) fn publish(mut self, shared: &Arc<Shared>, key: Key) -> Result<(), StoreError> {
        if let Some(hasher) = self.hasher.take() {
            check(key.digest, hasher.finish())?;
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

/// Refuses bytes that hash to something else.
fn check(expected: Digest, actual: [u8; HASH_BYTES]) -> Result<(), StoreError> {
    if actual == expected.hash {
        return Ok(());
    }
    Err(StoreError::HashMismatch { expected, actual: const_hex::encode(actual) })
}

/// Verifies bytes whose blob is there already and need not be stored.
pub(super) async fn verify(shared: &Shared, digest: Digest, data: Bytes) -> Result<(), StoreError> {
    let is_small = data.len() <= INLINE_BYTES;
    let job = move || check(digest, Digest::of(digest.function, &data).hash);
    if is_small { job() } else { shared.pool.run(job).await? }
}

impl MemoryUpload {
    pub(super) fn new(shared: &Arc<Shared>, key: Key, size_bytes: u64, filling: Filling) -> Self {
        let shared = Arc::clone(shared);
        Self { key, size_bytes, written_bytes: 0, filling: Some(filling), shared }
    }

    fn size_mismatch(&self, received_bytes: u64) -> StoreError {
        StoreError::SizeMismatch {
            digest: self.key.digest,
            expected_bytes: self.size_bytes,
            received_bytes,
        }
    }
}

fn interrupted() -> StoreError {
    StoreError::Io {
        operation: "continue an upload whose last write was interrupted",
        source: io::ErrorKind::Interrupted.into(),
    }
}

#[async_trait]
impl UploadSink for MemoryUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        if received_bytes > self.size_bytes {
            self.filling = None;
            return Err(self.size_mismatch(received_bytes));
        }
        // Taken out for the duration: an upload whose write was dropped halfway is unusable, and
        // says so.
        let filling = self.filling.take().ok_or_else(interrupted)?;
        self.filling = Some(filling.append_all(&self.shared, data, self.size_bytes).await?);
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
        if self.written_bytes != self.size_bytes && !self.key.is_derived() {
            return Err(self.size_mismatch(self.written_bytes));
        }
        let filling = self.filling.take().ok_or_else(interrupted)?;
        filling.publish(&self.shared, self.key)
    }
}
