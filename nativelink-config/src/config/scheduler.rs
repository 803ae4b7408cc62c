//! The `schedulers` of a file: read and checked, and not run by this version.

use super::endpoint::{self, GrpcEndpoint};
use super::facts::Facts;
use super::redis::count_or;
use super::retry::{self, Retry};
use crate::diagnostic::Located;
use crate::document::{Node, Value};
use crate::reader::number::Interval;
use crate::reader::{Reader, Table};
use std::time::Duration;

mod wrapping;

pub use wrapping::{CacheLookupScheduler, HistoricalResourceScheduler, PropertyModification};
pub use wrapping::{PropertyModifierScheduler, PropertyReplacement};

/// One of the `schedulers`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduler {
    /// The name by which services refer to it.
    pub name: Located<String>,
    /// Its kind and settings.
    pub spec: SchedulerSpec,
}

/// What a scheduler is.
#[derive(Debug, Clone, PartialEq)]
pub enum SchedulerSpec {
    /// `simple`: has the queue itself.
    Simple(SimpleScheduler),
    /// `grpc`: asks another server.
    Grpc(Box<GrpcScheduler>),
    /// `cache_lookup`: asks the action cache first.
    CacheLookup(CacheLookupScheduler),
    /// `property_modifier`: changes what actions ask for.
    PropertyModifier(PropertyModifierScheduler),
    /// `historical_resource`: asks for what an action took earlier.
    HistoricalResource(HistoricalResourceScheduler),
}

/// The settings of a `simple` scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct SimpleScheduler {
    /// What workers offer and actions ask for, in the order of the file.
    pub supported_platform_properties: Vec<(String, PropertyType)>,
    /// How long the result of an action is kept for those who ask late.
    pub retain_completed_for: Duration,
    /// How long an action stays that no client asks for.
    pub client_action_timeout: Duration,
    /// How long a worker may be silent.
    pub worker_timeout: Duration,
    /// How long an action may run without a word from its worker; absent is no limit.
    pub max_action_executing_timeout: Option<Duration>,
    /// How long a worker may take to say that it has ended an action.
    pub unacknowledged_kill_timeout: Duration,
    /// How often an action is tried again.
    pub max_job_retries: u64,
    /// Which of several workers gets an action.
    pub allocation_strategy: AllocationStrategy,
    /// Where the queue is.
    pub experimental_backend: SchedulerBackend,
    /// How often it is logged why actions wait.
    pub worker_match_logging_interval: Interval,
    /// How often workers are looked for when nothing has changed.
    pub fallback_match_interval: Duration,
}

/// How a property of an action is compared with one of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    /// `minimum`: the worker has as much or more.
    Minimum,
    /// `exact`: the texts are equal.
    Exact,
    /// `priority`: the worker is told.
    Priority,
    /// `ignore`: any worker will do.
    Ignore,
}

/// Which of several workers gets an action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AllocationStrategy {
    /// `least_recently_used`.
    #[default]
    LeastRecentlyUsed,
    /// `most_recently_used`.
    MostRecentlyUsed,
}

/// Where a scheduler has its queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SchedulerBackend {
    /// `memory`: in the process.
    #[default]
    Memory,
    /// `redis`: in the servers of a `redis_store`.
    Redis {
        /// The store.
        redis_store: Located<String>,
    },
}

/// The settings of a `grpc` scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcScheduler {
    /// The server that is asked.
    pub endpoint: GrpcEndpoint,
    /// What happens after a failure.
    pub retry: Retry,
    /// How many requests are under way at a time; absent is no limit.
    pub max_concurrent_requests: Option<u64>,
    /// How many connections are kept open.
    pub connections_per_endpoint: u64,
}

const KINDS: &[&str] =
    &["simple", "grpc", "cache_lookup", "property_modifier", "historical_resource"];

const PROPERTY_TYPES: &[(&str, PropertyType)] = &[
    ("minimum", PropertyType::Minimum),
    ("exact", PropertyType::Exact),
    ("priority", PropertyType::Priority),
    ("ignore", PropertyType::Ignore),
];

const STRATEGIES: &[(&str, AllocationStrategy)] = &[
    ("least_recently_used", AllocationStrategy::LeastRecentlyUsed),
    ("most_recently_used", AllocationStrategy::MostRecentlyUsed),
];

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Vec<Scheduler>> {
    if matches!(&node.value, Value::Object(entries) if !entries.is_empty()) {
        let message = "expected an array, [{ name: \"...\", simple: {...} }]; the form with names \
                       as keys is no longer part of the format";
        reader.report(node.at, message);
        // A name that looks unknown may be one of these.
        facts.add_scheduler(None);
        return None;
    }
    if matches!(node.value, Value::Object(_)) {
        return Some(Vec::new());
    }
    reader.list(node, |reader, node| read_scheduler(reader, node, facts))
}

