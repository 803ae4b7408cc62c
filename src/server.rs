//! The composition root: settings become stores, instances, services and listeners.
//!
//! The only place where these meet; nothing else knows all of them.

mod operator;
mod stores;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::operator::RunningOperator;
use crate::admin_socket::AdminAddress;
use crate::grpc::{self, GrpcFront, GrpcHandle, GrpcOptions};
use crate::http::{self, Connections, Front, HttpOptions, metrics::Exposition};
use crate::instance::{self, InstanceStores};
use crate::listener;
use crate::shutdown::{self, Readiness};
use crate::store::filesystem::{Cleanup, FilesystemOptions, FilesystemStore};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;

use stores::Stores;
pub use stores::{StoreKind, StoreSettings};
pub use values::ValuesSettings;

/// Connections that wait to be accepted. Build tools open a hundred at once; with a short queue
/// they see refused connections as cache errors.
const LISTEN_BACKLOG: u32 = 4096;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 4 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const HTTP2_MAX_FRAME_BYTES: u32 = 1 << 20;
const HTTP2_MAX_STREAMS: u32 = 4096;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 << 10;
/// Resets of streams that a client may have pending before it counts as an attack
/// (CVE-2023-44487).
const HTTP2_MAX_PENDING_RESETS: usize = 1024;
/// How long connections without a call may take to close at the end.
const CONNECTION_GRACE: Duration = Duration::from_millis(500);
/// A peer that answers no ping for so long is gone, and what it holds is released.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What to serve, checked and resolved.
#[derive(Debug)]
pub struct ServerSettings {
    /// The stores, each behind those that it stands before; the rest refers to them by position.
    pub stores: Vec<StoreSettings>,
    /// Values that are no action results; `None` for none.
    pub values: Option<ValuesSettings>,
    /// Where and what to serve over gRPC; at least one.
    pub listeners: Vec<GrpcListener>,
    /// Where to listen for HTTP. What it serves is what the first gRPC listener does.
    pub http_listen: SocketAddr,
    /// How.
    pub http: HttpOptions,
    /// Where to listen for the operator; `None` for nowhere.
    pub admin: Option<AdminAddress>,
    /// The longest wait for running requests at the end.
    pub drain_timeout: Duration,
    /// What has gone wrong so far.
    pub recent_errors: RecentErrors,
}

/// One gRPC listener.
#[derive(Debug)]
pub struct GrpcListener {
    /// Where it listens; port 0 picks a free one.
    pub address: SocketAddr,
    /// What it serves.
    pub instances: Instances,
    /// How.
    pub options: GrpcOptions,
}

/// Which instances there are.
#[derive(Debug)]
pub enum Instances {
    /// Any name, on the same stores.
    Any(InstanceSettings),
    /// These names.
    Named(HashMap<String, InstanceSettings>),
}

/// The stores of an instance, as positions in [`ServerSettings::stores`].
#[derive(Clone, Copy, Debug)]
pub struct InstanceSettings {
    /// Holds the blobs.
    pub cas: usize,
    /// Holds the action results.
    pub action_cache: usize,
    /// Whether clients may not write action results.
    pub action_cache_read_only: bool,
}

