//! From the stores of a file to the settings of stores: a list in which each comes after
//! those that stand behind it, with the stores that only pass calls on left out.

use std::collections::HashMap;

use nativelink_config::{
    CasConfig, CompletenessCheckingStore, Durability as FileDurability, EvictionPolicy,
    FilesystemExtension, FilesystemStore, LeasePressure, Located, ShardStore, Store, StoreSpec,
    VerifyOnRead as FileVerifyOnRead, VerifyStore,
};

use super::remote;
use crate::cli::problems::Problems;
use crate::cli::store_flags::{StoreSettings as StoreFlags, whole_seconds};
use crate::server::{StoreKind, StoreSettings};
use crate::store::filesystem::{Cap, Durability, FilesystemOptions, LeasePolicy, VerifyOnRead};

/// The cap of a store whose policy has none: the format's "never evict" would fill the disk.
const UNBOUNDED_SHARE_PERCENT: u8 = 80;

/// Each call goes through all stores that stand before one another.
const MAX_DEPTH: usize = 64;

/// Reads the stores of a file one after the other.
pub(super) struct StorePlanner<'c> {
    config: &'c CasConfig,
    pub(super) flags: &'c StoreFlags,
    pub(super) problems: &'c mut Problems,
    /// What only the log has to say.
    pub(super) notes: Vec<String>,
    /// Where the stores are in the list that have a name; what is being read is `None`.
    indices: HashMap<&'c str, Option<usize>>,
    pub(super) stores: Vec<StoreSettings>,
    /// Stores that stand before the one being read.
    depth: usize,
}

impl<'c> StorePlanner<'c> {
    pub(super) fn new(
        config: &'c CasConfig,
        flags: &'c StoreFlags,
        problems: &'c mut Problems,
    ) -> Self {
        let (notes, indices, stores) = (Vec::new(), HashMap::new(), Vec::new());
        Self { config, flags, problems, notes, indices, stores, depth: 0 }
    }

    /// All stores of the file, whether services use them or not: what they hold stays bounded.
    pub(super) fn plan_all(&mut self) {
        for store in &self.config.stores {
            self.named(&store.name);
        }
    }

    /// The place of a store with a name; `None` when something is wrong with it, which is noted.
    pub(super) fn named(&mut self, name: &str) -> Option<usize> {
        if let Some(index) = self.indices.get(name) {
            return *index;
        }
        let store = self.find(name)?;
        self.indices.insert(&store.name, None);
        let index = self.spec(&store.name, &store.spec);
        self.indices.insert(&store.name, index);
        index
    }

    /// The store against which results in a store are checked for completeness: that of the first
    /// wrapper on the way that says so.
    pub(super) fn completeness_of(&mut self, name: &str) -> Option<usize> {
        let store = self.find(name)?;
        let (name, checking) = self.checking(&store.name, &store.spec)?;
        let blobs = format!("{name}/cas_store");
        // Others may ask for the same.
        if let Some(index) = self.stores.iter().position(|it| it.name == blobs) {
            return Some(index);
        }
        self.spec(&blobs, &checking.cas_store)
    }

    fn checking(
        &self,
        name: &str,
        spec: &'c Located<StoreSpec>,
    ) -> Option<(String, &'c CompletenessCheckingStore)> {
        match &spec.value {
            StoreSpec::CompletenessChecking(store) => Some((name.to_owned(), store)),
            StoreSpec::RefStore(other) => {
                let other = self.find(other)?;
                self.checking(&other.name, &other.spec)
            }
            // Names do not go in circles; the file would have been refused.
            outer => outer
                .backends()
                .into_iter()
                .enumerate()
                .find_map(|(at, inner)| self.checking(&format!("{name}/{at}"), inner)),
        }
    }

