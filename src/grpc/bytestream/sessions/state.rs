//! What the registry holds, as a plain data structure: no lock, no clock, no task.
//!
//! Uploads that leave it are returned, never dropped here: that would take the store's lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{SessionName, SessionOptions, TooManyUploads};
use crate::store::Upload;

/// Every upload by name, and the order in which the waiting ones go.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: HashMap<Arc<SessionName>, Entry>,
    pub(super) active: usize,
    pub(super) parked_bytes: u64,
    /// The waiting uploads, the one to go first in front.
    pub(super) parked_order: BTreeMap<u64, Arc<SessionName>>,
    next_sequence: u64,
    pub(super) is_sweeping: bool,
    pub(super) is_closed: bool,
}

/// The uploads of one name.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Several only while a client that lost its connection starts over from 0.
    pub(super) active: Vec<Arc<Active>>,
    pub(super) parked: Option<Parked>,
    /// Told when an upload of this name is parked or ends.
    pub(super) changed: Arc<Notify>,
}

/// The part of an upload under way that others may see.
#[derive(Debug, Default)]
pub(super) struct Active {
    pub(super) committed_bytes: AtomicU64,
    pub(super) yield_request: Notify,
    /// When bytes last came; `None` while the upload does not hold room yet.
    pub(super) progress: Mutex<Option<Instant>>,
}

/// An upload that waits for its client.
#[derive(Debug)]
pub(super) struct Parked {
    upload: Upload,
    sequence: u64,
    pub(super) expires: Instant,
}

impl State {
    pub(super) fn activate(
        &mut self,
        name: &Arc<SessionName>,
        committed_bytes: u64,
        limit: usize,
    ) -> Result<Arc<Active>, TooManyUploads> {
        if self.active >= limit {
            return Err(TooManyUploads { limit });
        }
        self.active += 1;
        let active = Arc::new(Active {
            committed_bytes: AtomicU64::new(committed_bytes),
            yield_request: Notify::new(),
            progress: Mutex::default(),
        });
        let entry = self.names.entry(Arc::clone(name)).or_default();
        entry.active.push(Arc::clone(&active));
        Ok(active)
    }

    /// The uploads that hold room and got no byte since `since`.
    pub(super) fn stalled_since(&self, since: Instant) -> impl Iterator<Item = &Arc<Active>> {
        let active = self.names.values().flat_map(|entry| &entry.active);
        active.filter(move |active| active.progress.lock().is_some_and(|last| last < since))
    }

    pub(super) fn deactivate(&mut self, name: &SessionName, ended: &Arc<Active>) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        let is_ended = |active: &Arc<Active>| Arc::ptr_eq(active, ended);
        // A slot that has been parked ends a second time when it is dropped.
        let Some(at) = entry.active.iter().position(is_ended) else {
            return;
        };
        entry.active.swap_remove(at);
        entry.changed.notify_waiters();
        self.active = self.active.saturating_sub(1);
    }

    /// Keeps the one of two uploads of a name that has come further; returns the other.
    pub(super) fn park(
        &mut self,
        name: &Arc<SessionName>,
        upload: Upload,
        expires: Instant,
    ) -> Option<Upload> {
        let entry = self.names.get(name)?;
        if entry.parked_bytes().is_some_and(|bytes| bytes > upload.written_bytes()) {
            return Some(upload);
        }
        let former = self.unpark(name);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.parked_order.insert(sequence, Arc::clone(name));
        self.parked_bytes = self.parked_bytes.saturating_add(name.digest.size_bytes);
        let entry = self.names.entry(Arc::clone(name)).or_default();
        entry.parked = Some(Parked { upload, sequence, expires });
        former
    }

    pub(super) fn unpark(&mut self, name: &SessionName) -> Option<Upload> {
        let parked = self.names.get_mut(name)?.parked.take()?;
        self.parked_order.remove(&parked.sequence);
        self.parked_bytes = self.parked_bytes.saturating_sub(name.digest.size_bytes);
        Some(parked.upload)
    }

    pub(super) fn touch(&mut self, name: &SessionName, expires: Instant) {
        let Some((key, _)) = self.names.get_key_value(name) else {
            return;
        };
        let key = Arc::clone(key);
        if let Some(upload) = self.unpark(name) {
            // Nothing waits under this name any more, so nothing comes back.
            let former = self.park(&key, upload, expires);
            debug_assert!(former.is_none());
        }
    }

    /// Takes out waiting uploads from the front of the order while `goes` says so.
    pub(super) fn take_parked_while(
        &mut self,
        mut goes: impl FnMut(&SessionName, &Parked) -> bool,
    ) -> Vec<Upload> {
        let mut taken = Vec::new();
        while let Some(name) = self.parked_order.first_entry().map(|first| Arc::clone(first.get()))
        {
            let parked = self.names.get(&name).and_then(|entry| entry.parked.as_ref());
            if !parked.is_some_and(|parked| goes(&name, parked)) {
                break;
            }
            taken.extend(self.unpark(&name));
            self.forget_if_idle(&name);
        }
        taken
    }

    /// Brings what waits within its bounds again, the oldest going first.
    pub(super) fn enforce(&mut self, options: &SessionOptions) -> Vec<Upload> {
        let mut taken = Vec::new();
        loop {
            let count = self.parked_order.len();
            let is_over = count > options.max_parked
                || (count > 1 && self.parked_bytes > options.max_parked_bytes);
            let mut first = true;
            let one = self.take_parked_while(|_, _| is_over && std::mem::take(&mut first));
            if one.is_empty() {
                return taken;
            }
            taken.extend(one);
        }
    }

    pub(super) fn first_expiry(&self) -> Option<Instant> {
        let name = self.parked_order.values().next()?;
        self.names.get(name)?.parked.as_ref().map(|parked| parked.expires)
    }

    pub(super) fn forget_if_idle(&mut self, name: &SessionName) {
        let is_idle = |entry: &Entry| entry.active.is_empty() && entry.parked.is_none();
        if self.names.get(name).is_some_and(is_idle) {
            self.names.remove(name);
        }
    }
}

impl Entry {
    pub(super) fn parked_bytes(&self) -> Option<u64> {
        self.parked.as_ref().map(|parked| parked.upload.written_bytes())
    }

    pub(super) fn committed_bytes(&self) -> u64 {
        let active = self.active.iter().map(|active| active.committed_bytes()).max();
        active.max(self.parked_bytes()).unwrap_or(0)
    }
}

impl Active {
    pub(super) fn committed_bytes(&self) -> u64 {
        self.committed_bytes.load(Ordering::Acquire)
    }
}
