//! What a connection is doing: whether it is idle, and whether its client takes what it asked for.
//!
//! The transport does not ask an answer for its next chunk while its client takes nothing, be it
//! that the socket is full or that a stream of HTTP/2 has no window. So nothing in the answer can
//! notice the time; the task of the connection looks here instead.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::options::HttpOptions;

/// The requests of one connection. As many as it has streams, which are bounded.
#[derive(Debug)]
pub(super) struct Activity {
    idle_timeout: Duration,
    read_idle_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when each answer waits for its client; `None` while the client waits for it.
    turns: HashMap<u64, Option<Instant>>,
    next: u64,
    idle_since: Instant,
}

/// What a look at a connection has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing before this point in time; look again then.
    Fine(Instant),
    /// It has had no request for too long.
    Idle,
    /// An answer has waited for its client for too long.
    Stalled,
}

impl Activity {
    /// That of a new connection.
    pub(super) fn new(options: &HttpOptions) -> Arc<Self> {
        let state = State { turns: HashMap::new(), next: 0, idle_since: Instant::now() };
        Arc::new(Self {
            idle_timeout: options.idle_timeout,
            read_idle_timeout: options.read_idle_timeout,
            state: Mutex::new(state),
        })
    }

    /// Begins a request. `call` is held until its answer has been sent.
    pub(super) fn begin(self: &Arc<Self>, call: TaskTrackerToken) -> Turn {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.turns.insert(number, None);
        Turn { activity: Arc::clone(self), number, _call: call }
    }

    /// Looks whether the connection must end.
    pub(super) fn look(&self) -> Finding {
        let now = Instant::now();
        let state = self.state.lock();
        if state.turns.is_empty() {
            let end = state.idle_since + self.idle_timeout;
            return if end <= now { Finding::Idle } else { Finding::Fine(end) };
        }
        let stalled = state.turns.values().flatten().min();
        match stalled.map(|since| *since + self.read_idle_timeout) {
            Some(end) if end <= now => Finding::Stalled,
            Some(end) => Finding::Fine(end),
            // What begins now is not over before this.
            None => Finding::Fine(now + self.idle_timeout.min(self.read_idle_timeout)),
        }
    }
}

/// One request, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Turn {
    activity: Arc<Activity>,
    number: u64,
    _call: TaskTrackerToken,
}

impl Turn {
    fn waits_since(&self, since: Option<Instant>) {
        self.activity.state.lock().turns.insert(self.number, since);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.turns.remove(&self.number);
        state.idle_since = Instant::now();
    }
}

/// The body of an answer, watched.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    turn: Turn,
}

impl Watched {
    /// Watches `body` for as long as it takes to be sent.
    pub(super) fn new(body: Body, turn: Turn) -> Self {
        Self { body, turn }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.turn.waits_since(polled.is_ready().then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
