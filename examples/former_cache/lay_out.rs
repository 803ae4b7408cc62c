//! From a directory of Castellan to one of another server, with the same values.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, read_dir};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use castellan::digest::{Digest, DigestFunction, HASH_BYTES, parse_hash};
use castellan::former::mangled_action_hash;

use crate::fixtures::site::{Layout, Site, Times};

/// What the file of an action result ends with: a checksum.
const TRAILER_BYTES: usize = 16;

/// What was copied.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    blobs: u64,
    results: u64,
    /// Results that could not be named, because their actions are not there.
    unnamed_results: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blobs, results, unnamed_results } = self;
        write!(f, "{blobs} blobs, {results} results, {unnamed_results} results left out")
    }
}

/// A file of Castellan's.
struct Stored {
    hash: [u8; HASH_BYTES],
    /// The length of the value.
    size_bytes: u64,
    /// Of several files of a key, the last counts.
    generation: u64,
    path: PathBuf,
}

/// Copies what a directory has of the values that the layout is for. Blobs are copied as they are:
/// they are not hashed, and must not be those of a server that runs.
pub(crate) fn lay_out(
    layout: Layout,
    from: &Path,
    instance: &str,
    to: &Path,
) -> io::Result<Copied> {
    let site = Site::prepare(to, layout)?;
    let mut copied = Copied::default();
    let blobs = stored(&from.join("blobs/sha256"))?;
    let sizes: BTreeMap<_, _> = blobs.iter().map(|blob| (blob.hash, blob.size_bytes)).collect();
    if layout.has_blobs() {
        for (number, blob) in (0..).zip(&blobs) {
            let (bytes, times) = read(&blob.path)?;
            let path = site.blob_path(&digest(blob.hash, blob.size_bytes), number);
            site.place(&path, &site.encoded(&bytes)?, times)?;
            copied.blobs += 1;
        }
    }
    if layout.has_results() {
        for (number, result) in (0..).zip(stored(&from.join("actions/sha256"))?) {
            // NativeLink names a result after its action, with the size, which Castellan forgets.
            let size_bytes = sizes.get(&result.hash).copied();
            if size_bytes.is_none() && !layout.is_bazel_remote() {
                copied.unnamed_results += 1;
                continue;
            }
            let (mut bytes, times) = read(&result.path)?;
            bytes.truncate(bytes.len().saturating_sub(TRAILER_BYTES));
            let hash = mangled_action_hash(&result.hash, instance);
            let key = digest(hash, size_bytes.unwrap_or_default());
            site.place(&site.result_path(&key, number), &bytes, times)?;
            copied.results += 1;
        }
    }
    Ok(copied)
}

fn digest(hash: [u8; HASH_BYTES], size_bytes: u64) -> Digest {
    Digest { function: DigestFunction::Sha256, hash, size_bytes }
}

/// The files of one kind, the last of each key.
fn stored(class: &Path) -> io::Result<Vec<Stored>> {
    let mut found: BTreeMap<_, Stored> = BTreeMap::new();
    for shard in read_dir(class)? {
        for file in read_dir(shard?.path())? {
            let Some(stored) = parse(file?.path()) else { continue };
            let key = (stored.hash, stored.size_bytes);
            let is_older = found.get(&key).is_some_and(|it| it.generation > stored.generation);
            if !is_older {
                found.insert(key, stored);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Reads `<hash>-<size>.<generation>` and `<hash>-<namespace>-<size>.<generation>`; `None` for
/// everything else, executable variants too.
fn parse(path: PathBuf) -> Option<Stored> {
    let (identity, generation) = path.file_name()?.to_str()?.split_once('.')?;
    let (hash, rest) = identity.split_once('-')?;
    let size = rest.rsplit('-').next()?;
    Some(Stored {
        hash: parse_hash(DigestFunction::Sha256, hash.as_bytes()).ok()?,
        size_bytes: size.parse().ok()?,
        generation: generation.parse().ok()?,
        path,
    })
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Times)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, Times { accessed: metadata.accessed()?, modified: metadata.modified()? }))
}
