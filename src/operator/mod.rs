//! L2: what the operator of a running server asks: how full it is and with what, how useful, why
//! something is missing, and away with it.
//!
//! Owns the history of the process and the documents that describe it, so that the page, the admin
//! API and the command line say the same. Knows nothing of how it is asked.

mod answer;
mod history;
mod purge;
mod status;
mod surveys;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

pub use answer::{explanation_json, utc};
pub use purge::PurgeRequest;

use self::history::{History, SAMPLE_INTERVAL, Sample};
use self::surveys::Surveys;
use crate::shutdown::{self, Readiness};
use crate::store::filesystem::{FilesystemStore, Wanted};
use crate::store::{BlobStore, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::unix_seconds;

/// Directories that are listed at a time for those who ask why.
const MAX_EXPLANATIONS: usize = 2;
/// How long they wait for their turn.
const EXPLANATION_WAIT: Duration = Duration::from_secs(5);

/// A store and what it is called.
#[derive(Clone, Debug)]
pub struct NamedStore {
    /// For people.
    pub name: String,
    /// The store.
    pub store: Arc<FilesystemStore>,
    /// Whether what it keeps like action results are values under names.
    pub holds_values: bool,
}

/// A store that is not made of files, and what it says of itself.
pub trait Numbers: Send + Sync + std::fmt::Debug {
    /// What kind of store it is, as the configuration calls it.
    fn kind(&self) -> &'static str;

    /// Names of numbers and the numbers.
    fn numbers(&self) -> Vec<(&'static str, u64)>;
}

/// A store with all that stand behind it, and what it is called.
#[derive(Clone, Debug)]
pub struct NamedTree {
    /// For people.
    pub name: String,
    /// The store before all others.
    pub store: Arc<dyn BlobStore>,
    /// Whether what it keeps like action results are values under names.
    pub holds_values: bool,
}

/// The stores of a server.
#[derive(Debug, Default)]
pub struct WatchedStores {
    /// Those of files.
    pub files: Vec<NamedStore>,
    /// Those that stand behind no other.
    pub trees: Vec<NamedTree>,
    /// Those of other kinds, by name.
    pub others: Vec<(String, Arc<dyn Numbers>)>,
}

/// Why the operator gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// Others ask the same.
    #[error("busy with what others asked for; try again")]
    Busy,
    /// A store cannot answer.
    #[error("store {name:?}: {source}")]
    Store {
        /// Which one.
        name: String,
        /// What it said.
        source: StoreError,
    },
}

/// A running server, as its operator sees it.
#[derive(Debug)]
pub struct Operator {
    stores: Vec<NamedStore>,
    /// What is purged: what stands before a store must not bring back what left it.
    trees: Vec<NamedTree>,
    others: Vec<(String, Arc<dyn Numbers>)>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    started: Instant,
    started_at: u64,
    surveys: Arc<Surveys>,
    history: Mutex<History>,
    explanations: Arc<Semaphore>,
    /// One purge at a time.
    purges: Arc<Semaphore>,
}

impl Operator {
    /// Of a server that starts now.
    pub fn new(stores: WatchedStores, metrics: Arc<Metrics>, readiness: Readiness) -> Arc<Self> {
        let WatchedStores { files, trees, others } = stores;
        Arc::new(Self {
            stores: files,
            trees,
            others,
            metrics,
            readiness,
            started: Instant::now(),
            started_at: unix_seconds(),
            surveys: Arc::new(Surveys::default()),
            history: Mutex::new(History::default()),
            explanations: Arc::new(Semaphore::new(MAX_EXPLANATIONS)),
            purges: Arc::new(Semaphore::new(1)),
        })
    }

    /// Notes what there is, again and again, until it is told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let sample = self.sample();
            self.history.lock().note(sample);
        }
    }

    /// Everything there is to know at a glance; `docs/status.md` says what the names mean. Cheap
    /// however often it is asked for. Cancel safe.
    pub async fn status(&self) -> Value {
        let surveys = self.surveys.get(&self.stores).await;
        status::document(self, &surveys)
    }

    /// What the process remembers of itself: the last hour and the last week.
    pub fn history(&self) -> Value {
        let now = self.sample();
        self.history.lock().document(&now, unix_seconds())
    }

    /// What is known about a digest in all stores. Cancel safe.
    pub async fn explain(&self, wanted: &Wanted) -> Result<Value, OperatorError> {
        let turn = Arc::clone(&self.explanations).acquire_owned();
        let Ok(Ok(turn)) = timeout(EXPLANATION_WAIT, turn).await else {
            return Err(OperatorError::Busy);
        };
        let (stores, wanted) = (self.stores.clone(), wanted.clone());
        // The turn ends with the work: those who ask and hang up would pile it up.
        let explaining = async move {
            let _turn = turn;
            answer::explain(&stores, &wanted).await
        };
        // Without an answer only when the process ends.
        let explained = shutdown::detached("explanation", explaining).await;
        explained.unwrap_or(Err(OperatorError::Busy))
    }

    /// Takes out what is asked for, or counts it. Cancel safe: a purge that has begun goes on.
    pub async fn purge(&self, request: &PurgeRequest) -> Result<Value, OperatorError> {
        let turn = Arc::clone(&self.purges).try_acquire_owned();
        let Ok(turn) = turn else { return Err(OperatorError::Busy) };
        let (stores, trees, request) = (self.stores.clone(), self.trees.clone(), *request);
        // Who asks and hangs up has purged all stores, not those before the one under way.
        let purging = async move {
            let _turn = turn;
            purge::run(&stores, &trees, &request).await
        };
        let purged = shutdown::detached("purge of all stores", purging).await;
        purged.unwrap_or(Err(OperatorError::Busy))
    }

    fn sample(&self) -> Sample {
        let mut sample = Sample {
            at_seconds: self.started.elapsed().as_secs(),
            hits: history::sum(self.metrics.hits.snapshot().into_iter().map(|(_, hits)| hits)),
            ..Sample::default()
        };
        for NamedStore { store, .. } in &self.stores {
            let stats = store.stats();
            sample.used_bytes += stats.charged_bytes();
            sample.evictions += stats.evictions + stats.count_evictions + stats.expirations;
        }
        sample
    }
}
