//! Work that its caller does not do itself: it would keep a runtime's thread for too long, or must
//! go on when nobody waits for it any more.

use std::future::Future;
use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use super::StoreError;
use crate::shutdown;

/// Work on so many bytes is done where they are; a hop to another thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

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

/// Waits for work that goes on when the one who waits goes away.
pub(super) async fn unstoppable<R: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = Result<R, StoreError>> + Send + 'static,
) -> Result<R, StoreError> {
    let (report, outcome) = oneshot::channel();
    shutdown::spawn(name, async move {
        drop(report.send(work.await));
    });
    outcome.await.map_err(|_| StoreError::ShuttingDown)?
}
