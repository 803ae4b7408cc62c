//! The composition root: settings become stores, instances, services and listeners.
//!
//! The only place where these meet; nothing else knows all of them.

mod listeners;
mod operator;
mod stores;
#[cfg(test)]
mod tests;
mod values;
mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::listeners::{Behind, RunningGrpc};
pub use self::listeners::{GrpcListener, HealthPage, InstanceSettings, Instances};
use self::operator::RunningOperator;
use crate::admin_socket::AdminAddress;
use crate::http::{self, Connections, Front, HttpOptions, metrics::Exposition};
use crate::listener;
use crate::shutdown::{self, Readiness};
use crate::socket::{ListenAddress, SocketListener};
use crate::store::filesystem::{Cleanup, FilesystemOptions, FilesystemStore};
use crate::store::remote::RemoteError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;
use crate::tls::{FileProblem, Tls, TlsSettings};

use stores::Stores;
pub use stores::{StoreKind, StoreSettings};
pub use values::ValuesSettings;
pub use worker::WorkerSettings;
use worker::{BoundWorker, RunningWorker};

/// What may be spoken over HTTP once it is encrypted.
const WEB: [&str; 2] = ["h2", "http/1.1"];
/// How long connections without a call may take to close at the end.
const CONNECTION_GRACE: Duration = Duration::from_millis(500);

/// What to serve, checked and resolved.
#[derive(Debug)]
pub struct ServerSettings {
    /// The stores, each behind those that it stands before; the rest refers to them by position.
    pub stores: Vec<StoreSettings>,
    /// Values that are no action results; `None` for none.
    pub values: Option<ValuesSettings>,
    /// Where and what to serve over gRPC.
    pub listeners: Vec<GrpcListener>,
    /// Where to listen for HTTP. What it serves is what all gRPC listeners do; of two instances of
    /// one name that of the first counts.
    pub http_listen: SocketAddr,
    /// How.
    pub http: HttpOptions,
    /// Its certificates; `None` for none, and no encryption.
    pub http_tls: Option<TlsSettings>,
    /// What is served over HTTP beside that.
    pub http_instances: Option<Instances>,
    /// Action results that were adopted from bazel-remote are found under a hash of hash and
    /// instance name.
    pub adopted_results_are_mangled: bool,
    /// Where to listen for the operator; `None` for nowhere.
    pub admin: Option<AdminAddress>,
    /// Where workers are served; `None` for nowhere.
    pub worker: Option<WorkerSettings>,
    /// The longest wait for running requests at the end.
    pub drain_timeout: Duration,
    /// What has gone wrong so far.
    pub recent_errors: RecentErrors,
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
    /// A certificate or key cannot be used.
    #[error("TLS on {address}: {source}")]
    Tls {
        /// The listener's address.
        address: ListenAddress,
        /// The file, and why.
        source: FileProblem,
    },
    /// An address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: ListenAddress,
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
    /// The directory of workers cannot be opened.
    #[error("open the worker root {root:?}: {source}")]
    WorkerRoot {
        /// The directory.
        root: String,
        /// What the system said.
        source: io::Error,
    },
    /// An instance refers to a store that is not there.
    #[error("something refers to store {0}, which is not configured before it")]
    UnknownStore(usize),
    /// A store cannot be spread like this.
    #[error("store {0:?} is spread over no stores, or over one with the weight 0")]
    Shards(String),
    /// An upstream cannot be used as it is described.
    #[error("store {name:?}: {source}")]
    Upstream {
        /// The store that stands for it.
        name: String,
        /// What is wrong.
        source: RemoteError,
    },
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
    worker: Option<RunningWorker>,
    stop: CancellationToken,
    stop_http: CancellationToken,
    exposition: Arc<Exposition>,
    drain_timeout: Duration,
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
        let http_tls = settings.http_tls;
        listeners::warn_if_bypassed(&settings.listeners, settings.http_listen, http_tls.as_ref());
        let worker = BoundWorker::bind(settings.worker, &settings.listeners).await?;
        let checked = listeners::read_certificates(settings.listeners, &metrics)?;
        let tls = listeners::open_tls(http_tls, &WEB, &settings.http_listen.into(), &metrics)?;
        // All addresses before any store: a port that is taken costs no scan of a directory.
        let http_listener = listeners::bind(&settings.http_listen.into(), false).await?;
        let bound = listeners::bind_all(checked).await?;
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
        let behind = Behind {
            stores: stores.all().to_vec(),
            max_parked_bytes: stores.max_parked_bytes(),
            adopted: stores.adopted(settings.adopted_results_are_mangled),
            metrics,
            readiness: readiness.clone(),
            places: Arc::clone(&places),
            stop: stop.clone(),
        };
        let (grpc, served) = behind.start_all(bound, settings.http_instances).await?;
        let worker = RunningWorker::start(worker, &stores, &behind).await;
        let address = listeners::tcp_address(&http_listener, settings.http_listen)?;
        let stop_http = CancellationToken::new();
        let page = http::operator::routes(Arc::clone(&operator.operator));
        let front = Front {
            instances: Arc::new(served),
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
        let http = RunningHttp {
            address,
            calls: connections.calls.clone(),
            task: shutdown::spawn("http", serve_http(http_listener, tls, places, connections)),
        };
        let drain_timeout = settings.drain_timeout;
        let values = values_store;
        Ok(Self {
            stores,
            values,
            grpc,
            http,
            operator,
            worker,
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

    /// Where the gRPC listeners are, in the order of the settings.
    pub fn grpc_addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.grpc.iter().map(|it| &it.address)
    }

    /// Where the first gRPC listener is that has a port.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.iter().find_map(RunningGrpc::tcp_address)
    }

    /// Where the HTTP listener is.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address
    }

