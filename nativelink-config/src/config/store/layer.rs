//! Stores that add something to the stores behind them.

use super::super::facts::Facts;
use super::eviction::{self, EvictionPolicy};
use super::{Backend, read_backend};
use crate::document::Node;
use crate::reader::Reader;
use std::ops::RangeInclusive;

/// The settings of a `fast_slow` store: a near store in front of a far one.
#[derive(Debug, Clone, PartialEq)]
pub struct FastSlowStore {
    /// The near one.
    pub fast: Backend,
    /// What the near one is used for.
    pub fast_direction: StoreDirection,
    /// The far one.
    pub slow: Backend,
    /// What the far one is used for.
    pub slow_direction: StoreDirection,
    /// Blobs from this size on are fetched by each reader on its own; absent or 0 is none.
    pub bypass_dedup_threshold_bytes: Option<u64>,
    /// Writes to the far one after the client has its answer; a key of this server's own.
    pub write_behind: Option<WriteBehind>,
}

/// What a part of a `fast_slow` store is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreDirection {
    /// `both`: reads and writes.
    #[default]
    Both,
    /// `update`: writes of clients only.
    Update,
    /// `get`: reads, and for the near one keeping what was read.
    Get,
    /// `read_only`: reads only.
    ReadOnly,
}

/// The bounds of writing later. None of them is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteBehind {
    /// The most blobs that wait; 1024 unless said.
    pub max_items: u64,
    /// The most bytes that wait; 256 MiB unless said.
    pub max_bytes: u64,
    /// The most copies at a time; 4 unless said.
    pub max_concurrent_copies: u64,
    /// How often a copy is tried, the first time included; 5 unless said.
    pub max_attempts: u64,
}

impl Default for WriteBehind {
    fn default() -> Self {
        Self { max_items: 1024, max_bytes: 256 << 20, max_concurrent_copies: 4, max_attempts: 5 }
    }
}

/// The settings of a `verify` store: uploads are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyStore {
    /// Where checked content goes.
    pub backend: Backend,
    /// Whether the size is checked.
    pub verify_size: bool,
    /// Whether the hash is checked.
    pub verify_hash: bool,
}

/// The settings of an `existence_cache` store: what is there is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct ExistenceCacheStore {
    /// The store whose answers are remembered.
    pub backend: Backend,
    /// When an answer is forgotten.
    pub eviction_policy: EvictionPolicy,
}

/// The settings of a `completeness_checking` store: action results without their blobs are absent.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletenessCheckingStore {
    /// The store that has the action results.
    pub backend: Backend,
    /// The store that has the blobs.
    pub cas_store: Backend,
}

/// The settings of a `cache_metrics` store: hits and misses are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheMetricsStore {
    /// What the cache is called in metrics.
    pub cache_type: String,
    /// The store that is counted.
    pub backend: Backend,
}

const DIRECTIONS: &[(&str, StoreDirection)] = &[
    ("both", StoreDirection::Both),
    ("update", StoreDirection::Update),
    ("get", StoreDirection::Get),
    ("read_only", StoreDirection::ReadOnly),
];

const FROM_ONE: RangeInclusive<u64> = 1..=u64::MAX;

pub(super) fn read_fast_slow(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<FastSlowStore> {
    reader.object(node, |table| {
        let fast = table.required("fast", |reader, node| read_backend(reader, node, facts));
        let fast_direction = table.optional("fast_direction", read_direction);
        let slow = table.required("slow", |reader, node| read_backend(reader, node, facts));
        let slow_direction = table.optional("slow_direction", read_direction);
        let bypass_dedup_threshold_bytes =
            table.optional("bypass_dedup_threshold_bytes", Reader::nonzero_size);
        let write_behind = table.optional("write_behind", read_write_behind);
        Some(FastSlowStore {
            fast: fast?,
            fast_direction: fast_direction.unwrap_or_default(),
            slow: slow?,
            slow_direction: slow_direction.unwrap_or_default(),
            bypass_dedup_threshold_bytes,
            write_behind,
        })
    })
}

fn read_direction(reader: &mut Reader<'_>, node: &Node) -> Option<StoreDirection> {
    reader.choice(node, DIRECTIONS)
}

fn read_write_behind(reader: &mut Reader<'_>, node: &Node) -> Option<WriteBehind> {
    reader.object(node, |table| {
        let unsaid = WriteBehind::default();
        let mut count = |key, unsaid| table.optional(key, read_count).unwrap_or(unsaid);
        Some(WriteBehind {
            max_items: count("max_items", unsaid.max_items),
            max_concurrent_copies: count("max_concurrent_copies", unsaid.max_concurrent_copies),
            max_attempts: count("max_attempts", unsaid.max_attempts),
            max_bytes: table
                .optional("max_bytes", |reader, node| {
                    reader.within_range(node, &FROM_ONE, "a size above 0", Reader::size)
                })
                .unwrap_or(unsaid.max_bytes),
        })
    })
}

fn read_count(reader: &mut Reader<'_>, node: &Node) -> Option<u64> {
    reader.within_range(node, &FROM_ONE, "a whole number from 1", Reader::count)
}

pub(super) fn read_verify(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<VerifyStore> {
    reader.object(node, |table| {
        let backend = table.required("backend", |reader, node| read_backend(reader, node, facts));
        let verify_size = table.flag("verify_size");
        let verify_hash = table.flag("verify_hash");
        Some(VerifyStore { backend: backend?, verify_size, verify_hash })
    })
}

pub(super) fn read_existence_cache(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<ExistenceCacheStore> {
    reader.object(node, |table| {
        let backend = table.required("backend", |reader, node| read_backend(reader, node, facts));
        let eviction_policy = table.optional("eviction_policy", eviction::read).unwrap_or_default();
        Some(ExistenceCacheStore { backend: backend?, eviction_policy })
    })
}

pub(super) fn read_completeness_checking(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<CompletenessCheckingStore> {
    reader.object(node, |table| {
        let backend = table.required("backend", |reader, node| read_backend(reader, node, facts));
        let cas_store =
            table.required("cas_store", |reader, node| read_backend(reader, node, facts));
        Some(CompletenessCheckingStore { backend: backend?, cas_store: cas_store? })
    })
}

pub(super) fn read_cache_metrics(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<CacheMetricsStore> {
    reader.object(node, |table| {
        let cache_type = table.required("cache_type", Reader::text);
        let backend = table.required("backend", |reader, node| read_backend(reader, node, facts));
        Some(CacheMetricsStore { cache_type: cache_type?, backend: backend? })
    })
}
