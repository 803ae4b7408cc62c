//! Space that is promised before the first byte is written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::full_disk;
use super::index::{Claim, Reserve, Victim};
use super::layout::file_bytes;
use super::shared::Parts;
use super::sync::timeout;
use crate::store::waiters::Ticket;
use crate::store::{Kind, StoreError};

/// Inline unlinks of one save (I12); what remains is the evictor's.
const INLINE_BURST: usize = 32;
/// An inline burst that frees more than this is done on a blocking thread: unlinking a large file
/// takes the file system milliseconds.
const INLINE_BURST_BYTES: u64 = 8 << 20;
/// How often a write that waits for room looks whether pins alone keep it: those of a staged tree
/// last for hours, and all that come later wait behind it.
const PIN_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes reserved in the ledger; given back on drop unless they were booked.
#[derive(Debug)]
pub(super) struct Reservation {
    parts: Arc<Parts>,
    claim: Option<Claim>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.parts.update(|index| index.unreserve(claim));
        }
    }
}

impl Reservation {
    fn new(parts: &Arc<Parts>, claim: Claim) -> Self {
        Self { parts: Arc::clone(parts), claim: Some(claim) }
    }

    /// What is reserved.
    pub(super) fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Hands the claim over to whoever books it.
    pub(super) fn into_claim(mut self) -> Option<Claim> {
        self.claim.take()
    }
}

/// A place in the queue for room; leaves it on drop, and gives back what was granted meanwhile.
struct Waiting {
    parts: Arc<Parts>,
    ticket: Ticket,
    granted: oneshot::Receiver<Claim>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Those behind this place may fit although this one did not.
        if self.parts.update(|index| index.cancel(self.ticket)) {
            return;
        }
        self.granted.close();
        if let Ok(claim) = self.granted.try_recv() {
            self.parts.update(|index| index.unreserve(claim));
        }
    }
}

/// Reserves room for a value of `len_bytes`, evicting what it must.
///
/// Waits for the evictor at most the store's `reserve_timeout`; I12: on no queue that writes use.
/// Cancel safe.
pub(super) async fn reserve(
    parts: &Arc<Parts>,
    kind: Kind,
    len_bytes: u64,
) -> Result<Reservation, StoreError> {
    let bytes = parts.blocks.reservation_for(file_bytes(kind, len_bytes));
    let (mut outcome, mut wants_eviction, mut granted) = ask(parts, bytes);
    if matches!(outcome, Reserve::DiskFull) {
        // It may have more by now than when it was measured last.
        let worker = Arc::clone(parts);
        let measured = parts.pool.run_unmetered(move || full_disk::measure(&worker)).await?;
        measured.map_err(|error| StoreError::io("measure the disk", error))?;
        (outcome, wants_eviction, granted) = ask(parts, bytes);
    }
    if wants_eviction {
        parts.poke_evictor();
    }
    let no_space = |reason| Err(StoreError::NoSpace { size_bytes: len_bytes, reason });
    match outcome {
        Reserve::Granted(claim) => Ok(Reservation::new(parts, claim)),
        // Not the sender's mistake: the size is below what was announced.
        Reserve::Never => no_space("directories and foreign files leave too little of the cap"),
        Reserve::DiskFull => no_space("the disk is full, or what is free is to be left to others"),
        Reserve::Leased => {
            parts.counters.lease_refusals.add(1);
            no_space("what is there is promised to builds, and promises are not to be broken")
        }
        Reserve::Closed => Err(StoreError::ShuttingDown),
        Reserve::Queued(ticket, victims) => {
            let waiting = Waiting { parts: Arc::clone(parts), ticket, granted };
            bury_burst(parts, victims).await?;
            wait(waiting, bytes, len_bytes).await
        }
    }
}

/// Asks the index once; whether the evictor is needed, and where a grant would come.
fn ask(parts: &Parts, bytes: u64) -> (Reserve, bool, oneshot::Receiver<Claim>) {
    let (waker, granted) = oneshot::channel();
    let (outcome, wants_eviction) = parts.index.lock(|index| {
        let outcome = index.reserve(bytes, INLINE_BURST, waker);
        (outcome, index.wants_eviction())
    });
    (outcome, wants_eviction, granted)
}

async fn wait(mut waiting: Waiting, bytes: u64, len_bytes: u64) -> Result<Reservation, StoreError> {
    let parts = Arc::clone(&waiting.parts);
    let mut left = parts.settings.reserve_timeout;
    loop {
        let patience = left.min(PIN_PATIENCE);
        match timeout(patience, &mut waiting.granted).await {
            Ok(Ok(claim)) => return Ok(Reservation::new(&parts, claim)),
            Ok(Err(_)) => return Err(StoreError::ShuttingDown),
            Err(_) => left -= patience,
        }
        let reason = if parts.index.lock(|index| index.is_kept_by_pins(bytes)) {
            "what is there is linked into staged trees, which hold it until their leases end"
        } else if left.is_zero() {
            "the cap is taken by uploads and reads under way"
        } else {
            continue;
        };
        parts.counters.reserve_timeouts.add(1);
        return Err(StoreError::NoSpace { size_bytes: len_bytes, reason });
    }
}

/// Buries the inline burst. I12: takes a blocking thread only if one is free at once.
async fn bury_burst(parts: &Arc<Parts>, victims: Vec<Victim>) -> Result<(), StoreError> {
    if victims.is_empty() {
        return Ok(());
    }
    let bytes: u64 = victims.iter().map(Victim::charge).sum();
    // Beside names of another server's there is more to do than to unlink.
    if bytes <= INLINE_BURST_BYTES && !parts.former.keeps_originals() {
        parts.bury(victims);
        return Ok(());
    }
    let worker = Arc::clone(parts);
    parts.pool.run_now(move || worker.bury(victims)).await
}
