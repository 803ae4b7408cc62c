//! One upload under way, held so that it survives its client.
//!
//! The handler of a call is dropped without notice when its client vanishes, be it in the middle
//! of a write to the store. What has been received must then be kept for the client's next
//! attempt, so every step that touches the store is a future that owns the upload: dropped in
//! mid-step, the step is finished in the background and the upload is parked after it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::sessions::Slot;
use crate::shutdown;
use crate::store::{StoreError, Upload};

/// What a step leaves: the upload, unless the step consumed or spoilt it.
struct Step {
    upload: Option<Upload>,
    result: Result<(), StoreError>,
}

type RunningStep = Pin<Box<dyn Future<Output = Step> + Send>>;

/// An upload and its place. Dropping it parks what has been received.
pub(super) struct Writer {
    // None only after the end.
    slot: Option<Slot>,
    upload: Option<Upload>,
    running: Option<RunningStep>,
}

impl Writer {
    /// The upload that `slot` was taken for.
    pub(super) fn new(slot: Slot, upload: Upload) -> Self {
        slot.note_progress();
        Self { slot: Some(slot), upload: Some(upload), running: None }
    }

    /// Bytes received so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.upload.as_ref().map_or(0, Upload::written_bytes)
    }

    /// Whether the blob has become visible by another upload.
    pub(super) fn is_overtaken(&self) -> bool {
        self.upload.as_ref().is_some_and(Upload::is_overtaken)
    }

    /// Its place, which says when another connection wants to continue it.
    pub(super) fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// Appends `data`. After an error nothing is kept.
    ///
    /// Cancel safe: a dropped `write` is finished in the background before the upload is parked.
    pub(super) async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let Some(mut upload) = self.upload.take() else {
            return Err(StoreError::ShuttingDown);
        };
        self.run(Box::pin(async move {
            let result = upload.write(data).await;
            // A refused upload must not be what the next attempt continues.
            let upload = result.is_ok().then_some(upload);
            Step { upload, result }
        }))
        .await?;
        let written_bytes = self.written_bytes();
        if let Some(slot) = &mut self.slot {
            slot.advance(written_bytes);
        }
        Ok(())
    }

    /// Verifies the blob and makes it visible. After an error nothing is kept.
    ///
    /// Cancel safe: a dropped `commit` is finished in the background.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        let Some(upload) = self.upload.take() else {
            return Err(StoreError::ShuttingDown);
        };
        self.run(Box::pin(async move { Step { upload: None, result: upload.commit().await } }))
            .await?;
        self.finish();
        Ok(())
    }

    /// Ends an upload whose blob is visible already.
    pub(super) fn finish(mut self) {
        drop(self.upload.take());
        if let Some(slot) = self.slot.take() {
            slot.finish();
        }
    }

    async fn run(&mut self, step: RunningStep) -> Result<(), StoreError> {
        let running = self.running.insert(step);
        let Step { upload, result } = running.as_mut().await;
        self.running = None;
        self.upload = upload;
        result
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        match (self.upload.take(), self.running.take()) {
            (Some(upload), _) => slot.park(upload),
            // Without a runtime the process is ending; the upload aborts with the step.
            (None, Some(step)) if tokio::runtime::Handle::try_current().is_ok() => {
                shutdown::spawn("abandoned upload step", async move {
                    if let Some(upload) = step.await.upload {
                        slot.park(upload);
                    }
                });
            }
            (None, _) => {}
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("slot", &self.slot)
            .field("upload", &self.upload)
            .finish_non_exhaustive()
    }
}
