//! Room for those who are here, at the cost of uploads that only wait for their client.
//!
//! Decides when waiting uploads are given up; which of them, `sessions` decides.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::bytestream::sessions::{SessionName, Sessions};
use crate::action_cache::ActionCacheError;
use crate::store::StoreError;

/// How long a store may take to make room before waiting uploads are given up for it.
const ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// An error that may say that there is no room.
pub(super) trait Refusal {
    /// Whether it does.
    fn is_no_space(&self) -> bool;
}

impl Refusal for StoreError {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

impl Refusal for ActionCacheError {
    fn is_no_space(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_no_space())
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Room {
    sessions: Arc<Sessions>,
}

/// What needs room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'n> {
    /// How much.
    pub(super) bytes: u64,
    /// The upload that it replaces, if it is one: that goes first.
    pub(super) replaces: Option<&'n SessionName>,
}

impl Room {
    /// Room at the cost of what waits in `sessions`.
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }

    /// Does what needs room. Uploads that only wait for their client must neither refuse nor long
    /// delay it, so they are given up when room does not come at once, and those whose client has
    /// fallen silent are made to wait, to be given up next; `is_waiting` says whether
    /// room is what the store waits for. Cancel safe if `attempt` is.
    pub(super) async fn with<T, E, F>(
        &self,
        need: Need<'_>,
        is_waiting: impl Fn() -> bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, E>
    where
        E: Refusal,
        F: Future<Output = Result<T, E>>,
    {
        let make_room = || self.sessions.release_parked(need.replaces, need.bytes);
        let mut first = pin!(attempt());
        let outcome = loop {
            match tokio::time::timeout(ROOM_PATIENCE, first.as_mut()).await {
                Ok(outcome) => break outcome,
                // Again and again: others may stand before this one in the queue for room.
                Err(_) if is_waiting() => {
                    make_room();
                    self.sessions.hurry_stalled();
                }
                // A slow disk gets no faster for it.
                Err(_) => {}
            }
        };
        match outcome {
            Err(error) if error.is_no_space() && make_room() => attempt().await,
            outcome => outcome,
        }
    }
}
