//! The uploads under way and those that wait for their client to come back.
//!
//! Everything here is bounded: how many uploads run, how many wait, how many bytes they hold
//! reserved, and how long. An upload leaves by finishing, by expiring, by making room, or with
//! this registry; leaving unfinished gives its space back.
//!
//! The lock is a leaf: no [`Upload`] is ever dropped under it, because that takes the store's.

mod state;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use self::state::{Active, Entry, State};
use super::writer::Writer;
use crate::digest::{Digest, WriteResource};
use crate::shutdown;
use crate::store::Upload;

/// The bounds.
#[derive(Clone, Debug)]
pub(in crate::grpc) struct SessionOptions {
    /// Uploads under way at once.
    pub(in crate::grpc) max_active: usize,
    /// Interrupted uploads that are kept.
    pub(in crate::grpc) max_parked: usize,
    /// The sum of their sizes; the youngest is kept whatever its size.
    pub(in crate::grpc) max_parked_bytes: u64,
    /// How long they are kept.
    pub(in crate::grpc) parked_ttl: Duration,
    /// How long a former connection may take to let go of an upload.
    pub(in crate::grpc) takeover_timeout: Duration,
}

/// What makes two writes the same upload: a client may use one uuid for different blobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::grpc) struct SessionName {
    instance_name: String,
    uuid: String,
    digest: Digest,
}

impl From<WriteResource> for SessionName {
    fn from(resource: WriteResource) -> Self {
        let WriteResource { instance_name, uuid, digest, compressor: _ } = resource;
        Self { instance_name, uuid, digest }
    }
}

/// As many uploads are under way as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) struct TooManyUploads {
    /// The limit.
    pub(in crate::grpc) limit: usize,
}

/// What became of the wish to continue an upload.
#[derive(Debug)]
pub(super) enum Resume {
    /// Here it is.
    Writer(Box<Writer>),
    /// Nothing under this name has come so far.
    NotSoFar {
        /// How far it has come.
        committed_bytes: u64,
    },
    /// The connection that had it did not let go in time.
    Busy,
}

/// How long a client may be silent while others wait for the room it holds.
const STALL_UNDER_PRESSURE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(in crate::grpc) struct Sessions {
    options: SessionOptions,
    state: Mutex<State>,
}

impl Sessions {
    /// An empty registry.
    pub(in crate::grpc) fn new(options: SessionOptions) -> Arc<Self> {
        Arc::new(Self { options, state: Mutex::default() })
    }

