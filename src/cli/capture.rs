//! `castellan capture`: what an action made goes into the store, and comes back as what an action
//! result needs.

use std::process::ExitCode;

use castellan_proto::v2;
use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse, Digest,
};
use clap::Args;
use serde_json::Value;

use super::format::printable;
use super::outputs::{digest_value, lists};
use super::remote_flags::FunctionFlags;
use super::transfer::print;
use super::worker_client::WorkerFlags;
use crate::digest::DigestFunction;

/// Flags of `capture`.
#[derive(Debug, Args)]
pub(super) struct CaptureArguments {
    /// The directory that the outputs are relative to, relative to the worker root of the server.
    #[arg(value_name = "DIR")]
    base: String,

    /// Outputs: files, symbolic links or directories; those that are not there are left out.
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    #[command(flatten)]
    worker: WorkerFlags,

    #[command(flatten)]
    digests: FunctionFlags,

    /// Files may be moved into the store instead of copied: nobody needs them here any more.
    #[arg(long)]
    give_up: bool,

    /// Print one JSON object, as `action finish` reads it.
    #[arg(long)]
    json: bool,
}

/// Captures, and prints a line for each output or one object.
pub(super) fn run(arguments: &CaptureArguments) -> ExitCode {
    let function = arguments.digests.function();
    let captured = arguments.worker.run(async |mut worker| {
        let files = CaptureFilesRequest {
            instance_name: arguments.worker.instance.clone(),
            digest_function: function.to_wire(),
            base: arguments.base.clone(),
            paths: arguments.paths.clone(),
            give_up_files: arguments.give_up,
        };
        let files = worker.capture_files(files).await?;
        let is_rest = |path: &&String| {
            files.files.iter().all(|it| it.path != **path)
                && files.symlinks.iter().all(|it| it.path != **path)
        };
        let trees = CaptureTreeRequest {
            instance_name: arguments.worker.instance.clone(),
            digest_function: function.to_wire(),
            base: arguments.base.clone(),
            paths: arguments.paths.iter().filter(is_rest).cloned().collect(),
            give_up_files: arguments.give_up,
        };
        let trees = worker.capture_tree(trees).await?;
        Ok(result(files, trees))
    });
    match captured {
        Ok(result) if arguments.json => print(&lists(function, &result)),
        Ok(result) => print_lines(function, &result),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

/// What was captured, as an action result says it.
fn result(files: CaptureFilesResponse, trees: CaptureTreeResponse) -> v2::ActionResult {
    let digest = |digest: Digest| v2::Digest { hash: digest.hash, size_bytes: digest.size_bytes };
    let output_files = files.files.into_iter().map(|it| v2::OutputFile {
        path: it.path,
        digest: it.digest.map(digest),
        is_executable: it.is_executable,
        ..v2::OutputFile::default()
    });
    let output_symlinks = files.symlinks.into_iter().map(|it| v2::OutputSymlink {
        path: it.path,
        target: it.target,
        ..v2::OutputSymlink::default()
    });
    let output_directories = trees.directories.into_iter().map(|it| v2::OutputDirectory {
        path: it.path,
        tree_digest: it.tree_digest.map(digest),
        root_directory_digest: it.root_directory_digest.map(digest),
        ..v2::OutputDirectory::default()
    });
    v2::ActionResult {
        output_files: output_files.collect(),
        output_symlinks: output_symlinks.collect(),
        output_directories: output_directories.collect(),
        ..v2::ActionResult::default()
    }
}

/// The same lines as `upload` prints.
fn print_lines(function: DigestFunction, result: &v2::ActionResult) {
    let text = |digest: Option<&v2::Digest>| match digest_value(function, digest) {
        Value::String(text) => text,
        _ => String::new(),
    };
    for file in &result.output_files {
        print(&format_args!("{}  {}", text(file.digest.as_ref()), printable(&file.path)));
    }
    for link in &result.output_symlinks {
        print(&format_args!("-  {} -> {}", printable(&link.path), printable(&link.target)));
    }
    for directory in &result.output_directories {
        let digest = text(directory.tree_digest.as_ref());
        print(&format_args!("tree:{digest}  {}", printable(&directory.path)));
    }
}
