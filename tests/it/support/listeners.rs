//! Servers of several listeners, and clients for any of them.

use std::path::Path;
use std::time::Duration;

use castellan::http::HttpOptions;
use castellan::server::{
    GrpcListener, Instances, Server, ServerError, ServerSettings, StoreKind, StoreSettings,
};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan::telemetry::recent_errors::RecentErrors;
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use castellan_proto::v2::{CacheCapabilities, GetCapabilitiesRequest};
use tonic::Status;
use tonic::transport::Channel;

/// An address of this machine.
pub(crate) const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// A listener on a free port.
pub(crate) fn on_free_port(instances: Instances) -> GrpcListener {
    GrpcListener::new(std::net::SocketAddr::from(LOOPBACK), instances)
}

/// A server of these listeners over so many stores in a directory.
pub(crate) async fn start_listeners(
    root: &Path,
    stores: usize,
    listeners: Vec<GrpcListener>,
) -> Result<Server, ServerError> {
    start_listeners_with(root, stores, listeners, HttpOptions::default()).await
}

/// The same with other options of the HTTP listener.
pub(crate) async fn start_listeners_with(
    root: &Path,
    stores: usize,
    listeners: Vec<GrpcListener>,
    http: HttpOptions,
) -> Result<Server, ServerError> {
    let store = |number| {
        let name = format!("store-{number}");
        let options = FilesystemOptions::new(root.join(&name), Cap::Bytes(64 << 20));
        StoreSettings { name, kind: StoreKind::Filesystem(options) }
    };
    let settings = ServerSettings {
        stores: (0..stores).map(store).collect(),
        values: None,
        listeners,
        http_listen: LOOPBACK.into(),
        http,
        http_tls: None,
        http_instances: None,
        adopted_results_are_mangled: false,
        admin: None,
        worker: None,
        drain_timeout: Duration::from_secs(10),
        recent_errors: RecentErrors::default(),
    };
    Server::start(settings).await
}

/// A connection to each listener of a server that has a port.
pub(crate) async fn channels(server: &Server) -> Vec<Channel> {
    let mut channels = Vec::new();
    for address in server.grpc_addresses() {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        channels.push(channel.connect().await.unwrap());
    }
    channels
}

/// What an instance announces about its cache.
pub(crate) async fn capabilities(
    channel: &Channel,
    instance_name: &str,
) -> Result<CacheCapabilities, Status> {
    let request = GetCapabilitiesRequest { instance_name: instance_name.to_owned() };
    let reply = CapabilitiesClient::new(channel.clone()).get_capabilities(request).await?;
    Ok(reply.into_inner().cache_capabilities.unwrap())
}
