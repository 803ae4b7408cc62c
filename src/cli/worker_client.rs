//! What the subcommands of workers share: which server on this machine is asked, and how.

use std::process::ExitCode;
use std::sync::Arc;

use castellan_proto::worker::StageProgress;
use clap::Args;
use parking_lot::Mutex;

use super::transfer::{is_drawn, with_line};
use super::{EX_USAGE, fail};
use crate::client::Snapshot;
use crate::client::worker::{Worker, WorkerError};

/// Which server is asked.
#[derive(Debug, Args)]
pub(super) struct WorkerFlags {
    /// The worker API of the server on this machine (its --worker-listen), as `unix:PATH` or
    /// `HOST:PORT`.
    #[arg(long, env = "CASTELLAN_WORKER", value_name = "ADDRESS")]
    worker: String,

    /// The instance on it.
    #[arg(long, env = "CASTELLAN_INSTANCE", value_name = "NAME", default_value = "")]
    pub(super) instance: String,
}

impl WorkerFlags {
    /// Connects and does the work, in a runtime of its own; an error becomes words and an exit
    /// code.
    pub(super) fn run<T, F>(&self, work: impl FnOnce(Worker) -> F) -> Result<T, ExitCode>
    where
        F: Future<Output = Result<T, WorkerError>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| fail(1, &format_args!("error: start the runtime: {error}")))?;
        let outcome = runtime.block_on(async { work(Worker::connect(&self.worker).await?).await });
        outcome.map_err(|error| match error {
            WorkerError::Address { .. } => {
                fail(EX_USAGE, &format_args!("error: --worker: {error}"))
            }
            WorkerError::Missing(subjects) => {
                let list = subjects.join("\n  ");
                fail(1, &format_args!("error: {} blobs are missing:\n  {list}", subjects.len()))
            }
            error => fail(1, &format_args!("error: {error}")),
        })
    }
}

/// Does work on a tree; draws how far it is, as the work tells what it is given.
pub(super) async fn with_progress<T, F>(
    is_quiet: bool,
    work: impl FnOnce(Arc<Mutex<Snapshot>>) -> F,
) -> T
where
    F: Future<Output = T>,
{
    let shown = Arc::new(Mutex::new(Snapshot::default()));
    let working = work(Arc::clone(&shown));
    with_line(is_drawn(is_quiet), || *shown.lock(), working).await
}

/// How far the server is.
pub(super) fn snapshot(progress: &StageProgress) -> Snapshot {
    let StageProgress { files_total, files_done, bytes_total, bytes_done } = *progress;
    let bytes_moved = bytes_done;
    Snapshot { files_total, files_done, bytes_total, bytes_done, bytes_moved, ..Default::default() }
}
