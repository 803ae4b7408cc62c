//! The gRPC listeners of a server: their addresses, what each serves, and how.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::grpc::{self, GrpcHandle, GrpcOptions, Http2Options, Opened, Transport};
use crate::http::health::{HealthCheck, Pages, with_pages};
use crate::instance::{self, AdoptedStore, InstanceStores};
use crate::listener::{self, Connection};
use crate::shutdown::{self, Readiness};
use crate::socket::{BindOptions, ListenAddress, SocketListener, SocketStream};
use crate::store::BlobStore;
use crate::telemetry::metrics::Metrics;
use crate::tls::{Tls, TlsConnection, TlsSettings};

/// Connections that wait to be accepted. Build tools open a hundred at once; with a short queue
/// they see refused connections as cache errors.
const LISTEN_BACKLOG: u32 = 4096;
/// Who may connect to a socket in the file system: the user that the server runs as, and its
/// group.
const SOCKET_MODE: u32 = 0o660;

/// One gRPC listener.
#[derive(Debug)]
pub struct GrpcListener {
    /// Where it listens; port 0 picks a free one.
    pub address: ListenAddress,
    /// Whether the address may be one that no interface has yet.
    pub freebind: bool,
    /// Certificates; `None` for none, and no encryption.
    pub tls: Option<TlsSettings>,
    /// How HTTP/2 is spoken.
    pub http2: Http2Options,
    /// Where to ask whether its stores answer; `None` for nowhere.
    pub health: Option<HealthPage>,
    /// Where a scheduler would be told things; `None` for nowhere.
    pub admin_path: Option<String>,
    /// What it serves.
    pub instances: Instances,
    /// How.
    pub options: GrpcOptions,
}

impl GrpcListener {
    /// A listener without encryption and with nothing but gRPC.
    pub fn new(address: impl Into<ListenAddress>, instances: Instances) -> Self {
        Self {
            address: address.into(),
            freebind: false,
            tls: None,
            http2: Http2Options::default(),
            health: None,
            admin_path: None,
            instances,
            options: GrpcOptions::default(),
        }
    }
}

/// A page that says whether the stores of a listener answer.
#[derive(Clone, Debug)]
pub struct HealthPage {
    /// Where it is.
    pub path: String,
    /// How long a store may take.
    pub timeout: Duration,
}

/// Which instances there are.
#[derive(Debug)]
pub enum Instances {
    /// Any name, on the same stores.
    Any(InstanceSettings),
    /// These names.
    Named(HashMap<String, InstanceSettings>),
}

/// The stores of an instance, as positions in the settings of the server. `None` is a service that
/// it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceSettings {
    /// Holds the blobs.
    pub cas: Option<usize>,
    /// Holds the blobs of `ByteStream`; `None` for those of `cas`.
    pub bytestream: Option<usize>,
    /// Holds the action results.
    pub action_cache: Option<usize>,
    /// Holds what action results name, where that is not `cas`. An instance with neither serves
    /// its results unchecked.
    pub completeness: Option<usize>,
    /// Whether clients may not write action results.
    pub action_cache_read_only: bool,
}

impl InstanceSettings {
    /// Blobs and action results, both of which clients may write.
    pub fn new(cas: usize, action_cache: usize) -> Self {
        Self { cas: Some(cas), action_cache: Some(action_cache), ..Self::default() }
    }

    /// The same whose action results clients may only read.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { action_cache_read_only: true, ..self }
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        let all = [self.cas, self.bytestream, self.action_cache, self.completeness];
        all.into_iter().flatten()
    }
}

/// A store and its name.
pub(super) type NamedStore = (String, Arc<dyn BlobStore>);

/// A listener whose address is taken and whose certificates have been read.
#[derive(Debug)]
pub(super) struct BoundGrpc {
    socket: SocketListener,
    tls: Option<Arc<Tls>>,
    settings: GrpcListener,
}

/// A listener that serves.
#[derive(Debug)]
pub(super) struct RunningGrpc {
    pub(super) address: ListenAddress,
    pub(super) handle: GrpcHandle,
    pub(super) task: JoinHandle<()>,
}

impl RunningGrpc {
    /// Its port, if it has one.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }
}

/// Listens on an address.
pub(super) async fn bind(
    address: &ListenAddress,
    freebind: bool,
) -> Result<SocketListener, ServerError> {
    bind_with(address, (SOCKET_MODE, None), freebind).await
}

