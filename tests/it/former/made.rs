//! The generator keeps its word: a reader that knows nothing but the formats, and believes nothing,
//! finds every good value in what it has made, and none of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::symlink_metadata;
use std::path::Path;

use castellan::digest::{Digest, DigestFunction};
use castellan::former::{ACTION_RESULT_DIR, NATIVELINK_BLOB_DIR, RAW_DIR};

use super::files::{Claim, blob_in, bytes_of, claim, paths};
use super::fixtures::content::content;
use super::fixtures::manifest::{Expectation, Kind};
use super::fixtures::results::{action_result, raw_value};
use super::fixtures::site::Layout;
use super::{LAYOUTS, Made, SEED};

const BLOBS: u64 = 60;

/// The blobs that are there.
fn blobs(layout: Layout, root: &Path) -> BTreeSet<Digest> {
    let blob_at = |path| match claim(layout, root, path)? {
        Claim::Blob(name) => blob_in(&name, &root.join(path)),
        Claim::Value(_) => None,
    };
    paths(root).iter().filter_map(|path| blob_at(path)).collect()
}

/// The files of results or raw values, by hash.
fn values(layout: Layout, root: &Path, kind: &str) -> BTreeMap<[u8; 32], Vec<u8>> {
    let kind = if layout.is_bazel_remote() { kind } else { NATIVELINK_BLOB_DIR };
    let value_at = |path: &Path| match claim(layout, root, path)? {
        Claim::Value(hash) if path.starts_with(kind) => Some((hash, bytes_of(&root.join(path)))),
        _ => None,
    };
    paths(root).iter().filter_map(|path| value_at(path)).collect()
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
    for path in paths(&first.root()) {
        if claim(Layout::BazelRemote, &first.root(), &path).is_some() {
            let (one, other) = (first.root().join(&path), second.root().join(&path));
            assert_eq!(bytes_of(&one), bytes_of(&other), "{}", path.display());
            let times = |path: &Path| symlink_metadata(path).unwrap().modified().unwrap();
            assert_eq!(times(&one), times(&other), "{}", path.display());
        }
    }
}