    /// Where the admin API is.
    pub fn admin_address(&self) -> Option<&AdminAddress> {
        self.operator.admin_address()
    }

    /// Where workers are served, in the order of the settings.
    pub fn worker_addresses(&self) -> &[ListenAddress] {
        self.worker.as_ref().map_or(&[], |worker| &worker.addresses)
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
        if let Some(worker) = &self.worker {
            worker.handle.start_draining().await;
        }
        self.stop.cancel();
        let (mut calls, mut tasks): (Vec<TaskTracker>, Vec<JoinHandle<()>>) =
            self.grpc.into_iter().map(|grpc| (grpc.handle.calls().clone(), grpc.task)).unzip();
        calls.push(self.http.calls);
        let worker = self.worker.map(|RunningWorker { handle, tasks: its_tasks, .. }| {
            calls.push(handle.calls().clone());
            tasks.extend(its_tasks);
            handle
        });
        end_listeners(&calls, tasks, self.drain_timeout).await;
        if let Some(worker) = worker {
            worker.stop(self.drain_timeout).await;
        }
        // Last: while calls run, probes are told that the process is draining, not gone.
        self.stop_http.cancel();
        end_listeners(&[], vec![self.http.task], CONNECTION_GRACE).await;
        self.operator.stop().await;
        // While the stores behind still take it.
        self.stores.write_behind(self.drain_timeout).await;
        first_error(self.stores.filesystem.iter().chain(&self.values).map(|store| async {
            let root = store.root().display().to_string();
            store.shutdown(Cleanup::Keep).await.map_err(|source| ServerError::Stop { root, source })
        }))
        .await
    }
}

async fn serve_http(
    listener: SocketListener,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    connections: Connections,
) {
    let incoming = listener::connections(listener, places);
    let Some(tls) = tls else {
        return http::serve(incoming.map(std::future::ready), connections).await;
    };
    let watching = Arc::clone(&tls).watch();
    let incoming = incoming.map(move |accepted| {
        let tls = Arc::clone(&tls);
        async move { tls.handshake(accepted?).await }
    });
    tokio::select! {
        () = http::serve(incoming, connections) => {}
        () = watching => {}
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
