//! Copies from the fast tier to the slow one, behind the writes that were acknowledged.
//!
//! A worker holds what the store's parts are, never the store: it ends when the queue is closed and
//! empty, or at once when the store is dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fence::Ticket;
use super::parts::Parts;
use super::queue::{Outcome, Work};
use crate::store::{BeginPut, ByteRange, Key, StoreError};

/// What is copied in one step.
const MAX_WHOLE_BYTES: u64 = 1 << 20;
/// How much is read at a time of the rest.
const CHUNK_BYTES: usize = 1 << 20;
/// The pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a value was not copied.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The fast tier does not have it any more.
    Gone,
    Store(StoreError),
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CopyError> for StoreError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Gone => {
                let what = "the value left the fast tier before it was in the slow one".to_owned();
                Self::Unavailable { what }
            }
            CopyError::Store(error) => error,
        }
    }
}

impl CopyError {
    /// Whether nothing is wrong but that the slow tier cannot be reached, or has no room.
    fn is_absence_of_tier(&self) -> bool {
        let Self::Store(error) = self else { return false };
        matches!(error, StoreError::Unavailable { .. } | StoreError::NoSpace { .. })
    }

    /// Whether the same may not work later.
    fn is_final(&self) -> bool {
        match self {
            Self::Gone => true,
            Self::Store(error) => matches!(
                error,
                StoreError::TooLarge { .. }
                    | StoreError::Unsupported { .. }
                    | StoreError::HashMismatch { .. }
                    | StoreError::SizeMismatch { .. }
            ),
        }
    }
}

/// Copies what is queued, one value at a time.
pub(super) async fn run_worker(parts: Arc<Parts>) {
    let Some(queue) = &parts.queue else { return };
    let working = async {
        while let Some(work) = queue.next().await {
            let outcome = copy_patiently(&parts, &work).await;
            work.end(outcome);
        }
    };
    // A copy that is broken off counts as cancelled.
    parts.broken_off.run_until_cancelled(working).await.unwrap_or_default();
}

async fn copy_patiently(parts: &Parts, work: &Work) -> Outcome {
    let (key, ticket) = (&work.key, &work.item.ticket);
    let mut failures = 0;
    for attempt in 1.. {
        let Err(error) = copy(parts, key, work.item.data.clone(), ticket).await else {
            return Outcome::Persisted;
        };
        // I16: what a purge has cut off is nobody's loss.
        if ticket.is_cut() {
            return Outcome::Cancelled;
        }
        // A slow tier that is away is waited for as long as it takes: what it is to get is nowhere
        // else, and the queue is bounded.
        failures += u32::from(!error.is_absence_of_tier());
        let is_last = error.is_final() || failures >= parts.max_attempts;
        let error = StoreError::from(error);
        if is_last {
            tracing::error!(%error, %key, attempt, "an acknowledged value is not in the slow tier");
            return Outcome::Failed;
        }
        tracing::warn!(%error, %key, attempt, "copy to the slow tier failed; it is tried again");
        tokio::select! {
            () = tokio::time::sleep(pause(key, attempt)) => {}
            () = ticket.cut() => return Outcome::Cancelled,
        }
    }
    Outcome::Failed
}

/// Doubles with each attempt, and differs by up to a half from key to key, so that not everything
/// comes again at once.
fn pause(key: &Key, attempt: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16));
    let [.., last] = key.digest.hash;
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - f64::from(last) / 512.0)
}

/// Copies a value to the slow tier once: `data`, or what the fast tier has.
pub(super) async fn copy(
    parts: &Parts,
    key: &Key,
    data: Option<Bytes>,
    ticket: &Ticket,
) -> Result<(), CopyError> {
    if let Some(data) = data {
        return Ok(ticket.guard(parts.slow.put(key, data)).await?);
    }
    let reader = ticket.guard(parts.fast.get(key, ByteRange::ALL)).await?;
    let mut reader = reader.ok_or(CopyError::Gone)?;
    let size_bytes = reader.remaining_bytes();
    if size_bytes <= MAX_WHOLE_BYTES {
        let data = reader.read_all().await?;
        return Ok(ticket.guard(parts.slow.put(key, data)).await?);
    }
    let copying = async {
        let begun = parts.slow.begin_put(key, size_bytes).await?;
        let BeginPut::Upload(mut upload) = begun else { return Ok(()) };
        while let Some(chunk) = reader.next(CHUNK_BYTES).await? {
            upload.write(chunk).await?;
        }
        upload.commit().await
    };
    Ok(ticket.guard(copying).await?)
}
