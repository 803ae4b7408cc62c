//! The generator keeps its word: a reader that knows nothing but the formats, and believes nothing,
//! finds every good value in what it has made, and none of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, symlink_metadata};
use std::io;
use std::path::{Path, PathBuf};

use castellan::digest::{Digest, DigestFunction};
use castellan::former::{
    ACTION_RESULT_DIR, BLOB_DIR, Casblob, FormerEncoding, FormerName, NATIVELINK_BLOB_DIR, RAW_DIR,
    ReadAt, bazel_remote_cas, bazel_remote_result, nativelink,
};

use super::fixtures::content::content;
use super::fixtures::manifest::{Expectation, Kind};
use super::fixtures::results::{action_result, raw_value};
use super::fixtures::site::Layout;
use super::{LAYOUTS, Made, SEED};

const BLOBS: u64 = 60;

struct File(Vec<u8>);

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The regular files in a directory; none where there is no directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| symlink_metadata(path).unwrap().is_file()).collect()
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "reads what another server would have written")]
fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// The bytes that a file gives for the blob that its name claims.
fn decoded(name: &FormerName, path: &Path) -> Option<Vec<u8>> {
    let file = File(bytes_of(path));
    if name.encoding == FormerEncoding::Identity {
        return Some(file.0);
    }
    let casblob = Casblob::open(&file, file.0.len() as u64).ok()?;
    let mut data = Vec::new();
    casblob
        .decode(&file, |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })
        .ok()?;
    Some(data)
}

/// The blob in a file, if it is the one that its name claims.
fn blob_in(name: &FormerName, path: &Path) -> Option<Digest> {
    let digest = Digest::of(DigestFunction::Sha256, &decoded(name, path)?);
    let is_right = name.hash == digest.hash
        && name.size_bytes.is_none_or(|size_bytes| size_bytes == digest.size_bytes);
    is_right.then_some(digest)
}

fn buckets(root: &Path, kind: &str) -> impl Iterator<Item = (u8, PathBuf)> {
    let kind = root.join(kind);
    (0..=0xff).map(move |bucket| (bucket, kind.join(format!("{bucket:02x}"))))
}

/// The blobs that are there.
fn blobs(layout: Layout, root: &Path) -> BTreeSet<Digest> {
    let mut claims = Vec::new();
    if layout.is_bazel_remote() {
        for (bucket, directory) in buckets(root, BLOB_DIR) {
            let files = files(&directory).into_iter();
            claims.extend(files.map(|path| (bazel_remote_cas(bucket, name_of(&path)), path)));
        }
    } else {
        for directory in [root.to_owned(), root.join(NATIVELINK_BLOB_DIR)] {
            claims.extend(
                files(&directory).into_iter().map(|path| (nativelink(name_of(&path)), path)),
            );
        }
    }
    claims.into_iter().filter_map(|(name, path)| blob_in(&name?, &path)).collect()
}

/// The files of results or raw values, by hash.
fn values(layout: Layout, root: &Path, kind: &str) -> BTreeMap<[u8; 32], Vec<u8>> {
    let mut found = BTreeMap::new();
    if layout.is_bazel_remote() {
        for (bucket, directory) in buckets(root, kind) {
            for path in files(&directory) {
                let hash = bazel_remote_result(bucket, name_of(&path)).unwrap();
                found.insert(hash, bytes_of(&path));
            }
        }
    } else {
        for path in files(&root.join(NATIVELINK_BLOB_DIR)) {
            found.insert(nativelink(name_of(&path)).unwrap().hash, bytes_of(&path));
        }
    }
    found
}

#[test]
fn every_good_blob_is_found_and_no_other() {
    for layout in LAYOUTS.into_iter().filter(|layout| layout.has_blobs()) {
        let made = Made::new(layout, BLOBS);
        let found = blobs(layout, &made.root());
        let mut good = BTreeSet::new();
        for line in made.lines.iter().filter(|line| line.kind == Kind::Blob) {
            let is_good = line.expectation == Expectation::Good;
            if is_good {
                let data = content(SEED, line.number);
                assert_eq!(Digest::of(DigestFunction::Sha256, &data), line.digest, "{line}");
                good.insert(line.digest);
            }
            let is_found = found.contains(&line.digest) || line.digest.is_empty();
            assert_eq!(is_found, is_good, "{layout:?}: {line}");
        }
        assert!(found.is_subset(&good), "{layout:?}");
        assert!(good.len() as u64 > BLOBS, "{layout:?}: {} good blobs", good.len());
        let lies = made.lines.len() - good.len();
        assert!(lies > 10, "{layout:?}: {lies} lies");
    }
}

#[test]
fn results_and_raw_values_are_what_they_are_derived_from() {
    for layout in LAYOUTS.into_iter().filter(|layout| layout.has_results()) {
        let made = Made::new(layout, BLOBS);
        let results = values(layout, &made.root(), ACTION_RESULT_DIR);
        let raw = values(layout, &made.root(), RAW_DIR);
        for line in made.lines.iter().filter(|line| line.expectation == Expectation::Good) {
            let hash = &line.digest.hash;
            match line.kind {
                Kind::Blob => {}
                Kind::Result => {
                    assert_eq!(results[hash], action_result(SEED, line.number, BLOBS), "{line}");
                }
                Kind::Raw => assert_eq!(raw[hash], raw_value(SEED, line.number), "{line}"),
            }
        }
        let lies = made
            .lines
            .iter()
            .filter(|line| line.kind == Kind::Result && line.expectation == Expectation::Bad);
        assert_eq!(lies.count(), 4, "{layout:?}");
    }
}

#[test]
fn the_same_plan_makes_the_same_directory() {
    let lines = |made: &Made| made.lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (first, second) =
        (Made::new(Layout::BazelRemote, BLOBS), Made::new(Layout::BazelRemote, BLOBS));
    assert_eq!(lines(&first), lines(&second));
    for (_, directory) in buckets(&first.root(), BLOB_DIR) {
        for path in files(&directory) {
            let other = second.root().join(path.strip_prefix(first.root()).unwrap());
            assert_eq!(bytes_of(&path), bytes_of(&other), "{}", path.display());
            let times = |path: &Path| symlink_metadata(path).unwrap().modified().unwrap();
            assert_eq!(times(&path), times(&other), "{}", path.display());
        }
    }
}
