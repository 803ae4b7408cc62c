//! What every part of one store works on: the index behind its lock, and what must be done outside.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use super::index::{Claim, Index, Victim};
use super::payload::Payload;
use super::room::{Freed, Settled};
use super::stats::Counters;
use crate::store::waiters::{Grant, until};
use crate::store::work::Processors;

/// Wakes a queued reservation with what was reserved for it.
pub(super) type Waker = oneshot::Sender<Claim>;

/// The index of a store.
pub(super) type MemoryIndex = Index<Arc<Payload>, Waker>;

/// The parts.
#[derive(Debug)]
pub(super) struct Shared {
    /// A leaf: nothing is called, freed or waited for under it (I11).
    index: Mutex<MemoryIndex>,
    opened: Instant,
    pub(super) processors: Processors,
    pub(super) counters: Counters,
    pub(super) reserve_timeout: Duration,
    /// Wakes those who wait for writes to end.
    write_ended: Notify,
}

impl Shared {
    pub(super) fn new(index: MemoryIndex, reserve_timeout: Duration) -> Self {
        Self {
            index: Mutex::new(index),
            opened: Instant::now(),
            processors: Processors::default(),
            counters: Counters::default(),
            reserve_timeout,
            write_ended: Notify::new(),
        }
    }

    /// One critical section, and what follows from it: memory of what has left is given back, and
    /// the queue is served with it, until nothing more follows.
    pub(super) fn update<R>(&self, section: impl FnOnce(&mut MemoryIndex) -> R) -> R {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (result, mut settled, mut has_ended) = {
            let mut index = self.index.lock();
            index.order.set_now(now_ms);
            let writes = index.writers.len();
            let result = section(&mut index);
            let settled = index.settle();
            (result, settled, index.writers.len() < writes)
        };
        while !settled.victims.is_empty() || !settled.grants.is_empty() {
            let freed = free(settled.victims);
            let returned = deliver(settled.grants);
            has_ended |= !returned.is_empty();
            settled = self.book(freed, returned);
        }
        if has_ended {
            self.write_ended.notify_waiters();
        }
        result
    }

    /// Notes what was given back outside the lock.
    fn book(&self, freed: Freed, returned: Vec<Claim>) -> Settled<Arc<Payload>, Waker> {
        let mut index = self.index.lock();
        index.free(freed);
        for claim in returned {
            index.unreserve(claim);
        }
        index.settle()
    }

    /// Waits until something holds that changes when writes end; false when it has not come about
    /// in so long.
    pub(super) async fn wait_until(
        &self,
        limit: Duration,
        holds: impl Fn() -> bool + Send + Sync,
    ) -> bool {
        timeout(limit, until(&self.write_ended, holds)).await.is_ok()
    }

    /// Looks without changing anything.
    pub(super) fn look<R>(&self, look: impl FnOnce(&MemoryIndex) -> R) -> R {
        look(&self.index.lock())
    }
}

/// Gives memory back; what a reader still holds is booked when it lets go.
fn free(victims: Vec<Victim<Arc<Payload>>>) -> Freed {
    let mut freed = Freed::default();
    for Victim { payload, charge, is_falling } in victims {
        if Payload::free(payload) {
            freed.bytes += charge;
            freed.falling_bytes += if is_falling { charge } else { 0 };
        }
    }
    freed
}

/// Tells waiters of their grants; gives back those of waiters that have vanished.
fn deliver(grants: Vec<Grant<Claim, Waker>>) -> Vec<Claim> {
    grants.into_iter().filter_map(|it| it.waker.send(it.claim).err()).collect()
}