fn read_scheduler(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Scheduler> {
    let scheduler = reader.object(node, |table| {
        let name = table.required("name", |reader, node| reader.located(node, Reader::full_name));
        facts.add_scheduler(name.as_ref());
        let spec = read_spec(table, facts);
        Some((name, spec))
    });
    let Some((name, spec)) = scheduler else {
        facts.add_scheduler(None);
        return None;
    };
    Some(Scheduler { name: name?, spec: spec? })
}

fn read_inner(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<SchedulerSpec> {
    reader.object(node, |table| read_spec(table, facts))
}

fn read_spec(table: &mut Table<'_, '_, '_>, facts: &mut Facts) -> Option<SchedulerSpec> {
    let kind = table.only_key_of("kind of the scheduler", KINDS, &[])?;
    table.required(kind, |reader, node| {
        Some(match kind {
            "grpc" => SchedulerSpec::Grpc(Box::new(read_grpc(reader, node)?)),
            "cache_lookup" => {
                SchedulerSpec::CacheLookup(wrapping::read_cache_lookup(reader, node, facts)?)
            }
            "property_modifier" => SchedulerSpec::PropertyModifier(
                wrapping::read_property_modifier(reader, node, facts)?,
            ),
            "historical_resource" => SchedulerSpec::HistoricalResource(
                wrapping::read_historical_resource(reader, node, facts)?,
            ),
            _ => SchedulerSpec::Simple(read_simple(reader, node, facts)?),
        })
    })
}

fn read_simple(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<SimpleScheduler> {
    reader.object(node, |table| {
        let properties = table.optional("supported_platform_properties", read_properties);
        let backend = table
            .optional("experimental_backend", |reader, node| read_backend(reader, node, facts));
        let logging_interval =
            table.optional("worker_match_logging_interval_s", Reader::seconds_or_never);
        Some(SimpleScheduler {
            supported_platform_properties: properties.unwrap_or_default(),
            retain_completed_for: seconds_or(table, "retain_completed_for_s", 60),
            client_action_timeout: seconds_or(table, "client_action_timeout_s", 60),
            worker_timeout: seconds_or(table, "worker_timeout_s", 5),
            max_action_executing_timeout: table
                .optional("max_action_executing_timeout_s", Reader::nonzero_seconds),
            unacknowledged_kill_timeout: seconds_or(table, "unacknowledged_kill_timeout_s", 60),
            max_job_retries: count_or(table, "max_job_retries", 3),
            allocation_strategy: table
                .optional("allocation_strategy", |reader, node| reader.choice(node, STRATEGIES))
                .unwrap_or_default(),
            experimental_backend: backend.unwrap_or_default(),
            worker_match_logging_interval: logging_interval
                .unwrap_or(Interval::Every(Duration::from_secs(10))),
            fallback_match_interval: table
                .optional("fallback_match_interval_s", Reader::seconds)
                .unwrap_or(Duration::from_secs(5)),
        })
    })
}

fn read_properties(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(String, PropertyType)>> {
    reader.entries(node, |reader, entry| {
        let property = reader.choice(&entry.node, PROPERTY_TYPES)?;
        Some((entry.key.clone(), property))
    })
}

fn read_backend(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<SchedulerBackend> {
    if matches!(node.value, Value::Text(_)) {
        return reader.choice(node, &[("memory", ())]).map(|()| SchedulerBackend::Memory);
    }
    reader.object(node, |table| {
        table.required("redis", |reader, node| {
            reader.object(node, |table| {
                let redis_store = table
                    .required("redis_store", |reader, node| reader.located(node, Reader::text));
                facts.use_store(redis_store.as_ref());
                Some(SchedulerBackend::Redis { redis_store: redis_store? })
            })
        })
    })
}

fn read_grpc(reader: &mut Reader<'_>, node: &Node) -> Option<GrpcScheduler> {
    reader.object(node, |table| {
        let endpoint = table.required("endpoint", endpoint::read);
        let scheduler = GrpcScheduler {
            retry: table.optional("retry", retry::read).unwrap_or_default(),
            max_concurrent_requests: table
                .optional("max_concurrent_requests", Reader::nonzero_count),
            connections_per_endpoint: count_or(table, "connections_per_endpoint", 1),
            endpoint: endpoint?,
        };
        Some(scheduler)
    })
}

/// As in the format, 0 is the default.
fn seconds_or(table: &mut Table<'_, '_, '_>, key: &'static str, default: u64) -> Duration {
    let duration = table.optional(key, Reader::nonzero_seconds);
    duration.unwrap_or(Duration::from_secs(default))
}
