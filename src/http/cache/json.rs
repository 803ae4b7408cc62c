//! An `ActionResult` as JSON, the way protobuf maps it, for people and scripts.
//!
//! Written from the encoded message without building it, as `encoded` reads it: a few bytes of a
//! hostile result would become many in a generated type. Unknown fields are left out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::calendar::{DAY_SECONDS, date};
use crate::encoded::wire::{Field, Fields, WireError};

/// How a field is written.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bool,
    Int32,
    /// JSON has no 64-bit integers: as text.
    Int64,
    Text,
    Bytes,
    Message(Schema),
    Repeated(Schema),
    Timestamp,
    Duration,
    UInt32Value,
}

/// The known fields of a message: number, name, kind.
type Schema = &'static [(u32, &'static str, Kind)];

const DIGEST: Schema = &[(1, "hash", Kind::Text), (2, "sizeBytes", Kind::Int64)];
const ANY: Schema = &[(1, "@type", Kind::Text), (2, "value", Kind::Bytes)];
const PROPERTY: Schema = &[(1, "name", Kind::Text), (2, "value", Kind::Text)];
const PROPERTIES: Schema = &[
    (1, "properties", Kind::Repeated(PROPERTY)),
    (2, "mtime", Kind::Timestamp),
    (3, "unixMode", Kind::UInt32Value),
];
const FILE: Schema = &[
    (1, "path", Kind::Text),
    (2, "digest", Kind::Message(DIGEST)),
    (4, "isExecutable", Kind::Bool),
    (5, "contents", Kind::Bytes),
    (7, "nodeProperties", Kind::Message(PROPERTIES)),
];
const DIRECTORY: Schema = &[
    (1, "path", Kind::Text),
    (3, "treeDigest", Kind::Message(DIGEST)),
    (4, "isTopologicallySorted", Kind::Bool),
    (5, "rootDirectoryDigest", Kind::Message(DIGEST)),
];
const SYMLINK: Schema = &[
    (1, "path", Kind::Text),
    (2, "target", Kind::Text),
    (4, "nodeProperties", Kind::Message(PROPERTIES)),
];
const METADATA: Schema = &[
    (1, "worker", Kind::Text),
    (2, "queuedTimestamp", Kind::Timestamp),
    (3, "workerStartTimestamp", Kind::Timestamp),
    (4, "workerCompletedTimestamp", Kind::Timestamp),
    (5, "inputFetchStartTimestamp", Kind::Timestamp),
    (6, "inputFetchCompletedTimestamp", Kind::Timestamp),
    (7, "executionStartTimestamp", Kind::Timestamp),
    (8, "executionCompletedTimestamp", Kind::Timestamp),
    (9, "outputUploadStartTimestamp", Kind::Timestamp),
    (10, "outputUploadCompletedTimestamp", Kind::Timestamp),
    (11, "auxiliaryMetadata", Kind::Repeated(ANY)),
    (12, "virtualExecutionDuration", Kind::Duration),
];
const ACTION_RESULT: Schema = &[
    (2, "outputFiles", Kind::Repeated(FILE)),
    (10, "outputFileSymlinks", Kind::Repeated(SYMLINK)),
    (12, "outputSymlinks", Kind::Repeated(SYMLINK)),
    (3, "outputDirectories", Kind::Repeated(DIRECTORY)),
    (11, "outputDirectorySymlinks", Kind::Repeated(SYMLINK)),
    (4, "exitCode", Kind::Int32),
    (5, "stdoutRaw", Kind::Bytes),
    (6, "stdoutDigest", Kind::Message(DIGEST)),
    (7, "stderrRaw", Kind::Bytes),
    (8, "stderrDigest", Kind::Message(DIGEST)),
    (9, "executionMetadata", Kind::Message(METADATA)),
];

/// Writes an encoded result as JSON.
pub(super) fn action_result(encoded: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut json = Vec::new();
    write_message(encoded, ACTION_RESULT, &mut json)?;
    json.push(b'\n');
    Ok(json)
}

/// Recurses as deep as the schemas above are nested, whatever the message.
fn write_message(encoded: &[u8], schema: Schema, json: &mut Vec<u8>) -> Result<(), WireError> {
    json.push(b'{');
    let begin = json.len();
    for (tag, name, kind) in schema {
        let end = json.len();
        if end > begin {
            json.push(b',');
        }
        write_text(name, json);
        json.push(b':');
        if !write_value(encoded, *tag, *kind, json)? {
            json.truncate(end);
        }
    }
    json.push(b'}');
    Ok(())
}

