//! Work that would keep a runtime's thread for too long.

use std::num::NonZero;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::announced::check_hash;
use super::{BeginPut, Key, StoreError};
use crate::digest::Digest;

/// Work on so many bytes is done where they are; a hop to another thread would cost more.
pub(super) const INLINE_BYTES: usize = 64 << 10;

/// Threads for work that blocks or keeps a processor busy, as many as there are processors.
#[derive(Clone, Debug)]
pub(crate) struct Processors {
    permits: Arc<Semaphore>,
    count: usize,
}

impl Default for Processors {
    fn default() -> Self {
        Self::at_least(1)
    }
}

impl Processors {
    /// No fewer than so many, where some of them wait for a disk.
    pub(crate) fn at_least(least: usize) -> Self {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get).max(least);
        Self { permits: Arc::new(Semaphore::new(count)), count }
    }

    /// How many jobs run at once.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs `job` when a thread is free. A job that has begun ends even when its caller is gone.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
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

    /// The same for work on so many bytes: on few it is done right here.
    pub(crate) async fn run_sized<R: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, StoreError> {
        if bytes <= INLINE_BYTES { Ok(job()) } else { self.run(job).await }
    }

    /// Refuses bytes that are not the digest's and that need not be stored.
    pub(super) async fn verify(&self, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        let job = move || check_hash(digest, Digest::of(digest.function, &data).hash);
        // What has another length has another hash.
        self.run_sized(usize::try_from(digest.size_bytes).unwrap_or(usize::MAX), job).await?
    }
}

/// Stores a blob that is whole in memory through what its begin has given.
pub(super) async fn put_through(
    begun: BeginPut,
    key: &Key,
    data: Bytes,
    processors: &Processors,
) -> Result<(), StoreError> {
    match begun {
        BeginPut::AlreadyPresent => processors.verify(key.digest, data).await,
        BeginPut::Upload(mut upload) => {
            upload.write(data).await?;
            upload.commit().await
        }
    }
}
