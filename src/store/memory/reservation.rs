//! Room that is promised before the first byte comes.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::charge_of;
use super::index::Claim;
use super::room::Reserve;
use super::shared::Shared;
use crate::store::waiters::Ticket;
use crate::store::{Key, StoreError};

/// Bytes reserved; given back on drop unless they were booked.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    claim: Option<Claim>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.shared.update(|index| index.unreserve(claim));
        }
    }
}

impl Reservation {
    fn new(shared: &Arc<Shared>, claim: Claim) -> Self {
        Self { shared: Arc::clone(shared), claim: Some(claim) }
    }

    /// Hands the claim over to whoever books it.
    pub(super) fn into_claim(mut self) -> Option<Claim> {
        self.claim.take()
    }
}

/// A place in the queue for room; leaves it on drop, and gives back what was granted meanwhile.
struct Waiting {
    shared: Arc<Shared>,
    ticket: Ticket,
    granted: oneshot::Receiver<Claim>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Those behind this place may fit although this one did not.
        if self.shared.update(|index| index.cancel(self.ticket)).is_some() {
            return;
        }
        self.granted.close();
        if let Ok(claim) = self.granted.try_recv() {
            self.shared.update(|index| index.unreserve(claim));
        }
    }
}

/// Reserves room for a write of `key`, evicting what it must. Waits, bounded, for uploads and
/// readers to end when that is not enough. Cancel safe.
pub(super) async fn reserve(
    shared: &Arc<Shared>,
    key: Key,
    size_bytes: u64,
) -> Result<Reservation, StoreError> {
    let (waker, granted) = oneshot::channel();
    let bytes = charge_of(size_bytes);
    let mut waiting = match shared.update(|index| index.reserve(key, bytes, waker)) {
        Reserve::Granted(claim) => return Ok(Reservation::new(shared, claim)),
        Reserve::Queued(ticket) => Waiting { shared: Arc::clone(shared), ticket, granted },
    };
    // Most often what was evicted for it has served it already.
    match timeout(shared.reserve_timeout, &mut waiting.granted).await {
        Ok(Ok(claim)) => Ok(Reservation::new(shared, claim)),
        Ok(Err(_)) => Err(StoreError::ShuttingDown),
        Err(_) => {
            shared.counters.reserve_timeouts.add(1);
            Err(StoreError::NoSpace {
                size_bytes,
                reason: "the memory is taken by uploads, reads and pins under way",
            })
        }
    }
}
