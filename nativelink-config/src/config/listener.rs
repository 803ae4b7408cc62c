//! The `listener` of a server.

use super::address::{ListenAddress, parse_listen_address};
use super::facts::Facts;
use crate::diagnostic::Located;
use crate::document::Node;
use crate::reader::{Reader, Table};
use std::ops::RangeInclusive;
use std::time::Duration;

/// The sizes of windows and frames that HTTP/2 has.
const WINDOW_BYTES: RangeInclusive<u32> = 0..=(1 << 31) - 1;
const FRAME_BYTES: RangeInclusive<u32> = 1 << 14..=(1 << 24) - 1;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Listener {
    /// `http`: HTTP/2.
    Http(Box<HttpListener>),
}

/// The settings of an `http` listener.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpListener {
    /// The address to listen on.
    pub socket_address: Located<ListenAddress>,
    /// Whether the address may be one the machine does not have yet.
    pub freebind: bool,
    /// The largest message a client may send, in bytes; absent or 0 is the server's choice.
    pub max_decoding_message_size: Option<u64>,
    /// How messages are compressed; absent is not at all.
    pub compression: Option<HttpCompression>,
    /// Certificates; absent is no TLS.
    pub tls: Option<TlsConfig>,
    /// Fine tuning.
    pub advanced_http: AdvancedHttp,
}

/// How messages are compressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpCompression {
    /// What is sent.
    pub send_compression_algorithm: CompressionCodec,
    /// What is understood.
    pub accepted_compression_algorithms: Vec<CompressionCodec>,
}

/// A compression of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CompressionCodec {
    /// `none`.
    #[default]
    None,
    /// `gzip`.
    Gzip,
}

/// The certificates of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsConfig {
    /// The server's certificate, with those that lead to its authority.
    pub cert_file: Located<String>,
    /// Its key.
    pub key_file: Located<String>,
    /// The authorities of clients' certificates; with it every client has to show one.
    pub client_ca_file: Option<Located<String>>,
    /// Clients' certificates that are no longer valid; only with `client_ca_file`.
    pub client_crl_file: Option<Located<String>>,
}

/// Fine tuning of HTTP/2. What is absent is the server's choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdvancedHttp {
    /// How often a connection is tried.
    pub http2_keep_alive_interval: Option<Duration>,
    /// How long the peer has to answer that.
    pub http2_keep_alive_timeout: Option<Duration>,
    /// The most streams that were reset and are not yet dealt with.
    pub http2_max_pending_accept_reset_streams: Option<u32>,
    /// How many bytes a client may send on a stream before it has to wait.
    pub http2_initial_stream_window_size: Option<u32>,
    /// How many bytes a client may send on a connection before it has to wait.
    pub http2_initial_connection_window_size: Option<u32>,
    /// Whether windows grow with what the connection carries.
    pub http2_adaptive_window: Option<bool>,
    /// The largest frame, from 16 KiB to 16 MiB less a byte.
    pub http2_max_frame_size: Option<u32>,
    /// The most streams of a connection.
    pub http2_max_concurrent_streams: Option<u32>,
    /// The most bytes of a stream that wait to be sent.
    pub http2_max_send_buf_size: Option<u32>,
    /// Whether the extended CONNECT is offered.
    pub http2_enable_connect_protocol: bool,
    /// The most bytes of headers.
    pub http2_max_header_list_size: Option<u32>,
}

const CODECS: &[(&str, CompressionCodec)] =
    &[("none", CompressionCodec::None), ("gzip", CompressionCodec::Gzip)];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Listener> {
    reader.object(node, |table| {
        let http = table.required("http", |reader, node| read_http(reader, node, facts))?;
        Some(Listener::Http(Box::new(http)))
    })
}