    /// Gives up what waits and keeps nothing from now on.
    pub(in crate::grpc) fn close(&self) {
        let released = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.take_parked_while(|_, _| true)
        };
        drop(released);
    }

    /// How far the uploads of a name have come. What waits is kept for its full time again: the
    /// client that asks is about to continue.
    pub(super) fn committed_bytes(&self, name: &SessionName) -> u64 {
        let expires = Instant::now() + self.options.parked_ttl;
        let mut state = self.state.lock();
        state.touch(name, expires);
        state.names.get(name).map_or(0, Entry::committed_bytes)
    }

    /// Takes a place for a new upload.
    pub(super) fn admit(self: &Arc<Self>, name: Arc<SessionName>) -> Result<Slot, TooManyUploads> {
        let mut state = self.state.lock();
        let active = state.activate(&name, 0, self.options.max_active)?;
        let has_rival = state.names.get(&name).is_some_and(|entry| entry.parked.is_some());
        drop(state);
        Ok(Slot { sessions: Arc::clone(self), name, active, has_rival })
    }

    /// Finds the upload that has come at least to `offset` and takes it over, from a connection
    /// that still holds it if need be.
    ///
    /// Cancel safe. Waits at most for the takeover time.
    pub(super) async fn resume(
        self: &Arc<Self>,
        name: &Arc<SessionName>,
        offset: u64,
    ) -> Result<Resume, TooManyUploads> {
        let deadline = Instant::now() + self.options.takeover_timeout;
        loop {
            let changed = match self.try_resume(name, offset)? {
                Attempt::Done(resume) => return Ok(resume),
                Attempt::Wait(changed) => changed,
            };
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(Resume::Busy);
            }
        }
    }

    fn try_resume(
        self: &Arc<Self>,
        name: &Arc<SessionName>,
        offset: u64,
    ) -> Result<Attempt, TooManyUploads> {
        let mut state = self.state.lock();
        let Some(entry) = state.names.get(name) else {
            return Ok(Attempt::Done(Resume::NotSoFar { committed_bytes: 0 }));
        };
        let reached = entry.parked_bytes().filter(|bytes| *bytes >= offset);
        if let Some(bytes) = reached {
            let active = state.activate(name, bytes, self.options.max_active)?;
            let parked = state.unpark(name);
            drop(state);
            let sessions = Arc::clone(self);
            let slot = Slot { sessions, name: Arc::clone(name), active, has_rival: false };
            return Ok(Attempt::Done(match parked {
                Some(upload) => Resume::Writer(Box::new(Writer::new(slot, upload))),
                None => Resume::Busy,
            }));
        }
        let holder = entry.active.iter().max_by_key(|active| active.committed_bytes());
        match holder {
            Some(holder) if holder.committed_bytes() >= offset => {
                holder.yield_request.notify_one();
                let mut changed = Box::pin(Arc::clone(&entry.changed).notified_owned());
                // Registered before the lock is released, so that no change is missed.
                changed.as_mut().enable();
                Ok(Attempt::Wait(changed))
            }
            _ => {
                let committed_bytes = entry.committed_bytes();
                Ok(Attempt::Done(Resume::NotSoFar { committed_bytes }))
            }
        }
    }

    /// Gives up what waits under `name`, whose blob is visible.
    pub(super) fn forget_parked(&self, name: &SessionName) {
        self.discard_parked(name, u64::MAX);
        self.state.lock().forget_if_idle(name);
    }

    /// Asks uploads whose clients have gone silent to give way; they are parked, and the next to
    /// need room can have theirs. A client that comes back asks where to go on.
    pub(in crate::grpc) fn hurry_stalled(&self) {
        let Some(since) = Instant::now().checked_sub(STALL_UNDER_PRESSURE) else { return };
        for active in self.state.lock().stalled_since(since) {
            active.yield_request.notify_one();
        }
    }

    /// Gives up waiting uploads until `wanted_bytes` are free again, those of `name` first.
    /// Says whether there was any.
    pub(in crate::grpc) fn release_parked(
        &self,
        name: Option<&SessionName>,
        wanted_bytes: u64,
    ) -> bool {
        let released = {
            let mut state = self.state.lock();
            let own = name.and_then(|name| Some((name, state.unpark(name)?)));
            let own_bytes = own.as_ref().map_or(0, |(name, _)| name.digest.size_bytes);
            let mut released: Vec<Upload> = own.into_iter().map(|(_, upload)| upload).collect();
            let mut missing_bytes = wanted_bytes.saturating_sub(own_bytes);
            released.extend(state.take_parked_while(|parked_name, _| {
                let go_on = missing_bytes > 0;
                missing_bytes = missing_bytes.saturating_sub(parked_name.digest.size_bytes);
                go_on
            }));
            if let Some(name) = name {
                state.forget_if_idle(name);
            }
            released
        };
        !released.is_empty()
    }

    /// Ends an upload under way and keeps what it has, if anything.
    fn end(self: &Arc<Self>, slot: &Slot, upload: Option<Upload>) {
        let expires = Instant::now() + self.options.parked_ttl;
        let mut released = Vec::new();
        let start_sweeper = {
            let mut state = self.state.lock();
            state.deactivate(&slot.name, &slot.active);
            match upload {
                Some(upload) if upload.written_bytes() > 0 && !state.is_closed => {
                    released.extend(state.park(&slot.name, upload, expires));
                    released.extend(state.enforce(&self.options));
                }
                other => released.extend(other),
            }
            state.forget_if_idle(&slot.name);
            let start = !state.is_sweeping && !state.parked_order.is_empty();
            // Without a runtime the process is ending, and everything here with it.
            let start = start && tokio::runtime::Handle::try_current().is_ok();
            state.is_sweeping |= start;
            start
        };
        drop(released);
        if start_sweeper {
            shutdown::spawn("parked upload sweeper", sweep(Arc::downgrade(self)));
        }
    }

    /// Drops what waits under `name` if it has not come further than `committed_bytes`; says
    /// whether nothing waits there now.
    fn discard_parked(&self, name: &SessionName, committed_bytes: u64) -> bool {
        let mut state = self.state.lock();
        let parked = state.names.get(name).and_then(Entry::parked_bytes);
        if parked.is_some_and(|bytes| bytes > committed_bytes) {
            return false;
        }
        let released = state.unpark(name);
        drop(state);
        drop(released);
        true
    }

    /// Gives up what has waited too long; says when to look again, `None` when nothing waits.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let (released, next) = {
            let mut state = self.state.lock();
            let released = state.take_parked_while(|_, parked| parked.expires <= now);
            let next = state.first_expiry();
            state.is_sweeping = next.is_some();
            (released, next)
        };
        drop(released);
        next
    }

    /// Uploads under way, uploads that wait, and the bytes those hold.
    #[cfg(test)]
    pub(in crate::grpc) fn counts(&self) -> (usize, usize, u64) {
        let state = self.state.lock();
        (state.active, state.parked_order.len(), state.parked_bytes)
    }
}

type Changed = std::pin::Pin<Box<tokio::sync::futures::OwnedNotified>>;

enum Attempt {
    Done(Resume),
    Wait(Changed),
}

/// Runs while anything waits, and no longer than the registry lives.
async fn sweep(sessions: Weak<Sessions>) {
    loop {
        let Some(next) = sessions.upgrade().and_then(|sessions| sessions.expire()) else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}

/// The place of one upload under way.
#[derive(Debug)]
pub(super) struct Slot {
    sessions: Arc<Sessions>,
    name: Arc<SessionName>,
    active: Arc<Active>,
    /// Whether an earlier connection's upload waited under this name when this one began.
    has_rival: bool,
}

impl Slot {
    /// Says how far the upload has come. What an earlier connection left behind is dropped once
    /// this one is past it, not before: what a client is told never goes backwards (reapi 76).
    pub(super) fn advance(&mut self, committed_bytes: u64) {
        self.active.committed_bytes.store(committed_bytes, Ordering::Release);
        self.note_progress();
        if self.has_rival {
            self.has_rival = !self.sessions.discard_parked(&self.name, committed_bytes);
        }
    }

    /// Says that the upload holds room and its client is there.
    pub(super) fn note_progress(&self) {
        *self.active.progress.lock() = Some(Instant::now());
    }

    /// Says that the blob is visible: nobody needs to continue this upload any more.
    pub(super) fn finish(self) {
        self.sessions.forget_parked(&self.name);
    }

    /// Resolves when another connection wants to continue this upload. Cancel safe.
    pub(super) async fn yield_requested(&self) {
        self.active.yield_request.notified().await;
    }

    /// Ends with an upload that may be continued later.
    pub(super) fn park(mut self, upload: Upload) {
        self.end(Some(upload));
    }

    fn end(&mut self, upload: Option<Upload>) {
        let sessions = Arc::clone(&self.sessions);
        sessions.end(self, upload);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end(None);
    }
}
