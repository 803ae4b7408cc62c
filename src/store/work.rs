//! Work that would keep a runtime's thread for too long.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::StoreError;

/// Work on so many bytes is done where they are; a hop to another thread would cost more.
pub(super) const INLINE_BYTES: usize = 64 << 10;

/// Threads for work that keeps a processor busy, as many as there are processors.
#[derive(Debug)]
pub(super) struct Processors {
    permits: Arc<Semaphore>,
}

impl Default for Processors {
    fn default() -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { permits: Arc::new(Semaphore::new(count)) }
    }
}

impl Processors {
    /// Does `job`, which is about so many bytes: few here, many elsewhere. A job that has begun
    /// ends even when its caller is gone.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        if bytes <= INLINE_BYTES {
            return Ok(job());
        }
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        let metered = move || {
            let result = job();
            drop(permit);
            result
        };
        #[expect(clippy::disallowed_methods, reason = "the permits bound them")]
        let running = tokio::task::spawn_blocking(metered);
        running.await.map_err(|error| StoreError::Io {
            operation: "a job panicked or was cancelled at shutdown",
            source: std::io::Error::other(error),
        })
    }
}