/// Why a server did not start or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Signals cannot be received.
    #[error("install signal handlers: {0}")]
    Signals(#[source] io::Error),
    /// A store cannot be opened.
    #[error("open the store in {root:?}: {source}")]
    Store {
        /// Its directory.
        root: String,
        /// What the system said.
        source: io::Error,
    },
    /// An address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The operator cannot be listened to.
    #[error("listen for the operator on {address}: {source}")]
    Admin {
        /// The address.
        address: AdminAddress,
        /// What the system said.
        source: io::Error,
    },
    /// An instance refers to a store that is not there.
    #[error("something refers to store {0}, which is not configured before it")]
    UnknownStore(usize),
    /// A store cannot be spread like this.
    #[error("store {0:?} is spread over no stores, or over one with the weight 0")]
    Shards(String),
    /// A store did not reach the disk.
    #[error("stop the store in {root:?}: {source}")]
    Stop {
        /// Its directory.
        root: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    stores: Stores,
    values: Option<Arc<FilesystemStore>>,
    grpc: Vec<RunningGrpc>,
    http: RunningHttp,
    operator: RunningOperator,
    stop: CancellationToken,
    stop_http: CancellationToken,
    exposition: Arc<Exposition>,
    drain_timeout: Duration,
}

#[derive(Debug)]
struct RunningGrpc {
    address: SocketAddr,
    handle: GrpcHandle,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct RunningHttp {
    address: SocketAddr,
    calls: TaskTracker,
    task: JoinHandle<()>,
}

impl Server {
    /// Opens the stores, binds every address, and serves.
    pub async fn start(settings: ServerSettings) -> Result<Self, ServerError> {
        let metrics = Metrics::new(settings.recent_errors);
        // All addresses before any store: a port that is taken costs no scan of a directory.
        let http_listener = listen(settings.http_listen)?;
        let mut bound = Vec::new();
        for listener in settings.listeners {
            bound.push((listen(listener.address)?, listener));
        }
        let (stores, values) = Stores::open(settings.stores, settings.values).await?;
        let (values_store, values) = values.map(|it| (it.store, it.values)).unzip();
        let all_stores: Vec<_> = stores.filesystem.iter().chain(&values_store).cloned().collect();
        let watched = stores.watched.clone();
        let exposition = Exposition::new(Arc::clone(&metrics), &all_stores, watched);
        let readiness = Readiness::new();
        let (ready, admin) = (readiness.clone(), settings.admin);
        let trees = stores.trees();
        let operator =
            RunningOperator::start(&exposition, trees, values_store.as_ref(), ready, admin).await?;
        let stop = CancellationToken::new();
        let places = listener::places();
        let mut grpc = Vec::new();
        let mut served = None;
        for (socket, listener) in bound {
            let instances = instances(&stores, &listener.instances)?;
            let instances = Arc::new(instances.counted_by(Arc::clone(&metrics)));
            served.get_or_insert_with(|| Arc::clone(&instances));
            let options = options(listener.options, &stores.filesystem);
            let front = grpc::build(instances, options, readiness.clone()).await;
            let address = local_address(&socket, listener.address)?;
            grpc.push(start_grpc(socket, address, front, Arc::clone(&places), &stop));
        }
        let address = local_address(&http_listener, settings.http_listen)?;
        let stop_http = CancellationToken::new();
        let page = http::operator::routes(Arc::clone(&operator.operator));
        let front = Front {
            instances: served
                .unwrap_or_else(|| Arc::new(instance::Instances::named(HashMap::new()))),
            values,
            readiness,
            options: settings.http.clone(),
        };
        let connections = Connections {
            // Not counted: an operator who looks is no client.
            router: http::observed(http::router(front), Arc::clone(&exposition)).merge(page),
            options: settings.http,
            calls: TaskTracker::new(),
            stop: stop_http.clone(),
        };
        let incoming = listener::connections(http_listener, places);
        let http = RunningHttp {
            address,
            calls: connections.calls.clone(),
            task: shutdown::spawn("http", http::serve(incoming, connections)),
        };
        let drain_timeout = settings.drain_timeout;
        let values = values_store;
        Ok(Self {
            stores,
            values,
            grpc,
            http,
            operator,
            stop,
            stop_http,
            exposition,
            drain_timeout,
        })
    }

    /// The line that says where the server can be reached.
    pub fn ready_line(&self) -> String {
        let grpc: Vec<String> = self.grpc.iter().map(|it| it.address.to_string()).collect();
        format!("castellan ready grpc={} http={}", grpc.join(","), self.http.address)
    }

    /// Where the first gRPC listener is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.first().map(|it| it.address)
    }

    /// Where the HTTP listener is.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> Option<&AdminAddress> {
        self.operator.admin_address()
    }

    /// The stores of files, in the order of the settings.
    pub fn stores(&self) -> &[Arc<FilesystemStore>] {
        &self.stores.filesystem
    }

    /// The store of values that are no action results.
    pub fn values_store(&self) -> Option<&Arc<FilesystemStore>> {
        self.values.as_ref()
    }

    /// Everything that is counted.
    pub fn exposition(&self) -> &Arc<Exposition> {
        &self.exposition
    }

    /// Accepts nothing more, lets running requests end, stops the stores. Every stage is bounded.
    pub async fn shutdown(self) -> Result<(), ServerError> {
        for grpc in &self.grpc {
            grpc.handle.start_draining().await;
        }
        self.stop.cancel();
        let (mut calls, tasks): (Vec<TaskTracker>, Vec<JoinHandle<()>>) =
            self.grpc.into_iter().map(|grpc| (grpc.handle.calls().clone(), grpc.task)).unzip();
        calls.push(self.http.calls);
        end_listeners(&calls, tasks, self.drain_timeout).await;
        // Last: while calls run, probes are told that the process is draining, not gone.
        self.stop_http.cancel();
        end_listeners(&[], vec![self.http.task], CONNECTION_GRACE).await;
        self.operator.stop().await;
        first_error(self.stores.filesystem.iter().chain(&self.values).map(|store| async {
            let root = store.root().display().to_string();
            store.shutdown(Cleanup::Keep).await.map_err(|source| ServerError::Stop { root, source })
        }))
        .await
    }
}

