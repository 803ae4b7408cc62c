//! The `experimental_mongo` of a file: read and checked, and not run by this version.

use super::redis::milliseconds;
use crate::document::Node;
use crate::reader::{Reader, Table};
use std::time::Duration;

/// The settings of an `experimental_mongo` store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MongoStore {
    /// The URL of the servers, with who asks.
    pub connection_string: String,
    /// The database.
    pub database: String,
    /// The collection of blobs and results.
    pub cas_collection: String,
    /// The collection of a scheduler's state.
    pub scheduler_collection: String,
    /// What stands before every key.
    pub key_prefix: Option<String>,
    /// How much is read at a time, in bytes.
    pub read_chunk_size: u64,
    /// How long connecting may take.
    pub connection_timeout: Duration,
    /// How long one command may take.
    pub command_timeout: Duration,
    /// Whether changes that others make are noticed at once.
    pub enable_change_streams: bool,
    /// How many servers have to have a write, as a number or a word.
    pub write_concern_w: Option<String>,
    /// Whether a write has to be in their journals.
    pub write_concern_j: Option<bool>,
    /// How long to wait for that.
    pub write_concern_timeout: Option<Duration>,
    /// How many requests are under way at a time; absent is no limit.
    pub max_requests: Option<u64>,
}

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<MongoStore> {
    reader.object(node, |table| {
        let connection_string = table.required("connection_string", Reader::text);
        table.optional("max_concurrent_uploads", |reader, node| {
            reader.warn(node.at, "this has no effect any more; remove it");
            reader.count(node)
        });
        let store = MongoStore {
            database: text_or(table, "database", "nativelink"),
            cas_collection: text_or(table, "cas_collection", "cas"),
            scheduler_collection: text_or(table, "scheduler_collection", "scheduler"),
            key_prefix: table.optional("key_prefix", Reader::text),
            read_chunk_size: table
                .optional("read_chunk_size", Reader::nonzero_size)
                .unwrap_or(64 << 10),
            connection_timeout: milliseconds(table, "connection_timeout_ms")
                .unwrap_or(Duration::from_secs(3)),
            command_timeout: milliseconds(table, "command_timeout_ms")
                .unwrap_or(Duration::from_secs(10)),
            enable_change_streams: table.flag("enable_change_streams"),
            write_concern_w: table.optional("write_concern_w", Reader::word),
            write_concern_j: table.optional("write_concern_j", Reader::flag),
            write_concern_timeout: table.optional("write_concern_timeout_ms", Reader::milliseconds),
            max_requests: table.optional("max_requests", Reader::nonzero_count),
            connection_string: connection_string?,
        };
        Some(store)
    })
}

/// As in the format, an empty text is the default.
fn text_or(table: &mut Table<'_, '_, '_>, key: &'static str, default: &str) -> String {
    let text = table.optional(key, Reader::text).filter(|text| !text.is_empty());
    text.unwrap_or_else(|| default.to_owned())
}
