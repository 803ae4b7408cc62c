//! Blocking work off the async threads, bounded by the processors.

use std::num::NonZero;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::store::StoreError;

/// Work on so many bytes is done where they are; a hop to another thread would cost more.
const INLINE_BYTES: usize = 64 << 10;

/// Places for jobs, as many as there are processors. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    permits: Arc<Semaphore>,
    running: TaskTracker,
    width: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        let width = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { permits: Arc::new(Semaphore::new(width)), running: TaskTracker::new(), width }
    }
}

impl Jobs {
    /// How many run at once.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Runs `job` when a place is free. A job that has begun ends even when its caller is gone.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        let token = self.running.token();
        let metered = move || {
            let result = job();
            drop((permit, token));
            result
        };
        spawn(&Handle::current(), metered).await.map_err(|error| StoreError::Io {
            operation: "a job panicked or was cancelled at shutdown",
            source: std::io::Error::other(error),
        })
    }

    /// The same for work on so many bytes: on few it is done right here.
    pub(super) async fn run_sized<R: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        if bytes <= INLINE_BYTES { Ok(job()) } else { self.run(job).await }
    }

    /// Runs `job` some time; its caller does not wait for it. Bounded by the calls that were broken
    /// off.
    pub(super) fn detach(&self, job: impl FnOnce() + Send + 'static) {
        let token = self.running.token();
        some_time(move || {
            job();
            drop(token);
        });
    }

    /// Waits until no job runs. Cancel safe.
    pub(super) async fn at_rest(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Runs `job` some time; nobody waits for it, not even at the end. Right here outside of a runtime.
pub(super) fn some_time(job: impl FnOnce() + Send + 'static) {
    match Handle::try_current() {
        Ok(runtime) => drop(spawn(&runtime, job)),
        Err(_) => job(),
    }
}

/// The one place of this layer that starts a blocking job.
fn spawn<R: Send + 'static>(
    runtime: &Handle,
    job: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    runtime.spawn_blocking(job)
}
