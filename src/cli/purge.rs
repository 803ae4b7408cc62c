//! `castellan purge`: has a running server remove things for good, after it has said what.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;
use nativelink_config::units::parse_duration;
use serde_json::{Value, json};

use super::admin_client::{CallError, ServerFlags, call};
use super::format::bytes;
use super::problems::Problems;
use super::{EX_USAGE, fail};
use crate::admin_socket::AdminAddress;
use crate::store::filesystem::Wanted;

/// Flags of `purge`.
#[derive(Debug, Args)]
pub(super) struct PurgeArguments {
    #[command(flatten)]
    what: WhatFlags,

    #[command(flatten)]
    server: ServerFlags,

    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,

    /// Do not ask.
    #[arg(long, short)]
    yes: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What to purge.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct WhatFlags {
    /// Everything: blobs, action results of every instance, values of ccache, Gradle and sccache.
    #[arg(long, conflicts_with_all = ["instance", "results_older_than", "digest"])]
    all: bool,

    /// The action results of this instance; blobs belong to all instances and stay.
    #[arg(long, value_name = "NAME", conflicts_with = "digest")]
    instance: Option<String>,

    /// Action results that were written longer ago than this, as `7 days`; with `--instance` only
    /// its own.
    #[arg(long, value_name = "DURATION", conflicts_with = "digest")]
    results_older_than: Option<String>,

    /// The blob with this digest and the results of the action with it; `hash` or `hash/size`.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
}

impl WhatFlags {
    /// The request, or all that is wrong with it.
    fn request(&self) -> Result<Value, Problems> {
        let mut problems = Problems::default();
        let older_than = self.results_older_than.as_deref();
        let age =
            older_than.and_then(|text| problems.take("--results-older-than", parse_duration(text)));
        if let Some(digest) = &self.digest {
            problems.take("--digest", Wanted::parse(digest.trim()));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut fields = serde_json::Map::new();
        if self.all {
            fields.insert("all".to_owned(), json!(true));
        }
        if let Some(instance) = &self.instance {
            fields.insert("instance".to_owned(), json!(instance));
        }
        if let Some(age) = age {
            fields.insert("action_results_older_than_seconds".to_owned(), json!(age.as_secs()));
        }
        if let Some(digest) = &self.digest {
            fields.insert("digest".to_owned(), json!(digest.trim()));
        }
        Ok(Value::Object(fields))
    }
}

/// Counts, asks, purges.
pub(super) fn run(arguments: &PurgeArguments) -> ExitCode {
    let request = match arguments.what.request() {
        Ok(request) => request,
        Err(problems) => return fail(EX_USAGE, &problems),
    };
    let address = match arguments.server.address() {
        Ok(address) => address,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let can_ask = std::io::stdin().is_terminal();
    if !arguments.dry_run && !arguments.yes && (!can_ask || arguments.json) {
        let text = "error: --yes: nobody can be asked here; say it, or --dry-run to look first";
        return fail(EX_USAGE, &text);
    }
    match purge(arguments, &address, request) {
        Ok(code) => code,
        Err(error) => fail(1, &error),
    }
}

fn purge(
    arguments: &PurgeArguments,
    address: &AdminAddress,
    mut request: Value,
) -> Result<ExitCode, CallError> {
    let mut set_dry_run = |is_dry_run: bool| {
        if let Some(fields) = request.as_object_mut() {
            fields.insert("dry_run".to_owned(), json!(is_dry_run));
        }
        call(address, "/v1/purge", Some(&request))
    };
    let number = |json: &Value, name: &str| json.get(name).and_then(Value::as_u64).unwrap_or(0);
    if arguments.dry_run || !arguments.json {
        let found = set_dry_run(true)?;
        if arguments.json {
            say(&format!("{found}\n"));
            return Ok(ExitCode::SUCCESS);
        }
        let entries = number(&found, "entries");
        let size = bytes(number(&found, "charged_bytes"));
        let verb = if arguments.dry_run { "would remove" } else { "to remove" };
        say(&format!("{verb}: {entries} {}, {size}\n", entries_noun(entries)));
        if arguments.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        if !arguments.yes && !is_confirmed() {
            say("nothing removed\n");
            return Ok(ExitCode::FAILURE);
        }
    }
    let purged = set_dry_run(false)?;
    if arguments.json {
        say(&format!("{purged}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let removed = number(&purged, "removed");
    say(&format!("removed: {removed} {}\n", entries_noun(removed)));
    if purged.get("is_drained").and_then(Value::as_bool) == Some(false) {
        say("writes that had begun before are still under way; they will fail\n");
    }
    Ok(ExitCode::SUCCESS)
}

fn entries_noun(count: u64) -> &'static str {
    if count == 1 { "entry" } else { "entries" }
}

/// Anything but a yes is a no.
fn is_confirmed() -> bool {
    say("remove for good? [y/N] ");
    let mut reply = String::new();
    let is_read = std::io::stdin().lock().read_line(&mut reply).is_ok();
    is_read && matches!(reply.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn say(text: &str) {
    // A closed output is no reason to stop half way.
    drop(std::io::stdout().write_all(text.as_bytes()));
    drop(std::io::stdout().flush());
}
