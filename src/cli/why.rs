//! `castellan why`: what is known about a digest that is missing, from a running server where
//! there is one, else from its directory alone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{CallError, ServerFlags, call};
use super::format::{printable, span};
use super::{EX_USAGE, fail};
use crate::operator::explanation_json;
use crate::store::filesystem::{Wanted, explain};

/// Flags of `why`.
#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// `hash` or `hash/size`; SHA256 or BLAKE3.
    digest: String,

    #[command(flatten)]
    server: ServerFlags,

    /// Read the directory alone, whether a server runs on it or not.
    #[arg(long, conflicts_with = "admin")]
    offline: bool,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints what is known; 0 when anything is, else 1.
pub(super) fn run(arguments: &WhyArguments) -> ExitCode {
    let digest = arguments.digest.trim();
    let wanted = match Wanted::parse(digest) {
        Ok(wanted) => wanted,
        Err(error) => return fail(EX_USAGE, &format_args!("error: DIGEST: {error}")),
    };
    let address = match arguments.server.address() {
        Ok(address) => address,
        Err(problem) => return fail(EX_USAGE, &problem),
    };
    let online = if arguments.offline {
        None
    } else {
        match call(&address, &format!("/v1/why?digest={digest}"), None) {
            Ok(answer) => Some(answer),
            // Nobody who was named is asked: the directory knows most of it too.
            Err(CallError::Unreachable { .. }) if arguments.server.admin.is_none() => None,
            Err(error) => return fail(1, &error),
        }
    };
    let answer = match online.map_or_else(|| look(arguments, &wanted), Ok) {
        Ok(answer) => answer,
        Err(problem) => return fail(1, &problem),
    };
    let text = if arguments.json { format!("{answer}\n") } else { text(&answer) };
    // Whoever closed the output has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
    if status(&answer) == "unknown" { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn look(arguments: &WhyArguments, wanted: &Wanted) -> Result<Value, String> {
    let root = arguments.server.root()?;
    let explained = explain(&root, wanted);
    let explanation = explained.map_err(|error| format!("error: {}: {error}", root.display()))?;
    Ok(explanation_json(wanted, &[(None, explanation)]))
}

fn status(answer: &Value) -> &str {
    text_of(answer, "status")
}

fn text_of<'v>(object: &'v Value, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(object: &Value, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}

fn list<'v>(object: &'v Value, name: &str) -> &'v [Value] {
    object.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Lines for people. What is there now makes what was before not matter.
pub(super) fn text(answer: &Value) -> String {
    let mut text = String::new();
    match status(answer) {
        "present" => {
            for file in list(answer, "files") {
                put_file(&mut text, file);
            }
        }
        "empty" => text.push_str("the empty blob: always there and never stored\n"),
        "removed" => {
            for removal in list(answer, "removals") {
                put_removal(&mut text, removal);
            }
        }
        _ => {
            let remembered = number(answer, "remembered").unwrap_or_default();
            text.push_str("not known: never stored, or removed longer ago than the log ");
            put(&mut text, format_args!("remembers ({remembered} records)\n"));
        }
    }
    text
}

/// Writing to a string cannot fail.
fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(part);
}

fn noun(value: &Value) -> String {
    let noun = match text_of(value, "kind") {
        "blob" => "blob",
        "value" => "value",
        _ => "action result",
    };
    let (function, hash) = (text_of(value, "function"), text_of(value, "hash"));
    let size = number(value, "size_bytes").map_or_else(String::new, |bytes| format!("/{bytes}"));
    // As clients print it: without the function that is meant where none is said.
    let function = if function == "sha256" { String::new() } else { format!("{function}/") };
    printable(&format!("{noun} {function}{hash}{size}"))
}

fn put_file(text: &mut String, file: &Value) {
    let flag = |name: &str| file.get(name).and_then(Value::as_bool).unwrap_or_default();
    let count = |name: &str| number(file, name).unwrap_or_default();
    let variant = if flag("is_variant") { "executable variant of " } else { "" };
    let (actual_bytes, generation) = (count("actual_bytes"), count("generation"));
    let path = printable(text_of(file, "path"));
    let noun = noun(file);
    put(
        text,
        format_args!(
            "there: {variant}{noun}, generation {generation}, {actual_bytes} bytes in {path}"
        ),
    );
    if let Some(seconds) = number(file, "unused_seconds") {
        put(text, format_args!("; last used {} ago", span(seconds)));
    }
    if flag("is_leased") {
        text.push_str("; promised to a build");
    }
    if flag("is_pinned") {
        text.push_str("; in use");
    }
    text.push('\n');
    let expected_bytes = count("expected_bytes");
    if expected_bytes != actual_bytes {
        put(text, format_args!("  damaged: it should have {expected_bytes} bytes\n"));
    }
}

fn put_removal(text: &mut String, removal: &Value) {
    let ago = span(number(removal, "seconds_ago").unwrap_or_default());
    let (at, reason) = (text_of(removal, "removed_at_utc"), text_of(removal, "reason"));
    let noun = noun(removal);
    put(text, format_args!("{} ({ago} ago): {noun}: {}", printable(at), printable(reason)));
    if let Some(seconds) = number(removal, "unused_seconds") {
        put(text, format_args!("; unused for {}", span(seconds)));
    }
    if let Some(seconds) = number(removal, "age_seconds") {
        put(text, format_args!("; {} old", span(seconds)));
    }
    text.push('\n');
}
