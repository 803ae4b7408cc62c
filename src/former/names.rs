//! The names of files in the directories of other servers.

use crate::digest::{DigestFunction, HASH_BYTES, Hasher, parse_hash};

/// Where `NativeLink` has files named after digests.
pub const NATIVELINK_BLOB_DIR: &str = "d";
/// Where `NativeLink` has files named after other keys.
pub const NATIVELINK_STRING_DIR: &str = "s";
/// Where bazel-remote has blobs.
pub const BLOB_DIR: &str = "cas.v2";
/// Where bazel-remote has action results that it has looked into.
pub const ACTION_RESULT_DIR: &str = "ac.v2";
/// Where bazel-remote has values under `/ac/` that it has not looked into.
pub const RAW_DIR: &str = "raw.v2";

/// What the name of a blob's file claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerName {
    /// The hash of the blob.
    pub hash: [u8; HASH_BYTES],
    /// The length of the blob, where the name has it; otherwise the file's length is the blob's.
    pub size_bytes: Option<u64>,
    /// How the file holds the bytes.
    pub encoding: FormerEncoding,
}

/// How a file holds the bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormerEncoding {
    /// As they are.
    Identity,
    /// As a [`super::Casblob`].
    Casblob,
}

/// Reads `<hash>-<size>`; `None` for a foreign file.
pub fn nativelink(name: &str) -> Option<FormerName> {
    let (hash, size) = name.split_once('-')?;
    let size_bytes = Some(decimal(size)?);
    Some(FormerName { hash: hash_of(hash)?, size_bytes, encoding: FormerEncoding::Identity })
}

/// Reads the name of a file found in a directory of `cas.v2`; `None` for a foreign file.
pub fn bazel_remote_cas(bucket: u8, name: &str) -> Option<FormerName> {
    let (name, encoding) = match name.strip_suffix(".v1") {
        Some(name) => (name, FormerEncoding::Identity),
        None => (name, FormerEncoding::Casblob),
    };
    let (hash, rest) = name.split_once('-')?;
    let (size_bytes, random) = match rest.split_once('-') {
        // The name of nothing: the empty blob is not stored.
        Some((size, random)) => (Some(decimal(size).filter(|size| *size > 0)?), random),
        None => (None, rest),
    };
    // A casblob without a size would have to be opened before anything could be said of it.
    let has_size = size_bytes.is_some() || encoding == FormerEncoding::Identity;
    let hash = hash_in(bucket, hash)?;
    (has_size && is_random(random)).then_some(FormerName { hash, size_bytes, encoding })
}

/// Reads `<hash>-<random>`, found in a directory of `ac.v2` or `raw.v2`; `None` for a foreign file.
pub fn bazel_remote_result(bucket: u8, name: &str) -> Option<[u8; HASH_BYTES]> {
    let (hash, random) = name.split_once('-')?;
    let hash = hash_in(bucket, hash)?;
    is_random(random).then_some(hash)
}

/// The hash under which bazel-remote keeps the result of an action of an instance, when it keeps
/// those of instances apart.
pub fn mangled_action_hash(hash: &[u8; HASH_BYTES], instance: &str) -> [u8; HASH_BYTES] {
    if instance.is_empty() {
        return *hash;
    }
    let mut hasher = Hasher::new(DigestFunction::Sha256);
    hasher.update(const_hex::encode(hash).as_bytes());
    hasher.update(instance.as_bytes());
    hasher.finish()
}

fn hash_of(text: &str) -> Option<[u8; HASH_BYTES]> {
    // All functions have hashes of this length.
    parse_hash(DigestFunction::Sha256, text.as_bytes()).ok()
}

fn hash_in(bucket: u8, text: &str) -> Option<[u8; HASH_BYTES]> {
    hash_of(text).filter(|[first, ..]| *first == bucket)
}

/// A size has one spelling, and fits the wire.
fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    let size = text.parse::<i64>().ok().filter(|_| is_plain && is_short)?;
    u64::try_from(size).ok()
}

fn is_random(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
