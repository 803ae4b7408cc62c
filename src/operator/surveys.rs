//! What fills the stores, looked at now and then: whoever asks in between gets the last answer.
//!
//! A survey looks at every entry, so it is made one at a time, and the larger part of the time
//! none is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::NamedStore;
use crate::store::filesystem::Survey;

/// How long a survey is good at least.
const LEAST_AGE: Duration = Duration::from_secs(10);
/// It is good for so many times as long as it took, too.
const REST: u32 = 50;

/// The last surveys, one of each store.
#[derive(Debug)]
pub(super) struct Surveys {
    last: Mutex<Option<Last>>,
    turn: Semaphore,
}

#[derive(Debug)]
struct Last {
    good_until: Instant,
    surveys: Arc<Vec<Survey>>,
}

impl Default for Surveys {
    fn default() -> Self {
        Self { last: Mutex::new(None), turn: Semaphore::new(1) }
    }
}

impl Surveys {
    /// The last surveys, or new ones. Waits only where there are none yet. Cancel safe.
    pub(super) async fn get(&self, stores: &[NamedStore]) -> Arc<Vec<Survey>> {
        let Ok(turn) = self.turn.try_acquire() else {
            if let Some(last) = self.last(|_| true) {
                return last;
            }
            // The first one is being made.
            let _turn = self.turn.acquire().await;
            return self.renew(stores).await;
        };
        let surveys = self.renew(stores).await;
        drop(turn);
        surveys
    }

    /// For the one whose turn it is.
    async fn renew(&self, stores: &[NamedStore]) -> Arc<Vec<Survey>> {
        let begun = Instant::now();
        if let Some(last) = self.last(|last| begun < last.good_until) {
            return last;
        }
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
