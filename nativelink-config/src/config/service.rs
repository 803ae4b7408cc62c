//! The `services` of a server.

use super::facts::Facts;
use super::remote_execution::{self, OtherServices, SCHEDULER_INSTEAD};
use crate::diagnostic::Located;
use crate::document::{Entry, Node, Value};
use crate::excerpt::shorten;
use crate::reader::{Reader, Table};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What a server serves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Services {
    /// `cas`: content-addressed stores, one per instance.
    pub cas: Vec<CasService>,
    /// `ac`: action caches, one per instance.
    pub ac: Vec<AcService>,
    /// `capabilities`; present and empty, it answers for any instance.
    pub capabilities: Option<Vec<CapabilitiesService>>,
    /// `bytestream`: large blobs, one per instance.
    pub bytestream: Vec<ByteStreamService>,
    /// `health`: whether and where the process answers health checks.
    pub health: Option<HealthService>,
    /// `admin`: whether and where workers are drained.
    pub admin: Option<AdminService>,
    /// Those that do not run here.
    pub others: OtherServices,
}

/// The content-addressed store of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct CasService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// The store that has the blobs.
    pub cas_store: Located<String>,
    /// `experimental_chunking`: blobs by their pieces; warned of, because it is not offered.
    pub experimental_chunking: Option<Chunking>,
}

/// How blobs are cut into pieces.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunking {
    /// The store that has the lists of pieces; another one than that of the blobs.
    pub index_store: Option<Located<String>>,
    /// The size around which pieces are cut, in bytes; 512 KiB unless said.
    pub avg_chunk_size_bytes: u64,
    /// The most pieces of a blob; 50000 unless said.
    pub max_chunk_count: u64,
}

/// The action cache of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct AcService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// The store that has the action results.
    pub ac_store: Located<String>,
    /// Whether clients are refused to write.
    pub read_only: bool,
}

/// The capabilities of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct CapabilitiesService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// `remote_execution`: the scheduler of the instance, which does not run here.
    pub scheduler: Option<Located<String>>,
    /// Whether compressed blobs are announced; warned of, because they are not.
    pub remote_cache_compression: bool,
}

/// The streams of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteStreamService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// The store that has the blobs.
    pub cas_store: Located<String>,
    /// The largest piece of a blob in one message, in bytes; absent or 0 is the server's choice.
    pub max_bytes_per_stream: Option<u64>,
    /// How long an interrupted upload can be resumed; absent or 0 is the server's choice.
    pub persist_stream_on_disconnect_timeout: Option<Duration>,
}

/// The answers to health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthService {
    /// The path of the request; `/status` unless said.
    pub path: String,
    /// How long the checks may take; 5 s unless said.
    pub timeout: Duration,
}

/// The orders of an operator to workers; warned of, because there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminService {
    /// The path under which they are; `/admin` unless said.
    pub path: String,
}

const CHUNK_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 20;
const AVERAGE_CHUNK_BYTES: u64 = 512 << 10;
const MAX_CHUNKS: u64 = 50_000;
const HEALTH_PATH: &str = "/status";
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
const ADMIN_PATH: &str = "/admin";

const NOT_ANNOUNCED: &str =
    "this has no effect: it is not announced to clients, who then do without";
const NO_WORKERS: &str = "this has no effect: it drains workers, and there are none here";

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Services> {
    reader.object(node, |table| {
        let cas = table.optional("cas", |reader, node| {
            read_instances(reader, node, |table, instance| read_cas(table, instance, facts))
        });
        let ac = table.optional("ac", |reader, node| {
            read_instances(reader, node, |table, instance| read_ac(table, instance, facts))
        });
        let capabilities = table.optional("capabilities", |reader, node| {
            read_instances(reader, node, |table, instance| {
                read_capabilities(table, instance, facts)
            })
        });
        let bytestream =
            table.optional("bytestream", |reader, node| read_bytestream(reader, node, facts));
        let health = table.optional("health", read_health);
        let admin = table.optional("admin", read_admin);
        let others = remote_execution::read_services(table, facts);
        table.removed(&["experimental_prometheus"]);
        Some(Services {
            cas: cas.unwrap_or_default(),
            ac: ac.unwrap_or_default(),
            capabilities,
            bytestream: bytestream.unwrap_or_default(),
            health,
            admin,
            others,
        })
    })
}

