//! What an operator can choose about an upstream, and why a choice is refused.

use std::fmt;
use std::time::Duration;

use http::uri::Authority;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::digest::{InvalidResourceName, check_instance_name};

/// What [`RemoteOptions::rpc_timeout`] is when it is zero.
const DEFAULT_RPC_TIMEOUT: Duration = Duration::from_mins(2);
/// Connections that are ever made to one endpoint.
const MAX_CONNECTIONS: usize = 64;

/// What a [`super::RemoteStore`] is built with.
#[derive(Clone)]
pub struct RemoteOptions {
    /// The instance of the upstream.
    ///
    /// It is one, whatever the instance here is: the action results of several instances that
    /// share such a store are the same there.
    pub instance_name: String,
    /// Where the upstream is. Requests are spread over all of them.
    pub endpoints: Vec<Endpoint>,
    /// What is kept there.
    pub kind: RemoteKind,
    /// When a call that failed is made again.
    pub retry: RetryOptions,
    /// Calls under way at once, reads and writes until they end; 0 for no limit.
    pub max_concurrent_requests: usize,
    /// Connections to each endpoint.
    pub connections_per_endpoint: usize,
    /// What an operation may take with all its attempts, and how long a transfer of any length
    /// waits for the next sign of progress. Zero is two minutes.
    pub rpc_timeout: Duration,
    /// Leaves the digest function out of resource names.
    pub use_legacy_resource_names: bool,
    /// Metadata sent with every call.
    pub headers: Vec<(String, String)>,
    /// How small blobs travel together.
    pub batching: BatchingOptions,
    /// Reads a blob whole and hashes it when a part of it is asked for.
    ///
    /// Otherwise a part of a large blob is believed when it has the right length.
    pub verify_ranges: bool,
}

/// Which service of the upstream is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// Its blobs.
    Cas,
    /// Its action results.
    ActionCache,
}

/// One address of the upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `grpc://`, `grpcs://`, `http://`, `https://`, host and port alone, or `unix:` and the path
    /// of a socket.
    pub address: String,
    /// How TLS is spoken. An address with `grpcs://` or `https://` has it without this too, and
    /// one with this has it whatever the address says.
    pub tls: Option<ClientTls>,
    /// Calls under way at once on each connection.
    pub concurrency_limit: Option<usize>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a connection is idle before TCP asks whether its other end is there.
    pub tcp_keepalive: Duration,
    /// How often HTTP/2 asks the same while a call is under way; many servers throw out who asks
    /// when there is none.
    pub http2_keepalive_interval: Duration,
    /// How long it waits for the answer.
    pub http2_keepalive_timeout: Duration,
}

/// Certificates, as PEM.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// Who may have signed the upstream's certificate; the system's authorities when `None`.
    pub ca_pem: Option<Vec<u8>>,
    /// Our own certificate.
    pub cert_pem: Option<Vec<u8>>,
    /// Its key.
    pub key_pem: Option<Vec<u8>>,
}

/// When a call that failed is made again.
#[derive(Clone, Debug)]
pub struct RetryOptions {
    /// Attempts after the first.
    pub max_retries: u32,
    /// The pause before the second attempt; it doubles with each.
    pub delay: Duration,
    /// The part of a pause that is left to chance, 0 to 1.
    pub jitter: f64,
    /// The status codes that are worth another attempt, as numbers. `None` for those that say so:
    /// what the transport lost, `UNAVAILABLE`, `ABORTED`, `DEADLINE_EXCEEDED`, and whatever comes
    /// with a time to wait.
    pub retry_on: Option<Vec<i32>>,
}

/// How small blobs travel together.
#[derive(Clone, Debug)]
pub struct BatchingOptions {
    /// The largest blob that does.
    pub max_blob_bytes: u64,
    /// The most bytes in one batch; less where the upstream announces less.
    pub max_batch_bytes: u64,
    /// Batches under way at once, reads and writes each.
    pub slots: usize,
    /// The most bytes that wait for a slot; what comes then travels alone. As much is kept at most
    /// of uploads, to send it again when a connection breaks.
    pub max_queued_bytes: u64,
    /// What is kept of one upload.
    pub kept_bytes: u64,
}

/// Why an upstream cannot be used as it is described.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no address.
    #[error("the upstream has no endpoint")]
    NoEndpoint,
    /// An address is not one.
    #[error("endpoint {address:?} {problem}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate or key is not one, or one of the two is missing.
    #[error("tls of endpoint {address:?}: {problem}")]
    Tls {
        /// The address.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// A header cannot be sent.
    #[error("header {name:?} {problem}")]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The instance name is not one.
    #[error(transparent)]
    Instance(#[from] InvalidResourceName),
}

impl RemoteOptions {
    /// The defaults for one kind of values of an instance.
    pub fn new(
        instance_name: impl Into<String>,
        endpoints: Vec<Endpoint>,
        kind: RemoteKind,
    ) -> Self {
        Self {
            instance_name: instance_name.into(),
            endpoints,
            kind,
            retry: RetryOptions::default(),
            max_concurrent_requests: 0,
            connections_per_endpoint: 1,
            rpc_timeout: Duration::ZERO,
            use_legacy_resource_names: false,
            headers: Vec::new(),
            batching: BatchingOptions::default(),
            verify_ranges: false,
        }
    }

    /// Refuses what no connection can mend, and puts the rest within bounds.
    pub(super) fn checked(mut self) -> Result<Self, RemoteError> {
        check_instance_name(&self.instance_name)?;
        if self.endpoints.is_empty() {
            return Err(RemoteError::NoEndpoint);
        }
        if self.rpc_timeout.is_zero() {
            self.rpc_timeout = DEFAULT_RPC_TIMEOUT;
        }
        self.connections_per_endpoint = self.connections_per_endpoint.clamp(1, MAX_CONNECTIONS);
        self.batching.slots = self.batching.slots.max(1);
        Ok(self)
    }

    /// The headers as metadata.
    pub(super) fn metadata(&self) -> Result<MetadataMap, RemoteError> {
        let mut metadata = MetadataMap::new();
        for (name, value) in &self.headers {
            let error = |problem| RemoteError::Header { name: name.clone(), problem };
            let key: AsciiMetadataKey = name
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| error("is not a name of an ASCII header"))?;
            if key.as_str().starts_with("grpc-") || RESERVED.contains(&key.as_str()) {
                return Err(error("belongs to the protocol"));
            }
            let value: AsciiMetadataValue =
                value.parse().map_err(|_| error("has a value that is not visible ASCII"))?;
            let _earlier = metadata.append(key, value);
        }
        Ok(metadata)
    }
}

