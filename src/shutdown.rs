//! Tasks and how they end, and the word that the process is about to.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
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
    // Without a parent: the span of a request would last as long as every task that it started.
    tokio::spawn(guarded.instrument(tracing::info_span!(parent: None, "task", name)))
}

/// Begins work in a task of its own, which goes on when nobody waits for it any more. What is
/// returned waits for the outcome, `None` when the task died.
pub fn detached<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Option<T>> + Send {
    let (report, outcome) = oneshot::channel();
    drop(spawn(name, async move { drop(report.send(work.await)) }));
    async move { outcome.await.ok() }
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

/// Whether this process wants new work. Clones share one state.
///
/// It goes one way only: a process that has begun to drain does not come back.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
}

impl Readiness {
    /// A process that is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether new work is still welcome.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
    }

    /// Turns readiness off for good.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// The signals that end the process: SIGTERM, SIGINT, and SIGHUP of a closed terminal.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Held so that a write over the file size limit fails instead of killing the process.
    _file_size: Signal,
}

/// SIGXFSZ.
const FILE_SIZE_SIGNAL: i32 = 25;

impl Signals {
    /// Takes the signals over from their default action, which is to kill.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE_SIGNAL))?,
        })
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Raises the soft limit of open files to the hard one: every upload and read holds a descriptor,
/// and the soft default is there for programs that use `select`.
pub fn raise_descriptor_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "limit of open files not raised");
    }
}
