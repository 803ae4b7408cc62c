//! When a store removes what it has.

use crate::document::Node;
use crate::reader::Reader;
use std::time::Duration;

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

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<EvictionPolicy> {
    reader.object(node, |table| {
        Some(EvictionPolicy {
            max_bytes: table.optional("max_bytes", Reader::nonzero_size),
            evict_bytes: table.optional("evict_bytes", Reader::size).unwrap_or(0),
            max_seconds: table.optional("max_seconds", Reader::nonzero_seconds),
            max_count: table.optional("max_count", Reader::nonzero_count),
        })
    })
}
