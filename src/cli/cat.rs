//! `castellan cat`: a blob of a server on standard output.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;

use super::remote_flags::RemoteFlags;
use super::transfer::{Failure, Session, run as run_client};
use super::{EX_USAGE, fail};
use crate::digest::Digest;

/// Flags of `cat`.
#[derive(Debug, Args)]
pub(super) struct CatArguments {
    /// `HASH/SIZE`; of a directory it prints the message.
    digest: String,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Prints the bytes; their last ones when all of them were right.
pub(super) fn run(arguments: &CatArguments) -> ExitCode {
    let digest = match arguments.remote.reference(&arguments.digest) {
        Ok(reference) => reference.digest,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    // Progress would be written between the bytes.
    run_client(&arguments.remote, |session| print(digest, session))
}

/// Writes a blob to standard output.
pub(super) async fn print(digest: Digest, Session { client, .. }: Session) -> Result<(), Failure> {
    let mut reading = client.read(digest);
    while let Some(chunk) = reading.next().await? {
        // Whoever reads may take as long as he likes, and a signal is heard meanwhile.
        let write = move || {
            let mut output = io::stdout().lock();
            output.write_all(&chunk).and_then(|()| output.flush())
        };
        #[expect(clippy::disallowed_methods, reason = "one after the other")]
        let writing = tokio::task::spawn_blocking(write);
        match writing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return ignore_closed(&error),
            Err(error) => return Err(Failure::failed(&error)),
        }
    }
    Ok(())
}

/// Whoever closed the output has read enough; a full disk has not.
fn ignore_closed(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::Failed(format!("error: write to standard output: {error}"))),
    }
}
