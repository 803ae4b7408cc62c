//! The stacks of stores that people run. The tests of the protocol pass on each: which one is said
//! by `CASTELLAN_TEST_STACK`.

use std::path::Path;

use castellan::server::{InstanceSettings, Instances, StoreKind, StoreSettings};
use castellan::store::compression::CompressionOptions;
use castellan::store::dedup::DedupOptions;
use castellan::store::existence_cache::ExistenceCacheOptions;
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan::store::memory::MemoryOptions;
use castellan::store::tiered::TieredOptions;

/// A stack of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// One store of files.
    Files,
    /// One store in memory.
    Memory,
    /// Memory before files, behind a cache of what is there.
    Tiered,
    /// Chunks, which are compressed, and lists of them, in files.
    Dedup,
}

impl Stack {
    /// The one that the environment names; without one, files.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("CASTELLAN_TEST_STACK").as_deref() {
            Err(_) | Ok("files") => Self::Files,
            Ok("memory") => Self::Memory,
            Ok("tiered") => Self::Tiered,
            Ok("dedup") => Self::Dedup,
            Ok(other) => panic!("CASTELLAN_TEST_STACK is {other:?}, which is no stack"),
        }
    }

    /// Its stores, each of at most so many bytes, and any instance on them.
    pub(crate) fn settings(
        self,
        directory: &Path,
        max_bytes: u64,
    ) -> (Vec<StoreSettings>, Instances) {
        let kinds = match self {
            Self::Files => vec![files(directory, max_bytes)],
            Self::Memory => vec![StoreKind::Memory(MemoryOptions::new(max_bytes))],
            Self::Tiered => vec![
                StoreKind::Memory(MemoryOptions::new(max_bytes / 4)),
                files(directory, max_bytes),
                StoreKind::Tiered { fast: 0, slow: 1, options: TieredOptions::default() },
                StoreKind::ExistenceCache {
                    backend: 2,
                    is_remote: false,
                    options: ExistenceCacheOptions::default(),
                },
            ],
            Self::Dedup => vec![
                files(&directory.join("index"), max_bytes),
                files(&directory.join("content"), max_bytes),
                StoreKind::Compression { backend: 1, options: CompressionOptions::default() },
                StoreKind::Dedup { index: 0, content: 2, options: DedupOptions::default() },
            ],
        };
        let top = kinds.len() - 1;
        let numbered = kinds.into_iter().enumerate();
        let stores = numbered.map(|(at, kind)| StoreSettings { name: format!("store_{at}"), kind });
        let instance = InstanceSettings::new(top, top);
        (stores.collect(), Instances::Any(instance))
    }
}

fn files(directory: &Path, max_bytes: u64) -> StoreKind {
    let mut options = FilesystemOptions::new(directory, Cap::Bytes(max_bytes));
    // What a test has damaged is found by its requests, not by the walk in the background.
    options.scrub_bytes_per_second = 0;
    StoreKind::Filesystem(options)
}
