//! Other servers and how they are reached.

use crate::diagnostic::Located;
use crate::document::Node;
use crate::excerpt::shorten;
use crate::reader::Reader;
use crate::secret::masked;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
const HTTP2_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const HTTP2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

const PLAIN_SCHEMES: &[&str] = &["grpc", "http"];
const TLS_SCHEMES: &[&str] = &["grpcs", "https"];

/// A server that speaks gRPC.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcEndpoint {
    /// Where it is: `grpc://`, `http://`, `grpcs://` or `https://` and a host.
    pub address: Located<String>,
    /// What TLS needs beyond the system's roots; only where the address asks for TLS.
    pub tls_config: Option<ClientTlsConfig>,
    /// The most requests at a time on one connection; absent or 0 is no limit.
    pub concurrency_limit: Option<u64>,
    /// How long connecting may take; 30 s unless said.
    pub connect_timeout: Duration,
    /// How long a connection is silent before TCP asks whether the peer is there; 30 s unless said.
    pub tcp_keepalive: Duration,
    /// How often HTTP/2 asks whether the peer is there; 30 s unless said.
    pub http2_keepalive_interval: Duration,
    /// How long the peer has to answer that; 20 s unless said.
    pub http2_keepalive_timeout: Duration,
}

/// What a client needs for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// The certificates of the authorities to trust; the system's if absent.
    pub ca_file: Option<Located<String>>,
    /// The certificate to show; there is one exactly if there is a key.
    pub cert_file: Option<Located<String>>,
    /// The key of the certificate.
    pub key_file: Option<Located<String>>,
    /// Whether the system's authorities are trusted besides those of `ca_file`.
    pub use_native_roots: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<GrpcEndpoint> {
    reader.object(node, |table| {
        let address = table.required("address", |reader, node| reader.located(node, read_address));
        let tls_config = table.optional("tls_config", |reader, node| {
            if address.as_ref().is_some_and(|address| !asks_for_tls(address)) {
                let message = "TLS needs an address that begins with grpcs:// or https://";
                reader.report(node.at, message);
            }
            read_client_tls(reader, node)
        });
        let mut lasting =
            |key, default| table.optional(key, Reader::nonzero_seconds).unwrap_or(default);
        let connect_timeout = lasting("connect_timeout_s", CONNECT_TIMEOUT);
        let tcp_keepalive = lasting("tcp_keepalive_s", TCP_KEEPALIVE);
        let http2_keepalive_interval =
            lasting("http2_keepalive_interval_s", HTTP2_KEEPALIVE_INTERVAL);
        let http2_keepalive_timeout = lasting("http2_keepalive_timeout_s", HTTP2_KEEPALIVE_TIMEOUT);
        Some(GrpcEndpoint {
            tls_config,
            concurrency_limit: table.optional("concurrency_limit", Reader::nonzero_count),
            connect_timeout,
            tcp_keepalive,
            http2_keepalive_interval,
            http2_keepalive_timeout,
            address: address?,
        })
    })
}

pub(super) fn read_client_tls(reader: &mut Reader<'_>, node: &Node) -> Option<ClientTlsConfig> {
    reader.object(node, |table| {
        let mut file = |key| table.optional(key, |r, node| r.located(node, Reader::file_path));
        let ca_file = file("ca_file");
        let cert_file = file("cert_file");
        let key_file = file("key_file");
        let use_native_roots = table.flag("use_native_roots");
        if table.has("cert_file") != table.has("key_file") {
            table.report("`cert_file` and `key_file` need each other");
        }
        Some(ClientTlsConfig { ca_file, cert_file, key_file, use_native_roots })
    })
}

/// A server's address as clients write it.
pub(super) fn read_address(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node)?;
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_known = PLAIN_SCHEMES.contains(&scheme) || TLS_SCHEMES.contains(&scheme);
    if !is_known || rest.is_empty() || rest.starts_with(['/', ':']) {
        let message = format!(
            "{:?} is not the address of a server; write grpc://HOST:PORT, or grpcs://HOST:PORT \
             for TLS",
            shorten(&masked(&text))
        );
        reader.report(node.at, message);
        return None;
    }
    Some(text)
}

fn asks_for_tls(address: &str) -> bool {
    TLS_SCHEMES.iter().any(|scheme| address.split("://").next() == Some(scheme))
}
