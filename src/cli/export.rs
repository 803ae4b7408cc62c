//! `castellan export`: action results with everything they reach become an archive.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::download::is_output;
use super::format::bytes;
use super::remote_flags::RemoteFlags;
use super::skips::Skips;
use super::transfer::{Failure, Session, print, run as run_client};
use super::{EX_USAGE, fail};
use crate::client::{Client, DirectoryOptions};
use crate::digest::Digest;

/// Flags of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The archive; `-` writes it to standard output.
    archive: PathBuf,

    #[command(flatten)]
    actions: ActionFlags,

    /// The input trees of the actions too, where they are there.
    #[arg(long)]
    with_inputs: bool,

    /// Write a line for each action that is left out to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Whose results are exported.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct ActionFlags {
    /// An action, as `HASH/SIZE`; may be given several times.
    #[arg(long = "closure-of", value_name = "DIGEST")]
    digests: Vec<String>,

    /// A list of actions, one `HASH/SIZE` a line; `-` for standard input.
    #[arg(long = "closure-of-file", value_name = "LIST")]
    files: Vec<PathBuf>,

    /// The actions of a build: the file that Bazel's `--experimental_remote_grpc_log` has made.
    #[arg(long = "closure-of-grpc-log", value_name = "FILE")]
    logs: Vec<PathBuf>,

    /// The actions of which a cache's directory on this machine has results.
    #[arg(long = "closure-of-dir", value_name = "DIR")]
    dirs: Vec<PathBuf>,
}

/// Writes the archive.
pub(super) fn run(arguments: &ExportArguments) -> ExitCode {
    let remote = &arguments.remote;
    let said = arguments.actions.digests.iter();
    let said = said.map(|text| remote.digest_of("--closure-of", text, None)).collect();
    let said: Vec<Digest> = match said {
        Ok(said) => said,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    if is_output(&arguments.archive) && remote.json {
        let problem = "error: ARCHIVE: standard output takes the archive and nothing else";
        return fail(EX_USAGE, &problem);
    }
    run_client(remote, |session| export(arguments, said, session))
}

async fn export(
    arguments: &ExportArguments,
    said: Vec<Digest>,
    session: Session,
) -> Result<(), Failure> {
    let Session { client, progress } = session;
    let actions = arguments.all(&client, said).await?;
    if actions.is_empty() {
        return Err(Failure::Failed("error: no action is named".to_owned()));
    }
    let skips = Skips::new(arguments.report.as_deref())?;
    let output = Path::new("-");
    let to = if is_output(&arguments.archive) { output } else { &arguments.archive };
    let with_inputs = arguments.with_inputs;
    let exporting = client.export(actions, with_inputs, to, &progress, skips.listener());
    let exported = exporting.await?;
    if arguments.remote.json {
        print(&json!({
            "results": exported.results,
            "blobs": exported.blobs,
            "blob_bytes": exported.blob_bytes,
            "skipped": exported.skipped,
        }));
    } else if to != output {
        let (results, blobs) = (exported.results, exported.blobs);
        let size = bytes(exported.blob_bytes);
        print(&format_args!("exported: {results} results, {blobs} blobs, {size}"));
    }
    match skips.finish()? {
        0 => Ok(()),
        count => Err(Failure::Failed(format!("error: {count} actions were left out"))),
    }
}

impl ExportArguments {
    /// Everything that is named.
    async fn all(&self, client: &Arc<Client>, said: Vec<Digest>) -> Result<Vec<Digest>, Failure> {
        let mut all: BTreeSet<Digest> = said.into_iter().collect();
        for file in &self.actions.files {
            all.extend(client.read_list(file, false).await?);
        }
        for log in &self.actions.logs {
            all.extend(client.read_grpc_log(log).await?);
        }
        let options = self.remote.options().map_err(Failure::Usage)?;
        let instance_name = options.server.instance_name().to_owned();
        let options = DirectoryOptions { holds_results: true, instance_name, mangled_for: None };
        for dir in &self.actions.dirs {
            all.extend(client.actions_of_directory(dir, &options).await?);
        }
        Ok(all.into_iter().collect())
    }
}
