//! The connections of a gRPC listener, from the handshake to the last answer.
//!
//! Each has a task of its own from the first byte on, so that none can hold up another, and none is
//! left when the listener's task is: what the gRPC library has for this promises neither. Knows
//! neither what sockets are nor what is served.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use super::http2::Http2Options;
use crate::shutdown;

/// A connection that can be spoken on.
#[derive(Debug)]
pub struct Opened<Io> {
    /// It.
    pub io: Io,
    /// Who is at the other end.
    pub peer: Option<SocketAddr>,
}

/// How connections are served, and how they end.
#[derive(Clone, Debug)]
pub struct Transport {
    /// How HTTP/2 is spoken.
    pub http2: Http2Options,
    /// Whether HTTP/1.1 is, to those who begin with it.
    pub accept_http1: bool,
    /// Ends connections that have no call, and each other one after its calls.
    pub stop: CancellationToken,
}

/// Serves what `incoming` gives, each once it is opened, until `stop`; then waits for those that
/// are left. Dropped, it cuts them. The listener goes with `incoming`, at once at `stop`: who comes
/// later is refused, and does not wait for an answer that never comes.
pub async fn serve<S, F, Io, A, B>(incoming: S, transport: Transport, service: A)
where
    S: Stream<Item = F>,
    F: Future<Output = Option<Opened<Io>>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    A: Clone + Send + 'static,
    A::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Transport { http2, accept_http1, stop } = transport;
    let builder = http2.builder(accept_http1);
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let tasks = TaskTracker::new();
    {
        let mut incoming = pin!(incoming);
        loop {
            let opening = tokio::select! {
                () = stop.cancelled() => break,
                opening = incoming.next() => opening,
            };
            let Some(opening) = opening else { break };
            // Children: each connection asks its own, not one that all of them share.
            let ends = Ends { stop: stop.child_token(), cut: cut.child_token() };
            let serving = serve_one(opening, builder.clone(), service.clone(), ends);
            shutdown::spawn("grpc connection", tasks.track_future(serving));
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What ends a connection.
struct Ends {
    /// After its calls.
    stop: CancellationToken,
    /// At once.
    cut: CancellationToken,
}

async fn serve_one<F, Io, A, B>(opening: F, builder: Builder<TokioExecutor>, service: A, ends: Ends)
where
    F: Future<Output = Option<Opened<Io>>>,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    A: Clone + Send + 'static,
    A::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let opened = tokio::select! {
        opened = opening => opened,
        () = ends.stop.cancelled() => return,
    };
    let Some(Opened { io, peer }) = opened else { return };
    let service = service.map_request(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        request
    });
    let service = TowerToHyperService::new(service);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut is_ending = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "gRPC connection ended badly");
                }
                return;
            }
            () = ends.cut.cancelled() => return,
            () = ends.stop.cancelled(), if !is_ending => {
                connection.as_mut().graceful_shutdown();
                is_ending = true;
            }
        }
    }
}