/// Waits for calls and then for connections; ends what is left when the time is up.
async fn end_listeners(calls: &[TaskTracker], tasks: Vec<JoinHandle<()>>, drain_timeout: Duration) {
    let deadline = sleep(drain_timeout).deadline();
    let aborts: Vec<AbortHandle> = tasks.iter().map(JoinHandle::abort_handle).collect();
    let mut listeners_ended = pin!(join_all(tasks));
    loop {
        let calls_ended = async {
            for calls in calls {
                calls.close();
                calls.wait().await;
            }
        };
        if timeout_at(deadline, calls_ended).await.is_err() {
            tracing::warn!("calls still running, not waiting any longer");
        }
        if timeout(CONNECTION_GRACE, listeners_ended.as_mut()).await.is_ok() {
            return;
        }
        // A call that its client sent before it heard of the end is a call like any other.
        if Instant::now() >= deadline || calls.iter().all(TaskTracker::is_empty) {
            tracing::debug!("connections still open, closing them");
            aborts.iter().for_each(AbortHandle::abort);
            return;
        }
    }
}

async fn join_all(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, "listener ended badly");
        }
    }
}

/// Stops one after the other, whatever becomes of those before; gives the first error.
async fn first_error<F>(stops: impl Iterator<Item = F>) -> Result<(), ServerError>
where
    F: Future<Output = Result<(), ServerError>>,
{
    let mut outcome = Ok(());
    for stop in stops {
        let stopped = stop.await;
        if let Err(error) = &stopped {
            tracing::error!(%error, "store not stopped well");
        }
        outcome = outcome.and(stopped);
    }
    outcome
}

async fn open_store(options: FilesystemOptions) -> Result<Arc<FilesystemStore>, ServerError> {
    let root = options.root.display().to_string();
    let store = FilesystemStore::open(options)
        .await
        .map_err(|source| ServerError::Store { root: root.clone(), source })?;
    let stats = store.stats();
    tracing::info!(
        root,
        max_bytes = stats.max_bytes,
        used_bytes = stats.charged_bytes(),
        entries = stats.entries,
        "store open"
    );
    Ok(store)
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(LISTEN_BACKLOG)
    };
    bind().map_err(|source| ServerError::Listen { address, source })
}

fn local_address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ServerError> {
    listener.local_addr().map_err(|source| ServerError::Listen { address, source })
}

fn instance_stores(
    stores: &Stores,
    settings: InstanceSettings,
) -> Result<InstanceStores, ServerError> {
    Ok(InstanceStores {
        cas: stores.get(settings.cas)?,
        action_cache: stores.get(settings.action_cache)?,
        action_cache_read_only: settings.action_cache_read_only,
    })
}

fn instances(stores: &Stores, instances: &Instances) -> Result<instance::Instances, ServerError> {
    Ok(match instances {
        Instances::Any(settings) => instance::Instances::any(instance_stores(stores, *settings)?),
        Instances::Named(named) => {
            let named: Result<HashMap<_, _>, ServerError> = named
                .iter()
                .map(|(name, settings)| Ok((name.clone(), instance_stores(stores, *settings)?)))
                .collect();
            instance::Instances::named(named?)
        }
    })
}

fn options(mut options: GrpcOptions, stores: &[Arc<FilesystemStore>]) -> GrpcOptions {
    let smallest = stores.iter().map(|store| store.stats().max_bytes).min().unwrap_or_default();
    // Interrupted uploads keep their reservation: they may not take a small store away from
    // those who are here.
    options.max_parked_bytes = options.max_parked_bytes.min(smallest / 8);
    options
}

fn start_grpc(
    socket: TcpListener,
    address: SocketAddr,
    front: GrpcFront,
    places: Arc<Semaphore>,
    stop: &CancellationToken,
) -> RunningGrpc {
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_MAX_FRAME_BYTES)
        .max_concurrent_streams(HTTP2_MAX_STREAMS)
        .http2_max_header_list_size(HTTP2_MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(HTTP2_MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(front.routes);
    let incoming = listener::connections(socket, places);
    let stopped = stop.clone().cancelled_owned();
    let serving = async move {
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
            tracing::error!(%error, "gRPC listener failed");
        }
    };
    let task = shutdown::spawn("grpc", serving);
    RunningGrpc { address, handle: front.handle, task }
}
