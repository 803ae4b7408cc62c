//! What the subcommands of workers share: which server on this machine is asked, and how.

use std::process::ExitCode;

use castellan_proto::worker::Digest as WireDigest;
use clap::Args;
use serde_json::{Value, json};

use super::{EX_USAGE, fail};
use crate::client::worker::{Worker, WorkerError};

/// Which server is asked.
#[derive(Debug, Args)]
pub(super) struct WorkerFlags {
    /// The worker API of the server on this machine (its --worker-listen), as `unix:PATH` or
    /// `HOST:PORT`.
    #[arg(long, env = "CASTELLAN_WORKER", value_name = "ADDRESS")]
    worker: String,

    /// The instance on it.
    #[arg(long, env = "CASTELLAN_INSTANCE", value_name = "NAME", default_value = "")]
    pub(super) instance: String,
}

impl WorkerFlags {
    /// Connects and does the work, in a runtime of its own; an error becomes words and an exit
    /// code.
    pub(super) fn run<T, F>(&self, work: impl FnOnce(Worker) -> F) -> Result<T, ExitCode>
    where
        F: Future<Output = Result<T, WorkerError>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| fail(1, &format_args!("error: start the runtime: {error}")))?;
        let outcome = runtime.block_on(async { work(Worker::connect(&self.worker).await?).await });
        outcome.map_err(|error| match error {
            WorkerError::Address { .. } => {
                fail(EX_USAGE, &format_args!("error: --worker: {error}"))
            }
            WorkerError::Missing(subjects) => {
                let list = subjects.join("\n  ");
                fail(1, &format_args!("error: {} blobs are missing:\n  {list}", subjects.len()))
            }
            error => fail(1, &format_args!("error: {error}")),
        })
    }
}

/// Reads `HASH/SIZE`.
pub(super) fn parse_digest(text: &str) -> Result<WireDigest, String> {
    let parsed = text.split_once('/').and_then(|(hash, size)| {
        let size_bytes = size.parse().ok().filter(|it| *it >= 0)?;
        (!hash.is_empty()).then(|| WireDigest { hash: hash.to_owned(), size_bytes })
    });
    parsed.ok_or_else(|| format!("{text:?} is no digest; HASH/SIZE is"))
}

/// A digest as all subcommands print it.
pub(super) fn digest_json(digest: Option<&WireDigest>) -> Value {
    digest.map_or(Value::Null, |it| json!(format!("{}/{}", it.hash, it.size_bytes)))
}
