//! The path of a request: `[{instance}/]cas/{hash}` or `[{instance}/]ac/{hash}`.
//!
//! Nothing of a path ever names a file, but two spellings of one name would be two instances, so
//! what others would rewrite on the way is refused: `.` and `..`, encoded slashes.

use std::borrow::Cow;

use crate::digest::{DigestFunction, HASH_BYTES, parse_hash};
use crate::http::status::Refusal;
use axum::http::StatusCode;

/// The longest path that is looked at. An instance name has at most 1 KiB, and each of its bytes
/// three when it is encoded.
const MAX_PATH_BYTES: usize = 8 << 10;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A blob.
    Blob,
    /// An action result.
    ActionResult,
}

/// A path that has been understood. Whether its instance exists is not decided here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) instance_name: String,
    pub(super) kind: Kind,
    pub(super) hash: [u8; HASH_BYTES],
}

impl Target {
    /// Reads the path of a URI, as it was sent.
    pub(super) fn parse(path: &str, function: DigestFunction) -> Result<Self, Refusal> {
        if path.len() > MAX_PATH_BYTES {
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, "the path is too long"));
        }
        let mut segments = Vec::new();
        // Repeated slashes are one: clients put an empty instance name between two.
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            segments.push(decode(segment)?);
        }
        let [instance @ .., kind, hash] = segments.as_slice() else {
            return Err(no_such_path());
        };
        let kind = match &**kind {
            "cas" => Kind::Blob,
            "ac" => Kind::ActionResult,
            _ => return Err(no_such_path()),
        };
        if path.ends_with('/') {
            return Err(no_such_path());
        }
        let hash = parse_hash(function, hash.as_bytes())?;
        Ok(Self { instance_name: instance.join("/"), kind, hash })
    }
}

fn no_such_path() -> Refusal {
    Refusal::not_found("nothing is here; blobs are at /cas/HASH, action results at /ac/HASH")
}

/// Takes the percent-encoding off a segment.
fn decode(segment: &str) -> Result<Cow<'_, str>, Refusal> {
    let decoded = if segment.contains('%') {
        let decoded = decode_percent(segment.as_bytes()).and_then(|it| String::from_utf8(it).ok());
        Cow::Owned(decoded.ok_or_else(|| Refusal::bad_request("the path is not well encoded"))?)
    } else {
        Cow::Borrowed(segment)
    };
    if matches!(&*decoded, "." | "..") || decoded.contains(['/', '\\', '\0']) {
        return Err(Refusal::bad_request("the path is ambiguous"));
    }
    Ok(decoded)
}

fn decode_percent(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_first_chunk::<2>()?;
        let [byte] = const_hex::decode_to_array(digits).ok()?;
        decoded.push(byte);
        rest = after;
    }
    Some(decoded)
}
