//! Answers that were given from memory are confirmed behind the reply.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Shared;

/// How long confirmations are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// The most keys of one question.
const MAX_KEYS: usize = 4096;
/// How long the backend has for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the backend for what was answered from memory, until the store is dropped.
pub(super) async fn run_refresher(shared: Arc<Shared>) {
    let Some(memory) = &shared.memory else { return };
    loop {
        shared.wanted.notified().await;
        sleep(GATHER).await;
        loop {
            let keys = memory.take_wanted(MAX_KEYS);
            if keys.is_empty() {
                break;
            }
            let question = memory.ask();
            let answers = timeout(PATIENCE, shared.backend.find_missing(&keys)).await;
            let Ok(Ok(answers)) = answers else {
                // What cannot be confirmed is not said again.
                for key in &keys {
                    memory.forget(key);
                }
                continue;
            };
            memory.note_disproved(answers.iter().filter(|missing| **missing).count() as u64);
            question.answered(keys.into_iter().zip(answers));
        }
    }
}
