//! The `redis_store` of a file: read and checked, and not run by this version.

use super::retry::{self, Retry};
use crate::document::{Node, Value};
use crate::reader::{Reader, Table};
use std::time::Duration;

/// The settings of a `redis_store`.
#[derive(Debug, Clone, PartialEq)]
pub struct RedisStore {
    /// URLs of the servers, at least one.
    pub addresses: Vec<String>,
    /// How the servers work together.
    pub mode: RedisMode,
    /// How long one command may take.
    pub command_timeout: Duration,
    /// How long connecting may take.
    pub connection_timeout: Duration,
    /// How long the command of a health check may take.
    pub health_check_timeout: Duration,
    /// How much one command reads, in bytes.
    pub read_chunk_size: u64,
    /// How many connections are kept open.
    pub connection_pool_size: u64,
    /// What stands before every key; may be empty.
    pub key_prefix: String,
    /// How long a key is kept after it was written; absent is forever.
    pub key_ttl: Option<Duration>,
    /// How many pieces of one upload are under way at a time.
    pub max_chunk_uploads_per_update: u64,
    /// How many keys one step of a scan looks at.
    pub scan_count: u64,
    /// How many commands are under way at a time.
    pub max_client_permits: u64,
    /// How many results one step of a search gives.
    pub max_count_per_cursor: u64,
    /// What happens after a failure.
    pub retry: Retry,
    /// The channel that is told of every write.
    pub experimental_pub_sub_channel: Option<String>,
}

/// How the servers of a `redis_store` work together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// `standard`: one server.
    #[default]
    Standard,
    /// `cluster`: keys are spread over the servers.
    Cluster,
    /// `sentinel`: the addresses know who the server is.
    Sentinel,
}

const MODES: &[(&str, RedisMode)] = &[
    ("standard", RedisMode::Standard),
    ("cluster", RedisMode::Cluster),
    ("sentinel", RedisMode::Sentinel),
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<RedisStore> {
    reader.object(node, |table| {
        let addresses = table.required("addresses", read_addresses);
        let response_timeout = old_seconds(table, "response_timeout_s", "command_timeout_ms");
        let connection_timeout =
            old_seconds(table, "connection_timeout_s", "connection_timeout_ms");
        table.optional("broadcast_channel_capacity", |reader, node| {
            reader.warn(node.at, "this has no effect any more; remove it");
            reader.count(node)
        });
        let store = RedisStore {
            mode: table
                .optional("mode", |reader, node| reader.choice(node, MODES))
                .unwrap_or_default(),
            command_timeout: milliseconds(table, "command_timeout_ms")
                .or(response_timeout)
                .unwrap_or(Duration::from_secs(10)),
            connection_timeout: milliseconds(table, "connection_timeout_ms")
                .or(connection_timeout)
                .unwrap_or(Duration::from_secs(3)),
            health_check_timeout: milliseconds(table, "health_check_timeout_ms")
                .unwrap_or(Duration::from_secs(4)),
            read_chunk_size: table
                .optional("read_chunk_size", Reader::nonzero_size)
                .unwrap_or(64 << 10),
            connection_pool_size: count_or(table, "connection_pool_size", 3),
            key_prefix: table.optional("key_prefix", Reader::text).unwrap_or_default(),
            key_ttl: table.optional("key_ttl_s", Reader::nonzero_seconds),
            max_chunk_uploads_per_update: count_or(table, "max_chunk_uploads_per_update", 10),
            scan_count: count_or(table, "scan_count", 10_000),
            max_client_permits: count_or(table, "max_client_permits", 500),
            max_count_per_cursor: count_or(table, "max_count_per_cursor", 1500),
            retry: table.optional("retry", retry::read).unwrap_or_default(),
            experimental_pub_sub_channel: table
                .optional("experimental_pub_sub_channel", Reader::text),
            addresses: addresses?,
        };
        Some(store)
    })
}

fn read_addresses(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    if matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
        reader.report(node.at, "there has to be at least one address");
    }
    reader.list(node, Reader::text)
}

/// A key of earlier releases that said the same in seconds.
fn old_seconds(
    table: &mut Table<'_, '_, '_>,
    key: &'static str,
    instead: &str,
) -> Option<Duration> {
    let duration = table.optional(key, |reader, node| {
        reader.warn(node.at, format!("this key is old; write `{instead}`"));
        reader.seconds(node)
    });
    duration.filter(|duration| !duration.is_zero())
}

/// As in the format, 0 is the default.
pub(super) fn milliseconds(table: &mut Table<'_, '_, '_>, key: &'static str) -> Option<Duration> {
    table.optional(key, Reader::milliseconds).filter(|duration| !duration.is_zero())
}

/// As in the format, 0 is the default.
pub(super) fn count_or(table: &mut Table<'_, '_, '_>, key: &'static str, default: u64) -> u64 {
    table.optional(key, Reader::nonzero_count).unwrap_or(default)
}
