//! One read of the slow tier for all who want the same value (I10).
//!
//! The first one gets the duty and reads; the others follow its progress. Nobody waits for a
//! flight that has stopped moving (I23), and a duty that is dropped is noticed at once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::store::Key;

/// The longest time without progress that a follower waits.
const STALL: Duration = Duration::from_secs(2);
/// The longest time that a follower waits at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads under way; bounded by those who read.
#[derive(Debug, Default)]
pub(super) struct Flights {
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next_id: u64,
    flights: HashMap<Key, (u64, Weak<watch::Sender<Progress>>)>,
}

/// What followers see of a flight.
#[derive(Debug)]
pub(super) enum Progress {
    Moving,
    Ended(Landing),
}

/// What a flight came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// The fast tier has the value.
    InFast,
    /// This is the value.
    Whole(Bytes),
    /// Nobody has it. Only of values that are written one at a time.
    Absent,
    /// Whoever wants the value must read it from the slow tier.
    NotInFast,
}

/// What a follower learned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    Landed(Landing),
    /// The one who had the duty went away.
    Abandoned,
    /// It takes too long.
    Stalled,
}

/// A place in a flight.
pub(super) enum Joined {
    Leader(Duty),
    Follower(watch::Receiver<Progress>),
}

/// The read that must be done by whoever holds this.
#[derive(Debug)]
pub(super) struct Duty {
    flights: Arc<Flights>,
    key: Key,
    id: u64,
    progress: Arc<watch::Sender<Progress>>,
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: &Key) -> Joined {
        let mut running = self.running.lock();
        if let Some(progress) = running.flights.get(key).and_then(|(_, it)| it.upgrade()) {
            return Joined::Follower(progress.subscribe());
        }
        let id = running.next_id;
        running.next_id += 1;
        let progress = Arc::new(watch::Sender::new(Progress::Moving));
        running.flights.insert(*key, (id, Arc::downgrade(&progress)));
        Joined::Leader(Duty { flights: Arc::clone(self), key: *key, id, progress })
    }

    /// Lets nobody join the selected flights any more.
    pub(super) fn close(&self, is_selected: impl Fn(&Key) -> bool) {
        self.running.lock().flights.retain(|key, _| !is_selected(key));
    }

    /// Reads under way that can be joined.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.running.lock().flights.len()
    }

    /// Followers of a read under way.
    #[cfg(test)]
    pub(super) fn followers(&self, key: &Key) -> usize {
        let running = self.running.lock();
        let progress = running.flights.get(key).and_then(|(_, it)| it.upgrade());
        progress.map_or(0, |it| it.receiver_count())
    }

    fn leave(&self, key: &Key, id: u64) {
        let mut running = self.running.lock();
        if running.flights.get(key).is_some_and(|(it, _)| *it == id) {
            running.flights.remove(key);
        }
    }
}

impl Duty {
    /// Says that it has not stalled.
    pub(super) fn moves(&self) {
        self.progress.send_replace(Progress::Moving);
    }

    /// Whether anybody waits for it.
    pub(super) fn has_followers(&self) -> bool {
        self.progress.receiver_count() > 0
    }

    pub(super) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells those who wait. Who comes later begins anew.
    pub(super) fn end(self, landing: Landing) {
        self.flights.leave(&self.key, self.id);
        self.progress.send_replace(Progress::Ended(landing));
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        self.flights.leave(&self.key, self.id);
    }
}

/// Waits for the end of a flight. Cancel safe.
pub(super) async fn follow(mut progress: watch::Receiver<Progress>) -> Followed {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Progress::Ended(landing) = &*progress.borrow_and_update() {
            return Followed::Landed(landing.clone());
        }
        match timeout_at(until.min(Instant::now() + STALL), progress.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Followed::Abandoned,
            Err(_) => return Followed::Stalled,
        }
    }
}
