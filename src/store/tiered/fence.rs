//! Purges are final (I16) also for what is on its way from one tier to the other.
//!
//! Each tier refuses writes that began in it before it was purged. What a tiered store writes later
//! than it began has a [`Ticket`] from before its beginning, and begins to write into a tier only
//! under [`Ticket::guard`]: every poll of it happens under the ticket's lock, after a look whether
//! the ticket has been cut. So once [`Fence::cut`] returns, what was cut begins nothing any more,
//! and what it has begun is the tier's to refuse.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{Key, StoreError};

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

impl Origin {
    /// Of what is under way the age is 0; of what is not known, any.
    pub(super) fn age_seconds(self) -> u64 {
        match self {
            Self::Client => 0,
            Self::Accepted(at) => at.elapsed().as_secs(),
            Self::Stored => u64::MAX,
        }
    }
}

/// The work under way that a purge may cut off; bounded by those who do it.
#[derive(Debug, Default)]
pub(super) struct Fence {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next_id: u64,
    tickets: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    origin: Origin,
    line: Arc<Line>,
}

/// What a ticket and the fence share.
#[derive(Debug, Default)]
struct Line(Mutex<LineState>);

#[derive(Debug, Default)]
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

impl Fence {
    /// A ticket from now on.
    pub(super) fn begin(self: &Arc<Self>, key: &Key, origin: Origin) -> Ticket {
        let line = Arc::new(Line::default());
        let mut live = self.live.lock();
        let id = live.next_id;
        live.next_id += 1;
        live.tickets.insert(id, Entry { key: *key, origin, line: Arc::clone(&line) });
        Ticket { fence: Arc::clone(self), id, line }
    }

    /// Cuts off what is selected and under way now.
    pub(super) fn cut(&self, is_selected: impl Fn(&Key, Origin) -> bool) {
        let live = self.live.lock();
        let selected = live.tickets.values().filter(|it| is_selected(&it.key, it.origin));
        let lines: Vec<_> = selected.map(|it| Arc::clone(&it.line)).collect();
        drop(live);
        for line in lines {
            let mut state = line.0.lock();
            state.is_cut = true;
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Work under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live.lock().tickets.len()
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

    /// Says that the value was acknowledged now.
    pub(super) fn accept(&self) {
        if let Some(entry) = self.fence.live.lock().tickets.get_mut(&self.id) {
            entry.origin = Origin::Accepted(Instant::now());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.fence.live.lock().tickets.remove(&self.id);
    }
}
