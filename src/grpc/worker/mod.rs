//! The worker API: what runs actions asks of the store on its own machine.
//!
//! Owns streams, leases and turns; how trees are made and captured is decided in
//! [`crate::staging`]. What each call means to its client is said in
//! `proto/castellan/worker/v1/worker.proto`.

mod capture;
mod events;
mod fetch;
mod instances;
mod paths;
mod request;
mod stage;
mod turns;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use castellan_proto::worker::worker_server::{Worker as WorkerService, WorkerServer};
use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse,
    FetchTreeRequest, FetchTreeResponse, GetDiskUsageRequest, GetDiskUsageResponse,
    ReleaseTreeRequest, ReleaseTreeResponse, StageTreeRequest, StageTreeResponse,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer as _;
use tower::layer::layer_fn;

use self::events::EventStream;
pub use self::instances::{Local, WorkerInstances};
use self::paths::Root;
use self::stage::Held;
use self::turns::Turns;
use super::deadline::DeadlineLayer;
use super::status::retry_later;
use super::trace::{CallLayer, record_call};
use crate::digest::DigestFunction;
use crate::shutdown;
use crate::staging::leases::Leases;
use crate::telemetry::metrics::Metrics;
use crate::trees::on_disk::Folder;

/// The largest message either way: some ten thousand paths.
const MESSAGE_BYTES: usize = 16 << 20;
/// Captures at once, each of which takes memory for its entries, and descriptors; removals, each of
/// which takes a thread that the store may need.
const MAX_WALKS: usize = 16;
const NAME: &str = WorkerServer::<Service>::NAME;

/// The bounds of the worker API.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The greatest number of staged trees that are leased at once.
    pub max_leases: usize,
    /// The greatest number of trees that are staged at once; as many are fetched, and as many calls
    /// capture and as many directories are removed, but no more than 16.
    pub max_running: usize,
    /// The greatest number of calls of each kind that wait for their turn.
    pub max_waiting: usize,
    /// How long they wait.
    pub turn_timeout: Duration,
    /// How long a stream waits for its client to take the next message.
    pub idle_timeout: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            max_leases: 100_000,
            max_running: 32,
            max_waiting: 4096,
            turn_timeout: Duration::from_mins(2),
            idle_timeout: Duration::from_mins(2),
        }
    }
}

/// The service on the wire.
#[derive(Debug)]
struct Service {
    worker: Arc<Worker>,
}

/// What every call works on.
#[derive(Debug)]
struct Worker {
    instances: WorkerInstances,
    root: Root,
    leases: Arc<Leases<Arc<Held>>>,
    stages: Turns,
    fetches: Turns,
    captures: Turns,
    removals: Turns,
    options: WorkerOptions,
    metrics: Arc<Metrics>,
    /// What goes on beside its call.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The worker API, ready to be served.
#[derive(Debug)]
pub struct WorkerFront {
    /// The service, traced.
    pub routes: Routes,
    /// Turns it off again.
    pub handle: WorkerHandle,
}

/// What the composition root keeps of the worker API.
#[derive(Debug)]
pub struct WorkerHandle {
    worker: Arc<Worker>,
    calls: TaskTracker,
    reporter: HealthReporter,
    expiry: JoinHandle<()>,
}

impl WorkerHandle {
    /// Has a token for each call until its response has been sent.
    pub fn calls(&self) -> &TaskTracker {
        &self.calls
    }

