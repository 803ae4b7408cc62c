//! Directories of other servers, made by the generator of `examples/former_cache`.

#[path = "../../../examples/former_cache/fixtures/mod.rs"]
mod fixtures;
mod made;

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

/// A directory and what must be said of each key.
struct Made {
    directory: tempfile::TempDir,
    lines: Vec<Line>,
}

impl Made {
    fn new(layout: Layout, blobs: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let plan = Plan { layout, blobs, is_hostile: true, seed: SEED };
        let lines = generate(&plan, &directory.path().join("cache")).unwrap();
        Self { directory, lines }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("cache")
    }
}
