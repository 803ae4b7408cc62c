//! `grpc`: another server.

use super::super::endpoint::{self, GrpcEndpoint};
use super::super::retry::{self, Retry};
use crate::document::{Node, Value};
use crate::reader::Reader;
use std::time::Duration;

const MAX_BLOB_BYTES: u64 = 128 << 10;
const MAX_BATCH_BYTES: u64 = 3 << 20;
const DISPATCH_SLOTS: u64 = 4;
const MAX_QUEUED_BYTES: u64 = 32 << 20;

/// The settings of a `grpc` store.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcStore {
    /// The instance at the other server; may be empty.
    pub instance_name: String,
    /// Where the other server is, at least one.
    pub endpoints: Vec<GrpcEndpoint>,
    /// What is asked of it.
    pub store_type: StoreType,
    /// When a request is tried again.
    pub retry: Retry,
    /// The most requests at a time; absent or 0 is no limit.
    pub max_concurrent_requests: Option<u64>,
    /// How many connections there are to each endpoint; 1 unless said.
    pub connections_per_endpoint: u64,
    /// How long a request may take; absent or 0 is no limit.
    pub rpc_timeout: Option<Duration>,
    /// Whether the names of streams leave the digest function out.
    pub use_legacy_resource_names: bool,
    /// Headers of every request, in the order of the file.
    pub headers: Vec<(String, String)>,
    /// The names of those headers of a client's request that go with the requests made for it.
    pub forward_headers: Vec<String>,
    /// How small reads share requests; absent is each on its own. Never with `forward_headers`.
    pub experimental_read_batching: Option<ReadBatching>,
    /// Whether ranges that were read are checked against the blob's digest; a key of this server's
    /// own, true unless said.
    pub verify_ranges: bool,
}

/// What a `grpc` store asks of the other server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreType {
    /// `cas`: blobs.
    Cas,
    /// `ac`: action results.
    Ac,
}

/// How small reads share requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBatching {
    /// The largest blob that shares a request, in bytes; 128 KiB unless said.
    pub max_blob_size_bytes: u64,
    /// The most bytes in one request; 3 MiB unless said.
    pub max_batch_bytes: u64,
    /// The most such requests at a time; 4 unless said.
    pub dispatch_slots: u64,
    /// The most bytes that wait for a request; 32 MiB unless said.
    pub max_queued_bytes: u64,
}

const STORE_TYPES: &[(&str, StoreType)] = &[("cas", StoreType::Cas), ("ac", StoreType::Ac)];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<GrpcStore> {
    reader.object(node, |table| {
        let instance_name = table.optional("instance_name", Reader::text).unwrap_or_default();
        let endpoints = table.required("endpoints", read_endpoints);
        let store_type =
            table.required("store_type", |reader, node| reader.choice(node, STORE_TYPES));
        let forward_headers =
            table.optional("forward_headers", read_header_names).unwrap_or_default();
        let forwards = !forward_headers.is_empty();
        let experimental_read_batching =
            table.optional("experimental_read_batching", |reader, node| {
                if forwards {
                    let message = "not together with `forward_headers`: reads of several clients \
                                   share a request";
                    reader.report(node.at, message);
                }
                read_batching(reader, node)
            });
        table.optional("experimental_remote_cache_compression", |reader, node| {
            let is_on = reader.flag(node)?;
            if is_on {
                reader.warn(node.at, "this has no effect: blobs are sent as they are");
            }
            Some(is_on)
        });
        let store = GrpcStore {
            instance_name,
            retry: table.optional("retry", retry::read).unwrap_or_default(),
            max_concurrent_requests: table
                .optional("max_concurrent_requests", Reader::nonzero_count),
            connections_per_endpoint: table
                .optional("connections_per_endpoint", Reader::nonzero_count)
                .unwrap_or(1),
            rpc_timeout: table.optional("rpc_timeout_s", Reader::nonzero_seconds),
            use_legacy_resource_names: table.flag("use_legacy_resource_names"),
            headers: table.optional("headers", read_headers).unwrap_or_default(),
            forward_headers,
            experimental_read_batching,
            verify_ranges: table.optional("verify_ranges", Reader::flag).unwrap_or(true),
            endpoints: endpoints?,
            store_type: store_type?,
        };
        Some(store)
    })
}

fn read_endpoints(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<GrpcEndpoint>> {
    if matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
        reader.report(node.at, "there has to be at least one endpoint");
    }
    reader.list(node, endpoint::read)
}

fn read_batching(reader: &mut Reader<'_>, node: &Node) -> Option<ReadBatching> {
    reader.object(node, |table| {
        let mut size = |key, unsaid| table.optional(key, Reader::nonzero_size).unwrap_or(unsaid);
        Some(ReadBatching {
            max_blob_size_bytes: size("max_blob_size_bytes", MAX_BLOB_BYTES),
            max_batch_bytes: size("max_batch_bytes", MAX_BATCH_BYTES),
            max_queued_bytes: size("max_queued_bytes", MAX_QUEUED_BYTES),
            dispatch_slots: table
                .optional("dispatch_slots", Reader::nonzero_count)
                .unwrap_or(DISPATCH_SLOTS),
        })
    })
}

fn read_headers(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let Value::Object(entries) = &node.value else {
        reader.mismatch(node, "an object of header names and values");
        return None;
    };
    Some(reader.map(entries, |reader, entry| {
        if !is_header_name(&entry.key) {
            reader.report(entry.at, NO_HEADER_NAME);
        }
        let value = reader.name(&entry.node)?;
        if value.chars().any(|character| !(' '..='~').contains(&character)) {
            reader.report(entry.node.at, "the value of a header is ASCII on one line");
        }
        Some((entry.key.clone(), value))
    }))
}

fn read_header_names(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    reader.list(node, |reader, node| {
        let name = reader.name(node)?;
        if !is_header_name(&name) {
            reader.report(node.at, NO_HEADER_NAME);
        }
        Some(name)
    })
}

const NO_HEADER_NAME: &str = "the name of a header is letters, digits and hyphens";

fn is_header_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_allowed)
}
