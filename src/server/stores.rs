//! The stores of a server: a tree of them for each that a configuration names.
//!
//! Settings are a list in which every store comes behind those that it stands before, and names
//! them by their positions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::ServerError;
use super::values::{self, OpenValues, ValuesSettings};
use crate::http::metrics::Watched;
use crate::instance::AdoptedStore;
use crate::store::BlobStore;
use crate::store::compression::{CompressionOptions, CompressionStore};
use crate::store::counted::CountedStore;
use crate::store::dedup::{DedupOptions, DedupStore};
use crate::store::existence_cache::{ExistenceCacheOptions, ExistenceCacheStore};
use crate::store::filesystem::{FilesystemOptions, FilesystemStore};
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::noop::NoopStore;
use crate::store::remote::{RemoteOptions, RemoteStore};
use crate::store::routing::RoutingStore;
use crate::store::tiered::{TieredOptions, TieredStore};

/// A store and what it is called.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// For people and metrics; no two have the same.
    pub name: String,
    /// What it is.
    pub kind: StoreKind,
}

/// What a store is; others are named by their positions in [`super::ServerSettings::stores`].
#[derive(Clone, Debug)]
pub enum StoreKind {
    /// Files in a directory.
    Filesystem(FilesystemOptions),
    /// In the memory of the process.
    Memory(MemoryOptions),
    /// Another server.
    Remote(Box<RemoteOptions>),
    /// A near store before a far one.
    Tiered {
        /// The near one.
        fast: usize,
        /// The far one.
        slow: usize,
        /// How they work together.
        options: TieredOptions,
    },
    /// Remembers what a far store has.
    ExistenceCache {
        /// That store.
        backend: usize,
        /// Whether another server is asked behind it: otherwise nothing is remembered.
        is_remote: bool,
        /// How much is remembered, and how long.
        options: ExistenceCacheOptions,
    },
    /// Blobs compressed in another store.
    Compression {
        /// That store.
        backend: usize,
        /// How they are compressed.
        options: CompressionOptions,
    },
    /// Blobs in chunks that they share.
    Dedup {
        /// Holds the lists of chunks.
        index: usize,
        /// Holds the chunks.
        content: usize,
        /// How they are cut.
        options: DedupOptions,
    },
    /// Small values in one store, large ones in another.
    BySize {
        /// The first size that goes to `upper`, in bytes.
        size_bytes: u64,
        /// Holds what is smaller.
        lower: usize,
        /// Holds the rest.
        upper: usize,
    },
    /// Spread over several by weight.
    Sharded(Vec<(usize, u32)>),
    /// Another store, whose use is counted.
    Counted {
        /// What its use is called; several stores may have the same.
        cache_type: String,
        /// That store.
        backend: usize,
    },
    /// Keeps nothing.
    Noop,
}

