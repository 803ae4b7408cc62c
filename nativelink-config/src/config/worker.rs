//! The `workers` of a file: read and checked, and not run by this version.

use super::endpoint::{self, ClientTlsConfig};
use super::facts::Facts;
use super::redis::milliseconds;
use crate::diagnostic::Located;
use crate::document::{Node, Value};
use crate::reader::Reader;
use std::time::Duration;

mod environment;
mod results;

pub use environment::{EnvironmentSource, WorkerProperty};
pub use results::{UploadActionResult, UploadStrategy};

/// One of the `workers`.
#[derive(Debug, Clone, PartialEq)]
pub enum Worker {
    /// `local`: runs actions on this machine.
    Local(Box<LocalWorker>),
}

/// The settings of a `local` worker.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalWorker {
    /// What it is called in logs; may be empty.
    pub name: String,
    /// The scheduler that it works for.
    pub worker_api_endpoint: WorkerApiEndpoint,
    /// The longest time that an action may run.
    pub max_action_timeout: Duration,
    /// The longest time that the upload of its results may take.
    pub max_upload_timeout: Duration,
    /// The longest wait for an earlier action of the same name to be cleaned up.
    pub max_cleanup_wait: Duration,
    /// The longest pause between two looks at that.
    pub max_cleanup_backoff: Duration,
    /// How many actions run at a time; absent is no limit.
    pub max_inflight_tasks: Option<u64>,
    /// Whether the entry point ends actions that take too long.
    pub timeout_handled_externally: bool,
    /// What is put before every command; may be empty.
    pub entrypoint: String,
    /// What is run before every action to see whether there is room for it.
    pub experimental_precondition_script: Option<String>,
    /// The store that has the blobs: a `fast_slow` store with a `filesystem` store as its fast one.
    pub cas_fast_slow_store: Located<String>,
    /// What happens to results.
    pub upload_action_result: UploadActionResult,
    /// Where actions run; emptied at the start.
    pub work_directory: Located<String>,
    /// What the worker offers, in the order of the file.
    pub platform_properties: Vec<(String, WorkerProperty)>,
    /// Variables for actions, in the order of the file.
    pub additional_environment: Vec<(String, EnvironmentSource)>,
    /// Whether and how input directories are kept for later actions.
    pub directory_cache: Option<DirectoryCache>,
    /// Whether blobs of running actions are protected from eviction.
    pub experimental_active_input_leases: bool,
    /// Whether actions run in namespaces of their own; absent is where the machine allows it.
    pub use_namespaces: Option<bool>,
    /// Whether that includes the mounts.
    pub use_mount_namespace: Option<bool>,
}

/// How a worker reaches its scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerApiEndpoint {
    /// The URL.
    pub uri: Located<String>,
    /// How long a request may take.
    pub timeout: Duration,
    /// What TLS needs beyond the system's roots.
    pub tls_config: Option<ClientTlsConfig>,
}

/// Input directories that are kept for later actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryCache {
    /// The most directories to keep.
    pub max_entries: u64,
    /// The most bytes to keep; absent is no limit.
    pub max_size_bytes: Option<u64>,
    /// Where they are; next to the work directory if absent.
    pub cache_root: Option<Located<String>>,
    /// Whether the directories in a directory are kept for themselves too.
    pub experimental_subtree_caching: bool,
    /// How many blobs are fetched at a time.
    pub max_concurrent_fetches: u64,
    /// Whether the whole tree is asked for at once.
    pub experimental_get_tree_prefetch: bool,
}

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Vec<Worker>> {
    if matches!(&node.value, Value::Object(entries) if entries.is_empty()) {
        return Some(Vec::new());
    }
    reader.list(node, |reader, node| {
        reader.object(node, |table| {
            let local = table.required("local", |reader, node| read_local(reader, node, facts));
            local.map(|local| Worker::Local(Box::new(local)))
        })
    })
}

fn read_local(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<LocalWorker> {
    reader.object(node, |table| {
        let endpoint = table.required("worker_api_endpoint", read_api_endpoint);
        let cas = table
            .required("cas_fast_slow_store", |reader, node| reader.located(node, Reader::text));
        facts.use_store(cas.as_ref());
        let work_directory = table
            .required("work_directory", |reader, node| reader.located(node, Reader::file_path));
        let properties = table.required("platform_properties", environment::read_properties);
        let results = table
            .optional("upload_action_result", |reader, node| results::read(reader, node, facts));
        let action = table
            .aliased("max_action_timeout_s", "max_action_timeout", Reader::nonzero_seconds)
            .unwrap_or(Duration::from_mins(20));
        let upload = table
            .aliased("max_upload_timeout_s", "max_upload_timeout", Reader::nonzero_seconds)
            .unwrap_or(Duration::from_mins(10));
        let worker = LocalWorker {
            name: table.optional("name", Reader::text).unwrap_or_default(),
            max_action_timeout: action,
            max_upload_timeout: upload,
            max_cleanup_wait: table
                .optional("max_cleanup_wait_s", Reader::nonzero_seconds)
                .unwrap_or(Duration::from_secs(30)),
            max_cleanup_backoff: milliseconds(table, "max_cleanup_backoff_ms")
                .unwrap_or(Duration::from_millis(500)),
            max_inflight_tasks: table.optional("max_inflight_tasks", Reader::nonzero_count),
            timeout_handled_externally: table.flag("timeout_handled_externally"),
            entrypoint: table.optional("entrypoint", Reader::text).unwrap_or_default(),
            experimental_precondition_script: table
                .optional("experimental_precondition_script", Reader::file_path),
            upload_action_result: results.unwrap_or_default(),
            additional_environment: table
                .optional("additional_environment", environment::read_environment)
                .unwrap_or_default(),
            directory_cache: table.optional("directory_cache", read_directory_cache),
            experimental_active_input_leases: table.flag("experimental_active_input_leases"),
            use_namespaces: table.optional("use_namespaces", Reader::flag),
            use_mount_namespace: table.optional("use_mount_namespace", Reader::flag),
            worker_api_endpoint: endpoint?,
            cas_fast_slow_store: cas?,
            work_directory: work_directory?,
            platform_properties: properties?,
        };
        Some(worker)
    })
}

fn read_api_endpoint(reader: &mut Reader<'_>, node: &Node) -> Option<WorkerApiEndpoint> {
    reader.object(node, |table| {
        let uri =
            table.required("uri", |reader, node| reader.located(node, endpoint::read_address));
        let endpoint = WorkerApiEndpoint {
            timeout: table
                .optional("timeout", Reader::decimal_seconds)
                .unwrap_or(Duration::from_secs(5)),
            tls_config: table.optional("tls_config", endpoint::read_client_tls),
            uri: uri?,
        };
        Some(endpoint)
    })
}

fn read_directory_cache(reader: &mut Reader<'_>, node: &Node) -> Option<DirectoryCache> {
    reader.object(node, |table| {
        let size = table.optional("max_size_bytes", Reader::size).unwrap_or(10 << 30);
        Some(DirectoryCache {
            max_entries: table.optional("max_entries", Reader::nonzero_count).unwrap_or(1000),
            max_size_bytes: Some(size).filter(|size| *size != 0),
            cache_root: table
                .optional("cache_root", |reader, node| reader.located(node, Reader::file_path)),
            experimental_subtree_caching: table.flag("experimental_subtree_caching"),
            max_concurrent_fetches: table
                .optional("max_concurrent_fetches", Reader::nonzero_count)
                .unwrap_or(64),
            experimental_get_tree_prefetch: table.flag("experimental_get_tree_prefetch"),
        })
    })
}
