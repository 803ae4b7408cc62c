//! Leases: what is kept for a worker until it says so, its stream ends or its time is over.
//!
//! I22: bounded in number; who finds no place is told before any work is done for it. What a lease
//! holds is dropped behind the lock, for that takes the store's.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes of an identifier: who does not know one must not guess it.
const ID_BYTES: usize = 16;

type LeaseId = [u8; ID_BYTES];

/// All leases of a server.
#[derive(Debug)]
pub struct Leases<T> {
    places: Arc<Semaphore>,
    table: Mutex<Table<T>>,
    /// An end came before all others.
    changed: Notify,
}

#[derive(Debug)]
struct Table<T> {
    held: HashMap<LeaseId, Held<T>>,
    /// Of those that end by themselves.
    ends: BTreeSet<(Instant, LeaseId)>,
    is_closed: bool,
}

#[derive(Debug)]
struct Held<T> {
    what: T,
    until: Option<Instant>,
    _ended: DropGuard,
    _place: OwnedSemaphorePermit,
}

/// The place of a lease that may begin.
#[derive(Debug)]
pub struct Place<T> {
    leases: Arc<Leases<T>>,
    permit: OwnedSemaphorePermit,
}

/// A lease that ends when this is dropped, or before.
#[derive(Debug)]
pub struct Lease<T> {
    leases: Arc<Leases<T>>,
    id: LeaseId,
    ended: CancellationToken,
    is_kept: bool,
}

impl<T> Leases<T> {
    /// At most so many.
    pub fn new(at_most: usize) -> Arc<Self> {
        let table = Table { held: HashMap::new(), ends: BTreeSet::new(), is_closed: false };
        Arc::new(Self {
            places: Arc::new(Semaphore::new(at_most.min(Semaphore::MAX_PERMITS))),
            table: Mutex::new(table),
            changed: Notify::new(),
        })
    }

    /// A place for one more; `None` when all are taken.
    pub fn place(self: &Arc<Self>) -> Option<Place<T>> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { leases: Arc::clone(self), permit })
    }

    /// Ends the lease with this name; gives what it held, `None` when it has ended.
    pub fn take(&self, id: &str) -> Option<T> {
        let mut decoded = LeaseId::default();
        const_hex::decode_to_slice(id, &mut decoded).ok()?;
        self.remove(&decoded).map(|held| held.what)
    }

    /// What the lease with this name holds; `None` when it has ended.
    pub fn get(&self, id: &str) -> Option<T>
    where
        T: Clone,
    {
        let mut decoded = LeaseId::default();
        const_hex::decode_to_slice(id, &mut decoded).ok()?;
        self.table.lock().held.get(&decoded).map(|held| held.what.clone())
    }

    fn remove(&self, id: &LeaseId) -> Option<Held<T>> {
        let mut table = self.table.lock();
        let held = table.held.remove(id)?;
        if let Some(until) = held.until {
            table.ends.remove(&(until, *id));
        }
        Some(held)
    }

    /// How many hold what is wanted.
    pub fn count(&self, is_wanted: impl Fn(&T) -> bool) -> usize {
        self.table.lock().held.values().filter(|held| is_wanted(&held.what)).count()
    }

    /// Ends each lease when its time is over. Runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let next = self.expire();
            let end = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Ends what is over; says when the next one is.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut table = self.table.lock();
        while let Some(&(until, id)) = table.ends.first()
            && until <= now
        {
            table.ends.pop_first();
            expired.extend(table.held.remove(&id));
        }
        let next = table.ends.first().map(|(until, _)| *until);
        drop(table);
        drop(expired);
        next
    }

    /// Ends all, and begins none any more.
    pub fn close(&self) {
        let mut table = self.table.lock();
        table.is_closed = true;
        table.ends.clear();
        let held = std::mem::take(&mut table.held);
        drop(table);
        drop(held);
    }
}

impl<T> Place<T> {
    /// Begins the lease. `None` when no more leases begin.
    pub fn fill(self, what: T) -> io::Result<Option<Lease<T>>> {
        let mut id = LeaseId::default();
        getrandom(&mut id, GetRandomFlags::empty())?;
        let Self { leases, permit } = self;
        let ended = CancellationToken::new();
        let held = Held { what, until: None, _ended: ended.clone().drop_guard(), _place: permit };
        let mut table = leases.table.lock();
        if table.is_closed {
            drop(table);
            return Ok(None);
        }
        table.held.insert(id, held);
        drop(table);
        Ok(Some(Lease { leases, id, ended, is_kept: false }))
    }
}

impl<T> Lease<T> {
    /// Its name.
    pub fn id(&self) -> String {
        const_hex::encode(self.id)
    }

    /// Waits until it has ended. Cancel safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Lets it go on without this until its time is over.
    pub fn keep_until(mut self, until: Instant) {
        self.is_kept = true;
        let mut table = self.leases.table.lock();
        // Otherwise it has ended meanwhile.
        if let Some(held) = table.held.get_mut(&self.id) {
            held.until = Some(until);
            table.ends.insert((until, self.id));
        }
        let is_next = table.ends.first() == Some(&(until, self.id));
        drop(table);
        if is_next {
            self.leases.changed.notify_one();
        }
    }

    /// Ends it; gives what it held, `None` when it had ended.
    pub fn end(self) -> Option<T> {
        self.leases.remove(&self.id).map(|held| held.what)
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if !self.is_kept {
            drop(self.leases.remove(&self.id));
        }
    }
}
