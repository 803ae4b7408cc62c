//! Blocking file work off the async threads, bounded.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::sync::{detach_blocking, run_blocking};
use crate::store::StoreError;

/// A bound on the blocking jobs of one store.
///
/// It stays well below the runtime's limit of 512 blocking threads, so that the evictor, which
/// takes no permit, always finds one (I12).
#[derive(Debug)]
pub(super) struct Pool {
    permits: Arc<Semaphore>,
}

const MAX_JOBS: usize = 64;

impl Default for Pool {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_JOBS)) }
    }
}

impl Pool {
    /// Runs `job` when a place is free. A job that has begun finishes even when the caller stops
    /// waiting: it must own everything it needs to leave the store consistent.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        spawn(move || {
            let result = job();
            drop(permit);
            result
        })
        .await
    }

    /// Runs `job` at once: on another thread when a place is free, otherwise right here. I12:
    /// eviction never waits for a permit.
    pub(super) async fn run_now<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => {
                spawn(move || {
                    let result = job();
                    drop(permit);
                    result
                })
                .await
            }
            Err(_) => Ok(job()),
        }
    }

    /// Runs `job` without a permit; for the one evictor of the store.
    pub(super) async fn run_unmetered<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        spawn(job).await
    }

    /// Runs `job` somewhere, some time; nobody waits for it.
    /// Bounded by the uploads under way.
    pub(super) fn detach(job: impl FnOnce() + Send + 'static) {
        detach_blocking(job);
    }

    /// Takes every place, as a server under full load does.
    #[cfg(all(test, not(feature = "shuttle")))]
    pub(super) async fn exhaust(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let all = u32::try_from(MAX_JOBS).ok()?;
        Arc::clone(&self.permits).acquire_many_owned(all).await.ok()
    }
}

async fn spawn<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Result<R, StoreError> {
    run_blocking(job).await.map_err(|source| StoreError::Io {
        operation: "a file job panicked or was cancelled at shutdown",
        source,
    })
}
