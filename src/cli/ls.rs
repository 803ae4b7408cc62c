//! `castellan ls`: what is in a directory of a server.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::format::printable;
use super::remote_flags::{RemoteFlags, TypeFlag, kind_of};
use super::transfer::{Failure, Session, run as run_client};
use super::{EX_USAGE, fail};
use crate::client::{Listing, Reference, ReferenceKind, TreeKind};
use crate::digest::Digest;
use crate::trees::directory::Properties;

/// Flags of `ls`.
#[derive(Debug, Args)]
pub(super) struct LsArguments {
    /// `HASH/SIZE` of a directory, with `tree:` before it for a `Tree` message.
    digest: String,

    /// Go into the directories in it.
    #[arg(long, short = 'R')]
    recursive: bool,

    /// What the digest stands for, where nothing before it says so [default: directory].
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<TypeFlag>,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Prints a line for each entry.
pub(super) fn run(arguments: &LsArguments) -> ExitCode {
    let reference = arguments.remote.reference(&arguments.digest);
    let checked = reference.and_then(|reference| {
        let kind = match kind_of(&reference, arguments.kind, ReferenceKind::Directory)? {
            ReferenceKind::Directory => TreeKind::Directories,
            ReferenceKind::Tree => TreeKind::Tree,
            ReferenceKind::Blob => return Err("error: DIGEST: a blob lists nothing".to_owned()),
        };
        Ok((kind, reference.digest))
    });
    let (kind, digest) = match checked {
        Ok(checked) => checked,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    run_client(&arguments.remote, |session| list(arguments, kind, digest, session))
}

async fn list(
    arguments: &LsArguments,
    kind: TreeKind,
    digest: Digest,
    Session { client, .. }: Session,
) -> Result<(), Failure> {
    let is_recursive = arguments.recursive;
    let tree = match kind {
        TreeKind::Directories if !is_recursive => client.load_directory(digest).await?,
        kind => client.load_tree(kind, digest).await?,
    };
    let mut output = BufWriter::new(io::stdout().lock());
    let mut outcome = Ok(());
    tree.list(is_recursive, |path, entry| {
        if outcome.is_ok() {
            outcome = if arguments.remote.json {
                writeln!(output, "{}", object(path, entry))
            } else {
                put_line(&mut output, path, entry)
            };
        }
    })?;
    // Whoever closed the output has read enough.
    drop(outcome.and_then(|()| output.flush()));
    Ok(())
}

/// Mode, size, digest, path; modes as `ls -l` has them.
fn put_line(output: &mut dyn Write, path: &str, entry: Listing<'_>) -> io::Result<()> {
    let path = printable(path);
    match entry {
        Listing::Directory(digest) => {
            let directory = Reference::directory(digest);
            writeln!(output, "drwxr-xr-x {:>12}  {directory}  {path}/", "-")
        }
        Listing::File(file) => {
            let default = if file.is_executable { 0o755 } else { 0o644 };
            let mode = mode_text('-', file.properties.unix_mode.unwrap_or(default));
            let Digest { size_bytes, .. } = file.digest;
            writeln!(output, "{mode} {size_bytes:>12}  {}  {path}", file.digest)
        }
        Listing::Symlink(symlink) => {
            let target = printable(&symlink.target);
            writeln!(output, "lrwxrwxrwx {:>12}  {path} -> {target}", "-")
        }
    }
}

fn mode_text(kind: char, mode: u32) -> String {
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(at, letter)| if mode & (0o400 >> at) == 0 { '-' } else { letter });
    std::iter::once(kind).chain(bits).collect()
}

fn object(path: &str, entry: Listing<'_>) -> Value {
    match entry {
        Listing::Directory(digest) => {
            json!({ "path": path, "kind": "directory", "digest": digest.to_string() })
        }
        Listing::File(file) => {
            let mut object = json!({
                "path": path,
                "kind": "file",
                "digest": file.digest.to_string(),
                "size_bytes": file.digest.size_bytes,
                "is_executable": file.is_executable,
            });
            put_properties(&mut object, file.properties);
            object
        }
        Listing::Symlink(symlink) => {
            let target = &*symlink.target;
            let mut object = json!({ "path": path, "kind": "symlink", "target": target });
            put_properties(&mut object, symlink.properties);
            object
        }
    }
}

fn put_properties(object: &mut Value, Properties { mtime, unix_mode }: Properties) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(mode) = unix_mode {
        object.insert("unix_mode".to_owned(), json!(format!("{mode:04o}")));
    }
    if let Some(mtime) = mtime {
        let value = json!({ "seconds": mtime.seconds, "nanoseconds": mtime.nanoseconds });
        object.insert("mtime".to_owned(), value);
    }
}
