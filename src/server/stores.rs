//! The stores of a server: a tree of them for each that a configuration names.
//!
//! Settings are a list in which every store comes behind those that it stands before, and names
//! them by their positions.

use std::collections::HashSet;
use std::sync::Arc;

use super::ServerError;
use super::values::{self, OpenValues, ValuesSettings};
use crate::store::BlobStore;
use crate::store::counted::CountedStore;
use crate::store::filesystem::{FilesystemOptions, FilesystemStore};
use crate::store::noop::NoopStore;
use crate::store::routing::RoutingStore;

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

/// The stores of a running server.
#[derive(Debug, Default)]
pub(super) struct Stores {
    /// By position in the settings, with their names.
    all: Vec<(String, Arc<dyn BlobStore>)>,
    /// Positions of those that stand behind others.
    behind: HashSet<usize>,
    /// Those of files, in the order of the settings.
    pub(super) filesystem: Vec<Arc<FilesystemStore>>,
    /// Those whose use is counted, by name.
    pub(super) counted: Vec<(String, Arc<CountedStore>)>,
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
                self.counted.push((cache_type, Arc::clone(&store)));
                store
            }
            StoreKind::Noop => NoopStore::new(),
        })
    }

    /// The store at a position.
    pub(super) fn get(&self, position: usize) -> Result<Arc<dyn BlobStore>, ServerError> {
        let found = self.all.get(position).map(|(_, store)| Arc::clone(store));
        found.ok_or(ServerError::UnknownStore(position))
    }

    /// The store at a position, for one that stands before it.
    fn behind(&mut self, position: usize) -> Result<Arc<dyn BlobStore>, ServerError> {
        self.behind.insert(position);
        self.get(position)
    }

    /// The stores that stand behind no other, with their names.
    pub(super) fn trees(&self) -> Vec<(String, Arc<dyn BlobStore>)> {
        let all = self.all.iter().enumerate();
        all.filter(|(at, _)| !self.behind.contains(at)).map(|(_, named)| named.clone()).collect()
    }
}
