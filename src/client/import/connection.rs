//! Connections to a cache over HTTP, with TLS or without.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// How long it may take to connect, and for TLS to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection.
pub(super) type Connection = Either<TcpStream, TlsStream<TcpStream>>;

/// Whom a server must be known to, and under which name.
#[derive(Clone)]
pub(super) struct Trust {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why there is no connection.
pub(super) enum NoConnection {
    /// Nobody answers now.
    Unreachable(io::Error),
    /// Whoever answers is not whom he should be.
    Untrusted(io::Error),
}

impl Trust {
    /// Trusts those whom the system trusts, for this host.
    pub(super) fn of_system(host: &str) -> Result<Self, String> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("the system trusts no certificates; SSL_CERT_FILE names some".to_owned());
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// Connects.
pub(super) async fn connect(
    authority: &str,
    trust: Option<&Trust>,
) -> Result<Connection, NoConnection> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(authority)).await;
    let stream = connecting.map_err(late).and_then(|it| it).map_err(NoConnection::Unreachable)?;
    let Some(Trust { connector, name }) = trust else { return Ok(Either::Left(stream)) };
    let shaking = timeout(CONNECT_TIMEOUT, connector.connect(name.clone(), stream)).await;
    let shaken = shaking.map_err(late).and_then(|it| it);
    shaken.map(Either::Right).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => NoConnection::Untrusted(error),
        _ => NoConnection::Unreachable(error),
    })
}
