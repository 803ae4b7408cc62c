//! `memory`: content in the memory of the process.

use super::eviction::{self, EvictionPolicy};
use super::filesystem::read_lease;
use crate::document::Node;
use crate::reader::Reader;
use std::time::Duration;

/// The settings of a `memory` store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStore {
    /// When content is removed.
    pub eviction_policy: EvictionPolicy,
    /// The largest blob to take, in bytes; absent or 0 is the server's choice.
    pub max_blob_bytes: Option<u64>,
    /// How long what a client was told is there stays for sure; 0 is no promise.
    pub lease: Option<Duration>,
}

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<MemoryStore> {
    reader.object(node, |table| {
        Some(MemoryStore {
            eviction_policy: table.optional("eviction_policy", eviction::read).unwrap_or_default(),
            max_blob_bytes: table.optional("max_blob_bytes", Reader::nonzero_size),
            lease: table.optional("lease_s", read_lease),
        })
    })
}
