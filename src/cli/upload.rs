//! `castellan upload`: files and directories become blobs of a server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::format::printable;
use super::remote_flags::RemoteFlags;
use super::transfer::{Failure, Session, print, run as run_client};
use crate::client::{Reference, Uploaded};

/// Flags of `upload`.
#[derive(Debug, Args)]
pub(super) struct UploadArguments {
    /// Files and directories.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Prints a digest for each path.
pub(super) fn run(arguments: &UploadArguments) -> ExitCode {
    run_client(&arguments.remote, |session| upload(arguments, session))
}

async fn upload(arguments: &UploadArguments, session: Session) -> Result<(), Failure> {
    let is_json = arguments.remote.json;
    for path in &arguments.paths {
        let uploaded = session.client.upload(path, is_json, &session.progress).await?;
        let shown = path.to_string_lossy();
        if is_json {
            print(&object(&shown, &uploaded));
        } else {
            print(&format_args!("{}  {}", reference(&uploaded), printable(&shown)));
        }
    }
    Ok(())
}

fn reference(uploaded: &Uploaded) -> Reference {
    match uploaded.tree {
        Some(_) => Reference::directory(uploaded.digest),
        None => Reference::blob(uploaded.digest),
    }
}

fn object(path: &str, uploaded: &Uploaded) -> Value {
    let Uploaded { digest, tree, files, bytes, sent_blobs, sent_bytes, skipped_bytes } = uploaded;
    let kind = if tree.is_some() { "directory" } else { "file" };
    let mut object = json!({ "path": path, "kind": kind, "digest": digest.to_string() });
    let mut more = json!({});
    if let Some(tree) = tree {
        more = json!({
            "tree_digest": tree.tree.map(|it| it.to_string()),
            "directories": tree.directories,
            "symlinks": tree.symlinks,
        });
    }
    let counts = json!({
        "files": files,
        "bytes": bytes,
        "sent_blobs": sent_blobs,
        "sent_bytes": sent_bytes,
        "skipped_bytes": skipped_bytes,
    });
    for part in [more, counts] {
        if let (Some(object), Value::Object(part)) = (object.as_object_mut(), part) {
            object.extend(part);
        }
    }
    object
}
