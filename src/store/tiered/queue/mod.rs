//! The queue of values that are acknowledged and not yet in the slow tier, and its books (I15).
//!
//! For each key at most one value waits and one is copied; a later one takes the place of the one
//! that waits, and waits until the one that is copied is done, so that no older value overwrites a
//! newer one. Between values of different keys order needs not hold: whether a result's blobs are
//! there is checked at every read of it.

mod books;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::counters::TieredStats;
use super::fence::Ticket;
use super::options::WriteBehindOptions;
use crate::store::waiters::until;
use crate::store::{Key, Pin, StoreError};
use books::Books;
pub(super) use books::Outcome;

/// How long a write waits for the copy of an earlier value of its key.
const CLAIM_PATIENCE: Duration = Duration::from_secs(30);

/// Values on their way to the slow tier, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct Queue {
    books: Mutex<Books>,
    /// Something can be copied, or the queue has been closed.
    work: Notify,
    /// Something has been copied or let go.
    progress: Notify,
}

/// Room in the queue. Dropping it gives the room back.
#[derive(Debug)]
pub(super) struct Slot {
    queue: Arc<Queue>,
    bytes: u64,
}

/// A value that is acknowledged.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) ticket: Ticket,
    /// The value, unless it is a blob in the fast tier.
    pub(super) data: Option<Bytes>,
    /// Keeps a blob in the fast tier.
    pub(super) pin: Option<Pin>,
    pub(super) slot: Slot,
}

/// What became of an offer.
#[derive(Debug)]
pub(super) enum Offer {
    Accepted,
    /// The queue is closed: the value must go to the slow tier now.
    Refused(Item),
    /// A purge has cut the write off.
    Purged,
}

/// A value to be copied. Dropping it without an end cancels it.
#[derive(Debug)]
pub(super) struct Work {
    queue: Arc<Queue>,
    pub(super) key: Key,
    pub(super) item: Item,
    outcome: Outcome,
}

/// Nobody else copies or writes the value of this key meanwhile.
#[derive(Debug)]
pub(super) struct Claim {
    queue: Arc<Queue>,
    key: Key,
}

impl Queue {
    pub(super) fn new(options: &WriteBehindOptions, max_fast_bytes: u64) -> Arc<Self> {
        let max_bytes = options.max_bytes.min(max_fast_bytes / 2);
        let books = Books::new(options.max_items as u64, max_bytes);
        Arc::new(Self { books: Mutex::new(books), work: Notify::new(), progress: Notify::new() })
    }

    /// Room for a value; `None`, and a counted drop, when there is none.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Slot> {
        let is_reserved = self.books.lock().reserve(bytes);
        is_reserved.then(|| Slot { queue: Arc::clone(self), bytes })
    }

    /// Takes a value over, which may be acknowledged then.
    pub(super) fn offer(&self, key: &Key, item: Item) -> Offer {
        item.ticket.accept();
        let mut books = self.books.lock();
        // Under the lock: whoever cuts tickets looks through the queue afterwards.
        if item.ticket.is_cut() {
            return Offer::Purged;
        }
        let offered = books.offer(key, item);
        drop(books);
        match offered {
            Ok(replaced) => {
                drop(replaced);
                self.work.notify_one();
                Offer::Accepted
            }
            Err(item) => Offer::Refused(item),
        }
    }

    /// Counts a write whose value cannot be kept until it is copied.
    pub(super) fn refuse(&self, slot: Slot) {
        self.books.lock().drop_write();
        drop(slot);
    }

    /// The next value to be copied; `None` when the queue is closed and empty. Cancel safe.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Work> {
        loop {
            let notified = self.work.notified();
            let (taken, has_more, is_over) = {
                let mut books = self.books.lock();
                (books.take(), books.has_ready(), books.is_over())
            };
            if has_more {
                // One word may stand for several values.
                self.work.notify_one();
            }
            if let Some((key, item)) = taken {
                let queue = Arc::clone(self);
                return Some(Work { queue, key, item, outcome: Outcome::Cancelled });
            }
            if is_over {
                // Passed on to the other workers.
                self.work.notify_one();
                return None;
            }
            notified.await;
        }
    }

    /// Whether a value is acknowledged and not yet in the slow tier.
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        self.books.lock().is_pending(key)
    }

    /// Whether nothing is pending.
    pub(super) fn is_idle(&self) -> bool {
        self.books.lock().is_idle()
    }

    /// The bytes of a pending value that is kept here.
    pub(super) fn held(&self, key: &Key) -> Option<Bytes> {
        self.books.lock().held(key)
    }

    /// Waits, bounded, until nobody copies the value of this key, and keeps others from it.
    pub(super) async fn claim(self: &Arc<Self>, key: &Key) -> Result<Claim, StoreError> {
        let claiming = until(&self.progress, || self.books.lock().claim(key));
        let claimed = timeout(CLAIM_PATIENCE, claiming).await;
        claimed.map_err(|_| StoreError::Unavailable {
            what: format!("an earlier value of {key} is still on its way to the slow tier"),
        })?;
        Ok(Claim { queue: Arc::clone(self), key: *key })
    }

    /// Lets go of what waits and has been cut off.
    pub(super) fn cancel_cut(&self) {
        self.cancel(|_, item| item.ticket.is_cut());
    }

    /// Lets go of the selected values that wait; how many.
    pub(super) fn cancel(&self, is_selected: impl Fn(&Key, &Item) -> bool) -> usize {
        let cancelled = self.books.lock().cancel(is_selected);
        let count = cancelled.len();
        // Outside the lock: an item gives its room and its pin back.
        drop(cancelled);
        self.progress.notify_waiters();
        count
    }

    /// Accepts nothing any more.
    pub(super) fn close(&self) {
        self.books.lock().is_closed = true;
        self.work.notify_one();
    }

    /// Adds what the books say.
    pub(super) fn add_stats(&self, stats: &mut TieredStats) {
        self.books.lock().add_stats(stats);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queue.books.lock().give_back(self.bytes);
        self.queue.progress.notify_waiters();
    }
}

impl Work {
    pub(super) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let has_next = self.queue.books.lock().end(&self.key, self.outcome);
        if has_next {
            self.queue.work.notify_one();
        }
        self.queue.progress.notify_waiters();
    }
}

impl Claim {
    /// Lets go of an earlier value that waits: a later one is in the slow tier.
    pub(super) fn supersede(&self) {
        self.queue.cancel(|key, _| *key == self.key);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let has_next = self.queue.books.lock().release(&self.key);
        if has_next {
            self.queue.work.notify_one();
        }
        self.queue.progress.notify_waiters();
    }
}
