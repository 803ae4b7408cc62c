//! Blocking work off the async threads, bounded by the processors.

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::store::StoreError;
use crate::store::work::Processors;

/// Places for jobs, as many as there are processors. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    processors: Processors,
    running: TaskTracker,
}

impl Jobs {
    /// How many run at once.
    pub(super) fn width(&self) -> usize {
        self.processors.count()
    }

    /// Runs `job` when a place is free. A job that has begun ends even when its caller is gone.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        let token = self.running.token();
        let tracked = move || {
            let result = job();
            drop(token);
            result
        };
        self.processors.run(tracked).await
    }

    /// The same for work on so many bytes: on few it is done right here.
    pub(super) async fn run_sized<R: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        self.processors.run_sized(bytes, job).await
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
        Ok(runtime) => drop(runtime.spawn_blocking(job)),
        Err(_) => job(),
    }
}
