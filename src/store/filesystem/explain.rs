//! Why a digest is missing, from a directory alone: whether a server runs on it or not.
//!
//! Takes no lock and changes nothing. A running server writes removals down about once a second,
//! so what it did just now may not be known yet.

use std::io;
use std::path::Path;

use super::disk::Onlooker;
use super::index::LastUse;
use super::layout::{FileName, Form, Shard};
use super::shared::Parts;
use super::state::FORMAT_NAME;
use super::tombstone_log::{REMOVED_NAME, Removal};
use super::tombstones;
use super::wall_clock::WallClock;
use crate::digest::{Digest, DigestFunction, HASH_BYTES, InvalidDigest};
use crate::store::{Key, Kind};

/// A digest as people have it: from a log of a client, with or without function and size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    function: Option<DigestFunction>,
    hash: [u8; HASH_BYTES],
    size_bytes: Option<u64>,
}

impl Wanted {
    /// Reads `hash` or `hash/size`, and with the function in front, as `blake3/hash/size`.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let named = text.split_once('/').and_then(|(first, rest)| {
            let named = DigestFunction::ALL.into_iter().find(|it| it.name() == first);
            named.map(|function| (function, rest))
        });
        let (function, rest) = named.map_or((None, text), |(it, rest)| (Some(it), rest));
        let (hash_text, size_text) = match rest.split_once('/') {
            Some((hash, size)) => (hash, Some(size)),
            None => (rest, None),
        };
        let is_number = |it: &&str| it.bytes().all(|byte| byte.is_ascii_digit());
        let read = |text: &str| -> Result<u64, InvalidDigest> {
            let number = Some(text).filter(is_number).and_then(|it| it.parse().ok());
            let invalid = || InvalidDigest::Size { text: crate::digest::shorten(text) };
            number.filter(|it| i64::try_from(*it).is_ok()).ok_or_else(invalid)
        };
        // A stand-in for a size that is not said; what the hash of nothing is, is known.
        let first = function.unwrap_or(DigestFunction::Sha256);
        let parsed = Digest::parse(first, hash_text.as_bytes(), 1);
        let hash = match parsed {
            Ok(digest) => digest.hash,
            Err(InvalidDigest::Empty { .. }) => first.empty_hash(),
            Err(error) => return Err(error),
        };
        let size_bytes = size_text.map(read).transpose()?;
        let wanted = Self { function, hash, size_bytes };
        if let Some(size_bytes) = size_bytes
            && (size_bytes == 0) != wanted.is_empty_blob()
        {
            let empty = const_hex::encode(first.empty_hash());
            return Err(InvalidDigest::Empty { hash: hash_text.to_owned(), size_bytes, empty });
        }
        Ok(wanted)
    }

    /// Whether it is the empty blob, which every server has and none stores.
    pub fn is_empty_blob(&self) -> bool {
        self.functions().any(|function| function.empty_hash() == self.hash)
    }

    /// The hash alone.
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        self.hash
    }

    fn functions(&self) -> impl Iterator<Item = DigestFunction> {
        let only = self.function;
        DigestFunction::ALL.into_iter().filter(move |it| only.is_none_or(|only| only == *it))
    }

    fn is_about(&self, key: &Key) -> bool {
        let digest = &key.digest;
        self.hash == digest.hash
            && self.functions().any(|function| function == digest.function)
            && (key.kind == Kind::ActionResult
                || self.size_bytes.is_none_or(|size_bytes| size_bytes == digest.size_bytes))
    }
}

/// A file of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueFile {
    /// The value.
    pub key: Key,
    /// The write that made it.
    pub generation: u64,
    /// Whether it is the executable variant of a blob.
    pub is_variant: bool,
    /// Its path below the root.
    pub path: String,
    /// The length it should have in bytes.
    pub expected_bytes: u64,
    /// The length it has.
    pub actual_bytes: u64,
    /// How the running store used it last; `None` without one.
    pub last_use: Option<LastUse>,
}

/// What a directory says about a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its files.
    pub files: Vec<ValueFile>,
    /// Its removals that are remembered, the latest first.
    pub removals: Vec<Removal>,
    /// How many removals are remembered in all.
    pub remembered: usize,
    /// When this was found out, in seconds since 1970.
    pub looked_at: u64,
}

/// Looks for a digest in the directory of a store. Blocking.
pub fn explain(root: &Path, wanted: &Wanted) -> io::Result<Explanation> {
    let directory = Onlooker::open(root)?;
    if directory.len_bytes(FORMAT_NAME)?.is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no store has been here"));
    }
    // The log after the files: what goes meanwhile is in one of them, or in neither for a second.
    let files = files(&directory, wanted, |_| None)?;
    let ring = directory.read(REMOVED_NAME)?.unwrap_or_default();
    let (removals, remembered) = tombstones::scan(&ring, |key| wanted.is_about(key));
    let removals = removals.iter().map(Removal::from).collect();
    Ok(Explanation { files, removals, remembered, looked_at: WallClock::default().now() })
}

/// The same for the directory of a running store, with the removals of the last second too.
/// Blocking.
pub(super) fn explain_running(parts: &Parts, wanted: &Wanted) -> io::Result<Explanation> {
    let last_use = |file: &FileName| parts.index.lock(|index| index.last_use(file));
    let files = files(&Onlooker::open(parts.disk.root_path())?, wanted, last_use)?;
    let (removals, remembered) =
        parts.tombstones.find_hash(&wanted.hash, |key| wanted.is_about(key));
    Ok(Explanation { files, removals, remembered, looked_at: parts.clock.now() })
}

fn files(
    directory: &Onlooker,
    wanted: &Wanted,
    last_use: impl Fn(&FileName) -> Option<LastUse>,
) -> io::Result<Vec<ValueFile>> {
    let [first, ..] = wanted.hash;
    let is_shard = |shard: &Shard| {
        shard.first_byte() == first && wanted.functions().any(|it| it == shard.function())
    };
    let mut files = Vec::new();
    for shard in Shard::all().filter(is_shard) {
        for found in directory.list(&shard.path())?.unwrap_or_default() {
            let parsed = FileName::parse_any(shard, &found.name).filter(|_| found.is_file);
            let Some((file, is_variant)) = parsed else { continue };
            if !wanted.is_about(&file.key) {
                continue;
            }
            let path = if is_variant { file.variant_path() } else { file.path() };
            // A file that has gone since is not there.
            let Some(actual_bytes) = directory.len_bytes(&path)? else { continue };
            files.push(ValueFile {
                key: file.key,
                generation: file.generation.0,
                is_variant,
                path,
                expected_bytes: match file.form {
                    Form::Own => file.file_bytes(),
                    // Its name does not say.
                    Form::Former => actual_bytes,
                },
                actual_bytes,
                last_use: last_use(&file),
            });
        }
    }
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}
