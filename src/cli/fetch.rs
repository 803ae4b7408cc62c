//! `castellan fetch`: everything of a tree becomes local, before it is staged.

use std::process::ExitCode;

use castellan_proto::worker::FetchTreeRequest;
use castellan_proto::worker::fetch_tree_request::Root;
use clap::Args;

use super::remote_flags::FunctionFlags;
use super::worker_client::{WorkerFlags, snapshot, with_progress};
use super::{EX_USAGE, fail};
use crate::client::TreeKind;
use crate::client::worker::worker_digest;

/// Flags of `fetch`.
#[derive(Debug, Args)]
pub(super) struct FetchArguments {
    /// `HASH/SIZE` of a directory, with `tree:` before it for a `Tree` message.
    #[arg(value_name = "DIGEST")]
    digest: String,

    #[command(flatten)]
    worker: WorkerFlags,

    #[command(flatten)]
    digests: FunctionFlags,

    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

/// Fetches.
pub(super) fn run(arguments: &FetchArguments) -> ExitCode {
    let (kind, digest) = match arguments.digests.tree(&arguments.digest) {
        Ok(tree) => tree,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let wire = worker_digest(&digest);
    let request = FetchTreeRequest {
        instance_name: arguments.worker.instance.clone(),
        digest_function: digest.function.to_wire(),
        root: Some(match kind {
            TreeKind::Directories => Root::InputRootDigest(wire),
            TreeKind::Tree => Root::TreeDigest(wire),
        }),
    };
    let fetched = arguments.worker.run(async |mut worker| {
        with_progress(arguments.quiet, async |shown| {
            worker.fetch(request, |progress| *shown.lock() = snapshot(progress)).await
        })
        .await
    });
    fetched.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}
