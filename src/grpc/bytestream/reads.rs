//! Reads that wait for their client, and for how long.
//!
//! A client that opens no window is never asked for by the transport again: nothing polls its
//! stream, so nothing in it can notice the time. Its file, and the place of that in the index,
//! would be held for ever by a client that only answers pings.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use crate::shutdown;
use crate::store::BlobReader;

/// Every read of more than one chunk. As many as there are streams, which are bounded.
#[derive(Debug)]
pub(super) struct Reads {
    idle_timeout: Duration,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    slots: HashMap<u64, Arc<Slot>>,
    next: u64,
    is_sweeping: bool,
}

/// Where a reader rests between two chunks; empty while it reads, and for good once it rested too
/// long.
type Slot = Mutex<Option<Resting>>;

#[derive(Debug)]
struct Resting {
    reader: BlobReader,
    since: Instant,
}

impl Resting {
    fn new(reader: BlobReader) -> Self {
        Self { reader, since: Instant::now() }
    }
}

impl Reads {
    pub(super) fn new(idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { idle_timeout, open: Mutex::default() })
    }

    /// Takes charge of a reader.
    pub(super) fn start(self: &Arc<Self>, reader: BlobReader) -> Read {
        let slot = Arc::new(Mutex::new(Some(Resting::new(reader))));
        let mut open = self.open.lock();
        let number = open.next;
        open.next += 1;
        open.slots.insert(number, Arc::clone(&slot));
        let start_sweeper = !std::mem::replace(&mut open.is_sweeping, true);
        drop(open);
        if start_sweeper {
            shutdown::spawn("stalled read sweeper", sweep(Arc::downgrade(self)));
        }
        Read { reads: Arc::clone(self), number, slot, is_done: false }
    }

    /// Closes what has rested too long; says when to look again, `None` when nothing is open.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = now + self.idle_timeout;
        // Closed behind the locks: that takes the store's.
        let mut expired = Vec::new();
        let mut open = self.open.lock();
        for slot in open.slots.values() {
            let mut slot = slot.lock();
            match slot.as_ref().map(|resting| resting.since + self.idle_timeout) {
                Some(end) if end <= now => expired.extend(slot.take()),
                Some(end) => next = next.min(end),
                None => {}
            }
        }
        open.is_sweeping = !open.slots.is_empty();
        let is_sweeping = open.is_sweeping;
        drop(open);
        drop(expired);
        is_sweeping.then_some(next)
    }
}

/// Runs while anything is open, and no longer than the registry lives.
async fn sweep(reads: Weak<Reads>) {
    loop {
        let Some(next) = reads.upgrade().and_then(|reads| reads.expire()) else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}

/// One read.
#[derive(Debug)]
pub(super) struct Read {
    reads: Arc<Reads>,
    number: u64,
    slot: Arc<Slot>,
    is_done: bool,
}

impl Read {
    /// The next chunk; `None` at the end. The file is closed before the last chunk is sent.
    pub(super) async fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Status> {
        if self.is_done {
            return Ok(None);
        }
        let Some(Resting { mut reader, .. }) = self.slot.lock().take() else {
            let seconds = self.reads.idle_timeout.as_secs();
            return Err(Status::deadline_exceeded(format!("nothing was taken for {seconds} s")));
        };
        let chunk = reader.next(max_bytes).await?;
        if chunk.is_some() && reader.remaining_bytes() > 0 {
            *self.slot.lock() = Some(Resting::new(reader));
            return Ok(chunk);
        }
        self.is_done = true;
        // I20: the end must be asked for, so that a late mismatch is still reported.
        match reader.next(max_bytes).await? {
            None => Ok(chunk),
            Some(rest) => Ok(Some([chunk.unwrap_or_default(), rest].concat().into())),
        }
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.reads.open.lock().slots.remove(&self.number);
    }
}
