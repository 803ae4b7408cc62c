//! Purges are final (I16) also for what is on its way from one tier to the other.
//!
//! Each tier refuses writes that began in it before it was purged. What a tiered store writes later
//! than it began has a [`Ticket`] from before its beginning, and begins to write into a tier only
//! under [`Ticket::guard`]: every poll of it happens under the ticket's lock, after a look whether
//! the ticket has been cut. So once [`Fence::raise`] returns, what was cut begins nothing any more,
//! and what it has begun is the tier's to refuse. As long as the fence is up, what is read in one
//! tier is not brought into the other: it may be what is being purged.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::store::waiters::until;
use crate::store::{Key, Selection, StoreError};

/// How long a removal waits for copies of its value to end.
const COPY_PATIENCE: Duration = Duration::from_secs(10);

/// How old the value is that a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A client is writing it.
    Client,
    /// It was acknowledged, and is being copied.
    Accepted(Instant),
    /// It was in the slow tier, nobody knows for how long.
    Stored,
}

/// What is taken away.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    /// What is selected.
    Purged(Selection),
    /// One value; what a client is writing, or has written and is being copied, may come again.
    Removed(Key),
}

impl Taken {
    fn covers(&self, key: &Key, origin: Origin) -> bool {
        match (self, origin) {
            (Self::Removed(removed), _) => removed == key && origin == Origin::Stored,
            // What a client is writing has no age.
            (Self::Purged(Selection::ResultsOlderThan { .. }), Origin::Client) => false,
            (Self::Purged(selection), Origin::Client) => selection.covers(key, 0),
            (Self::Purged(selection), Origin::Accepted(at)) => {
                selection.covers(key, at.elapsed().as_secs())
            }
            (Self::Purged(selection), Origin::Stored) => selection.covers(key, u64::MAX),
        }
    }

    /// Whether stored values of this key are meant.
    pub(super) fn covers_stored(&self, key: &Key) -> bool {
        self.covers(key, Origin::Stored)
    }
}

/// The work under way that a purge may cut off; bounded by those who do it.
#[derive(Debug, Default)]
pub(super) struct Fence {
    work: Mutex<WorkUnderWay>,
    /// A ticket has been given back.
    progress: Notify,
}

#[derive(Debug, Default)]
struct WorkUnderWay {
    next_id: u64,
    tickets: HashMap<u64, Entry>,
    raised: HashMap<u64, Taken>,
}

/// The fence is up as long as this lives.
#[derive(Debug)]
pub(super) struct Raised {
    fence: Arc<Fence>,
    id: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    origin: Origin,
    line: Arc<Line>,
}

/// What a ticket and the fence share.
#[derive(Debug)]
struct Line(Mutex<LineState>);

#[derive(Debug)]
struct LineState {
    is_cut: bool,
    /// Of the one future that is polled under the ticket.
    waker: Option<Waker>,
}

/// The right to write a value that was read or begun at some moment.
#[derive(Debug)]
pub(super) struct Ticket {
    fence: Arc<Fence>,
    id: u64,
    line: Arc<Line>,
}

/// Tells whether a ticket has been cut.
#[derive(Debug)]
pub(super) struct Mark(Arc<Line>);

impl Mark {
    pub(super) fn is_cut(&self) -> bool {
        self.0.0.lock().is_cut
    }
}

impl Fence {
    /// A ticket from now on.
    pub(super) fn begin(self: &Arc<Self>, key: &Key, origin: Origin) -> Ticket {
        let mut work = self.work.lock();
        let id = work.next_id();
        let is_cut = origin != Origin::Client && work.is_taken(key);
        let line = Arc::new(Line(Mutex::new(LineState { is_cut, waker: None })));
        work.tickets.insert(id, Entry { key: *key, origin, line: Arc::clone(&line) });
        Ticket { fence: Arc::clone(self), id, line }
    }

    /// Cuts off what is meant and under way now, and copies of it until the end.
    pub(super) fn raise(self: &Arc<Self>, taken: Taken) -> Raised {
        let mut work = self.work.lock();
        let id = work.next_id();
        work.raised.insert(id, taken);
        let meant = work.tickets.values().filter(|it| taken.covers(&it.key, it.origin));
        let lines: Vec<_> = meant.map(|it| Arc::clone(&it.line)).collect();
        drop(work);
        for line in lines {
            let mut state = line.0.lock();
            state.is_cut = true;
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Raised { fence: Arc::clone(self), id }
    }

    /// Whether values of this key are being taken away now.
    pub(super) fn is_up(&self, key: &Key) -> bool {
        self.work.lock().is_taken(key)
    }

    /// Waits, bounded, until no copy of a stored value is under way.
    pub(super) async fn copies_ended(&self, key: &Key) {
        let is_copy = |it: &Entry| it.key == *key && it.origin == Origin::Stored;
        let have_ended = || !self.work.lock().tickets.values().any(is_copy);
        if timeout(COPY_PATIENCE, until(&self.progress, have_ended)).await.is_err() {
            tracing::warn!(%key, "a value is removed while it is being copied");
        }
    }

    /// Work under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.work.lock().tickets.len()
    }
}

impl WorkUnderWay {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn is_taken(&self, key: &Key) -> bool {
        self.raised.values().any(|taken| taken.covers_stored(key))
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.fence.work.lock().raised.remove(&self.id);
    }
}

impl Ticket {
    /// Does `work` unless and until the ticket is cut. Of one ticket only one guard at a time.
    pub(super) async fn guard<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut work = pin!(work);
        poll_fn(|context| match self.watch(context, |context| work.as_mut().poll(context)) {
            Some(poll) => poll,
            None => Poll::Ready(Err(StoreError::Purged)),
        })
        .await
    }

    /// Waits until the ticket is cut. Is a guard.
    pub(super) async fn cut(&self) {
        let waiting = |context: &mut Context<'_>| self.watch(context, |_| Poll::<()>::Pending);
        poll_fn(|context| match waiting(context) {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        })
        .await;
    }

    /// Polls under the lock; `None` when the ticket is cut.
    fn watch<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Option<Poll<T>> {
        let mut state = self.line.0.lock();
        if state.is_cut {
            return None;
        }
        state.waker = Some(context.waker().clone());
        Some(poll(context))
    }

    pub(super) fn is_cut(&self) -> bool {
        self.line.0.lock().is_cut
    }

    /// What tells the same to others.
    pub(super) fn mark(&self) -> Mark {
        Mark(Arc::clone(&self.line))
    }

    /// Says that the value was acknowledged now.
    pub(super) fn accept(&self) {
        if let Some(entry) = self.fence.work.lock().tickets.get_mut(&self.id) {
            entry.origin = Origin::Accepted(Instant::now());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.fence.work.lock().tickets.remove(&self.id);
        self.fence.progress.notify_waiters();
    }
}
