//! What is served and where, whether flags or a file say so.

use std::net::{SocketAddr, ToSocketAddrs as _};

use nativelink_config::{Host, SocketAddress, parse_socket_address};

use crate::server::{GrpcListener, Instances, StoreSettings, ValuesSettings};
use crate::tls::TlsSettings;

/// What is served, from flags or from a file.
pub(super) struct Served {
    pub(super) stores: Vec<StoreSettings>,
    pub(super) values: Option<ValuesSettings>,
    pub(super) listeners: Vec<GrpcListener>,
    /// What works but should be said differently.
    pub(super) warnings: Vec<String>,
    pub(super) over_http: OverHttp,
    /// See [`ServerSettings`](crate::server::ServerSettings).
    pub(super) adopted_results_are_mangled: bool,
}

/// What only the options of another server say of HTTP.
#[derive(Debug, Default)]
pub(super) struct OverHttp {
    /// Where it is served; `None` for where the flag says.
    pub(super) listen: Option<SocketAddr>,
    pub(super) tls: Option<TlsSettings>,
    /// Served there beside those of the listeners.
    pub(super) instances: Option<Instances>,
    /// See [`HttpOptions`](crate::http::HttpOptions).
    pub(super) keeps_raw_results: bool,
}

impl Served {
    /// These stores on these listeners.
    pub(super) fn new(stores: Vec<StoreSettings>, listeners: Vec<GrpcListener>) -> Self {
        Self {
            stores,
            values: None,
            listeners,
            warnings: Vec::new(),
            over_http: OverHttp::default(),
            adopted_results_are_mangled: false,
        }
    }
}

/// Reads `host:port`, `:port` or `[ip]:port` and looks the host up.
pub(super) fn resolve(text: &str) -> Result<SocketAddr, String> {
    let address = parse_socket_address(text).map_err(|error| error.to_string())?;
    resolve_parsed(&address)
}

/// Looks the host of an address up.
pub(super) fn resolve_parsed(address: &SocketAddress) -> Result<SocketAddr, String> {
    let host = match &address.host {
        Host::Any => return Ok(SocketAddr::from(([0, 0, 0, 0], address.port))),
        Host::Ip(ip) => return Ok(SocketAddr::new(*ip, address.port)),
        Host::Name(name) => name.as_str(),
    };
    let mut found = (host, address.port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot look up {host:?}: {error}"))?;
    found.next().ok_or_else(|| format!("{host:?} has no address"))
}
