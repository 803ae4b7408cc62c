//! The `stores` of a file.

mod encoding;
mod eviction;
mod filesystem;
mod grpc;
mod layer;
mod memory;
mod partition;

use super::cloud::{self, CloudStore};
use super::facts::Facts;
use super::mongo::{self, MongoStore};
use super::ontap::{self, OntapExistenceCache};
use super::redis::{self, RedisStore};
use crate::diagnostic::Located;
use crate::document::{Node, Value};
use crate::reader::{Reader, Table};

pub use encoding::{CompressionAlgorithm, CompressionStore, DedupStore, Lz4Config};
pub use eviction::EvictionPolicy;
pub use filesystem::{
    Durability, FilesystemExtension, FilesystemStore, LeasePressure, VerifyOnRead,
};
pub use grpc::{GrpcStore, ReadBatching, StoreType};
pub use layer::{
    CacheMetricsStore, CompletenessCheckingStore, ExistenceCacheStore, FastSlowStore,
    StoreDirection, VerifyStore, WriteBehind,
};
pub use memory::MemoryStore;
pub use partition::{Shard, ShardStore, SizePartitioningStore};

/// The kinds of stores that this version runs.
const SUPPORTED: &[&str] = &[
    "memory",
    "filesystem",
    "fast_slow",
    "verify",
    "existence_cache",
    "completeness_checking",
    "compression",
    "dedup",
    "size_partitioning",
    "shard",
    "ref_store",
    "noop",
    "cache_metrics",
    "grpc",
];

/// The other kinds of the format, and what to use meanwhile.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("redis_store", "use a filesystem or grpc store meanwhile"),
    (
        "experimental_cloud_object_store",
        "use a filesystem store meanwhile, or a grpc store of a server that has the bucket",
    ),
    (
        "ontap_s3_existence_cache",
        "use a filesystem store meanwhile, or a grpc store of a server that has the bucket",
    ),
    ("experimental_mongo", "use a filesystem or grpc store meanwhile"),
];

/// One of the `stores`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The name by which services and other stores refer to it.
    pub name: Located<String>,
    /// Its kind and settings.
    pub spec: Located<StoreSpec>,
}

/// A store behind another one.
pub type Backend = Box<Located<StoreSpec>>;

/// What a store is.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreSpec {
    /// `memory`: content in the memory of the process.
    Memory(MemoryStore),
    /// `filesystem`: files in a directory.
    Filesystem(Box<FilesystemStore>),
    /// `fast_slow`: a near store in front of a far one.
    FastSlow(FastSlowStore),
    /// `verify`: uploads are checked.
    Verify(VerifyStore),
    /// `existence_cache`: what is there is remembered.
    ExistenceCache(ExistenceCacheStore),
    /// `completeness_checking`: action results without their blobs are absent.
    CompletenessChecking(CompletenessCheckingStore),
    /// `compression`: content is kept compressed.
    Compression(CompressionStore),
    /// `dedup`: content is kept in pieces that blobs share.
    Dedup(DedupStore),
    /// `size_partitioning`: small blobs here, large ones there.
    SizePartitioning(SizePartitioningStore),
    /// `shard`: each blob in one of several stores.
    Shard(ShardStore),
    /// `ref_store`: another of the `stores`, by its name.
    RefStore(Located<String>),
    /// `noop`: nothing is kept.
    Noop,
    /// `cache_metrics`: hits and misses are counted.
    CacheMetrics(CacheMetricsStore),
    /// `grpc`: another server.
    Grpc(Box<GrpcStore>),
    /// A kind of the format that this version does not run; noted as such.
    Unsupported(Box<UnsupportedStore>),
}

/// A store of a kind that this version does not run.
#[derive(Debug, Clone, PartialEq)]
pub enum UnsupportedStore {
    /// `redis_store`: content in Redis.
    Redis(RedisStore),
    /// `experimental_cloud_object_store`: content in a bucket of a cloud.
    Cloud(CloudStore),
    /// `ontap_s3_existence_cache`: a list of what is in a bucket of ONTAP.
    OntapExistenceCache(OntapExistenceCache),
    /// `experimental_mongo`: content in `MongoDB`.
    Mongo(MongoStore),
}

