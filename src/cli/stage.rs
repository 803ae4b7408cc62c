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
use super::remote_flags::FunctionFlags;
use super::transfer::print;
use super::worker_client::{WorkerFlags, snapshot, with_progress};
use super::{EX_USAGE, fail};
use crate::client::TreeKind;
use crate::client::worker::worker_digest;
use crate::shutdown::Signals;

/// Flags of `stage`.
#[derive(Debug, Args)]
pub(super) struct StageArguments {
    /// The input root: `HASH/SIZE` of a directory, with `tree:` before it for a `Tree` message.
    #[arg(value_name = "DIGEST")]
    digest: String,

    /// The directory to make, relative to the worker root of the server.
    #[arg(value_name = "DIR")]
    dir: String,

    #[command(flatten)]
    worker: WorkerFlags,

    #[command(flatten)]
    digests: FunctionFlags,

    /// How files get there.
    #[arg(long, value_enum, default_value_t = Link::Auto)]
    link_mode: Link,

    /// A directory to make besides, relative to DIR, as of outputs; may be given several times.
    #[arg(long = "mkdir", value_name = "DIR")]
    directories: Vec<String>,

    /// The user that directories and copied files are to belong to [default: the server's].
    #[arg(long, value_name = "NUMBER")]
    uid: Option<u32>,

    /// Their group [default: the server's].
    #[arg(long, value_name = "NUMBER")]
    gid: Option<u32>,

    /// Bits taken from the modes of directories and copied files, in octal [default: 022].
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    umask: Option<u32>,

    /// How long what is staged is kept from eviction, if it is not released before; `0` for as
    /// long as this command runs, which then waits for SIGINT or SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    lease: String,

    /// Show no progress, and do not say what was staged.
    #[arg(long, short)]
    quiet: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Permission bits in octal.
fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|it| *it <= 0o777);
    mode.ok_or_else(|| "is no octal number up to 777".to_owned())
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
        let (kind, digest) = self.digests.tree(&self.digest)?;
        let wire = worker_digest(&digest);
        let root = match kind {
            TreeKind::Directories => Root::InputRootDigest(wire),
            TreeKind::Tree => Root::TreeDigest(wire),
        };
        let lease = parse_duration(&self.lease);
        let lease = lease.map_err(|error| format!("error: --lease: {error}"))?;
        let wire = WireDuration {
            seconds: i64::try_from(lease.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(lease.subsec_nanos()).unwrap_or(0),
        };
        Ok(StageTreeRequest {
            instance_name: self.worker.instance.clone(),
            digest_function: digest.function.to_wire(),
            root: Some(root),
            path: self.dir.clone(),
            link_mode: LinkMode::from(self.link_mode).into(),
            writable_directories: self.directories.clone(),
            uid: self.uid,
            gid: self.gid,
            umask: self.umask,
            lease_duration: (!lease.is_zero()).then_some(wire),
        })
    }

    /// The lease alone is on standard output. A closed one is no reason to give the tree back.
    fn say(&self, tree: &StagedTree) {
        let StagedTree { lease_id, files, directories, symlinks, bytes: size, copied_files } = tree;
        if self.json {
            print(&json!({
                "lease_id": lease_id, "files": files, "directories": directories,
                "symlinks": symlinks, "bytes": size, "copied_files": copied_files,
            }));
            return;
        }
        print(lease_id);
        if !self.quiet {
            let files = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            let text = format!("{files}, {}, {copied_files} copied", bytes(*size));
            drop(writeln!(std::io::stderr(), "{text}"));
        }
    }
}

/// Stages.
pub(super) fn run(arguments: &StageArguments) -> ExitCode {
    let request = match arguments.request() {
        Ok(request) => request,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let is_held = request.lease_duration.is_none();
    let staged = arguments.worker.run(async |mut worker| {
        let staging = with_progress(arguments.quiet, async |shown| {
            worker.stage(request, |progress| *shown.lock() = snapshot(progress)).await
        });
        let mut staged = staging.await?;
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
    let done = |is_removed: bool| {
        if arguments.remove && !is_removed {
            let text = "nothing removed: the directory has gone or moved, or is another one";
            drop(writeln!(std::io::stderr(), "{text}"));
        }
        ExitCode::SUCCESS
    };
    released.map_or_else(|code| code, done)
}
