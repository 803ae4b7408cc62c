//! From the other kinds of stores of a file to their settings.

use nativelink_config::{
    CompressionAlgorithm, CompressionStore, DedupStore, ExistenceCacheStore, FastSlowStore,
    Located, MemoryStore, StoreDirection, StoreSpec,
};

use super::remote::at_most;
use super::stores::StorePlanner;
use crate::cli::store_flags::whole_seconds;
use crate::server::StoreKind;
use crate::store::compression::CompressionOptions;
use crate::store::dedup::DedupOptions;
use crate::store::existence_cache::ExistenceCacheOptions;
use crate::store::memory::MemoryOptions;
use crate::store::tiered::{Direction, TieredOptions, WriteBehindOptions};

/// The part of the machine's memory that a store may take whose policy says nothing: the format's
/// "never evict" would end the process. A server usually has two.
const UNBOUNDED_SHARE: u64 = 4;
/// What is taken of a machine that does not say what it has.
const UNKNOWN_MEMORY_BYTES: u64 = 1 << 30;

impl<'c> StorePlanner<'c> {
    pub(super) fn memory(
        &mut self,
        name: &str,
        spec: &Located<StoreSpec>,
        store: &MemoryStore,
    ) -> MemoryOptions {
        let policy = &store.eviction_policy;
        self.check_low_water(spec, policy);
        let max_bytes = policy.max_bytes.unwrap_or_else(|| {
            let bytes = super::memory_bytes().unwrap_or(UNKNOWN_MEMORY_BYTES) / UNBOUNDED_SHARE;
            self.notes.push(format!(
                "store {name:?} has no max_bytes: it takes at most {bytes} bytes of memory"
            ));
            bytes
        });
        let mut options = MemoryOptions::new(max_bytes);
        options.low_water_bytes = policy.evict_bytes;
        options.max_entries = policy.max_count;
        options.max_age = policy.max_seconds.map(whole_seconds);
        options.max_blob_bytes = store.max_blob_bytes;
        if let Some(lease) = store.lease.or_else(|| self.flags.lease()) {
            options.lease = whole_seconds(lease);
        }
        options
    }

    pub(super) fn fast_slow(&mut self, name: &str, store: &'c FastSlowStore) -> Option<StoreKind> {
        let fast = self.spec(&format!("{name}/fast"), &store.fast);
        let slow = self.spec(&format!("{name}/slow"), &store.slow);
        let write_behind = store.write_behind.map(|it| WriteBehindOptions {
            max_items: at_most(it.max_items),
            max_bytes: it.max_bytes,
            max_concurrent_copies: at_most(it.max_concurrent_copies),
            max_attempts: u32::try_from(it.max_attempts).unwrap_or(u32::MAX),
        });
        if store.bypass_dedup_threshold_bytes.is_some() {
            self.notes.push(format!(
                "store {name:?}: bypass_dedup_threshold_bytes has no effect: a reader gets the \
                 bytes of a read that others share as they come"
            ));
        }
        let takes_writes =
            |direction| matches!(direction, StoreDirection::Both | StoreDirection::Update);
        let writes_both = takes_writes(store.fast_direction) && takes_writes(store.slow_direction);
        if write_behind.is_some() && !writes_both {
            self.notes.push(format!(
                "store {name:?}: write_behind has no effect: not both sides take writes"
            ));
        }
        let options = TieredOptions {
            fast_direction: direction(store.fast_direction),
            slow_direction: direction(store.slow_direction),
            fast_is_noop: self.is_noop(&store.fast),
            slow_is_noop: self.is_noop(&store.slow),
            write_behind,
        };
        Some(StoreKind::Tiered { fast: fast?, slow: slow?, options })
    }

    pub(super) fn existence_cache(
        &mut self,
        name: &str,
        store: &'c ExistenceCacheStore,
    ) -> Option<StoreKind> {
        let backend = self.spec(&format!("{name}/backend"), &store.backend)?;
        let policy = &store.eviction_policy;
        let defaults = ExistenceCacheOptions::default();
        let options = ExistenceCacheOptions {
            max_entries: policy.max_count.map_or(defaults.max_entries, at_most),
            max_age: policy.max_seconds,
            lease: self.flags.lease(),
        };
        let is_remote = self.is_remote(&store.backend);
        Some(StoreKind::ExistenceCache { backend, is_remote, options })
    }

    pub(super) fn compression(
        &mut self,
        name: &str,
        spec: &Located<StoreSpec>,
        store: &'c CompressionStore,
    ) -> Option<StoreKind> {
        let backend = self.spec(&format!("{name}/backend"), &store.backend);
        let CompressionAlgorithm::Lz4(lz4) = store.compression_algorithm;
        let options = CompressionOptions {
            block_bytes: to_u32(lz4.block_size),
            max_decode_block_bytes: to_u32(lz4.max_decode_block_size),
        };
        if let Err(problem) = options.check() {
            self.problems.add(spec.place.problem(problem));
        }
        Some(StoreKind::Compression { backend: backend?, options })
    }

    pub(super) fn dedup(
        &mut self,
        name: &str,
        spec: &Located<StoreSpec>,
        store: &'c DedupStore,
    ) -> Option<StoreKind> {
        let index = self.spec(&format!("{name}/index_store"), &store.index_store);
        let content = self.spec(&format!("{name}/content_store"), &store.content_store);
        let options = DedupOptions {
            min_bytes: to_u32(store.min_size),
            normal_bytes: to_u32(store.normal_size),
            max_bytes: to_u32(store.max_size),
            max_concurrent_fetches: at_most(store.max_concurrent_fetch_per_get),
        };
        if let Err(problem) = options.check() {
            self.problems.add(spec.place.problem(problem));
        }
        Some(StoreKind::Dedup { index: index?, content: content?, options })
    }

    /// Whether a store keeps nothing, whatever stands before it.
    fn is_noop(&self, spec: &Located<StoreSpec>) -> bool {
        match &spec.value {
            StoreSpec::Noop => true,
            StoreSpec::RefStore(name) => self.find(name).is_some_and(|it| self.is_noop(&it.spec)),
            StoreSpec::Verify(store) => self.is_noop(&store.backend),
            StoreSpec::CacheMetrics(store) => self.is_noop(&store.backend),
            StoreSpec::ExistenceCache(store) => self.is_noop(&store.backend),
            StoreSpec::CompletenessChecking(store) => self.is_noop(&store.backend),
            _ => false,
        }
    }

    /// Whether another server is asked on the way to an answer.
    pub(super) fn is_remote(&self, spec: &Located<StoreSpec>) -> bool {
        match &spec.value {
            StoreSpec::Grpc(_) => true,
            StoreSpec::RefStore(name) => self.find(name).is_some_and(|it| self.is_remote(&it.spec)),
            other => other.backends().into_iter().any(|it| self.is_remote(it)),
        }
    }
}

fn direction(direction: StoreDirection) -> Direction {
    match direction {
        StoreDirection::Both => Direction::Both,
        StoreDirection::Update => Direction::Update,
        StoreDirection::Get => Direction::Get,
        StoreDirection::ReadOnly => Direction::ReadOnly,
    }
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
