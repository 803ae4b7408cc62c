//! Directories of other servers, made by the generator of `examples/former_cache`, and the program
//! on them.
//!
//! `CASTELLAN_FORMER_BLOBS` says how many blobs there are in each (2000).

mod asking;
mod files;

#[path = "../../../examples/former_cache/fixtures/mod.rs"]
mod fixtures;
mod kills;
mod made;
mod served;
mod sites;

use std::fs::create_dir_all;
use std::path::PathBuf;

use castellan::digest::{Digest, DigestFunction};
use castellan::former::{ACTION_RESULT_DIR, mangled_action_hash};
use files::{Claim, claim, paths};
use fixtures::manifest::Line;
use fixtures::site::Layout;
use fixtures::{Plan, generate};

const LAYOUTS: [Layout; 5] = [
    Layout::Nativelink,
    Layout::NativelinkFlat,
    Layout::NativelinkAc,
    Layout::BazelRemote,
    Layout::BazelRemoteV1,
];
const SEED: u64 = 7;
const DEFAULT_BLOBS: u64 = 2000;
/// An instance whose results are kept apart.
const MANGLED_FOR: &str = "some/site";

fn blobs() -> u64 {
    let blobs = std::env::var("CASTELLAN_FORMER_BLOBS").ok();
    blobs.map_or(DEFAULT_BLOBS, |it| it.parse().unwrap())
}

/// A directory and what must be said of each key.
struct Made {
    directory: tempfile::TempDir,
    layout: Layout,
    blobs: u64,
    lines: Vec<Line>,
}

impl Made {
    fn new(layout: Layout, blobs: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan { layout, blobs, is_hostile: true, seed: SEED };
        let lines = generate(&plan, &directory.path().join("cache")).unwrap();
        Self { directory, layout, blobs, lines }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// Gives results the names that bazel-remote gives those of an instance, when it mangles.
    #[expect(clippy::disallowed_methods, reason = "does what another server would have done")]
    fn mangle_results(&self, instance: &str) {
        let root = self.root();
        for path in paths(&root).iter().filter(|path| path.starts_with(ACTION_RESULT_DIR)) {
            let Some(Claim::Value(hash)) = claim(self.layout, &root, path) else { continue };
            let hash = mangled_action_hash(&hash, instance);
            let digest = Digest { function: DigestFunction::Sha256, hash, size_bytes: 0 };
            let (bucket, hash) = (hash[0], digest.hash_hex());
            let name = hash.as_str();
            let (_, random) = path.to_str().unwrap().rsplit_once('-').unwrap();
            let bucket = root.join(format!("{ACTION_RESULT_DIR}/{bucket:02x}"));
            create_dir_all(&bucket).unwrap();
            std::fs::rename(root.join(path), bucket.join(format!("{name}-{random}"))).unwrap();
        }
    }
}
