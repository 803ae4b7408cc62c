//! A blob on its way to the server, from whatever has its bytes.
//!
//! The store behind hashes what goes through: other bytes than the digest's never end there.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::origin::{Chunks, Readable};
use super::pace::Pace;
use super::patience::Patience;
use super::{Client, ClientError, KEPT_BYTES, Progress};
use crate::digest::Digest;
use crate::store::{BeginPut, BlobStore as _, Key, StoreError};

/// How bytes go, and who is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending<'s> {
    pub(super) client: &'s Client,
    pub(super) progress: &'s Progress,
    /// How fast they may.
    pub(super) pace: Option<&'s Pace>,
}

impl Sending<'_> {
    /// Sends a blob in parts; false when the server has it meanwhile. When the connection breaks
    /// and what the server lacks is not in memory any more, it is sent again from its beginning.
    pub(super) async fn blob(
        &self,
        digest: Digest,
        from: &dyn Readable,
    ) -> Result<bool, ClientError> {
        let mut patience = Patience::default();
        loop {
            let mut sent_bytes = 0;
            let outcome = match from.open().await {
                Ok(mut chunks) => self.once(digest, &mut *chunks, &mut sent_bytes).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(is_sent) => return Ok(is_sent),
                Err(ClientError::Store(error)) => {
                    self.progress.take_back_bytes(sent_bytes);
                    patience.pause(error).await?;
                }
                Err(error) => {
                    self.progress.take_back_bytes(sent_bytes);
                    return Err(error);
                }
            }
        }
    }

    /// The same of what can be read once. Where it fails, `sent_bytes` have been counted as moved.
    pub(super) async fn once(
        &self,
        digest: Digest,
        chunks: &mut dyn Chunks,
        sent_bytes: &mut u64,
    ) -> Result<bool, ClientError> {
        if let Some(pace) = self.pace {
            // What others have taken is waited for before the server waits as well.
            pace.wait(0).await;
        }
        let begun = self.client.blobs.begin_put(&Key::blob(digest), digest.size_bytes).await?;
        let BeginPut::Upload(mut upload) = begun else {
            self.progress.skip_bytes(digest.size_bytes);
            return Ok(false);
        };
        let part_bytes = self.pace.map_or(usize::MAX, Pace::part_bytes);
        while let Some(mut data) = chunks.next().await? {
            while !data.is_empty() {
                let part = data.split_to(data.len().min(part_bytes));
                let length = part.len() as u64;
                if let Some(pace) = self.pace {
                    pace.wait(length).await;
                }
                upload.write(part).await?;
                *sent_bytes = sent_bytes.saturating_add(length);
                self.progress.move_bytes(length);
            }
        }
        upload.commit().await?;
        Ok(true)
    }
}

/// What may be in memory of blobs that are being sent, in KiB.
const IN_FLIGHT_KIB: usize = 64 << 10;

/// Bounds what is in memory (I22).
#[derive(Debug)]
pub(super) struct InFlight(Semaphore);

impl Default for InFlight {
    fn default() -> Self {
        Self(Semaphore::new(IN_FLIGHT_KIB))
    }
}

impl InFlight {
    /// Waits until a blob of so many bytes may be sent.
    pub(super) async fn turn(&self, size_bytes: u64) -> Result<SemaphorePermit<'_>, ClientError> {
        let kib = usize::try_from(size_bytes.min(KEPT_BYTES) >> 10).unwrap_or(usize::MAX);
        let kib = u32::try_from(kib.clamp(1, IN_FLIGHT_KIB)).unwrap_or(u32::MAX);
        self.0.acquire_many(kib).await.map_err(|_| StoreError::ShuttingDown.into())
    }
}
