//! Space that is promised before the first byte is written.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::index::{Reserve, Ticket, Victim};
use super::layout::file_bytes;
use super::shared::Shared;
use super::sync::timeout;
use crate::store::{Kind, StoreError};

/// Inline unlinks of one save (I12); what remains is the evictor's.
const INLINE_BURST: usize = 32;
/// An inline burst that frees more than this is done on a blocking thread: unlinking a large file
/// takes the file system milliseconds.
const INLINE_BURST_BYTES: u64 = 8 << 20;

/// Bytes reserved in the ledger; given back on drop unless they were booked.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.parts.update(|index| index.unreserve(self.bytes));
        }
    }
}

impl Reservation {
    /// Hands the bytes over to whoever books them.
    pub(super) fn into_bytes(mut self) -> u64 {
        std::mem::take(&mut self.bytes)
    }
}

/// A place in the queue for room; leaves it on drop, and gives back what was granted meanwhile.
struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
    granted: oneshot::Receiver<u64>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Those behind this place may fit although this one did not.
        if self.shared.parts.update(|index| index.cancel(self.ticket)) {
            return;
        }
        self.granted.close();
        if let Ok(bytes) = self.granted.try_recv() {
            self.shared.parts.update(|index| index.unreserve(bytes));
        }
    }
}

/// Reserves room for a value of `len_bytes`, evicting what it must.
///
/// Waits for the evictor at most the store's `reserve_timeout`; I12: on no queue that writes use.
/// Cancel safe.
pub(super) async fn reserve(
    shared: &Arc<Shared>,
    kind: Kind,
    len_bytes: u64,
) -> Result<Reservation, StoreError> {
    let bytes = shared.parts.blocks.reservation_for(file_bytes(kind, len_bytes));
    let (waker, granted) = oneshot::channel();
    let (outcome, wants_eviction) = shared.parts.index.lock(|index| {
        let outcome = index.reserve(bytes, INLINE_BURST, waker);
        (outcome, index.wants_eviction())
    });
    if wants_eviction {
        shared.parts.poke_evictor();
    }
    match outcome {
        Reserve::Granted => Ok(Reservation { shared: Arc::clone(shared), bytes }),
        // Not the sender's mistake: the size is below what was announced.
        Reserve::Never => Err(StoreError::NoSpace {
            size_bytes: len_bytes,
            reason: "directories and foreign files leave too little of the cap",
        }),
        Reserve::Queued(ticket, victims) => {
            let waiting = Waiting { shared: Arc::clone(shared), ticket, granted };
            bury_burst(shared, victims).await?;
            wait(waiting, len_bytes).await
        }
    }
}

async fn wait(mut waiting: Waiting, len_bytes: u64) -> Result<Reservation, StoreError> {
    let limit = waiting.shared.reserve_timeout;
    match timeout(limit, &mut waiting.granted).await {
        Ok(Ok(bytes)) => Ok(Reservation { shared: Arc::clone(&waiting.shared), bytes }),
        Ok(Err(_)) => Err(StoreError::ShuttingDown),
        Err(_) => {
            waiting.shared.parts.counters.reserve_timeouts.add(1);
            Err(StoreError::NoSpace {
                size_bytes: len_bytes,
                reason: "the cap is taken by uploads and reads under way",
            })
        }
    }
}

/// Buries the inline burst. I12: takes a blocking thread only if one is free at once.
async fn bury_burst(shared: &Arc<Shared>, victims: Vec<Victim>) -> Result<(), StoreError> {
    if victims.is_empty() {
        return Ok(());
    }
    shared.parts.counters.evictions.add(victims.len() as u64);
    if victims.iter().map(Victim::charge).sum::<u64>() <= INLINE_BURST_BYTES {
        shared.parts.bury(victims);
        return Ok(());
    }
    let worker = Arc::clone(&shared.parts);
    shared.parts.pool.run_now(move || worker.bury(victims)).await
}
