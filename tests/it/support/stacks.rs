//! The stacks of stores that people run. The tests of the protocol pass on each: which one is said
//! by `CASTELLAN_TEST_STACK`.

use std::path::Path;

use castellan::server::{InstanceSettings, Instances, StoreKind, StoreSettings};
use castellan::store::filesystem::{Cap, FilesystemOptions};

/// A stack of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// One store of files.
    Files,
}

impl Stack {
    /// The one that the environment names; without one, files.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("CASTELLAN_TEST_STACK").as_deref() {
            Err(_) | Ok("files") => Self::Files,
            Ok(other) => panic!("CASTELLAN_TEST_STACK is {other:?}, which is no stack"),
        }
    }

    /// Its stores, each of at most so many bytes, and any instance on them.
    pub(crate) fn settings(
        self,
        directory: &Path,
        max_bytes: u64,
    ) -> (Vec<StoreSettings>, Instances) {
        let (kinds, cas, action_cache) = match self {
            Self::Files => (vec![files(directory, max_bytes)], 0, 0),
        };
        let numbered = kinds.into_iter().enumerate();
        let stores = numbered.map(|(at, kind)| StoreSettings { name: format!("store_{at}"), kind });
        let instance = InstanceSettings { cas, action_cache, action_cache_read_only: false };
        (stores.collect(), Instances::Any(instance))
    }
}

fn files(directory: &Path, max_bytes: u64) -> StoreKind {
    let mut options = FilesystemOptions::new(directory, Cap::Bytes(max_bytes));
    // What a test has damaged is found by its requests, not by the walk in the background.
    options.scrub_bytes_per_second = 0;
    StoreKind::Filesystem(options)
}