/// The same, with the mode and the group of a socket in the file system.
pub(super) async fn bind_with(
    address: &ListenAddress,
    (mode, group): (u32, Option<u32>),
    freebind: bool,
) -> Result<SocketListener, ServerError> {
    let options = BindOptions { mode, group, backlog: LISTEN_BACKLOG, freebind };
    let failed = |source| ServerError::Listen { address: address.clone(), source };
    SocketListener::bind(address, options).await.map_err(failed)
}

/// The port of a listener that has one.
pub(super) fn tcp_address(
    listener: &SocketListener,
    asked: SocketAddr,
) -> Result<SocketAddr, ServerError> {
    match listener.address() {
        Ok(ListenAddress::Tcp(address)) => Ok(address),
        Ok(ListenAddress::Unix(_)) => Ok(asked),
        Err(source) => Err(ServerError::Listen { address: asked.into(), source }),
    }
}

/// A listener whose certificates have been read.
pub(super) type Checked = (Option<Arc<Tls>>, GrpcListener);

/// Reads the certificates of all listeners.
pub(super) fn read_certificates(
    listeners: Vec<GrpcListener>,
    metrics: &Metrics,
) -> Result<Vec<Checked>, ServerError> {
    let check = |settings: GrpcListener| {
        let protocols: &[&str] = if has_pages(&settings) { &["h2", "http/1.1"] } else { &["h2"] };
        let tls = open_tls(settings.tls.clone(), protocols, &settings.address, metrics)?;
        Ok((tls, settings))
    };
    listeners.into_iter().map(check).collect()
}

/// Reads the certificates of a listener that has some.
pub(super) fn open_tls(
    files: Option<TlsSettings>,
    protocols: &[&str],
    address: &ListenAddress,
    metrics: &Metrics,
) -> Result<Option<Arc<Tls>>, ServerError> {
    let open = |files| Tls::open(files, protocols, Arc::clone(&metrics.tls));
    let failed = |source| ServerError::Tls { address: address.clone(), source };
    files.map(open).transpose().map_err(failed)
}

/// The HTTP listener serves what all others do.
pub(super) fn warn_if_bypassed(
    listeners: &[GrpcListener],
    http: SocketAddr,
    http_tls: Option<&TlsSettings>,
) {
    let asks = |tls: Option<&TlsSettings>| tls.is_some_and(|it| it.client_ca_file.is_some());
    let is_asked = listeners.iter().any(|it| asks(it.tls.as_ref()));
    if !http.ip().is_loopback() && is_asked && !asks(http_tls) {
        tracing::warn!(%http, "whoever reaches HTTP is asked for no certificate");
    }
}

/// Takes the addresses of all listeners.
pub(super) async fn bind_all(checked: Vec<Checked>) -> Result<Vec<BoundGrpc>, ServerError> {
    let mut bound = Vec::new();
    for (tls, settings) in checked {
        let socket = bind(&settings.address, settings.freebind).await?;
        bound.push(BoundGrpc { socket, tls, settings });
    }
    Ok(bound)
}

fn has_pages(settings: &GrpcListener) -> bool {
    settings.health.is_some() || settings.admin_path.is_some()
}

/// What is behind the listeners.
#[derive(Debug)]
pub(super) struct Behind {
    /// What instances refer to.
    pub(super) stores: Vec<NamedStore>,
    /// The most that interrupted uploads may hold.
    pub(super) max_parked_bytes: u64,
    /// By position of the store, where results that another server has left would be.
    pub(super) adopted: Vec<Option<AdoptedStore>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// The places of connections.
    pub(super) places: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
}

impl Behind {
    /// Serves on all of them; gives the instances of all of them together as well, and with them
    /// those that no listener has.
    pub(super) async fn start_all(
        &self,
        bound: Vec<BoundGrpc>,
        others: Option<Instances>,
    ) -> Result<(Vec<RunningGrpc>, instance::Instances), ServerError> {
        // All before any serves: what is wrong with the last must not cut off a client of the
        // first.
        let mut ready = Vec::new();
        let nothing = instance::Instances::named(HashMap::new());
        let mut served = nothing.counted_by(Arc::clone(&self.metrics));
        for listener in bound {
            let instances = self.instances(&listener.settings.instances)?;
            let instances = instances.counted_by(Arc::clone(&self.metrics));
            served = served.or(&instances);
            let address = listener.socket.address().map_err(|source| {
                let address = listener.settings.address.clone();
                ServerError::Listen { address, source }
            })?;
            ready.push((listener, address, Arc::new(instances)));
        }
        if let Some(others) = &others {
            served = served.or(&self.instances(others)?);
        }
        let mut running = Vec::new();
        for (listener, address, instances) in ready {
            running.push(self.start(listener, address, instances).await);
        }
        Ok((running, served))
    }

