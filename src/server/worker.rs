//! The worker API of a server: where it listens, and which instances it stages from.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use super::listeners::{self, Behind, GrpcListener, InstanceSettings, Instances};
use super::stores::Stores;
use crate::cas::Cas;
use crate::digest::DigestFunction;
use crate::grpc::worker::{self, Local, WorkerFront, WorkerHandle, WorkerInstances, WorkerOptions};
use crate::grpc::{self, Http2Options, Transport};
use crate::listener;
use crate::shutdown;
use crate::socket::{ListenAddress, SocketListener};
use crate::staging::Stager;
use crate::staging::workshop::Workshop;
use crate::trees::on_disk::Folder;

/// Where workers are served, and which directories are theirs.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Where to listen; port 0 picks a free one.
    pub addresses: Vec<ListenAddress>,
    /// The mode of sockets in the file system: who may connect does all that workers may.
    pub socket_mode: u32,
    /// Their group; `None` for the server's.
    pub socket_group: Option<u32>,
    /// The directory below which all directories of requests are.
    pub root: PathBuf,
    /// The bounds.
    pub options: WorkerOptions,
}

/// The addresses are taken and the directory is open.
#[derive(Debug)]
pub(super) struct BoundWorker {
    sockets: Vec<(ListenAddress, SocketListener)>,
    root: Folder,
    /// `None` where none can be had.
    workshop: Option<Arc<Workshop>>,
    options: WorkerOptions,
    plan: Plan,
}

/// The worker API of a running server.
#[derive(Debug)]
pub(super) struct RunningWorker {
    pub(super) addresses: Vec<ListenAddress>,
    pub(super) handle: WorkerHandle,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// The blobs of each instance, as positions of stores; `None` is an instance without.
#[derive(Debug, Default)]
struct Plan {
    named: HashMap<String, Option<usize>>,
    any: Option<usize>,
    /// That of the first listener.
    default_digest_function: Option<DigestFunction>,
}

impl Plan {
    /// The instances of all listeners together; of two of one name the first that has blobs counts.
    fn new(listeners: &[GrpcListener]) -> Self {
        let mut plan = Self::default();
        for listener in listeners {
            let function = listener.options.default_digest_function;
            plan.default_digest_function.get_or_insert(function);
            match &listener.instances {
                Instances::Any(InstanceSettings { cas, .. }) => {
                    plan.any = plan.any.or(*cas);
                }
                Instances::Named(named) => {
                    for (name, InstanceSettings { cas, .. }) in named {
                        let planned = plan.named.entry(name.clone()).or_default();
                        *planned = planned.or(*cas);
                    }
                }
            }
        }
        plan
    }

    /// What stages from each; instances that share their blobs share what is known of them.
    fn open(self, stores: &Stores, workshop: Option<&Arc<Workshop>>) -> WorkerInstances {
        let mut opened: HashMap<usize, Result<Local, &'static str>> = HashMap::new();
        let mut open = |cas: Option<usize>| {
            let cas = cas.ok_or("it has no content-addressable storage")?;
            let local = opened.entry(cas).or_insert_with(|| {
                let (files, store) = stores.files_of(cas)?;
                let workshop = workshop.map(Arc::clone);
                let stager = Stager::with(Cas::new(store), Arc::clone(&files), workshop);
                Ok(Local { stager, files })
            });
            local.clone()
        };
        let named = self.named.into_iter().map(|(name, cas)| (name, open(cas))).collect();
        let default_digest_function =
            self.default_digest_function.unwrap_or(DigestFunction::Sha256);
        WorkerInstances { named, any: self.any.map(|cas| open(Some(cas))), default_digest_function }
    }
}

impl WorkerSettings {
    /// Sockets are for the user that the server runs as, and root.
    pub const SOCKET_MODE: u32 = 0o600;

    /// Serves workers here.
    pub fn new(addresses: Vec<ListenAddress>, root: PathBuf, options: WorkerOptions) -> Self {
        let socket_mode = Self::SOCKET_MODE;
        Self { addresses, socket_mode, socket_group: None, root, options }
    }
}

impl BoundWorker {
    /// Takes the addresses, if there are any.
    pub(super) async fn bind(
        settings: Option<WorkerSettings>,
        listeners: &[GrpcListener],
    ) -> Result<Option<Self>, ServerError> {
        let Some(settings) = settings else { return Ok(None) };
        let WorkerSettings { addresses, socket_mode, socket_group, root, options } = settings;
        let failed = |source| ServerError::WorkerRoot { root: root.display().to_string(), source };
        let folder = worker::open_root(&root).map_err(failed)?;
        let workshop = Workshop::open(&folder).await.inspect_err(|error| {
            tracing::warn!(%error, "unfinished trees are beside their targets: a kill leaves them");
        });
        let mut sockets = Vec::new();
        for address in addresses {
            let socket = listeners::bind_with(&address, (socket_mode, socket_group), false).await?;
            let bound = socket.address();
            let bound = bound.map_err(|source| ServerError::Listen { address, source })?;
            warn_if_open(&bound);
            sockets.push((bound, socket));
        }
        let workshop = workshop.ok();
        Ok(Some(Self { sockets, root: folder, workshop, options, plan: Plan::new(listeners) }))
    }
}

impl RunningWorker {
    /// Serves.
    pub(super) async fn start(
        bound: Option<BoundWorker>,
        stores: &Stores,
        behind: &Behind,
    ) -> Option<Self> {
        let BoundWorker { sockets, root, workshop, options, plan } = bound?;
        let metrics = Arc::clone(&behind.metrics);
        let instances = plan.open(stores, workshop.as_ref());
        let WorkerFront { routes, handle } = worker::build(instances, root, options, metrics).await;
        let services = routes.into_axum_router();
        let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
        for (address, socket) in sockets {
            tracing::info!(%address, "worker API open");
            addresses.push(address);
            let incoming = listener::connections(socket, Arc::clone(&behind.places));
            let incoming = incoming.filter_map(|accepted| std::future::ready(accepted.ok()));
            let transport = transport(behind.stop.clone());
            let serving = grpc::serve(listeners::plain(incoming), transport, services.clone());
            tasks.push(shutdown::spawn("worker API", serving));
        }
        Some(Self { addresses, handle, tasks })
    }
}

fn transport(stop: CancellationToken) -> Transport {
    Transport { http2: Http2Options::default(), accept_http1: false, stop }
}

/// The worker API knows no passwords.
fn warn_if_open(address: &ListenAddress) {
    if let ListenAddress::Tcp(tcp) = address
        && !tcp.ip().is_loopback()
    {
        let can = "whoever reaches the worker API reads and removes what is below its root";
        tracing::warn!(%address, "{can}");
    }
}