/// Where the files of a store are that hold its blobs, each whole and under its own digest.
#[derive(Clone, Copy, Debug)]
enum Files {
    /// In this one of the stores of files.
    Own(usize),
    /// In another store.
    Behind(usize),
    /// In another store, or else in a second one.
    Either(usize, usize),
    /// Nowhere, for this reason.
    None(&'static str),
}

impl Files {
    /// Those of a store before which `opened` stores of files were opened.
    fn of(kind: &StoreKind, opened: usize) -> Self {
        match kind {
            StoreKind::Filesystem(_) => Self::Own(opened),
            StoreKind::Tiered { fast, slow, .. } => Self::Either(*fast, *slow),
            StoreKind::ExistenceCache { backend, .. } | StoreKind::Counted { backend, .. } => {
                Self::Behind(*backend)
            }
            StoreKind::Memory(_) => Self::None("its blobs are in memory"),
            StoreKind::Remote(_) => Self::None("its blobs are on another server"),
            StoreKind::Compression { .. } => Self::None("its blobs are compressed"),
            StoreKind::Dedup { .. } => Self::None("its blobs are in chunks"),
            StoreKind::BySize { .. } => Self::None("its blobs are in two stores, by their size"),
            StoreKind::Sharded(_) => Self::None("its blobs are spread over several stores"),
            StoreKind::Noop => Self::None("it keeps nothing"),
        }
    }
}

/// The stores of a running server.
#[derive(Debug, Default)]
pub(super) struct Stores {
    /// By position in the settings, with their names.
    all: Vec<(String, Arc<dyn BlobStore>)>,
    /// By position as well.
    files: Vec<Files>,
    /// Positions of those that stand behind others.
    behind: HashSet<usize>,
    /// Whether one of them stands behind two.
    is_shared: bool,
    /// Those of files, in the order of the settings.
    pub(super) filesystem: Vec<Arc<FilesystemStore>>,
    /// Those that write to their far store later, in the order of the settings.
    tiered: Vec<Arc<TieredStore>>,
    /// The others that have something to say of themselves.
    pub(super) watched: Vec<(String, Watched)>,
}

impl Stores {
    /// Opens all of them, and the store of values beside the first if it is one of files.
    pub(super) async fn open(
        settings: Vec<StoreSettings>,
        values: Option<ValuesSettings>,
    ) -> Result<(Self, Option<OpenValues>), ServerError> {
        let beside = match settings.first() {
            Some(StoreSettings { kind: StoreKind::Filesystem(options), .. }) => {
                Some(options.clone())
            }
            _ => None,
        };
        let mut stores = Self::default();
        for StoreSettings { name, kind } in settings {
            stores.files.push(Files::of(&kind, stores.filesystem.len()));
            let store = stores.open_one(&name, kind).await?;
            stores.all.push((name, store));
        }
        let values = match (values, beside, stores.filesystem.first()) {
            (Some(settings), Some(options), Some(store)) => {
                values::open(settings, &options, store).await?
            }
            _ => None,
        };
        Ok((stores, values))
    }

    async fn open_one(
        &mut self,
        name: &str,
        kind: StoreKind,
    ) -> Result<Arc<dyn BlobStore>, ServerError> {
        Ok(match kind {
            StoreKind::Filesystem(options) => {
                let store = super::open_store(options).await?;
                self.filesystem.push(Arc::clone(&store));
                store
            }
            StoreKind::Memory(options) => {
                let store = MemoryStore::new(&options);
                self.watch(name, Watched::Memory(Arc::clone(&store)));
                store
            }
            StoreKind::Remote(options) => {
                let failed = |source| ServerError::Upstream { name: name.to_owned(), source };
                let store = RemoteStore::connect(*options).map_err(failed)?;
                self.watch(name, Watched::Remote(Arc::clone(&store)));
                store
            }
            StoreKind::Tiered { fast, slow, options } => {
                let store = TieredStore::new(self.behind(fast)?, self.behind(slow)?, options);
                self.tiered.push(Arc::clone(&store));
                self.watch(name, Watched::Tiered(Arc::clone(&store)));
                store
            }
            StoreKind::ExistenceCache { backend, is_remote, options } => {
                let store = ExistenceCacheStore::new(self.behind(backend)?, is_remote, options);
                self.watch(name, Watched::ExistenceCache(Arc::clone(&store)));
                store
            }
            StoreKind::Compression { backend, options } => {
                let store = CompressionStore::new(self.behind(backend)?, options);
                self.watch(name, Watched::Compression(Arc::clone(&store)));
                store
            }
            StoreKind::Dedup { index, content, options } => {
                let store = DedupStore::new(self.behind(index)?, self.behind(content)?, options);
                self.watch(name, Watched::Dedup(Arc::clone(&store)));
                store
            }
            StoreKind::BySize { size_bytes, lower, upper } => {
                RoutingStore::by_size(size_bytes, self.behind(lower)?, self.behind(upper)?)
            }
            StoreKind::Sharded(shards) => {
                let child = |(at, weight)| Ok((self.behind(at)?, weight));
                let shards = shards.into_iter().map(child).collect::<Result<_, ServerError>>()?;
                RoutingStore::sharded(shards).ok_or_else(|| ServerError::Shards(name.to_owned()))?
            }
            StoreKind::Counted { cache_type, backend } => {
                let store = CountedStore::new(self.behind(backend)?);
                self.watch(&cache_type, Watched::Counted(Arc::clone(&store)));
                store
            }
            StoreKind::Noop => NoopStore::new(),
        })
    }