    /// The store with a name, as the file has it.
    pub(super) fn find(&self, name: &str) -> Option<&'c Store> {
        self.config.stores.iter().find(|store| *store.name == name)
    }

    pub(super) fn spec(&mut self, name: &str, spec: &'c Located<StoreSpec>) -> Option<usize> {
        if self.depth == MAX_DEPTH {
            let text = format!("more than {MAX_DEPTH} stores stand before one another");
            self.problems.add(spec.place.problem(text));
            return None;
        }
        self.depth += 1;
        let index = self.place(name, spec);
        self.depth -= 1;
        index
    }

    fn place(&mut self, name: &str, spec: &'c Located<StoreSpec>) -> Option<usize> {
        let kind = match &spec.value {
            StoreSpec::RefStore(other) => return self.named(other),
            StoreSpec::Verify(store) => return self.verify(name, store),
            // Results are checked for completeness wherever they are served.
            StoreSpec::CompletenessChecking(store) => return self.spec(name, &store.backend),
            StoreSpec::Filesystem(store) => StoreKind::Filesystem(self.filesystem(store)),
            StoreSpec::SizePartitioning(store) => {
                let lower = self.spec(&format!("{name}/lower_store"), &store.lower_store);
                let upper = self.spec(&format!("{name}/upper_store"), &store.upper_store);
                StoreKind::BySize { size_bytes: store.size, lower: lower?, upper: upper? }
            }
            StoreSpec::Shard(store) => self.shards(name, store)?,
            StoreSpec::CacheMetrics(store) => {
                let backend = self.spec(&format!("{name}/backend"), &store.backend)?;
                StoreKind::Counted { cache_type: store.cache_type.clone(), backend }
            }
            StoreSpec::Noop => StoreKind::Noop,
            StoreSpec::Memory(store) => StoreKind::Memory(self.memory(name, spec, store)),
            StoreSpec::FastSlow(store) => self.fast_slow(name, store)?,
            StoreSpec::ExistenceCache(store) => self.existence_cache(name, store)?,
            StoreSpec::Compression(store) => self.compression(name, spec, store)?,
            StoreSpec::Dedup(store) => self.dedup(name, spec, store)?,
            StoreSpec::Grpc(store) => {
                StoreKind::Remote(Box::new(remote::options(store, self.problems)?))
            }
            // Noted when the file was read.
            StoreSpec::Unsupported(_) => return None,
        };
        self.stores.push(StoreSettings { name: name.to_owned(), kind });
        Some(self.stores.len() - 1)
    }

    fn verify(&mut self, name: &str, store: &'c VerifyStore) -> Option<usize> {
        if !(store.verify_size && store.verify_hash) {
            self.notes.push(format!(
                "store {name:?}: sizes and hashes of uploads are always checked, whatever \
                 verify_size and verify_hash say"
            ));
        }
        self.spec(name, &store.backend)
    }

    fn shards(&mut self, name: &str, store: &'c ShardStore) -> Option<StoreKind> {
        let mut shards = Vec::new();
        for (at, shard) in store.stores.iter().enumerate() {
            shards.push((self.spec(&format!("{name}/{at}"), &shard.store), shard.weight));
        }
        let whole: Option<Vec<_>> =
            shards.into_iter().map(|(index, weight)| Some((index?, weight))).collect();
        whole.map(StoreKind::Sharded)
    }

    fn filesystem(&mut self, spec: &FilesystemStore) -> FilesystemOptions {
        let policy = &spec.eviction_policy;
        let cap = match policy.max_bytes {
            Some(bytes) => {
                if let Err(problem) = Cap::Bytes(bytes).check() {
                    let text = format!("eviction_policy.max_bytes {problem}");
                    self.problems.add(spec.content_path.place.problem(text));
                }
                Cap::Bytes(bytes)
            }
            None => Cap::Share { percent: UNBOUNDED_SHARE_PERCENT, at_most_bytes: u64::MAX },
        };
        self.check_low_water(&spec.content_path, policy);
        let mut options = FilesystemOptions::new(&*spec.content_path, cap);
        self.flags.apply(&mut options);
        // 0 is the store's own choice of how much room is kept free.
        options.low_water_bytes = Some(policy.evict_bytes).filter(|it| *it > 0);
        options.max_entries = policy.max_count;
        options.max_age = policy.max_seconds.map(whole_seconds);
        extend(&mut options, &spec.extension);
        options
    }

    pub(super) fn check_low_water<T>(&mut self, place: &Located<T>, policy: &EvictionPolicy) {
        if policy.max_bytes.is_some_and(|max_bytes| policy.evict_bytes >= max_bytes) {
            let text = "eviction_policy.evict_bytes is not below max_bytes: nothing stays";
            self.problems.add(place.place.problem(text));
        }
    }
}

/// What a store says of itself goes before what flags say of all.
fn extend(options: &mut FilesystemOptions, extension: &FilesystemExtension) {
    fn set<T>(to: &mut T, from: Option<T>) {
        if let Some(from) = from {
            *to = from;
        }
    }
    set(&mut options.max_blob_bytes, extension.max_blob_bytes.map(Some));
    set(&mut options.min_free_bytes, extension.min_free_bytes);
    set(&mut options.lease, extension.lease.map(whole_seconds));
    set(&mut options.lease_policy, extension.on_lease_pressure.map(lease_policy));
    set(&mut options.durability, extension.durability.map(durability));
    set(&mut options.sync_interval, extension.sync_interval);
    set(&mut options.verify_on_read, extension.verify_on_read.map(verify_on_read));
    set(&mut options.scrub_bytes_per_second, extension.scrub_bytes_per_second);
    set(&mut options.snapshot_interval, extension.snapshot_interval);
}

fn lease_policy(pressure: LeasePressure) -> LeasePolicy {
    match pressure {
        LeasePressure::Break => LeasePolicy::BreakOldest,
        LeasePressure::Refuse => LeasePolicy::RefuseWrites,
    }
}

fn durability(durability: FileDurability) -> Durability {
    match durability {
        FileDurability::Async => Durability::Async,
        FileDurability::Group => Durability::Group,
        FileDurability::Fsync => Durability::Fsync,
    }
}

fn verify_on_read(when: FileVerifyOnRead) -> VerifyOnRead {
    match when {
        FileVerifyOnRead::First => VerifyOnRead::First,
        FileVerifyOnRead::Always => VerifyOnRead::Always,
        FileVerifyOnRead::Never => VerifyOnRead::Never,
    }
}
