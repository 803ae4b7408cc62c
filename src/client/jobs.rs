//! Work with files, on threads: as many at once as there are processors.

use super::ClientError;
use crate::store::work::Processors;

/// The least number of threads: some of them wait for a disk.
const MIN_THREADS: usize = 4;

/// Threads for work that blocks.
#[derive(Clone, Debug)]
pub(super) struct Jobs(Processors);

impl Default for Jobs {
    fn default() -> Self {
        Self(Processors::at_least(MIN_THREADS))
    }
}

impl Jobs {
    /// Jobs that run at once.
    pub(super) fn count(&self) -> usize {
        self.0.count()
    }

    /// Does `job` on a thread of its own. One that has begun ends even when nobody waits for it.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<R, ClientError> + Send + 'static,
    ) -> Result<R, ClientError> {
        self.0.run(job).await?
    }
}
