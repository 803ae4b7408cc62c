//! Work that is done once for all who want it.
//!
//! The first one gets the duty and does the work in a task of its own; the others, and the first
//! one too, wait for the outcome. Whoever stops waiting stops nothing, and everybody is answered
//! (I10): a duty that is dropped without a report is an answer as well.

use std::collections::HashMap;

use tokio::sync::watch;

use super::layout::Generation;
use super::mutants::{self, Mutant};
use super::sync::Mutex;

/// Work under way, by the file that it is about; bounded by those who wait for it.
#[derive(Debug)]
pub(super) struct Flights<R> {
    outcomes: Mutex<HashMap<Generation, Outcome<R>>>,
}

impl<R> Default for Flights<R> {
    fn default() -> Self {
        Self { outcomes: Mutex::new(HashMap::new()) }
    }
}

/// What the work will have come to.
#[derive(Debug)]
pub(super) struct Outcome<R>(watch::Receiver<Option<R>>);

impl<R> Clone for Outcome<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Clone + Send + Sync> Outcome<R> {
    /// Waits for the end of the work; `None` when it ended without a word. Cancel safe.
    pub(super) async fn wait(&mut self) -> Option<R> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Work that must be done by whoever holds this.
#[derive(Debug)]
pub(super) struct Duty<R> {
    generation: Generation,
    report: watch::Sender<Option<R>>,
}

impl<R> Flights<R> {
    /// Joins the work on a file; the first one gets the duty to do it.
    pub(super) fn join(&self, generation: Generation) -> (Outcome<R>, Option<Duty<R>>) {
        let mut outcomes = self.outcomes.lock();
        // One whose duty was dropped is over, and its place is taken.
        if let Some(running) = outcomes.get(&generation).filter(|it| it.0.has_changed().is_ok())
            && !mutants::is_on(Mutant::NoSingleFlight)
        {
            return (running.clone(), None);
        }
        let (report, outcome) = watch::channel(None);
        let outcome = Outcome(outcome);
        outcomes.insert(generation, outcome.clone());
        (outcome, Some(Duty { generation, report }))
    }

    /// Ends the work: tells those who wait. `None` lets a later one begin anew.
    pub(super) fn end(&self, duty: Duty<R>, result: Option<R>) {
        let Duty { generation, report } = duty;
        self.outcomes.lock().remove(&generation);
        if result.is_some() {
            report.send_replace(result);
        }
    }

    /// Whether no work is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.lock().is_empty()
    }

    /// Work under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.outcomes.lock().len()
    }
}