/// Reads `[{ instance_name: "main", ... }]`, or the old `{ main: {...} }`.
pub(super) fn read_instances<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    mut read: impl FnMut(&mut Table<'_, '_, '_>, Located<String>) -> Option<T>,
) -> Option<Vec<T>> {
    if let Value::Object(entries) = &node.value {
        return read_instance_map(reader, node, entries, read);
    }
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    reader.list(node, |reader, node| {
        let place = reader.place(node.at);
        reader.object(node, |table| {
            let name = table
                .optional("instance_name", |reader, node| reader.located(node, Reader::name))
                .unwrap_or(Located { value: String::new(), place });
            if let Some(line) = first_lines.get(&name.value) {
                let message = format!(
                    "a second entry for the instance {:?}; line {line} has it already",
                    shorten(&name)
                );
                table.reader().report_at(&name.place, message);
            } else {
                first_lines.insert(name.value.clone(), name.place.line);
            }
            read(table, name)
        })
    })
}

fn read_instance_map<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    entries: &[Entry],
    mut read: impl FnMut(&mut Table<'_, '_, '_>, Located<String>) -> Option<T>,
) -> Option<Vec<T>> {
    // One entry of the array without the brackets around it.
    if entries.iter().any(|entry| !matches!(entry.node.value, Value::Object(_))) {
        reader.report(node.at, "expected an array, [{ instance_name: \"...\", ... }]");
        return None;
    }
    if !entries.is_empty() {
        warn_old_form(reader, node);
    }
    Some(reader.map(entries, |reader, entry| {
        let name = Located { value: entry.key.clone(), place: reader.place(entry.at) };
        reader.object(&entry.node, |table| read(table, name))
    }))
}

fn warn_old_form(reader: &mut Reader<'_>, node: &Node) {
    reader.warn(node.at, "this form is old; write an array, [{ instance_name: \"...\", ... }]");
}

fn read_cas(
    table: &mut Table<'_, '_, '_>,
    instance_name: Located<String>,
    facts: &mut Facts,
) -> Option<CasService> {
    let cas_store = table.required("cas_store", read_store_name);
    facts.add_cas(&instance_name, cas_store.as_ref());
    let experimental_chunking = table.optional("experimental_chunking", |reader, node| {
        reader.warn(node.at, NOT_ANNOUNCED);
        read_chunking(reader, node, cas_store.as_ref(), facts)
    });
    Some(CasService { instance_name, cas_store: cas_store?, experimental_chunking })
}

fn read_chunking(
    reader: &mut Reader<'_>,
    node: &Node,
    cas_store: Option<&Located<String>>,
    facts: &mut Facts,
) -> Option<Chunking> {
    reader.object(node, |table| {
        let index_store = table.optional("index_store", read_store_name);
        facts.use_store(index_store.as_ref());
        if let (Some(index), Some(cas)) = (&index_store, cas_store)
            && index.value == cas.value
        {
            let message = "the blobs are in this store; lists of pieces need one of their own";
            table.reader().report_at(&index.place, message);
        }
        let avg_chunk_size_bytes = table.optional("avg_chunk_size_bytes", |reader, node| {
            let expected = "a number of bytes from 1024 to 1048576";
            reader.within_range(node, &CHUNK_BYTES, expected, Reader::count)
        });
        let max_chunk_count = table.optional("max_chunk_count", Reader::nonzero_count);
        Some(Chunking {
            index_store,
            avg_chunk_size_bytes: avg_chunk_size_bytes.unwrap_or(AVERAGE_CHUNK_BYTES),
            max_chunk_count: max_chunk_count.unwrap_or(MAX_CHUNKS),
        })
    })
}

fn read_ac(
    table: &mut Table<'_, '_, '_>,
    instance_name: Located<String>,
    facts: &mut Facts,
) -> Option<AcService> {
    let ac_store = table.required("ac_store", read_store_name);
    facts.add_ac(&instance_name, ac_store.as_ref());
    let read_only = table.optional("read_only", Reader::flag).unwrap_or(false);
    Some(AcService { instance_name, ac_store: ac_store?, read_only })
}

