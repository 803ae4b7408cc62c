//! `castellan stats`: what a running server says of itself, as a table, once or again and again.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::admin_client::{ServerFlags, call};
use super::format::{Style, Table, bytes, percent, printable, span};
use super::{EX_USAGE, fail};

/// Flags of `stats`.
#[derive(Debug, Args)]
pub(super) struct StatsArguments {
    #[command(flatten)]
    server: ServerFlags,

    /// Ask again every so many seconds, until interrupted.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,

    /// Print one JSON object, a line each time.
    #[arg(long)]
    json: bool,
}

/// Prints what the server says.
pub(super) fn run(arguments: &StatsArguments) -> ExitCode {
    let address = match arguments.server.address() {
        Ok(address) => address,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let style = Style::of_output();
    let mut output = std::io::stdout();
    let clears = arguments.watch.is_some() && !arguments.json && output.is_terminal();
    loop {
        let status = match call(&address, "/v1/stats", None) {
            Ok(status) => status,
            Err(error) => return fail(1, &error),
        };
        let mut text = String::new();
        if clears {
            text.push_str("\x1b[H\x1b[2J");
        }
        if arguments.json {
            text = format!("{status}\n");
        } else {
            text.push_str(&table(&status, style));
        }
        if output.write_all(text.as_bytes()).and_then(|()| output.flush()).is_err() {
            // Whoever closed the output has read enough.
            return ExitCode::SUCCESS;
        }
        match arguments.watch {
            None => return ExitCode::SUCCESS,
            Some(seconds) => std::thread::sleep(Duration::from_secs(seconds)),
        }
    }
}

/// The document in lines for people.
pub(super) fn table(status: &Value, style: Style) -> String {
    let mut text = String::new();
    let state = string(status, "/state");
    let state = if state == "serving" { style.green(&state) } else { style.red(&state) };
    let (version, up) = (string(status, "/version"), span(number(status, "/uptime_seconds")));
    let _ = writeln!(text, "{} {version}, {state}, up {up}", style.bold("castellan"));
    for store in list(status, "/stores") {
        put_store(&mut text, store, style);
    }
    for store in list(status, "/other_stores") {
        put_other_store(&mut text, store, style);
    }
    put_hits(&mut text, status, style);
    for (heading, path) in [("tools", "/tools"), ("instances", "/instances")] {
        let mut table = Table::default();
        for row in list(status, path) {
            let name = string(row, "/name");
            let name = if name.is_empty() { "(no name)".to_owned() } else { name };
            table.row([name, number(row, "/requests").to_string()]);
        }
        put_table(&mut text, heading, &table, style);
    }
    let mut errors = Table::default();
    let now = number(status, "/now");
    for error in list(status, "/errors").iter().take(5) {
        let ago = span(now.saturating_sub(number(error, "/at")));
        let message = format!("{} {}", string(error, "/message"), string(error, "/fields"));
        errors.row([format!("{} {ago} ago: {}", string(error, "/level"), message.trim_end())]);
    }
    put_table(&mut text, "latest errors", &errors, style);
    text
}

fn put_table(text: &mut String, heading: &str, table: &Table, style: Style) {
    if !table.is_empty() {
        let _ = writeln!(text, "\n{}", style.bold(heading));
        table.put(text);
    }
}

/// A store that is not made of files: what it counts, but for zeros.
fn put_other_store(text: &mut String, store: &Value, style: Style) {
    let mut table = Table::default();
    let numbers = store.get("numbers").and_then(Value::as_object).into_iter().flatten();
    for (name, number) in numbers {
        let number = number.as_u64().unwrap_or_default();
        if number > 0 {
            let shown = if name.ends_with("bytes") { bytes(number) } else { number.to_string() };
            table.row([name.replace('_', " "), shown]);
        }
    }
    let heading = format!("{} ({})", string(store, "/name"), string(store, "/kind"));
    put_table(text, &heading, &table, style);
}

fn put_store(text: &mut String, store: &Value, style: Style) {
    // A cache that is full is as it should be: no reason for a color.
    let shown = style.bold(&percent(ratio(store, "/fill_ratio").unwrap_or_default()));
    let size = |path: &str| bytes(number(store, path));
    let (used, most) = (size("/used_bytes"), size("/max_bytes"));
    let _ = writeln!(text, "\n{} {}", style.bold("store"), string(store, "/name"));
    let _ = writeln!(text, "  {used} of {most}, {shown} full");
    if number(store, "/limit_bytes") < number(store, "/max_bytes") {
        let _ = writeln!(
            text,
            "  {}",
            style.red(&format!("the disk allows {} at present", size("/limit_bytes")))
        );
    }
    let mut table = Table::default();
    for (name, path) in [
        ("blobs", "/blobs"),
        ("executable variants", "/variants"),
        ("action results", "/action_results"),
        ("values", "/values"),
    ] {
        let entries = number(store, &format!("{path}/entries"));
        table.row([name.to_owned(), size(&format!("{path}/charged_bytes")), entries.to_string()]);
    }
    for (name, path) in [
        ("reserved for uploads", "/reserved_bytes"),
        ("leaving", "/dying_bytes"),
        ("directories and own files", "/overhead_bytes"),
        ("not read yet", "/unread_bytes"),
        ("promised to builds", "/leased_bytes"),
    ] {
        if number(store, path) > 0 {
            table.row([name.to_owned(), size(path)]);
        }
    }
    table.put(text);
    if let Some(seconds) = store.pointer("/oldest_unused_seconds").and_then(Value::as_u64) {
        let _ = writeln!(text, "  the next to go was last used {} ago", span(seconds));
    }
    let mut removals = Table::default();
    for (name, count) in store.get("removals").and_then(Value::as_object).into_iter().flatten() {
        if count.as_u64().is_some_and(|count| count > 0) {
            removals.row([name.replace('_', " "), count.to_string()]);
        }
    }
    put_table(text, "left since the start", &removals, style);
    let mut trouble = Table::default();
    for (name, count) in store.get("trouble").and_then(Value::as_object).into_iter().flatten() {
        if count.as_u64().is_some_and(|count| count > 0) {
            trouble.row([name.replace('_', " "), count.to_string()]);
        }
    }
    put_table(text, "trouble since the start", &trouble, style);
    put_predictions(text, store, style);
}

fn put_predictions(text: &mut String, store: &Value, style: Style) {
    let mut table = Table::default();
    for point in list(store, "/predicted_hit_ratios") {
        let ratio = ratio(point, "/ratio").map_or_else(|| "-".to_owned(), percent);
        table.row([bytes(number(point, "/bytes")), ratio]);
    }
    put_table(text, "hit ratio with another size", &table, style);
}

fn put_hits(text: &mut String, status: &Value, style: Style) {
    let mut table = Table::default();
    let heads = ["", "action cache", "blob reads", "presence"];
    table.row(heads.map(str::to_owned));
    for (name, span) in status.get("hits").and_then(Value::as_object).into_iter().flatten() {
        let cell = |path: &str| ratio(span, path).map_or_else(|| "-".to_owned(), percent);
        table.row([
            name.replace('_', " "),
            cell("/action_cache/ratio"),
            cell("/blob_reads/ratio"),
            cell("/presence/ratio"),
        ]);
    }
    put_table(text, "hit ratio", &table, style);
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn ratio(value: &Value, path: &str) -> Option<f64> {
    value.pointer(path).and_then(Value::as_f64)
}

fn string(value: &Value, path: &str) -> String {
    printable(value.pointer(path).and_then(Value::as_str).unwrap_or_default())
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
