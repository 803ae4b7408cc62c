//! What the store's threads and tasks share and wait for, behind one door.
//!
//! With the feature `shuttle` a model checker takes it over: it decides at every lock, atomic and
//! system call who goes on, time stands still, and a schedule that fails can be run again. What
//! tokio synchronizes without its runtime (`oneshot`, `watch`, `Notify`, `Semaphore`, the
//! cancellation token) is used as it is: to the checker an operation on it is one step.
//! Nothing in the store may start a thread or a task, or wait for a clock, past this file.

#[cfg(not(feature = "shuttle"))]
pub(super) use product::*;
pub(super) use tokio::time::Instant;

#[cfg(feature = "shuttle")]
pub(super) use checked::*;

/// Waits so long.
pub(super) async fn sleep(duration: std::time::Duration) {
    sleep_until(Instant::now() + duration).await;
}

#[cfg(all(feature = "shuttle", not(debug_assertions)))]
compile_error!("the feature `shuttle` is for tests: no clock and no thread of it is real");

#[cfg(not(feature = "shuttle"))]
mod product {
    use std::future::Future;
    use std::io;

    pub(in super::super) use parking_lot::{Mutex, MutexGuard};
    pub(in super::super) use tokio::time::{sleep_until, timeout};

    /// A task that was spawned; it goes on when this is dropped.
    #[derive(Debug)]
    pub(in super::super) struct Task(tokio::task::JoinHandle<()>);

    impl Task {
        /// Waits for its end; one by a panic or by [`Task::abort`] is an error. Cancel safe.
        pub(in super::super) async fn join(&mut self) -> io::Result<()> {
            (&mut self.0).await.map_err(io::Error::other)
        }

        /// Ends it where it waits next.
        pub(in super::super) fn abort(&self) {
            self.0.abort();
        }

        #[cfg(test)]
        pub(in super::super) fn is_finished(&self) -> bool {
            self.0.is_finished()
        }
    }

    /// Spawns a named task.
    pub(in super::super) fn spawn(
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        Task(crate::shutdown::spawn(name, future))
    }

    /// Runs a job that blocks on a thread for such jobs. It goes on when nobody waits any more.
    #[expect(clippy::disallowed_methods, reason = "the one place; the pool bounds them")]
    pub(in super::super) async fn run_blocking<R: Send + 'static>(
        job: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        tokio::task::spawn_blocking(job).await.map_err(io::Error::other)
    }

    /// Runs a job that blocks, for which nobody waits; right here outside of a runtime.
    #[expect(clippy::disallowed_methods, reason = "the one place; the pool bounds them")]
    pub(in super::super) fn detach_blocking(job: impl FnOnce() + Send + 'static) {
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(tokio::task::spawn_blocking(job));
        } else {
            job();
        }
    }

    /// Where a model checker may let somebody else go on.
    #[inline]
    pub(in super::super) fn scheduling_point() {}
}

#[cfg(feature = "shuttle")]
mod checked {
    use std::future::Future;
    use std::io;
    use std::sync::PoisonError;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    pub(in super::super) use shuttle::sync::MutexGuard;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    /// As in a product: nothing is poisoned.
    #[derive(Debug, Default)]
    pub(in super::super) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(in super::super) const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(in super::super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// A task that was spawned; it goes on when this is dropped.
    #[derive(Debug)]
    pub(in super::super) struct Task(shuttle::future::JoinHandle<()>);

    impl Task {
        pub(in super::super) async fn join(&mut self) -> io::Result<()> {
            (&mut self.0).await.map_err(io::Error::other)
        }

        pub(in super::super) fn abort(&self) {
            self.0.abort();
        }
    }

    pub(in super::super) fn spawn(
        _name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        Task(shuttle::future::spawn(future))
    }

    pub(in super::super) async fn run_blocking<R: Send + 'static>(
        job: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<R> {
        let (report, result) = oneshot::channel();
        detach_blocking(move || drop(report.send(job())));
        result.await.map_err(io::Error::other)
    }

    pub(in super::super) fn detach_blocking(job: impl FnOnce() + Send + 'static) {
        drop(shuttle::thread::spawn(job));
    }

    /// See [`timeout`].
    #[derive(Debug)]
    pub(in super::super) struct Elapsed;

    /// Time stands still: no wait is too long, except one that may not be at all.
    pub(in super::super) async fn timeout<F: Future>(
        duration: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        if duration.is_zero() { future.now_or_never().ok_or(Elapsed) } else { Ok(future.await) }
    }

    pub(in super::super) async fn sleep_until(_at: Instant) {
        std::future::pending::<()>().await;
    }

    /// Where the checker may let somebody else go on. Not a yield, which it takes for a wish to
    /// wait: every schedule shall be as likely as without.
    pub(in super::super) fn scheduling_point() {
        if !std::thread::panicking() {
            shuttle::thread::sleep(Duration::ZERO);
        }
    }
}
