//! How many calls work at once, and how many wait for that and how long (I22, I23).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::grpc::status::retry_later;

/// The turns of one kind of work.
#[derive(Debug)]
pub(super) struct Turns {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Turns {
    pub(super) fn new(running: usize, waiting: usize, patience: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running.max(1))),
            places: Arc::new(Semaphore::new(running.max(1).saturating_add(waiting))),
            patience,
        }
    }

    /// Joins those who wait, unless they are too many.
    pub(super) fn join(&self) -> Result<Waiting, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        Ok(Waiting { running: Arc::clone(&self.running), place, patience: self.patience })
    }

    /// Waits for a turn for what nobody asked for and has to be done all the same; `None` at the
    /// end of the server. Cancel safe.
    pub(super) async fn own_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.running).acquire_owned().await.ok()
    }
}

/// A place among those who wait.
#[derive(Debug)]
pub(super) struct Waiting {
    running: Arc<Semaphore>,
    place: OwnedSemaphorePermit,
    patience: Duration,
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    /// Waits for the turn. Cancel safe.
    pub(super) async fn turn(self) -> Result<Turn, Status> {
        match timeout(self.patience, self.running.acquire_owned()).await {
            Ok(Ok(running)) => Ok(Turn { _running: running, _place: self.place }),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

fn busy() -> Status {
    retry_later(Code::ResourceExhausted, "too many calls of this kind are under way")
}
