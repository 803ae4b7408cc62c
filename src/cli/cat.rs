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

async fn print(digest: Digest, Session { client, .. }: Session) -> Result<(), Failure> {
    let mut reading = client.read(digest);
    let mut output = io::stdout();
    loop {
        let written = match reading.next().await? {
            Some(chunk) => output.write_all(&chunk),
            None => return output.flush().or_else(|error| ignore_closed(&error)),
        };
        if let Err(error) = written {
            return ignore_closed(&error);
        }
    }
}

/// Whoever closed the output has read enough; a full disk has not.
fn ignore_closed(error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::Failed(format!("error: write to standard output: {error}"))),
    }
}
