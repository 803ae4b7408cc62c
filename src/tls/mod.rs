//! TLS for a listener: who the server is, who may connect, and files that change while it runs.
//!
//! Owns the configuration that handshakes use. A new version of the files is taken when all of it
//! is good; until then the last good one stays, because a server that keeps its old certificate
//! for an hour is better than none.

mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::files::FileProblem;
use self::files::Version;
use crate::telemetry::metrics::{Handshake, TlsCounters};

/// Handshakes that are under way at once; who comes while there are so many waits for its turn.
const MAX_HANDSHAKES: usize = 1024;
/// Looking more often would be all that is done.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_millis(10);

/// Where the certificates are, and how long things may take.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The server's certificate, and those between it and an authority that clients know.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// The authorities of clients. With it a client without a certificate of theirs is refused.
    pub client_ca_file: Option<PathBuf>,
    /// What those authorities have revoked; a certificate whose authority has no list in it is
    /// refused.
    pub client_crl_file: Option<PathBuf>,
    /// The longest handshake, its wait for its turn included.
    pub handshake_timeout: Duration,
    /// How long a new version of the files may go unseen.
    pub reload_interval: Duration,
}

impl TlsSettings {
    /// Any client may connect.
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            client_ca_file: None,
            client_crl_file: None,
            handshake_timeout: Duration::from_secs(10),
            reload_interval: Duration::from_secs(2),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let always = [&self.cert_file, &self.key_file].into_iter();
        always.chain(&self.client_ca_file).chain(&self.client_crl_file).map(PathBuf::as_path)
    }

    fn versions(&self) -> Vec<Option<Version>> {
        self.files().map(Version::of).collect()
    }
}

/// A connection behind its handshake.
pub(crate) type TlsConnection<Io> = TlsStream<Io>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    /// The protocols that are spoken behind the handshake, the preferred one first.
    protocols: Vec<Vec<u8>>,
    current: Mutex<Arc<ServerConfig>>,
    /// What was there when the files were last read, whether they were good or not.
    seen: Mutex<Vec<Option<Version>>>,
    handshakes: Semaphore,
    counters: Arc<TlsCounters>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn open(
        settings: TlsSettings,
        protocols: &[&str],
        counters: Arc<TlsCounters>,
    ) -> Result<Arc<Self>, FileProblem> {
        let protocols: Vec<_> = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        // Before they are read: what changes in between is read again.
        let seen = settings.versions();
        let config = read(&settings, &protocols)?;
        Ok(Arc::new(Self {
            settings,
            protocols,
            current: Mutex::new(config),
            seen: Mutex::new(seen),
            handshakes: Semaphore::new(MAX_HANDSHAKES),
            counters,
        }))
    }

    /// Does the handshake of a connection, with the files as they were last read. Bounded in time.
    /// Cancel safe: dropped, the connection is closed.
    pub(crate) async fn handshake<Io>(&self, io: Io) -> io::Result<TlsConnection<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = async {
            let begun = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
            // I22: a permit, because what a handshake holds is more than a connection. Not before
            // the client has said something: who connects and is silent takes nobody's turn.
            let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
            let config = Arc::clone(&self.current.lock());
            begun.into_stream(config).await
        };
        let outcome = timeout(self.settings.handshake_timeout, handshake).await;
        self.counters.count_handshake(match &outcome {
            Ok(Ok(_)) => Handshake::Done,
            Ok(Err(_)) => Handshake::Failed,
            Err(_) => Handshake::TimedOut,
        });
        outcome.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Looks for new versions of the files, for ever. Cancel safe.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut looks = interval(self.settings.reload_interval.max(MIN_RELOAD_INTERVAL));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let this = Arc::clone(&self);
            // Certificates may be on a file system that hangs.
            #[expect(clippy::disallowed_methods, reason = "one at a time")]
            let look = tokio::task::spawn_blocking(move || this.reload_if_changed());
            if let Err(error) = look.await {
                tracing::error!(%error, "certificates not looked at");
            }
        }
    }

    fn reload_if_changed(&self) {
        let versions = self.settings.versions();
        if *self.seen.lock() == versions {
            return;
        }
        let read = read(&self.settings, &self.protocols);
        // A bad version is complained about once.
        *self.seen.lock() = versions;
        self.counters.count_reload(read.is_ok());
        let cert_file = self.settings.cert_file.display();
        match read {
            Ok(config) => {
                *self.current.lock() = config;
                tracing::info!(%cert_file, "new certificates are in use");
            }
            Err(error) => {
                tracing::error!(%cert_file, %error, "the former certificates stay in use");
            }
        }
    }
}

fn read(settings: &TlsSettings, protocols: &[Vec<u8>]) -> Result<Arc<ServerConfig>, FileProblem> {
    let provider = Arc::new(ring::default_provider());
    let chain = files::certificates(&settings.cert_file)?;
    let key = files::private_key(&settings.key_file)?;
    let clients = client_verifier(settings, &provider)?;
    let of_certificate = |error: rustls::Error| FileProblem::new(&settings.cert_file, &error);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(of_certificate)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        // The two may not belong together: while they are replaced, one after the other.
        .map_err(of_certificate)?;
    protocols.clone_into(&mut config.alpn_protocols);
    Ok(Arc::new(config))
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, FileProblem> {
    let Some(ca_file) = &settings.client_ca_file else {
        return match &settings.client_crl_file {
            None => Ok(WebPkiClientVerifier::no_client_auth()),
            Some(path) => {
                Err(FileProblem::new(path, &"has no meaning without the authorities of clients"))
            }
        };
    };
    let mut roots = RootCertStore::empty();
    for certificate in files::certificates(ca_file)? {
        roots.add(certificate).map_err(|error| FileProblem::new(ca_file, &error))?;
    }
    let revoked = settings.client_crl_file.as_deref().map(files::revocation_lists).transpose()?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(revoked.unwrap_or_default())
        .build()
        .map_err(|error| {
            FileProblem::new(settings.client_crl_file.as_ref().unwrap_or(ca_file), &error)
        })
}