/// Writes the value of a field; false when it is not there, or what it is by default.
fn write_value(
    encoded: &[u8],
    tag: u32,
    kind: Kind,
    json: &mut Vec<u8>,
) -> Result<bool, WireError> {
    Ok(match kind {
        Kind::Repeated(schema) => return write_list(encoded, tag, schema, json),
        Kind::Bool => write_number(last_number(encoded, tag)? != 0, "true", json),
        Kind::Int32 => {
            // Sent as 64 bits, of which a decoder keeps the lower half.
            let number = last_number(encoded, tag)?.cast_signed() << 32 >> 32;
            write_number(number != 0, &number.to_string(), json)
        }
        Kind::Int64 => {
            let number = last_number(encoded, tag)?.cast_signed();
            write_number(number != 0, &format!("\"{number}\""), json)
        }
        Kind::Text => {
            let text = last_bytes(encoded, tag)?.unwrap_or_default();
            write_text(&String::from_utf8_lossy(text), json);
            !text.is_empty()
        }
        Kind::Bytes => {
            let bytes = last_bytes(encoded, tag)?.unwrap_or_default();
            write_text(&STANDARD.encode(bytes), json);
            !bytes.is_empty()
        }
        Kind::Message(schema) => match merged(encoded, tag)? {
            Some(message) => {
                write_message(&message, schema, json)?;
                true
            }
            None => false,
        },
        Kind::Timestamp | Kind::Duration | Kind::UInt32Value => match merged(encoded, tag)? {
            Some(message) => {
                write_known(&message, kind, json)?;
                true
            }
            None => false,
        },
    })
}

/// Writes a message that has a form of its own in JSON.
fn write_known(message: &[u8], kind: Kind, json: &mut Vec<u8>) -> Result<(), WireError> {
    let first = last_number(message, 1)?.cast_signed();
    let nanos = last_number(message, 2)?.cast_signed() << 32 >> 32;
    match kind {
        Kind::Timestamp => write_text(&timestamp(first, nanos), json),
        Kind::Duration => write_text(&duration(first, nanos), json),
        _ => json.extend_from_slice((first & i64::from(u32::MAX)).to_string().as_bytes()),
    }
    Ok(())
}

fn write_list(
    encoded: &[u8],
    tag: u32,
    schema: Schema,
    json: &mut Vec<u8>,
) -> Result<bool, WireError> {
    json.push(b'[');
    let begin = json.len();
    for field in of_tag(encoded, tag) {
        if json.len() > begin {
            json.push(b',');
        }
        write_message(field?.bytes()?, schema, json)?;
    }
    let is_empty = json.len() == begin;
    json.push(b']');
    Ok(!is_empty)
}

fn write_number(is_there: bool, text: &str, json: &mut Vec<u8>) -> bool {
    json.extend_from_slice(text.as_bytes());
    is_there
}

fn write_text(text: &str, json: &mut Vec<u8>) {
    json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
}

fn of_tag(encoded: &[u8], tag: u32) -> impl Iterator<Item = Result<Field<'_>, WireError>> {
    Fields::new(encoded).filter(move |field| field.as_ref().map_or(true, |it| it.tag == tag))
}

/// The last value of a field counts.
fn last_number(encoded: &[u8], tag: u32) -> Result<u64, WireError> {
    of_tag(encoded, tag).try_fold(0, |_, field| field?.varint())
}

fn last_bytes(encoded: &[u8], tag: u32) -> Result<Option<&[u8]>, WireError> {
    of_tag(encoded, tag).try_fold(None, |_, field| field?.bytes().map(Some))
}

/// A message that is sent in parts is what all of them together say.
fn merged(encoded: &[u8], tag: u32) -> Result<Option<Cow<'_, [u8]>>, WireError> {
    let mut all: Option<Cow<'_, [u8]>> = None;
    for field in of_tag(encoded, tag) {
        let part = field?.bytes()?;
        match &mut all {
            None => all = Some(Cow::Borrowed(part)),
            Some(all) => all.to_mut().extend_from_slice(part),
        }
    }
    Ok(all)
}

/// RFC 3339. What no calendar of four-digit years has is written as the number it is.
fn timestamp(seconds: i64, nanos: i64) -> String {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    if !(FIRST..=LAST).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return duration(seconds, nanos);
    }
    let (year, month, day) = date(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = fraction(nanos);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn duration(seconds: i64, nanos: i64) -> String {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos))
}

/// Three, six or nine digits, or none.
fn fraction(nanos: i64) -> String {
    let nanos = nanos.unsigned_abs();
    match (nanos % 1_000_000, nanos % 1000) {
        _ if nanos == 0 => String::new(),
        (0, _) => format!(".{:03}", nanos / 1_000_000),
        (_, 0) => format!(".{:06}", nanos / 1000),
        _ => format!(".{nanos:09}"),
    }
}