impl StoreSpec {
    /// The stores directly inside this one.
    pub fn backends(&self) -> Vec<&Located<StoreSpec>> {
        match self {
            Self::FastSlow(store) => vec![&store.fast, &store.slow],
            Self::Verify(store) => vec![&store.backend],
            Self::ExistenceCache(store) => vec![&store.backend],
            Self::CompletenessChecking(store) => vec![&store.backend, &store.cas_store],
            Self::Compression(store) => vec![&store.backend],
            Self::Dedup(store) => vec![&store.index_store, &store.content_store],
            Self::SizePartitioning(store) => vec![&store.lower_store, &store.upper_store],
            Self::Shard(store) => store.stores.iter().map(|shard| &*shard.store).collect(),
            Self::CacheMetrics(store) => vec![&store.backend],
            Self::Memory(_)
            | Self::Filesystem(_)
            | Self::RefStore(_)
            | Self::Noop
            | Self::Grpc(_)
            | Self::Unsupported(_) => Vec::new(),
        }
    }
}

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Vec<Store>> {
    if matches!(node.value, Value::Object(_)) {
        let message = "expected an array, [{ name: \"...\", filesystem: {...} }]; the form with \
                       names as keys is no longer part of the format";
        reader.report(node.at, message);
        return None;
    }
    reader.list(node, |reader, node| read_store(reader, node, facts))
}

fn read_store(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Store> {
    let store = reader.object(node, |table| {
        let name = table.required("name", |reader, node| reader.located(node, Reader::full_name));
        facts.add_store(name.as_ref());
        let spec = read_spec(table, facts);
        Some((name, spec))
    });
    let Some((name, spec)) = store else {
        facts.add_store(None);
        return None;
    };
    Some(Store { name: name?, spec: spec? })
}

/// Reads a store inside another one: an object with nothing but the kind.
fn read_backend(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Backend> {
    reader.object(node, |table| read_spec(table, facts).map(Box::new))
}

/// Stores nest as deep as a document may, which has a bound.
fn read_spec(table: &mut Table<'_, '_, '_>, facts: &mut Facts) -> Option<Located<StoreSpec>> {
    if table.removed(&["experimental_s3_store"]) {
        return None;
    }
    let kind = table.only_key_of("kind of the store", SUPPORTED, UNSUPPORTED)?;
    table.required(kind, |reader, node| {
        reader.located(node, |reader, node| read_kind(reader, node, kind, facts))
    })
}

fn read_kind(
    reader: &mut Reader<'_>,
    node: &Node,
    kind: &'static str,
    facts: &mut Facts,
) -> Option<StoreSpec> {
    use StoreSpec as Spec;
    match kind {
        "memory" => memory::read(reader, node).map(Spec::Memory),
        "filesystem" => {
            filesystem::read(reader, node, facts).map(|spec| Spec::Filesystem(Box::new(spec)))
        }
        "fast_slow" => layer::read_fast_slow(reader, node, facts).map(Spec::FastSlow),
        "verify" => layer::read_verify(reader, node, facts).map(Spec::Verify),
        "existence_cache" => {
            layer::read_existence_cache(reader, node, facts).map(Spec::ExistenceCache)
        }
        "completeness_checking" => {
            layer::read_completeness_checking(reader, node, facts).map(Spec::CompletenessChecking)
        }
        "compression" => encoding::read_compression(reader, node, facts).map(Spec::Compression),
        "dedup" => encoding::read_dedup(reader, node, facts).map(Spec::Dedup),
        "size_partitioning" => {
            partition::read_size_partitioning(reader, node, facts).map(Spec::SizePartitioning)
        }
        "shard" => partition::read_shard(reader, node, facts).map(Spec::Shard),
        "ref_store" => read_reference(reader, node, facts).map(Spec::RefStore),
        "noop" => reader.object(node, |_| Some(Spec::Noop)),
        "cache_metrics" => layer::read_cache_metrics(reader, node, facts).map(Spec::CacheMetrics),
        "grpc" => grpc::read(reader, node).map(|spec| Spec::Grpc(Box::new(spec))),
        other => {
            read_unsupported(reader, node, other).map(|spec| Spec::Unsupported(Box::new(spec)))
        }
    }
}

/// The kinds in `UNSUPPORTED`.
fn read_unsupported(
    reader: &mut Reader<'_>,
    node: &Node,
    kind: &'static str,
) -> Option<UnsupportedStore> {
    match kind {
        "redis_store" => redis::read(reader, node).map(UnsupportedStore::Redis),
        "ontap_s3_existence_cache" => {
            ontap::read(reader, node).map(UnsupportedStore::OntapExistenceCache)
        }
        "experimental_mongo" => mongo::read(reader, node).map(UnsupportedStore::Mongo),
        _ => cloud::read(reader, node).map(UnsupportedStore::Cloud),
    }
}

fn read_reference(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Located<String>> {
    reader.object(node, |table| {
        let name = table.required("name", |reader, node| reader.located(node, Reader::text));
        facts.use_store(name.as_ref());
        name
    })
}
