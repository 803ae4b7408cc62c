//! `castellan capture`: what an action made goes into the store, and comes back as what an action
//! result needs.

use std::io::Write as _;
use std::process::ExitCode;

use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse,
};
use clap::Args;
use serde_json::{Value, json};

use super::worker_client::{WorkerFlags, digest_json};

/// Flags of `capture`.
#[derive(Debug, Args)]
pub(super) struct CaptureArguments {
    /// The directory that the outputs are relative to, relative to the worker root of the server.
    #[arg(value_name = "DIR")]
    base: String,

    /// Outputs: files, symbolic links or directories; those that are not there are left out.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,

    #[command(flatten)]
    worker: WorkerFlags,

    /// Files may be moved into the store instead of copied: nobody needs them here any more.
    #[arg(long)]
    give_up: bool,
}

/// Captures, and prints one JSON object, as `castellan action finish` reads it.
pub(super) fn run(arguments: &CaptureArguments) -> ExitCode {
    let captured = arguments.worker.run(async |mut worker| {
        let files = CaptureFilesRequest {
            instance_name: arguments.worker.instance.clone(),
            base: arguments.base.clone(),
            paths: arguments.paths.clone(),
            give_up_files: arguments.give_up,
            ..CaptureFilesRequest::default()
        };
        let files = worker.capture_files(files).await?;
        let is_rest = |path: &&String| {
            files.files.iter().all(|it| it.path != **path)
                && files.symlinks.iter().all(|it| it.path != **path)
        };
        let trees = CaptureTreeRequest {
            instance_name: arguments.worker.instance.clone(),
            base: arguments.base.clone(),
            paths: arguments.paths.iter().filter(is_rest).cloned().collect(),
            give_up_files: arguments.give_up,
            ..CaptureTreeRequest::default()
        };
        let trees = worker.capture_tree(trees).await?;
        Ok((files, trees))
    });
    match captured {
        Ok((files, trees)) => {
            // Nothing is left to tell a closed output.
            drop(writeln!(std::io::stdout(), "{}", outputs(&files, &trees)));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn outputs(files: &CaptureFilesResponse, trees: &CaptureTreeResponse) -> Value {
    let file = files.files.iter().map(|it| {
        json!({
            "path": it.path, "digest": digest_json(it.digest.as_ref()),
            "is_executable": it.is_executable,
        })
    });
    let symlinks = files.symlinks.iter().map(|it| json!({"path": it.path, "target": it.target}));
    let directories = trees.directories.iter().map(|it| {
        json!({
            "path": it.path, "tree_digest": digest_json(it.tree_digest.as_ref()),
            "root_directory_digest": digest_json(it.root_directory_digest.as_ref()),
        })
    });
    json!({
        "files": file.collect::<Vec<_>>(),
        "symlinks": symlinks.collect::<Vec<_>>(),
        "directories": directories.collect::<Vec<_>>(),
    })
}