    async fn start(
        &self,
        listener: BoundGrpc,
        address: ListenAddress,
        instances: Arc<instance::Instances>,
    ) -> RunningGrpc {
        let BoundGrpc { socket, tls, settings } = listener;
        let pages = has_pages(&settings).then(|| self.pages(&settings));
        let mut options = settings.options;
        options.max_parked_bytes = options.max_parked_bytes.min(self.max_parked_bytes);
        let front = grpc::build(instances, options, self.readiness.clone()).await;
        let transport = Transport {
            http2: settings.http2,
            accept_http1: pages.is_some(),
            stop: self.stop.clone(),
        };
        let services = front.routes.into_axum_router();
        let services = match pages {
            Some(pages) => with_pages(services, pages),
            None => services,
        };
        let incoming = listener::connections(socket, Arc::clone(&self.places));
        let incoming = incoming.filter_map(|accepted| std::future::ready(accepted.ok()));
        let serving = async move {
            match tls {
                None => grpc::serve(plain(incoming), transport, services).await,
                Some(tls) => {
                    let watching = Arc::clone(&tls).watch();
                    tokio::select! {
                        () = grpc::serve(encrypted(incoming, tls), transport, services) => {}
                        () = watching => {}
                    }
                }
            }
        };
        let task = shutdown::spawn("grpc", serving);
        RunningGrpc { address, handle: front.handle, task }
    }

    fn pages(&self, settings: &GrpcListener) -> Pages {
        let health = settings.health.as_ref().map(|page| {
            let stores = self.stores_of(&settings.instances);
            let check = HealthCheck::new(stores, page.timeout, self.readiness.clone());
            (rooted(&page.path), check)
        });
        Pages { health, admin_path: settings.admin_path.as_deref().map(rooted) }
    }

    /// The stores that instances refer to, each once.
    fn stores_of(&self, instances: &Instances) -> Vec<NamedStore> {
        let positions: Vec<usize> = match instances {
            Instances::Any(settings) => settings.positions().collect(),
            Instances::Named(named) => {
                named.values().flat_map(InstanceSettings::positions).collect()
            }
        };
        let stores = self.stores.iter().enumerate();
        stores.filter(|(at, _)| positions.contains(at)).map(|(_, store)| store.clone()).collect()
    }

    fn instances(&self, instances: &Instances) -> Result<instance::Instances, ServerError> {
        Ok(match instances {
            Instances::Any(settings) => instance::Instances::any(self.instance(*settings)?),
            Instances::Named(named) => {
                let named: Result<HashMap<_, _>, ServerError> = named
                    .iter()
                    .map(|(name, settings)| Ok((name.clone(), self.instance(*settings)?)))
                    .collect();
                instance::Instances::named(named?)
            }
        })
    }

    fn instance(&self, settings: InstanceSettings) -> Result<InstanceStores, ServerError> {
        let store = |position: Option<usize>| {
            let found = |at: usize| self.stores.get(at).ok_or(ServerError::UnknownStore(at));
            let found = position.map(found).transpose();
            found.map(|found| found.map(|(_, store)| Arc::clone(store)))
        };
        Ok(InstanceStores {
            cas: store(settings.cas)?,
            bytestream: store(settings.bytestream)?,
            action_cache: store(settings.action_cache)?,
            completeness: store(settings.completeness)?,
            action_cache_read_only: settings.action_cache_read_only,
            adopted: settings.action_cache.and_then(|at| self.adopted.get(at)?.clone()),
        })
    }
}

/// A path as requests have it.
fn rooted(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

/// Connections that are open as they are.
pub(super) fn plain(
    incoming: impl Stream<Item = Connection<SocketStream>>,
) -> impl Stream<Item = impl Future<Output = Option<Opened<Connection<SocketStream>>>>> {
    incoming.map(|io| {
        let peer = io.peer_address();
        std::future::ready(Some(Opened { io, peer }))
    })
}

type Encrypted = TlsConnection<Connection<SocketStream>>;

fn encrypted(
    incoming: impl Stream<Item = Connection<SocketStream>>,
    tls: Arc<Tls>,
) -> impl Stream<Item = impl Future<Output = Option<Opened<Encrypted>>>> {
    incoming.map(move |io| {
        let (tls, peer) = (Arc::clone(&tls), io.peer_address());
        async move {
            match tls.handshake(io).await {
                Ok(io) => Some(Opened { io, peer }),
                Err(error) => {
                    let peer = peer.map(tracing::field::display);
                    tracing::debug!(peer, %error, "handshake of TLS failed");
                    None
                }
            }
        }
    })
}
