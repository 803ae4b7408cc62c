//! Tasks and how they end.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Spawns a named task. The only way to start one: a panic is logged with the task's name instead
/// of vanishing with the handle.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let guarded = async move {
        let _watch = PanicWatch { name };
        future.await;
    };
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    tokio::spawn(guarded.instrument(tracing::info_span!("task", name)))
}

/// Says that a task died when it is dropped by unwinding.
struct PanicWatch {
    name: &'static str,
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "task panicked");
        }
    }
}
