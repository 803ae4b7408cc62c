//! `castellan why`: what a directory knows about a digest that is missing.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::serve::default_root;
use super::{EX_USAGE, fail};
use crate::store::filesystem::{Explanation, Removal, ValueFile, Wanted, explain};
use crate::store::{Key, Kind};

/// Flags of `why`.
#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// `hash` or `hash/size`; SHA256 or BLAKE3.
    digest: String,

    /// The directory of the store [default: castellan in the user's cache folder].
    #[arg(long, env = "CASTELLAN_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints what is known; 0 when anything is, else 1.
pub(super) fn run(arguments: &WhyArguments) -> ExitCode {
    let wanted = match Wanted::parse(arguments.digest.trim()) {
        Ok(wanted) => wanted,
        Err(error) => return fail(EX_USAGE, &format_args!("error: DIGEST: {error}")),
    };
    let env = |name: &str| std::env::var(name).ok();
    let root = match arguments.dir.clone().map_or_else(|| default_root(&env), Ok) {
        Ok(root) => root,
        Err(problem) => return fail(EX_USAGE, &format_args!("error: --dir: {problem}")),
    };
    let explanation = match explain(&root, &wanted) {
        Ok(explanation) => explanation,
        Err(error) => return fail(1, &format_args!("error: {}: {error}", root.display())),
    };
    let answer = Answer { wanted: &wanted, explanation: &explanation };
    let text = if arguments.json { answer.json() } else { answer.text() };
    // Whoever closed the output has read enough.
    drop(std::io::stdout().write_all(text.as_bytes()));
    if answer.status() == "unknown" { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is said about a digest.
pub(super) struct Answer<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) explanation: &'a Explanation,
}

impl Answer<'_> {
    /// `present`, `removed`, `empty` or `unknown`.
    pub(super) fn status(&self) -> &'static str {
        if !self.explanation.files.is_empty() {
            "present"
        } else if self.wanted.is_empty_blob() {
            "empty"
        } else if !self.explanation.removals.is_empty() {
            "removed"
        } else {
            "unknown"
        }
    }

    /// Lines for people. What is there now makes what was before not matter.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let Explanation { files, removals, remembered, looked_at } = self.explanation;
        match self.status() {
            "present" => files.iter().for_each(|file| put_file(&mut text, file)),
            "empty" => text.push_str("the empty blob: always there and never stored\n"),
            "removed" => removals.iter().for_each(|it| put_removal(&mut text, it, *looked_at)),
            _ => {
                text.push_str("not known: never stored, or removed longer ago than the log ");
                put(&mut text, format_args!("remembers ({remembered} records)\n"));
            }
        }
        text
    }

    /// The same as an object on one line. No text in it needs an escape: hashes, digits and fixed
    /// words.
    pub(super) fn json(&self) -> String {
        let mut text = String::new();
        let Explanation { files, removals, remembered, looked_at } = self.explanation;
        put(&mut text, format_args!("{{\"status\":\"{}\",\"files\":[", self.status()));
        for (at, file) in files.iter().enumerate() {
            text.push_str(if at > 0 { ",{" } else { "{" });
            put_key(&mut text, &file.key);
            let ValueFile { generation, is_variant, path, expected_bytes, actual_bytes, .. } = file;
            put(
                &mut text,
                format_args!(
                    ",\"generation\":{generation},\"is_variant\":{is_variant},\
                     \"path\":\"{path}\",\"expected_bytes\":{expected_bytes},\
                     \"actual_bytes\":{actual_bytes}}}"
                ),
            );
        }
        text.push_str("],\"removals\":[");
        for (at, removal) in removals.iter().enumerate() {
            text.push_str(if at > 0 { ",{" } else { "{" });
            put_key(&mut text, &removal.key);
            let Removal { removed_at, reason, unused_seconds, age_seconds, .. } = removal;
            let number = |it: &Option<u32>| it.map_or("null".to_owned(), |it| it.to_string());
            let (utc, unused, age) =
                (utc(*removed_at), number(unused_seconds), number(age_seconds));
            let ago = looked_at.saturating_sub(*removed_at);
            put(
                &mut text,
                format_args!(
                    ",\"removed_at\":{removed_at},\"removed_at_utc\":\"{utc}\",\
                     \"seconds_ago\":{ago},\"reason\":\"{reason}\",\
                     \"unused_seconds\":{unused},\"age_seconds\":{age}}}"
                ),
            );
        }
        put(&mut text, format_args!("],\"remembered\":{remembered}}}\n"));
        text
    }
}

/// Writing to a string cannot fail.
fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(part);
}

fn put_key(text: &mut String, key: &Key) {
    let kind = match key.kind {
        Kind::Blob => "blob",
        Kind::ActionResult => "action_result",
    };
    let (function, size_bytes) = (key.digest.function.name(), key.digest.size_bytes);
    let hash = key.digest.hash_hex();
    put(
        text,
        format_args!(
            "\"kind\":\"{kind}\",\"function\":\"{function}\",\"hash\":\"{}\",\
             \"size_bytes\":{size_bytes}",
            hash.as_str()
        ),
    );
}

fn noun(key: &Key) -> String {
    let noun = match key.kind {
        Kind::Blob => "blob",
        Kind::ActionResult => "action result",
    };
    format!("{noun} {}", key.digest)
}

fn put_file(text: &mut String, file: &ValueFile) {
    let variant = if file.is_variant { "executable variant of " } else { "" };
    let ValueFile { generation, path, expected_bytes, actual_bytes, .. } = file;
    put(
        text,
        format_args!(
            "there: {variant}{}, generation {generation}, {actual_bytes} bytes in {path}\n",
            noun(&file.key)
        ),
    );
    if expected_bytes != actual_bytes {
        put(text, format_args!("  damaged: it should have {expected_bytes} bytes\n"));
    }
}

fn put_removal(text: &mut String, removal: &Removal, now: u64) {
    let Removal { key, removed_at, reason, unused_seconds, age_seconds } = removal;
    let ago = span(now.saturating_sub(*removed_at));
    put(text, format_args!("{} ({ago} ago): {}: {reason}", utc(*removed_at), noun(key)));
    if let Some(seconds) = unused_seconds {
        put(text, format_args!("; unused for {}", span(u64::from(*seconds))));
    }
    if let Some(seconds) = age_seconds {
        put(text, format_args!("; {} old", span(u64::from(*seconds))));
    }
    text.push('\n');
}

/// The two largest units of a length of time.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}min {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}min", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Seconds since 1970 as a date in the Gregorian calendar.
pub(super) fn utc(seconds: u64) -> String {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // Years that begin in March have their leap day at the end, and every month its place.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next_year;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}
