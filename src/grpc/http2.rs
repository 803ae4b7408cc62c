//! What an operator can choose about HTTP/2, within what the protocol has.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;

/// What RFC 9113 allows for frames.
const FRAME_BYTES: (u32, u32) = (16 << 10, (16 << 20) - 1);
/// What is sensible for windows, and what RFC 9113 allows.
const WINDOW_BYTES: (u32, u32) = (16 << 10, (1 << 31) - 1);
/// Less would refuse what clients say about themselves.
const MIN_HEADER_BYTES: u32 = 4 << 10;
/// Less would be an answer in crumbs.
const MIN_SEND_BUFFER_BYTES: usize = 16 << 10;
/// The longest head of a request over HTTP/1.1, and what is held of an answer.
const HTTP1_BUFFER_BYTES: usize = 16 << 10;
/// How long the head of a request over HTTP/1.1 may take, and the pause before it.
const HTTP1_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How HTTP/2 is spoken on a listener. What is out of bounds is moved into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// After how much silence the peer is asked whether it is there; `None` for never.
    pub keepalive_interval: Option<Duration>,
    /// A peer that does not answer for so long is gone, and what it holds is released; 0 is the
    /// default.
    pub keepalive_timeout: Duration,
    /// What a client may send on one stream before it is taken.
    pub stream_window_bytes: u32,
    /// What a client may send on one connection before it is taken.
    pub connection_window_bytes: u32,
    /// Whether windows follow the connection instead, from 64 KiB on.
    pub adaptive_window: bool,
    /// The largest frame that a client may send.
    pub max_frame_bytes: u32,
    /// The greatest number of streams of one connection.
    pub max_streams: u32,
    /// The greatest sum of the header fields of one request.
    pub max_header_bytes: u32,
    /// What is held of the answer of one stream before its client takes it.
    pub max_send_buffer_bytes: usize,
    /// Resets of streams that a client may have pending before it counts as an attack
    /// (CVE-2023-44487).
    pub max_pending_resets: usize,
    /// Whether extended CONNECT (RFC 8441) is announced. Nothing here answers to it.
    pub connect_protocol: bool,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(20),
            stream_window_bytes: 4 << 20,
            connection_window_bytes: 32 << 20,
            adaptive_window: false,
            max_frame_bytes: 1 << 20,
            max_streams: 4096,
            max_header_bytes: 64 << 10,
            max_send_buffer_bytes: 400 << 10,
            max_pending_resets: 1024,
            connect_protocol: false,
        }
    }
}

impl Http2Options {
    /// Connections as these options have them; with HTTP/1.1 or without.
    pub(super) fn builder(&self, accept_http1: bool) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        if !accept_http1 {
            builder = builder.http2_only();
        }
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP1_HEAD_TIMEOUT)
            .max_buf_size(HTTP1_BUFFER_BYTES);
        let window = |bytes: u32| bytes.clamp(WINDOW_BYTES.0, WINDOW_BYTES.1);
        // No time at all would take every peer for gone.
        let default = Self::default().keepalive_timeout;
        let patience = Some(self.keepalive_timeout).filter(|it| !it.is_zero()).unwrap_or(default);
        let mut http2 = builder.http2();
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keepalive_interval.filter(|it| !it.is_zero()))
            .keep_alive_timeout(patience)
            .initial_stream_window_size(window(self.stream_window_bytes))
            .initial_connection_window_size(window(self.connection_window_bytes))
            .max_frame_size(self.max_frame_bytes.clamp(FRAME_BYTES.0, FRAME_BYTES.1))
            .max_concurrent_streams(self.max_streams.max(1))
            .max_header_list_size(self.max_header_bytes.max(MIN_HEADER_BYTES))
            .max_send_buf_size(
                self.max_send_buffer_bytes.clamp(MIN_SEND_BUFFER_BYTES, u32::MAX as usize),
            )
            .max_pending_accept_reset_streams(self.max_pending_resets);
        // After the windows, which it replaces.
        if self.adaptive_window {
            http2.adaptive_window(true);
        }
        if self.connect_protocol {
            http2.enable_connect_protocol();
        }
        builder
    }
}
