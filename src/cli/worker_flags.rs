//! Flags about the worker API: where it listens, and which directories are its workers'.

use std::path::PathBuf;

use clap::Args;

use super::admin_client::parse_address;
use super::problems::Problems;
use crate::grpc::worker::WorkerOptions;
use crate::server::WorkerSettings;

const LISTEN: &str = "--worker-listen";
const ROOT: &str = "--worker-root";

/// See the module documentation.
#[derive(Debug, Args)]
pub(super) struct WorkerFlags {
    /// Where to listen for workers on this machine, as `unix:PATH` or `HOST:PORT`; may be given
    /// several times, or with commas between [default: nowhere].
    #[arg(long, env = "CASTELLAN_WORKER_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    worker_listen: Vec<String>,

    /// The directory below which workers have theirs, best on the file system of the store.
    #[arg(long, env = "CASTELLAN_WORKER_ROOT", value_name = "DIR")]
    worker_root: Option<PathBuf>,
}

impl WorkerFlags {
    /// What is to be served to workers; `None` for nothing.
    pub(super) fn read(&self, problems: &mut Problems) -> Option<WorkerSettings> {
        // What the environment leaves empty is not given.
        let given: Vec<_> =
            self.worker_listen.iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect();
        let root = self.worker_root.clone().filter(|root| !root.as_os_str().is_empty());
        let root = match root {
            None if given.is_empty() => return None,
            None => {
                problems.add(format_args!("{LISTEN}: {ROOT} must say which directories are meant"));
                None
            }
            Some(_) if given.is_empty() => {
                problems.add(format_args!("{ROOT}: without {LISTEN} there are no workers"));
                None
            }
            Some(root) if !root.is_dir() => {
                problems.add(format_args!("{ROOT}: {} is no directory", root.display()));
                None
            }
            Some(root) => Some(root),
        };
        let addresses =
            given.into_iter().filter_map(|it| problems.take(LISTEN, parse_address(it))).collect();
        Some(WorkerSettings { addresses, root: root?, options: WorkerOptions::default() })
    }
}
