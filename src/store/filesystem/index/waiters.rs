//! Reservations that wait for room, first come, first served.

use std::collections::VecDeque;

use super::Claim;

/// Names one place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// A reservation that was made for a waiter, who must be told.
#[derive(Debug)]
pub(crate) struct Grant<W> {
    /// What is reserved.
    pub(crate) claim: Claim,
    /// How to tell the waiter.
    pub(crate) waker: W,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    claim: Claim,
    waker: W,
}

/// The queue. Its length is bounded by the uploads under way, each of which waits in one place.
#[derive(Debug)]
pub(super) struct Waiters<W> {
    queue: VecDeque<Waiter<W>>,
    next: u64,
}

impl<W> Default for Waiters<W> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), next: 0 }
    }
}

impl<W> Waiters<W> {
    pub(super) fn push(&mut self, claim: Claim, waker: W) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back(Waiter { ticket, claim, waker });
        ticket
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Claim> {
        // Tickets rise along the queue.
        let at = self.queue.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        self.queue.remove(at).map(|waiter| waiter.claim)
    }

    pub(super) fn head_bytes(&self) -> Option<u64> {
        self.queue.front().map(|waiter| waiter.claim.bytes)
    }

    pub(super) fn pop(&mut self) -> Option<Grant<W>> {
        let waiter = self.queue.pop_front()?;
        Some(Grant { claim: waiter.claim, waker: waiter.waker })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