#[expect(clippy::unnecessary_wraps, reason = "every reader of an instance has this signature")]
fn read_capabilities(
    table: &mut Table<'_, '_, '_>,
    instance_name: Located<String>,
    facts: &mut Facts,
) -> Option<CapabilitiesService> {
    let scheduler = table.unsupported("remote_execution", SCHEDULER_INSTEAD, |reader, node| {
        reader.object(node, |table| remote_execution::read_scheduler_name(table, facts))
    });
    let compression = table.optional("remote_cache_compression", |reader, node| {
        let is_on = reader.flag(node)?;
        if is_on {
            reader.warn(node.at, NOT_ANNOUNCED);
        }
        Some(is_on)
    });
    let remote_cache_compression = compression.unwrap_or(false);
    Some(CapabilitiesService { instance_name, scheduler, remote_cache_compression })
}

/// Reads the array, or the old object with all instances in `cas_stores`.
fn read_bytestream(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Vec<ByteStreamService>> {
    if matches!(node.value, Value::Object(_)) {
        warn_old_form(reader, node);
        return reader.object(node, |table| read_old_bytestream(table, facts));
    }
    read_instances(reader, node, |table, instance_name| {
        let cas_store = table.required("cas_store", read_store_name);
        facts.use_store(cas_store.as_ref());
        let (max_bytes_per_stream, persist_stream_on_disconnect_timeout) =
            read_stream_limits(table);
        Some(ByteStreamService {
            instance_name,
            cas_store: cas_store?,
            max_bytes_per_stream,
            persist_stream_on_disconnect_timeout,
        })
    })
}

fn read_old_bytestream(
    table: &mut Table<'_, '_, '_>,
    facts: &mut Facts,
) -> Option<Vec<ByteStreamService>> {
    let stores = table.required("cas_stores", |reader, node| {
        let Value::Object(entries) = &node.value else {
            reader.mismatch(node, "an object of instances and their stores");
            return None;
        };
        Some(reader.map(entries, |reader, entry| {
            let name = Located { value: entry.key.clone(), place: reader.place(entry.at) };
            Some((name, read_store_name(reader, &entry.node)?))
        }))
    });
    let (max_bytes_per_stream, persist_stream_on_disconnect_timeout) = read_stream_limits(table);
    table.optional("max_decoding_message_size", |reader, node| {
        reader.warn(node.at, "this has no effect here; it belongs to the listener");
        reader.size(node)
    });
    let services = stores?.into_iter().map(|(instance_name, cas_store)| {
        facts.use_store(Some(&cas_store));
        ByteStreamService {
            instance_name,
            cas_store,
            max_bytes_per_stream,
            persist_stream_on_disconnect_timeout,
        }
    });
    Some(services.collect())
}

fn read_stream_limits(table: &mut Table<'_, '_, '_>) -> (Option<u64>, Option<Duration>) {
    let max_bytes = table.optional("max_bytes_per_stream", Reader::nonzero_size);
    let timeout = table.aliased(
        "persist_stream_on_disconnect_timeout_s",
        "persist_stream_on_disconnect_timeout",
        Reader::nonzero_seconds,
    );
    (max_bytes, timeout)
}

fn read_health(reader: &mut Reader<'_>, node: &Node) -> Option<HealthService> {
    reader.object(node, |table| {
        let path = table.optional("path", read_route);
        let timeout = table.optional("timeout_seconds", Reader::nonzero_seconds);
        Some(HealthService {
            path: path.unwrap_or_else(|| HEALTH_PATH.to_owned()),
            timeout: timeout.unwrap_or(HEALTH_TIMEOUT),
        })
    })
}

fn read_admin(reader: &mut Reader<'_>, node: &Node) -> Option<AdminService> {
    reader.warn(node.at, NO_WORKERS);
    reader.object(node, |table| {
        let path = table.optional("path", read_route);
        Some(AdminService { path: path.unwrap_or_else(|| ADMIN_PATH.to_owned()) })
    })
}

/// The path of a request, which is not expanded.
fn read_route(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let path = reader.name(node)?;
    if !path.starts_with('/') || path.contains(|c: char| !c.is_ascii_graphic()) {
        reader.mismatch(node, "a path of a request, such as \"/status\"");
        return None;
    }
    Some(path)
}

fn read_store_name(reader: &mut Reader<'_>, node: &Node) -> Option<Located<String>> {
    reader.located(node, Reader::text)
}