    /// Two of one name would be one in the metrics, which is against their format.
    fn watch(&mut self, name: &str, store: Watched) {
        let mut name = name.to_owned();
        while self.watched.iter().any(|(other, _)| *other == name) {
            name.push('_');
        }
        self.watched.push((name, store));
    }

    /// Writes down what near stores still have for far ones, each within the time, those in front
    /// first: what they write may be for others that write later.
    pub(super) async fn write_behind(&self, time: Duration) {
        for store in self.tiered.iter().rev() {
            store.shutdown(time).await;
        }
    }

    /// All of them with their names, in the order of the settings.
    pub(super) fn all(&self) -> &[(String, Arc<dyn BlobStore>)] {
        &self.all
    }

    /// What interrupted uploads may hold. They keep their reservation: they may not take a small
    /// store away from those who are here.
    pub(super) fn max_parked_bytes(&self) -> u64 {
        let files = self.filesystem.iter().map(|store| store.stats().max_bytes);
        let memory = self.watched.iter().filter_map(|(_, store)| match store {
            Watched::Memory(store) => Some(store.stats().max_bytes),
            _ => None,
        });
        files.chain(memory).min().unwrap_or(u64::MAX) / 8
    }

    /// The store at a position.
    fn get(&self, position: usize) -> Result<Arc<dyn BlobStore>, ServerError> {
        let found = self.all.get(position).map(|(_, store)| Arc::clone(store));
        found.ok_or(ServerError::UnknownStore(position))
    }

    /// The files that hold the blobs of the store at a position, and that store; otherwise why
    /// there are none.
    pub(super) fn files_of(
        &self,
        position: usize,
    ) -> Result<(Arc<FilesystemStore>, Arc<dyn BlobStore>), &'static str> {
        const UNKNOWN: &str = "its store is not there";
        let store = self.get(position).map_err(|_| UNKNOWN)?;
        let mut at = position;
        let mut first_reason = None;
        let mut instead = Vec::new();
        // Each store stands before others only, so this ends.
        loop {
            let reason = match self.files.get(at).copied().unwrap_or(Files::None(UNKNOWN)) {
                Files::Own(number) => match self.filesystem.get(number) {
                    Some(files) => return Ok((Arc::clone(files), store)),
                    None => UNKNOWN,
                },
                Files::Behind(backend) => {
                    at = backend;
                    continue;
                }
                Files::Either(fast, slow) => {
                    instead.push(slow);
                    at = fast;
                    continue;
                }
                Files::None(reason) => reason,
            };
            let reason = *first_reason.get_or_insert(reason);
            at = instead.pop().ok_or(reason)?;
        }
    }

    /// By position, where results that another server has left would be.
    pub(super) fn adopted(&self, are_mangled: bool) -> Vec<Option<AdoptedStore>> {
        let adopted = |at| {
            let (store, _) = self.files_of(at).ok()?;
            Some(AdoptedStore { store, are_mangled })
        };
        (0..self.all.len()).map(adopted).collect()
    }

    /// The store at a position, for one that stands before it.
    fn behind(&mut self, position: usize) -> Result<Arc<dyn BlobStore>, ServerError> {
        self.is_shared |= !self.behind.insert(position);
        self.get(position)
    }

    /// The stores that stand behind no other, with their names, in the order of a purge.
    ///
    /// Each twice if trees share a store: what one of them still had to write to it when another
    /// was purged may have come to that one since.
    pub(super) fn trees(&self) -> Vec<(String, Arc<dyn BlobStore>)> {
        let all = self.all.iter().enumerate();
        let trees = all.filter(|(at, _)| !self.behind.contains(at)).map(|(_, named)| named.clone());
        let trees: Vec<_> = trees.collect();
        if self.is_shared { [trees.as_slice(), &trees].concat() } else { trees }
    }
}
