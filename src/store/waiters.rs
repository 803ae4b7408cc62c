//! Who waits: reservations for room, first come, first served; and whoever waits for a change.

use std::collections::VecDeque;

use tokio::sync::Notify;

/// Names one place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A reservation that was made for a waiter, who must be told.
#[derive(Debug)]
pub(crate) struct Grant<C, W> {
    /// What is reserved.
    pub(crate) claim: C,
    /// How to tell the waiter.
    pub(crate) waker: W,
}

/// Claims on room that wait. The length is bounded by the uploads under way, each of which waits
/// in one place.
#[derive(Debug)]
pub(super) struct Waiters<C, W> {
    queue: VecDeque<(Ticket, Grant<C, W>)>,
    next: u64,
}

impl<C, W> Default for Waiters<C, W> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), next: 0 }
    }
}

impl<C, W> Waiters<C, W> {
    pub(super) fn push(&mut self, claim: C, waker: W) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back((ticket, Grant { claim, waker }));
        ticket
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Grant<C, W>> {
        // Tickets rise along the queue.
        let at = self.queue.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        self.queue.remove(at).map(|(_, waiter)| waiter)
    }

    /// The claim that is served next.
    pub(super) fn head(&self) -> Option<&C> {
        self.queue.front().map(|(_, waiter)| &waiter.claim)
    }

    pub(super) fn pop(&mut self) -> Option<Grant<C, W>> {
        self.queue.pop_front().map(|(_, waiter)| waiter)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Waits until something holds that can only come about when `changed` is notified. Cancel safe.
pub(super) async fn until(changed: &Notify, holds: impl Fn() -> bool + Send + Sync) {
    loop {
        let mut change = std::pin::pin!(changed.notified());
        // Listening before looking: a change between the two is not missed.
        change.as_mut().enable();
        if holds() {
            return;
        }
        change.await;
    }
}
