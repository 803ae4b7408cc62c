//! Checks of whole files that run beside reads of a part of them.
//!
//! A client that resumes a broken download must not wait until all of it has been read, and may
//! not be given wrong bytes either: its read goes on while the file is hashed, and its last chunk
//! waits for the outcome (I20). All reads of one file share one check.

use std::collections::HashMap;

use tokio::sync::{Semaphore, watch};

use super::layout::Generation;
use super::sync::Mutex;
use crate::store::StoreError;

/// Checks that run at once; more would only take the disk from the reads themselves.
const MAX_RUNNING: usize = 4;

/// The checks of one store, by the file they read.
#[derive(Debug)]
pub(super) struct Checks {
    /// At most one for each open reader.
    outcomes: Mutex<HashMap<Generation, Outcome>>,
    pub(super) permits: Semaphore,
}

impl Default for Checks {
    fn default() -> Self {
        Self { outcomes: Mutex::default(), permits: Semaphore::new(MAX_RUNNING) }
    }
}

/// What a check will find: whether the bytes are right.
#[derive(Clone, Debug)]
pub(super) struct Outcome(watch::Receiver<Option<bool>>);

impl Outcome {
    /// Waits for the end of the check. Cancel safe.
    pub(super) async fn wait(&mut self) -> Result<bool, StoreError> {
        let failed = || StoreError::Io {
            operation: "check a file",
            source: std::io::Error::other("the check did not finish"),
        };
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| failed())?;
        outcome.ok_or_else(failed)
    }
}

/// A check that must be run by whoever holds this; dropped without a report it has failed.
#[derive(Debug)]
pub(super) struct Duty {
    generation: Generation,
    report: watch::Sender<Option<bool>>,
}

impl Checks {
    /// Joins the check of a file; the first one gets the duty to run it.
    pub(super) fn join(&self, generation: Generation) -> (Outcome, Option<Duty>) {
        let mut outcomes = self.outcomes.lock();
        // One whose duty was dropped is over, and its place is taken.
        if let Some(running) = outcomes.get(&generation).filter(|it| it.0.has_changed().is_ok()) {
            return (running.clone(), None);
        }
        let (report, outcome) = watch::channel(None);
        let outcome = Outcome(outcome);
        outcomes.insert(generation, outcome.clone());
        (outcome, Some(Duty { generation, report }))
    }

    /// Ends a check: tells those who wait, and lets a later read start a new one if it failed.
    pub(super) fn end(&self, duty: Duty, is_right: Option<bool>) {
        let Duty { generation, report } = duty;
        self.outcomes.lock().remove(&generation);
        if is_right.is_some() {
            report.send_replace(is_right);
        }
    }
}
