//! `castellan stage` and `castellan release`: an input tree becomes a directory of hard links, and
//! is given back.

use std::io::Write as _;
use std::process::ExitCode;

use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::worker::stage_tree_request::Root;
use castellan_proto::worker::{LinkMode, StageTreeRequest, StagedTree};
use clap::{Args, ValueEnum};
use nativelink_config::units::parse_duration;
use serde_json::json;

use super::format::bytes;
use super::worker_client::{WorkerFlags, parse_digest};
use super::{EX_USAGE, fail};
use crate::shutdown::Signals;

/// Flags of `stage`.
#[derive(Debug, Args)]
pub(super) struct StageArguments {
    /// The input root: the digest of a `Directory` message, as HASH/SIZE; `tree:HASH/SIZE` for a
    /// `Tree` message.
    #[arg(value_name = "DIGEST")]
    digest: String,

    /// The directory to make, relative to the worker root of the server.
    #[arg(value_name = "DIR")]
    dir: String,

    #[command(flatten)]
    worker: WorkerFlags,

    /// How files get there.
    #[arg(long, value_enum, default_value_t = Link::Auto)]
    link_mode: Link,

    /// A directory to make besides, relative to DIR, as of outputs; may be given several times.
    #[arg(long = "mkdir", value_name = "DIR")]
    directories: Vec<String>,

    /// How long what is staged is kept from eviction, if it is not released before; `0` for as
    /// long as this command runs, which then waits for SIGINT or SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    lease: String,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a file gets into a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Link {
    /// A hard link; where none can be made a reflink, else a copy.
    Auto,
    /// A hard link or an error.
    Hardlink,
    /// A private file that shares its blocks, or an error.
    Reflink,
    /// A private copy.
    Copy,
}

impl From<Link> for LinkMode {
    fn from(link: Link) -> Self {
        match link {
            Link::Auto => Self::Unspecified,
            Link::Hardlink => Self::HardLink,
            Link::Reflink => Self::Reflink,
            Link::Copy => Self::Copy,
        }
    }
}

/// Flags of `release`.
#[derive(Debug, Args)]
pub(super) struct ReleaseArguments {
    /// The lease that `stage` printed.
    #[arg(value_name = "LEASE")]
    lease: String,

    #[command(flatten)]
    worker: WorkerFlags,

    /// Remove the directory with everything in it.
    #[arg(long)]
    remove: bool,
}

impl StageArguments {
    fn request(&self) -> Result<StageTreeRequest, String> {
        let (is_tree, digest) = match self.digest.strip_prefix("tree:") {
            Some(digest) => (true, digest),
            None => (false, self.digest.strip_prefix("dir:").unwrap_or(&self.digest)),
        };
        let digest = parse_digest(digest)?;
        let root = if is_tree { Root::TreeDigest(digest) } else { Root::InputRootDigest(digest) };
        let lease = parse_duration(&self.lease).map_err(|error| format!("--lease: {error}"))?;
        let wire = WireDuration {
            seconds: i64::try_from(lease.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(lease.subsec_nanos()).unwrap_or(0),
        };
        Ok(StageTreeRequest {
            instance_name: self.worker.instance.clone(),
            root: Some(root),
            path: self.dir.clone(),
            link_mode: LinkMode::from(self.link_mode).into(),
            writable_directories: self.directories.clone(),
            lease_duration: (!lease.is_zero()).then_some(wire),
            ..StageTreeRequest::default()
        })
    }

    fn say(&self, tree: &StagedTree) {
        let text = if self.json {
            let StagedTree { lease_id, files, directories, symlinks, bytes, copied_files } = tree;
            let json = json!({
                "lease_id": lease_id, "files": files, "directories": directories,
                "symlinks": symlinks, "bytes": bytes, "copied_files": copied_files,
            });
            format!("{json}\n")
        } else {
            let (files, size) = (tree.files, bytes(tree.bytes));
            format!(
                "{}\n{files} files, {size}, {} of them copied\n",
                tree.lease_id, tree.copied_files
            )
        };
        // A closed output is no reason to give the tree back.
        drop(std::io::stdout().write_all(text.as_bytes()));
        drop(std::io::stdout().flush());
    }
}

/// Stages.
pub(super) fn run(arguments: &StageArguments) -> ExitCode {
    let request = match arguments.request() {
        Ok(request) => request,
        Err(problem) => return fail(EX_USAGE, &format_args!("error: {problem}")),
    };
    let is_held = request.lease_duration.is_none();
    let staged = arguments.worker.run(async |mut worker| {
        let mut staged = worker.stage(request, |_| {}).await?;
        arguments.say(&staged.tree);
        if is_held && let Ok(mut signals) = Signals::install() {
            tokio::select! {
                () = signals.next() => {}
                () = staged.ended() => {}
            }
        }
        Ok(())
    });
    staged.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

/// Gives a tree back.
pub(super) fn release(arguments: &ReleaseArguments) -> ExitCode {
    let lease = arguments.lease.clone();
    let released =
        arguments.worker.run(async |mut worker| worker.release(lease, arguments.remove).await);
    released.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}
