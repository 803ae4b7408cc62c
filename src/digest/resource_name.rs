//! The resource names of `ByteStream` (REAPI, comment of the CAS service; reapi 11, 13, 49-52).

use super::{Digest, DigestFunction, InvalidDigest, shorten};

/// Segments that structure resource names and may therefore not occur in an instance name.
const KEYWORDS: [&str; 7] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
];

/// Longest accepted instance name in bytes.
const MAX_INSTANCE_NAME_BYTES: usize = 1024;
/// Longest accepted resource name in bytes, trailing metadata included.
const MAX_RESOURCE_NAME_BYTES: usize = 16 * 1024;
/// Longest accepted upload uuid in bytes; any form is accepted (reapi 51).
const MAX_UUID_BYTES: usize = 256;

/// How the bytes of a transfer are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// As they are.
    Identity,
    /// Zstandard frames.
    Zstd,
    /// Raw DEFLATE (RFC 1951).
    Deflate,
    /// Brotli.
    Brotli,
}

/// A name that can be read: `[{instance}/]blobs/[{function}/]{hash}/{size}` and the same under
/// `compressed-blobs/{compressor}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadResource {
    /// The instance, possibly empty, possibly of several segments.
    pub instance_name: String,
    /// The blob.
    pub digest: Digest,
    /// The encoding asked for.
    pub compressor: Compressor,
}