fn read_http(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<HttpListener> {
    reader.object(node, |table| {
        let socket_address = table
            .required("socket_address", |reader, node| reader.located(node, read_socket_address));
        if let Some(address) = &socket_address {
            facts.add_address(address);
        }
        let listener = HttpListener {
            freebind: table.flag("freebind"),
            max_decoding_message_size: table
                .optional("max_decoding_message_size", Reader::nonzero_size),
            compression: table.optional("compression", read_compression),
            tls: table.optional("tls", read_tls),
            advanced_http: table.optional("advanced_http", read_advanced).unwrap_or_default(),
            socket_address: socket_address?,
        };
        Some(listener)
    })
}

fn read_socket_address(reader: &mut Reader<'_>, node: &Node) -> Option<ListenAddress> {
    let text = reader.text(node)?;
    parse_listen_address(&text).map_err(|error| reader.report(node.at, error.to_string())).ok()
}

fn read_compression(reader: &mut Reader<'_>, node: &Node) -> Option<HttpCompression> {
    reader.object(node, |table| {
        let send_compression_algorithm = table.optional("send_compression_algorithm", read_codec);
        let accepted = table.required("accepted_compression_algorithms", |reader, node| {
            reader.list(node, read_codec)
        });
        Some(HttpCompression {
            send_compression_algorithm: send_compression_algorithm.unwrap_or_default(),
            accepted_compression_algorithms: accepted?,
        })
    })
}

fn read_codec(reader: &mut Reader<'_>, node: &Node) -> Option<CompressionCodec> {
    reader.choice(node, CODECS)
}

fn read_tls(reader: &mut Reader<'_>, node: &Node) -> Option<TlsConfig> {
    reader.object(node, |table| {
        let file = |reader: &mut Reader<'_>, node: &Node| reader.located(node, Reader::file_path);
        let cert_file = table.required("cert_file", file);
        let key_file = table.required("key_file", file);
        let client_ca_file = table.optional("client_ca_file", file);
        let client_crl_file = table.optional("client_crl_file", file);
        if table.has("client_crl_file") && !table.has("client_ca_file") {
            table.report("`client_crl_file` needs `client_ca_file`: there is nothing to revoke");
        }
        Some(TlsConfig {
            cert_file: cert_file?,
            key_file: key_file?,
            client_ca_file,
            client_crl_file,
        })
    })
}

fn read_advanced(reader: &mut Reader<'_>, node: &Node) -> Option<AdvancedHttp> {
    reader.object(node, |table| {
        Some(AdvancedHttp {
            http2_keep_alive_interval: table
                .optional("http2_keep_alive_interval", Reader::nonzero_seconds),
            http2_keep_alive_timeout: table.aliased(
                "experimental_http2_keep_alive_timeout_s",
                "experimental_http2_keep_alive_timeout",
                Reader::nonzero_seconds,
            ),
            http2_max_pending_accept_reset_streams: table.optional(
                "experimental_http2_max_pending_accept_reset_streams",
                Reader::small_count,
            ),
            http2_initial_stream_window_size: window(
                table,
                "experimental_http2_initial_stream_window_size",
            ),
            http2_initial_connection_window_size: window(
                table,
                "experimental_http2_initial_connection_window_size",
            ),
            http2_adaptive_window: table
                .optional("experimental_http2_adaptive_window", Reader::flag),
            http2_max_frame_size: table.optional(
                "experimental_http2_max_frame_size",
                |reader, node| {
                    let expected = "a size of frames, from 16384 to 16777215";
                    reader.within_range(node, &FRAME_BYTES, expected, Reader::small_count)
                },
            ),
            http2_max_concurrent_streams: table
                .optional("experimental_http2_max_concurrent_streams", Reader::small_count),
            http2_max_send_buf_size: table
                .optional("experimental_http2_max_send_buf_size", Reader::small_count),
            http2_enable_connect_protocol: table.flag("experimental_http2_enable_connect_protocol"),
            http2_max_header_list_size: table
                .optional("experimental_http2_max_header_list_size", Reader::small_count),
        })
    })
}

fn window(table: &mut Table<'_, '_, '_>, key: &'static str) -> Option<u32> {
    table.optional(key, |reader, node| {
        let expected = "a size of windows, at most 2147483647";
        reader.within_range(node, &WINDOW_BYTES, expected, Reader::small_count)
    })
}