/// Headers that the transport sets.
const RESERVED: [&str; 4] = ["te", "content-type", "content-length", "user-agent"];

impl Endpoint {
    /// The defaults for one address.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
            concurrency_limit: None,
            connect_timeout: Duration::from_secs(30),
            tcp_keepalive: Duration::from_secs(30),
            http2_keepalive_interval: Duration::from_secs(30),
            http2_keepalive_timeout: Duration::from_secs(20),
        }
    }

    /// Refuses an address or certificates that no connection can be made with.
    pub fn check(&self) -> Result<(), RemoteError> {
        self.transport().map(drop)
    }

    /// The same as the transport wants it.
    pub(super) fn transport(&self) -> Result<tonic::transport::Endpoint, RemoteError> {
        let error = |problem: String| {
            let address = self.address.clone();
            RemoteError::Address { address, problem }
        };
        if self.address.starts_with("unix:") {
            let endpoint = tonic::transport::Endpoint::from_shared(self.address.clone())
                .map_err(|source| error(format!("is not an address: {source}")))?;
            return self.with_limits(endpoint);
        }
        let (scheme, authority) = self.address.split_once("://").unwrap_or(("", &self.address));
        let is_secret = match scheme {
            "grpcs" | "https" => true,
            "" | "grpc" | "http" => self.tls.is_some(),
            _ => return Err(error("is none of grpc://, grpcs://, http://, https://".to_owned())),
        };
        let scheme = if is_secret { "https" } else { "http" };
        let uri = format!("{scheme}://{}", authority.trim_end_matches('/'));
        let mut endpoint = tonic::transport::Endpoint::from_shared(uri)
            .map_err(|source| error(format!("is not an address: {source}")))?;
        if endpoint.uri().path() != "/" || endpoint.uri().query().is_some() {
            return Err(error("has a path".to_owned()));
        }
        let is_bare = |it: &Authority| it.as_str() == it.host() || it.port_u16().is_some();
        if !endpoint.uri().authority().is_some_and(is_bare) || authority.contains('@') {
            return Err(error("is not a host with or without a port".to_owned()));
        }
        if is_secret {
            let tls = self.tls.clone().unwrap_or_default().config().map_err(|problem| {
                RemoteError::Tls { address: self.address.clone(), problem: problem.to_owned() }
            })?;
            endpoint = endpoint.tls_config(tls).map_err(|source| RemoteError::Tls {
                address: self.address.clone(),
                problem: with_sources(&source),
            })?;
        }
        self.with_limits(endpoint)
    }

    fn with_limits(
        &self,
        mut endpoint: tonic::transport::Endpoint,
    ) -> Result<tonic::transport::Endpoint, RemoteError> {
        if let Some(limit) = self.concurrency_limit.filter(|limit| *limit > 0) {
            endpoint = endpoint.concurrency_limit(limit);
        }
        let some = |duration: Duration| Some(duration).filter(|it| !it.is_zero());
        if let Some(timeout) = some(self.connect_timeout) {
            endpoint = endpoint.connect_timeout(timeout);
        }
        if let Some(interval) = some(self.http2_keepalive_interval) {
            endpoint = endpoint.http2_keep_alive_interval(interval);
        }
        if let Some(timeout) = some(self.http2_keepalive_timeout) {
            endpoint = endpoint.keep_alive_timeout(timeout);
        }
        endpoint
            .tcp_keepalive(some(self.tcp_keepalive))
            .tcp_nodelay(true)
            .user_agent(concat!("castellan/", env!("CARGO_PKG_VERSION")))
            .map_err(|source| RemoteError::Address {
                address: self.address.clone(),
                problem: source.to_string(),
            })
    }
}

/// An error and what it comes from: a transport's own text says little.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl ClientTls {
    fn config(self) -> Result<ClientTlsConfig, &'static str> {
        let config = match self.ca_pem {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match (self.cert_pem, self.key_pem) {
            (Some(cert), Some(key)) => Ok(config.identity(Identity::from_pem(cert, key))),
            (None, None) => Ok(config),
            (Some(_), None) => Err("has a certificate without its key"),
            (None, Some(_)) => Err("has a key without its certificate"),
        }
    }
}

impl fmt::Debug for RemoteOptions {
    /// Without the values of headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("RemoteOptions")
            .field("instance_name", &self.instance_name)
            .field("endpoints", &self.endpoints)
            .field("kind", &self.kind)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("ca_pem", &self.ca_pem.is_some())
            .field("cert_pem", &self.cert_pem.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { max_retries: 3, delay: Duration::from_millis(100), jitter: 1.0, retry_on: None }
    }
}

impl Default for BatchingOptions {
    fn default() -> Self {
        Self {
            max_blob_bytes: 128 << 10,
            max_batch_bytes: 3 << 20,
            slots: 4,
            max_queued_bytes: 32 << 20,
            kept_bytes: 2 << 20,
        }
    }
}
