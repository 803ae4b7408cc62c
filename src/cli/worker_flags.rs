//! Flags about the worker API: where it listens, and which directories are its workers'.

use std::path::{Path, PathBuf};

use clap::Args;

use super::admin_client::parse_address;
use super::problems::Problems;
use crate::grpc::worker::WorkerOptions;
use crate::server::{StoreKind, StoreSettings, WorkerSettings};

const LISTEN: &str = "--worker-listen";
const SOCKET_MODE: &str = "--worker-socket-mode";
const ROOT: &str = "--worker-root";

/// See the module documentation.
#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "what the flags are called")]
pub(super) struct WorkerFlags {
    /// Where to listen for workers on this machine, as `unix:PATH` or `HOST:PORT`; may be given
    /// several times, or with commas between [default: nowhere].
    #[arg(long, env = "CASTELLAN_WORKER_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    worker_listen: Vec<String>,

    /// Who may connect to a socket of --worker-listen, as an octal mode; whoever may does all that
    /// workers may [default: 600].
    #[arg(long, env = "CASTELLAN_WORKER_SOCKET_MODE", value_name = "MODE")]
    worker_socket_mode: Option<String>,

    /// The group of a socket of --worker-listen, as a number [default: the server's own].
    #[arg(long, env = "CASTELLAN_WORKER_SOCKET_GROUP", value_name = "GID")]
    worker_socket_group: Option<u32>,

    /// The directory below which workers have theirs, best on the file system of the store; made
    /// when it is not there.
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
            Some(root) if root.exists() && !root.is_dir() => {
                problems.add(format_args!("{ROOT}: {} is no directory", root.display()));
                None
            }
            Some(root) => Some(root),
        };
        let addresses =
            given.into_iter().filter_map(|it| problems.take(LISTEN, parse_address(it))).collect();
        let socket_mode = match self.worker_socket_mode.as_deref().map(parse_mode) {
            None => Some(WorkerSettings::SOCKET_MODE),
            Some(parsed) => problems.take(SOCKET_MODE, parsed),
        };
        let settings = WorkerSettings::new(addresses, root?, WorkerOptions::default());
        let socket_group = self.worker_socket_group;
        Some(WorkerSettings { socket_mode: socket_mode?, socket_group, ..settings })
    }
}

/// Reads the mode of a socket.
fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.trim(), 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("{text:?} is no octal mode up to 777")),
    }
}

/// Refuses a worker root that shares a directory with a store: what workers may change and remove
/// would be the store's.
pub(super) fn refuse_in_store(
    worker: &WorkerSettings,
    stores: &[StoreSettings],
    problems: &mut Problems,
) {
    let root = real(&worker.root);
    for store in stores {
        let StoreKind::Filesystem(options) = &store.kind else { continue };
        let directory = real(&options.root);
        let how = match () {
            () if root == directory => "is",
            () if root.starts_with(&directory) => "is inside of",
            () if directory.starts_with(&root) => "is around",
            () => continue,
        };
        let (root, directory) = (worker.root.display(), options.root.display());
        problems.add(format_args!(
            "{ROOT}: {root} {how} the directory of a store, {directory}; workers need one beside it"
        ));
    }
}

/// A path without symbolic links. What is not there yet has none.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match found {
        Some((above, real)) => real.join(path.strip_prefix(above).unwrap_or(Path::new(""))),
        None => path,
    }
}
