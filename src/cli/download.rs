//! `castellan download`: blobs and trees of a server become files and directories.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::remote_flags::{RemoteFlags, TypeFlag, kind_of};
use super::transfer::{Failure, Session, print, run as run_client};
use super::{EX_USAGE, cat, fail};
use crate::client::{Downloaded, ReferenceKind, TreeKind};
use crate::digest::Digest;

/// Flags of `download`.
#[derive(Debug, Args)]
pub(super) struct DownloadArguments {
    /// `HASH/SIZE`, with `dir:` or `tree:` before it for a directory, as `upload` prints it.
    digest: String,

    /// The file or the directory that it becomes; `-` writes a blob to standard output.
    dest: PathBuf,

    /// What the digest stands for, where nothing before it says so [default: blob].
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TypeFlag>,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Downloads one thing.
pub(super) fn run(arguments: &DownloadArguments) -> ExitCode {
    let reference = arguments.remote.reference(&arguments.digest);
    let checked = reference.and_then(|reference| {
        let kind = kind_of(&reference, arguments.kind, ReferenceKind::Blob)?;
        Ok((kind, reference.digest))
    });
    let (kind, digest) = match checked {
        Ok(checked) => checked,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    if is_output(&arguments.dest) {
        if kind != ReferenceKind::Blob || arguments.remote.json {
            let problem = "error: DEST: standard output takes a blob and nothing else";
            return fail(EX_USAGE, &problem);
        }
        return run_client(&arguments.remote, |session| cat::print(digest, session));
    }
    run_client(&arguments.remote, |session| download(arguments, kind, digest, session))
}

/// Whether this is what standard output is called. A file could not take its place.
pub(super) fn is_output(path: &Path) -> bool {
    ["-", "/dev/stdout"].iter().any(|name| path == Path::new(name))
}

async fn download(
    arguments: &DownloadArguments,
    kind: ReferenceKind,
    digest: Digest,
    session: Session,
) -> Result<(), Failure> {
    let Session { client, progress } = session;
    let to = &arguments.dest;
    let tree = match kind {
        ReferenceKind::Blob => None,
        ReferenceKind::Directory => Some(TreeKind::Directories),
        ReferenceKind::Tree => Some(TreeKind::Tree),
    };
    let done = match tree {
        None => client.download_blob(digest, to, &progress).await?,
        Some(kind) => {
            let tree = client.load_tree(kind, digest).await?;
            client.download_tree(&tree, to, &progress).await?
        }
    };
    if arguments.remote.json {
        print(&object(&done));
    }
    Ok(())
}

/// What was done.
pub(super) fn object(done: &Downloaded) -> Value {
    let Downloaded { files, directories, symlinks, bytes, kept_files, kept_bytes } = done;
    json!({
        "files": files,
        "directories": directories,
        "symlinks": symlinks,
        "bytes": bytes,
        "kept_files": kept_files,
        "kept_bytes": kept_bytes,
    })
}