/// A name that can be written: `[{instance}/]uploads/{uuid}/` before the blob part, and any
/// trailing metadata behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteResource {
    /// The instance, possibly empty, possibly of several segments.
    pub instance_name: String,
    /// What the client calls this upload.
    pub uuid: String,
    /// The blob.
    pub digest: Digest,
    /// The encoding of the bytes that follow.
    pub compressor: Compressor,
}

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResourceName {
    /// It does not have the shape of a resource name.
    #[error("resource_name {name:?} does not have the form {expected}")]
    Shape {
        /// The name, cut to a printable length.
        name: String,
        /// The form expected.
        expected: &'static str,
    },
    /// It is longer than any honest name.
    #[error("resource_name has {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Its instance name is not one.
    #[error("instance_name {name:?} {problem}")]
    Instance {
        /// The instance name, cut to a printable length.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Its compressor is unknown.
    #[error("compressor {name:?} of resource_name is not one of zstd, deflate, brotli")]
    Compressor {
        /// The segment, cut to a printable length.
        name: String,
    },
    /// Its digest is not one.
    #[error("resource_name: {0}")]
    Digest(#[from] InvalidDigest),
}

const READ_FORM: &str = "[{instance}/]blobs/[blake3/]{hash}/{size}";
const WRITE_FORM: &str = "[{instance}/]uploads/{uuid}/blobs/[blake3/]{hash}/{size}[/{metadata}]";

impl ReadResource {
    /// Parses a name given to `Read`; `unnamed` is the function of a name without one.
    pub fn parse(name: &str, unnamed: DigestFunction) -> Result<Self, InvalidResourceName> {
        let segments = split(name)?;
        let shape = || shape_error(name, READ_FORM);
        let at = segments
            .iter()
            .position(|segment| matches!(*segment, "blobs" | "compressed-blobs"))
            .ok_or_else(shape)?;
        let (instance, blob) = segments.split_at_checked(at).ok_or_else(shape)?;
        let (compressor, digest, rest) = parse_blob(name, blob, unnamed, READ_FORM)?;
        if !rest.is_empty() {
            return Err(shape());
        }
        Ok(Self { instance_name: join_instance(instance)?, digest, compressor })
    }
}

impl WriteResource {
    /// Parses a name given to `Write` or `QueryWriteStatus`; `unnamed` is the function of a name
    /// without one.
    ///
    /// Left to right from the first `uploads`: the metadata behind the size may itself contain
    /// keywords (reapi 50).
    pub fn parse(name: &str, unnamed: DigestFunction) -> Result<Self, InvalidResourceName> {
        let segments = split(name)?;
        let shape = || shape_error(name, WRITE_FORM);
        let at = segments.iter().position(|segment| *segment == "uploads").ok_or_else(shape)?;
        let (instance, rest) = segments.split_at_checked(at).ok_or_else(shape)?;
        let [_, uuid, blob @ ..] = rest else {
            return Err(shape());
        };
        if uuid.is_empty() || uuid.len() > MAX_UUID_BYTES {
            return Err(shape());
        }
        let (compressor, digest, _metadata) = parse_blob(name, blob, unnamed, WRITE_FORM)?;
        Ok(Self {
            instance_name: join_instance(instance)?,
            uuid: (*uuid).to_owned(),
            digest,
            compressor,
        })
    }
}

/// Checks an instance name of a request message (reapi 11).
pub fn check_instance_name(name: &str) -> Result<(), InvalidResourceName> {
    let error = |problem| Err(InvalidResourceName::Instance { name: shorten(name), problem });
    if name.is_empty() {
        return Ok(());
    }
    if name.len() > MAX_INSTANCE_NAME_BYTES {
        return error("is longer than 1024 bytes");
    }
    if name.chars().any(char::is_control) {
        return error("contains a control character");
    }
    for segment in name.split('/') {
        if segment.is_empty() {
            return error("has an empty segment");
        }
        if KEYWORDS.contains(&segment) {
            return error("has a segment that is a reserved word of resource names");
        }
    }
    Ok(())
}

fn split(name: &str) -> Result<Vec<&str>, InvalidResourceName> {
    if name.len() > MAX_RESOURCE_NAME_BYTES {
        return Err(InvalidResourceName::TooLong {
            length: name.len(),
            limit: MAX_RESOURCE_NAME_BYTES,
        });
    }
    Ok(name.split('/').collect())
}

fn shape_error(name: &str, expected: &'static str) -> InvalidResourceName {
    InvalidResourceName::Shape { name: shorten(name), expected }
}

fn join_instance(segments: &[&str]) -> Result<String, InvalidResourceName> {
    let name = segments.join("/");
    // A single empty segment is a leading slash, which is no instance (reapi 13).
    if segments.first() == Some(&"") {
        return Err(InvalidResourceName::Instance {
            name: shorten(&name),
            problem: "has an empty segment",
        });
    }
    check_instance_name(&name)?;
    Ok(name)
}

/// Parses `blobs/...` or `compressed-blobs/{compressor}/...`; returns what follows the size too.
fn parse_blob<'a, 'n>(
    name: &str,
    segments: &'a [&'n str],
    unnamed: DigestFunction,
    form: &'static str,
) -> Result<(Compressor, Digest, &'a [&'n str]), InvalidResourceName> {
    let shape = || shape_error(name, form);
    let (compressor, rest) = match segments {
        ["blobs", rest @ ..] => (Compressor::Identity, rest),
        ["compressed-blobs", compressor, rest @ ..] => (parse_compressor(compressor)?, rest),
        _ => return Err(shape()),
    };
    let named = rest.first().and_then(|segment| DigestFunction::from_path_segment(segment));
    let (function, rest) = match (named, rest) {
        (Some(function), [_, rest @ ..]) => (function, rest),
        // By default it is SHA-256, never BLAKE3 (reapi 3, 6).
        _ => (unnamed, rest),
    };
    let [hash, size, rest @ ..] = rest else {
        return Err(shape());
    };
    let digest = Digest::parse(function, hash.as_bytes(), parse_size(size)?)?;
    Ok((compressor, digest, rest))
}

fn parse_compressor(segment: &str) -> Result<Compressor, InvalidResourceName> {
    match segment {
        "zstd" => Ok(Compressor::Zstd),
        "deflate" => Ok(Compressor::Deflate),
        "brotli" => Ok(Compressor::Brotli),
        _ => Err(InvalidResourceName::Compressor { name: shorten(segment) }),
    }
}

/// Reads a size: decimal digits without sign or leading zero, so that a blob has one name.
fn parse_size(text: &str) -> Result<i64, InvalidDigest> {
    let invalid = || InvalidDigest::Size { text: shorten(text) };
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    text.parse().map_err(|_| invalid())
}
