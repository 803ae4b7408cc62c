//! Work with files, on threads: as many at once as there are processors.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::ClientError;
use crate::store::StoreError;

/// The least number of threads: some of them wait for a disk.
const MIN_THREADS: usize = 4;

/// Threads for work that blocks.
#[derive(Debug)]
pub(super) struct Jobs {
    permits: Arc<Semaphore>,
    count: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let count = processors.max(MIN_THREADS);
        Self { permits: Arc::new(Semaphore::new(count)), count }
    }
}

impl Jobs {
    /// Jobs that run at once.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Does `job` on a thread of its own. One that has begun ends even when nobody waits for it.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<R, ClientError> + Send + 'static,
    ) -> Result<R, ClientError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        let metered = move || {
            let result = job();
            drop(permit);
            result
        };
        #[expect(clippy::disallowed_methods, reason = "the permits bound them")]
        let running = tokio::task::spawn_blocking(metered);
        running.await.map_err(|error| {
            let source = std::io::Error::other(error);
            StoreError::Io { operation: "a job panicked or was cancelled", source }
        })?
    }
}