    /// Ends streams, and what goes on for them; other calls are still answered. Cancel safe.
    pub async fn start_draining(&self) {
        self.worker.stop.cancel();
        for name in ["", NAME] {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }

    /// Ends all leases, once nothing is under way any more, or after this time. What has been
    /// staged stays where it is.
    pub async fn stop(self, patience: Duration) {
        let Worker { tasks, leases, instances, .. } = &*self.worker;
        tasks.close();
        let at_rest = async {
            tasks.wait().await;
            // What calls have left behind that were broken off.
            for stager in instances.stagers() {
                stager.at_rest().await;
            }
        };
        if tokio::time::timeout(patience, at_rest).await.is_err() {
            tracing::warn!("trees are still being staged or removed, not waiting any longer");
        }
        leases.close();
        self.expiry.abort();
    }
}

/// Opens the directory below which all directories of requests are; makes it when it is not there.
pub fn open_root(path: &Path) -> io::Result<Folder> {
    Folder::make_root(path)
}

/// Builds the worker API over directories below `root`. Cancel safe.
pub async fn build(
    instances: WorkerInstances,
    root: Folder,
    options: WorkerOptions,
    metrics: Arc<Metrics>,
) -> WorkerFront {
    let turns = |running| Turns::new(running, options.max_waiting, options.turn_timeout);
    let leases = Leases::new(options.max_leases);
    let worker = Arc::new(Worker {
        instances,
        root: Root::new(root),
        leases: Arc::clone(&leases),
        stages: turns(options.max_running),
        fetches: turns(options.max_running),
        captures: turns(options.max_running.min(MAX_WALKS)),
        removals: turns(options.max_running.min(MAX_WALKS)),
        metrics: Arc::clone(&metrics),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        options,
    });
    let expiry = shutdown::spawn("leases", leases.run());
    let (reporter, health) = tonic_health::server::health_reporter();
    for name in ["", NAME] {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let service = WorkerServer::new(Service { worker: Arc::clone(&worker) })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let calls = TaskTracker::new();
    let mut routes = Routes::new(health).add_service(service);
    // Outermost, so that a call of an unknown method has its span too.
    let bare = std::mem::take(routes.axum_router_mut());
    let counting = CallLayer { calls: calls.clone(), metrics };
    *routes.axum_router_mut() =
        bare.layer(layer_fn(move |inner| counting.layer(DeadlineLayer.layer(inner))));
    let handle = WorkerHandle { worker, calls, reporter, expiry };
    WorkerFront { routes: routes.prepare(), handle }
}

impl Worker {
    fn digest_function(&self, value: i32) -> Result<DigestFunction, Status> {
        request::digest_function(value, self.instances.default_digest_function)
    }

    /// Refuses new work once the server stops.
    fn check_ready(&self) -> Result<(), Status> {
        if self.stop.is_cancelled() {
            return Err(retry_later(Code::Unavailable, "the server stops"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl WorkerService for Service {
    type StageTreeStream = EventStream<StageTreeResponse>;
    type FetchTreeStream = EventStream<FetchTreeResponse>;

    async fn stage_tree(
        &self,
        request: Request<StageTreeRequest>,
    ) -> Result<Response<Self::StageTreeStream>, Status> {
        self.worker.check_ready()?;
        stage::start(&self.worker, request.get_ref()).map(Response::new)
    }

    async fn release_tree(
        &self,
        request: Request<ReleaseTreeRequest>,
    ) -> Result<Response<ReleaseTreeResponse>, Status> {
        let is_removed = stage::release(&self.worker, request.into_inner()).await?;
        Ok(Response::new(ReleaseTreeResponse { is_removed }))
    }

    async fn capture_tree(
        &self,
        request: Request<CaptureTreeRequest>,
    ) -> Result<Response<CaptureTreeResponse>, Status> {
        capture::trees(&self.worker, request.into_inner()).await.map(Response::new)
    }

    async fn capture_files(
        &self,
        request: Request<CaptureFilesRequest>,
    ) -> Result<Response<CaptureFilesResponse>, Status> {
        capture::files(&self.worker, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_tree(
        &self,
        request: Request<FetchTreeRequest>,
    ) -> Result<Response<Self::FetchTreeStream>, Status> {
        self.worker.check_ready()?;
        fetch::start(&self.worker, request.get_ref()).map(Response::new)
    }

    async fn get_disk_usage(
        &self,
        request: Request<GetDiskUsageRequest>,
    ) -> Result<Response<GetDiskUsageResponse>, Status> {
        let GetDiskUsageRequest { instance_name } = request.get_ref();
        record_call(instance_name, None);
        let files = self.worker.instances.get(instance_name)?.files;
        let stats = files.stats();
        Ok(Response::new(GetDiskUsageResponse {
            max_bytes: stats.max_bytes,
            charged_bytes: stats.charged_bytes(),
            pinned_bytes: stats.pinned_bytes,
            entries: stats.entries,
            leases: self.worker.leases.count(|held| Arc::ptr_eq(&held.files, &files)) as u64,
        }))
    }
}
