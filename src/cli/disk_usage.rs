//! `castellan disk-usage`: what the store on this machine takes, and what of it workers hold.

use std::process::ExitCode;

use castellan_proto::worker::GetDiskUsageResponse;
use clap::Args;
use serde_json::json;

use super::format::{Table, bytes};
use super::transfer::print;
use super::worker_client::WorkerFlags;

/// Flags of `disk-usage`.
#[derive(Debug, Args)]
pub(super) struct DiskUsageArguments {
    #[command(flatten)]
    worker: WorkerFlags,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints what the server says.
pub(super) fn run(arguments: &DiskUsageArguments) -> ExitCode {
    let asked = arguments.worker.run(async |mut worker| {
        let instance_name = arguments.worker.instance.clone();
        worker.disk_usage(instance_name).await
    });
    match asked {
        Ok(usage) if arguments.json => {
            let GetDiskUsageResponse { max_bytes, charged_bytes, pinned_bytes, entries, leases } =
                usage;
            print(&json!({
                "max_bytes": max_bytes, "charged_bytes": charged_bytes,
                "pinned_bytes": pinned_bytes, "entries": entries, "leases": leases,
            }));
        }
        Ok(usage) => print(&table(&usage).trim_end()),
        Err(code) => return code,
    }
    ExitCode::SUCCESS
}

fn table(usage: &GetDiskUsageResponse) -> String {
    let mut table = Table::default();
    table.row(["of at most".to_owned(), bytes(usage.max_bytes)]);
    table.row(["taken".to_owned(), bytes(usage.charged_bytes)]);
    table.row(["held by staged trees".to_owned(), bytes(usage.pinned_bytes)]);
    table.row(["entries".to_owned(), usage.entries.to_string()]);
    table.row(["leases of staged trees".to_owned(), usage.leases.to_string()]);
    let mut text = String::new();
    table.put(&mut text);
    text
}
