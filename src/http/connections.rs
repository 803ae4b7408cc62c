//! The connections of the HTTP listener: HTTP/1.1 with keep-alive, and HTTP/2 for who begins
//! with it.
//!
//! Owns the transport's bounds. Who is idle, or takes nothing of an answer, is cut off; who sends
//! a body too slowly is refused in `body`.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use futures_util::stream::{Stream, StreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::activity::{Activity, Finding, Watched};
use super::options::HttpOptions;
use crate::shutdown;

/// The longest head of a request, and what the transport holds of an answer.
const BUFFER_BYTES: usize = 64 << 10;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const HTTP2_MAX_STREAMS: u32 = 256;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 << 10;
/// Resets of streams that a client may have pending before it counts as an attack
/// (CVE-2023-44487).
const HTTP2_MAX_PENDING_RESETS: usize = 128;
const HTTP2_MAX_SEND_BUFFER_BYTES: usize = 256 << 10;
/// A peer that answers no ping for so long is gone, and what it holds is released.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How connections are served, and how they end.
#[derive(Clone, Debug)]
pub struct Connections {
    /// What is served on them.
    pub router: Router,
    /// The bounds.
    pub options: HttpOptions,
    /// Has a token for each request until its answer has been sent.
    pub calls: TaskTracker,
    /// Ends connections that have no request, and each other one after its request.
    pub stop: CancellationToken,
}

/// Serves connections until `stop`; then waits for those that are left. Dropped, it cuts them.
///
/// Each is opened in its own task: a handshake that stalls holds up nobody else.
pub async fn serve<S, Opening, Io>(incoming: S, connections: Connections)
where
    S: Stream<Item = Opening>,
    Opening: Future<Output = io::Result<Io>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut incoming = pin!(incoming);
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let tasks = TaskTracker::new();
    loop {
        let opening = tokio::select! {
            () = connections.stop.cancelled() => break,
            opening = incoming.next() => opening,
        };
        let Some(opening) = opening else { break };
        let (connections, cut) = (connections.clone(), cut.clone());
        let serving = async move {
            let opened = tokio::select! {
                opened = opening => opened,
                () = connections.stop.cancelled() => return,
            };
            match opened {
                Ok(io) => serve_one(io, connections, cut).await,
                Err(error) => tracing::debug!(%error, "connection not accepted"),
            }
        };
        shutdown::spawn("http connection", tasks.track_future(serving));
    }
    tasks.close();
    tasks.wait().await;
}

async fn serve_one<Io>(io: Io, connections: Connections, cut: CancellationToken)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Connections { router, options, calls, stop } = connections;
    let activity = Activity::new(&options);
    let watching = Arc::clone(&activity);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let (activity, calls) = (Arc::clone(&activity), calls.clone());
        let answer = router.clone().oneshot(request);
        async move {
            // When it is asked for: a pipelined request waits for the client to take the answers
            // before it, and must not pass for one that is worked on.
            let turn = activity.begin(calls.token());
            let response: Response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| Watched::new(body, turn)))
        }
    });
    let builder = builder(&options);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // When it must be over, once it has been asked to end.
    let mut end: Option<Instant> = None;
    loop {
        let look_at = match (end, watching.look()) {
            (_, Finding::Stalled) => return tracing::debug!("client takes nothing, cut off"),
            (Some(end), _) if end <= Instant::now() => return,
            (Some(end), Finding::Idle) => end,
            (Some(end), Finding::Fine(at)) => end.min(at),
            (None, Finding::Fine(at)) => at,
            (None, Finding::Idle) => {
                connection.as_mut().graceful_shutdown();
                // The tail of the last answer may still be on its way to a slow client.
                end = Some(Instant::now() + options.read_idle_timeout);
                continue;
            }
        };
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "HTTP connection ended badly");
                }
                return;
            }
            () = cut.cancelled() => return,
            () = stop.cancelled(), if end.is_none() => {
                connection.as_mut().graceful_shutdown();
                end = Some(Instant::now() + options.read_idle_timeout);
            }
            () = sleep_until(look_at) => {}
        }
    }
}

fn builder(options: &HttpOptions) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // From the end of one answer on, so it must not be shorter than an idle time.
        .header_read_timeout(options.idle_timeout)
        // Who has said everything may say so and still hear the answer.
        .half_close(true)
        .max_buf_size(BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_MAX_STREAMS)
        .max_header_list_size(HTTP2_MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(HTTP2_MAX_PENDING_RESETS)
        .max_send_buf_size(HTTP2_MAX_SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
