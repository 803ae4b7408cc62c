//! The stacks of stores that people run. The tests of the protocol pass on each: which one is said
//! by `CASTELLAN_TEST_STACK`.

use std::path::Path;

use castellan::server::{InstanceSettings, Instances, StoreKind, StoreSettings};
use castellan::store::compression::CompressionOptions;
use castellan::store::dedup::DedupOptions;
use castellan::store::existence_cache::ExistenceCacheOptions;
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan::store::memory::MemoryOptions;
use castellan::store::remote::{Endpoint, RemoteKind, RemoteOptions};
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
    /// A store of every kind that has something to say of itself; with an upstream that is not
    /// there and that nobody asks.
    Every,
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
        let kinds = self.kinds(directory, max_bytes);
        let top = kinds.len() - 1;
        let numbered = kinds.into_iter().enumerate();
        let stores = numbered.map(|(at, kind)| StoreSettings { name: format!("store_{at}"), kind });
        let instance = InstanceSettings::new(top, top);
        (stores.collect(), Instances::Any(instance))
    }

    fn kinds(self, directory: &Path, max_bytes: u64) -> Vec<StoreKind> {
        match self {
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
            Self::Every => every_kind(directory, max_bytes),
            Self::Dedup => vec![
                files(&directory.join("index"), max_bytes),
                files(&directory.join("content"), max_bytes),
                StoreKind::Compression { backend: 1, options: CompressionOptions::default() },
                StoreKind::Dedup { index: 0, content: 2, options: DedupOptions::default() },
            ],
        }
    }
}

fn files(directory: &Path, max_bytes: u64) -> StoreKind {
    let mut options = FilesystemOptions::new(directory, Cap::Bytes(max_bytes));
    // What a test has damaged is found by its requests, not by the walk in the background.
    options.scrub_bytes_per_second = 0;
    StoreKind::Filesystem(options)
}

fn every_kind(directory: &Path, max_bytes: u64) -> Vec<StoreKind> {
    let (mut kinds, nowhere) = (Stack::Dedup.kinds(directory, max_bytes), "127.0.0.1:1");
    let upstream = RemoteOptions::new("main", vec![Endpoint::new(nowhere)], RemoteKind::Cas);
    let at = kinds.len();
    kinds.extend([
        StoreKind::Remote(Box::new(upstream)),
        StoreKind::Memory(MemoryOptions::new(max_bytes)),
        StoreKind::Tiered { fast: at + 1, slow: at - 1, options: TieredOptions::default() },
        StoreKind::ExistenceCache {
            backend: at + 2,
            is_remote: false,
            options: ExistenceCacheOptions::default(),
        },
        StoreKind::Counted { cache_type: "all".to_owned(), backend: at + 3 },
    ]);
    kinds
}
