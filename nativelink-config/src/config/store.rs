//! The `stores` of a file.

use super::facts::Facts;
use crate::diagnostic::Located;
use crate::document::{Node, Value};
use crate::reader::{Reader, Table};
use std::time::Duration;

/// The kinds of stores that this version has.
const SUPPORTED: &[&str] = &["filesystem"];

/// The other kinds of the format.
const UNSUPPORTED: &[&str] = &[
    "memory",
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
    "redis_store",
    "experimental_cloud_object_store",
    "ontap_s3_existence_cache",
    "experimental_mongo",
];

/// One of the `stores`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The name by which services refer to it.
    pub name: Located<String>,
    /// Its kind and settings.
    pub spec: StoreSpec,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreSpec {
    /// `filesystem`: files in a directory.
    Filesystem(FilesystemStore),
}

/// The settings of a `filesystem` store.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesystemStore {
    /// Where the content lives; never empty.
    pub content_path: Located<String>,
    /// Where unfinished uploads live, on the same file system; next to the content if absent.
    pub temp_path: Option<Located<String>>,
    /// How much one read asks the disk for, in bytes; absent or 0 is the server's choice.
    pub read_buffer_size: Option<u64>,
    /// The unit in which disk use is counted, in bytes; absent or 0 is the server's choice.
    pub block_size: Option<u64>,
    /// How many files are written to the disk at the same time; absent or 0 is no limit.
    pub max_concurrent_writes: Option<u64>,
    /// Whether written and read pages are dropped from the page cache.
    pub evict_page_cache: bool,
    /// When content is removed.
    pub eviction_policy: EvictionPolicy,
}

/// When a store removes content. The default is never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvictionPolicy {
    /// The most bytes to keep; absent or 0 is no limit.
    pub max_bytes: Option<u64>,
    /// How far below `max_bytes` an eviction goes, in bytes.
    pub evict_bytes: u64,
    /// How long content is kept after its last use; absent or 0 is forever.
    pub max_seconds: Option<Duration>,
    /// The most objects to keep; absent or 0 is no limit.
    pub max_count: Option<u64>,
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

fn read_spec(table: &mut Table<'_, '_, '_>, facts: &mut Facts) -> Option<StoreSpec> {
    if table.removed(&["experimental_s3_store"]) {
        return None;
    }
    match table.only_key_of("kind of the store", SUPPORTED, UNSUPPORTED)? {
        "filesystem" => table
            .required("filesystem", |reader, node| read_filesystem(reader, node, facts))
            .map(StoreSpec::Filesystem),
        _ => None,
    }
}

fn read_filesystem(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<FilesystemStore> {
    reader.object(node, |table| {
        let content_path =
            table.required("content_path", |r, node| r.located(node, Reader::file_path));
        let temp_path = table.optional("temp_path", |r, node| r.located(node, Reader::file_path));
        facts.add_content_path(content_path.as_ref());
        facts.add_temp_path(temp_path.as_ref());
        let store = FilesystemStore {
            temp_path,
            read_buffer_size: table.optional("read_buffer_size", Reader::size).filter(not_zero),
            block_size: table.optional("block_size", Reader::size).filter(not_zero),
            max_concurrent_writes: table
                .optional("max_concurrent_writes", Reader::count)
                .filter(not_zero),
            evict_page_cache: table.optional("evict_page_cache", Reader::flag).unwrap_or(false),
            eviction_policy: table
                .optional("eviction_policy", read_eviction_policy)
                .unwrap_or_default(),
            content_path: content_path?,
        };
        Some(store)
    })
}

fn read_eviction_policy(reader: &mut Reader<'_>, node: &Node) -> Option<EvictionPolicy> {
    reader.object(node, |table| {
        Some(EvictionPolicy {
            max_bytes: table.optional("max_bytes", Reader::size).filter(not_zero),
            evict_bytes: table.optional("evict_bytes", Reader::size).unwrap_or(0),
            max_seconds: table
                .optional("max_seconds", Reader::seconds)
                .filter(|duration| !duration.is_zero()),
            max_count: table.optional("max_count", Reader::count).filter(not_zero),
        })
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "Option::filter gives a reference")]
fn not_zero(value: &u64) -> bool {
    *value != 0
}
