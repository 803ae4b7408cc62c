//! What fills the stores, looked at now and then: whoever asks in between gets the last answer.
//!
//! A survey looks at every entry, so it is made one at a time, is finished whether its asker still
//! waits or not, and the larger part of the time none is made.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::NamedStore;
use crate::shutdown;
use crate::store::filesystem::Survey;

/// How long a survey is good at least.
const LEAST_AGE: Duration = Duration::from_secs(10);
/// It is good for so many times as long as it took, too.
const REST: u32 = 50;

/// The last surveys, one of each store.
#[derive(Debug)]
pub(super) struct Surveys {
    last: Mutex<Option<Last>>,
    turn: Arc<Semaphore>,
}

#[derive(Debug)]
struct Last {
    good_until: Instant,
    surveys: Arc<Vec<Survey>>,
}

impl Default for Surveys {
    fn default() -> Self {
        Self { last: Mutex::new(None), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Surveys {
    /// The last surveys, or new ones. Waits for others only where there are none yet. Cancel safe.
    pub(super) async fn get(self: &Arc<Self>, stores: &[NamedStore]) -> Arc<Vec<Survey>> {
        let mut turn = Arc::clone(&self.turn).try_acquire_owned().ok();
        if turn.is_none() {
            if let Some(last) = self.last(|_| true) {
                return last;
            }
            // The first ones are being made.
            turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        }
        let now = Instant::now();
        if let Some(last) = self.last(|last| now < last.good_until) {
            return last;
        }
        let (worker, stores) = (Arc::clone(self), stores.to_vec());
        let renewing = async move { worker.renew(&stores, turn).await };
        // Without an answer only when the process ends.
        shutdown::detached("survey", renewing).await.unwrap_or_default()
    }

    async fn renew(
        &self,
        stores: &[NamedStore],
        _turn: Option<OwnedSemaphorePermit>,
    ) -> Arc<Vec<Survey>> {
        let begun = Instant::now();
        let mut surveys = Vec::with_capacity(stores.len());
        for named in stores {
            surveys.push(named.store.survey().await);
        }
        let surveys = Arc::new(surveys);
        let good_until = Instant::now() + LEAST_AGE.max(begun.elapsed() * REST);
        *self.last.lock() = Some(Last { good_until, surveys: Arc::clone(&surveys) });
        surveys
    }

    fn last(&self, is_wanted: impl FnOnce(&Last) -> bool) -> Option<Arc<Vec<Survey>>> {
        let last = self.last.lock();
        last.as_ref().filter(|last| is_wanted(last)).map(|last| Arc::clone(&last.surveys))
    }
}
