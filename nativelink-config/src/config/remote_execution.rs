//! What surrounds a cache in remote execution: read and checked, and not run by this version.

use super::facts::Facts;
use super::service::read_instances;
use crate::diagnostic::Located;
use crate::document::{Node, Value};
use crate::reader::{Reader, Table};
use std::time::Duration;

/// What to do where `schedulers`, `workers` and their services are asked for.
pub(super) const SCHEDULER_INSTEAD: &str = "Castellan is the storage side of remote execution; run \
     a scheduler beside it, with a grpc store that points here";

const NO_ASSETS: &str = "remove it, and clients download from the origin";
const NO_BUILD_EVENTS: &str = "remove it, and send build events to a server that keeps them";
const NO_IDENTITY_HEADER: &str =
    "let a proxy check it, or ask clients for certificates with `tls.client_ca_file`";

/// The parts of `services` that this version does not run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OtherServices {
    /// `execution`: who runs actions, one per instance.
    pub execution: Vec<ExecutionService>,
    /// `fetch`: the half of Remote Asset that reads, one per instance.
    pub fetch: Vec<AssetService>,
    /// `push`: the half of Remote Asset that writes, one per instance.
    pub push: Vec<AssetService>,
    /// `worker_api`: where workers connect.
    pub worker_api: Option<WorkerApiService>,
    /// `experimental_bep`: keeps build events.
    pub experimental_bep: Option<BepService>,
}

/// Who runs the actions of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// The store that has the blobs.
    pub cas_store: Located<String>,
    /// The scheduler.
    pub scheduler: Located<String>,
}

/// One half of Remote Asset for an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetService {
    /// The instance; may be empty.
    pub instance_name: Located<String>,
    /// The store that has the assets.
    pub store: Located<String>,
    /// Whether clients are refused to write.
    pub read_only: bool,
}

/// Where workers connect.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerApiService {
    /// The scheduler that they work for.
    pub scheduler: Located<String>,
    /// Whether workers are left alone that run what was taken from them.
    pub disable_kill_revoked_operations: bool,
    /// How often workers are looked through for that.
    pub kill_revoked_operations_interval: Duration,
}

/// Keeps build events.
#[derive(Debug, Clone, PartialEq)]
pub struct BepService {
    /// The store that has them.
    pub store: Located<String>,
}

/// What the process tells of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct OriginEvents {
    /// The store that has the events.
    pub store: Located<String>,
    /// The most events that wait.
    pub max_event_queue_size: u64,
}

/// The header by which clients say who they are. Nobody checks what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeader {
    /// Its name.
    pub header_name: String,
    /// Whether requests without it are refused.
    pub required: bool,
}

pub(super) fn read_services(table: &mut Table<'_, '_, '_>, facts: &mut Facts) -> OtherServices {
    let execution = table.unsupported("execution", SCHEDULER_INSTEAD, |reader, node| {
        read_instances(reader, node, |table, instance| read_execution(table, instance, facts))
    });
    let worker_api = table.unsupported("worker_api", SCHEDULER_INSTEAD, |reader, node| {
        read_worker_api(reader, node, facts)
    });
    let mut asset = |service, store| {
        table.unsupported(service, NO_ASSETS, |reader, node| {
            read_instances(reader, node, |table, instance| {
                read_asset(table, instance, store, facts)
            })
        })
    };
    let (fetch, push) = (asset("fetch", "fetch_store"), asset("push", "push_store"));
    let experimental_bep =
        table.unsupported("experimental_bep", NO_BUILD_EVENTS, |reader, node| {
            read_bep(reader, node, facts)
        });
    OtherServices {
        execution: execution.unwrap_or_default(),
        fetch: fetch.unwrap_or_default(),
        push: push.unwrap_or_default(),
        worker_api,
        experimental_bep,
    }
}

fn read_execution(
    table: &mut Table<'_, '_, '_>,
    instance_name: Located<String>,
    facts: &mut Facts,
) -> Option<ExecutionService> {
    let cas_store = table.required("cas_store", |reader, node| reader.located(node, Reader::text));
    facts.use_store(cas_store.as_ref());
    let scheduler = read_scheduler_name(table, facts);
    Some(ExecutionService { instance_name, cas_store: cas_store?, scheduler: scheduler? })
}

/// The key `scheduler`, which names one of the `schedulers`.
pub(super) fn read_scheduler_name(
    table: &mut Table<'_, '_, '_>,
    facts: &mut Facts,
) -> Option<Located<String>> {
    let name = table.required("scheduler", |reader, node| reader.located(node, Reader::text));
    facts.use_scheduler(name.as_ref());
    name
}

fn read_asset(
    table: &mut Table<'_, '_, '_>,
    instance_name: Located<String>,
    store_key: &'static str,
    facts: &mut Facts,
) -> Option<AssetService> {
    let store = table.required(store_key, |reader, node| reader.located(node, Reader::text));
    facts.use_store(store.as_ref());
    let read_only = table.flag("read_only");
    Some(AssetService { instance_name, store: store?, read_only })
}

fn read_worker_api(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<WorkerApiService> {
    reader.object(node, |table| {
        let scheduler = read_scheduler_name(table, facts);
        let interval = table
            .optional("kill_revoked_operations_interval_s", Reader::nonzero_seconds)
            .unwrap_or(Duration::from_secs(5));
        let disable_kill_revoked_operations = table.flag("disable_kill_revoked_operations");
        Some(WorkerApiService {
            scheduler: scheduler?,
            disable_kill_revoked_operations,
            kill_revoked_operations_interval: interval,
        })
    })
}

fn read_bep(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<BepService> {
    reader.object(node, |table| {
        let store = table.required("store", |reader, node| reader.located(node, Reader::text));
        facts.use_store(store.as_ref());
        Some(BepService { store: store? })
    })
}

pub(super) fn read_origin_events(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<OriginEvents> {
    reader.object(node, |table| {
        let publisher = table.required("publisher", |reader, node| read_bep(reader, node, facts));
        let max_event_queue_size =
            table.optional("max_event_queue_size", Reader::nonzero_count).unwrap_or(65_536);
        Some(OriginEvents { store: publisher?.store, max_event_queue_size })
    })
}

pub(super) fn read_identity_header(reader: &mut Reader<'_>, node: &Node) -> Option<IdentityHeader> {
    let header = reader.object(node, |table| {
        let header_name = table.optional("header_name", Reader::full_name);
        let required = table.optional("required", |reader, node| {
            let required = reader.flag(node)?;
            if required {
                reader.note_unsupported(node.at, NO_IDENTITY_HEADER);
            }
            Some(required)
        });
        Some(IdentityHeader {
            header_name: header_name.unwrap_or_else(|| "x-identity".to_owned()),
            required: required.unwrap_or(false),
        })
    })?;
    let is_empty = matches!(&node.value, Value::Object(entries) if entries.is_empty());
    if !is_empty && !header.required {
        reader.warn(node.at, "this has no effect: nobody reads the header");
    }
    Some(header)
}
