//! L4: the connections of a listener: bounded in number, each checked for life, and accepted
//! again after a pause when the system has nothing to accept them with.
//!
//! Owns sockets until the transport has them. Knows nothing of what is said on them.

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::either::Either;

use crate::socket::{SocketListener, SocketStream};

/// Connections of one process; fewer where the limit of open files is low.
const MAX_CONNECTIONS: usize = 16_384;
/// How long nothing is accepted after an accept failed for want of something: what is waited for,
/// a descriptor in most cases, is given back by calls that end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The shortest time between two warnings of that.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);
/// The kernel asks a silent peer after so long, so often and so many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// The places of connections, for all listeners of a server together.
///
/// I22: half of the descriptors are left to the files of reads and uploads.
pub(crate) fn places() -> Arc<Semaphore> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(half.clamp(1, MAX_CONNECTIONS)))
}

/// The connections that `listener` accepts, as long as there are places.
///
/// A peer that never completes the preface of HTTP/2 has no timeout: the transport offers none
/// before its own pings begin. It holds a place and nothing else, and the kernel's keepalive takes
/// that back when the peer is gone.
pub(crate) fn connections(
    listener: SocketListener,
    places: Arc<Semaphore>,
) -> impl Stream<Item = io::Result<Connection<SocketStream>>> + Send {
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        Some((accepted.inspect(set_options), listener))
    });
    accepted(Box::pin(incoming), places)
}

/// What every connection needs. A peer that is gone already lets some of it fail, and is found
/// gone by whoever reads next.
fn set_options(stream: &SocketStream) {
    let Either::Right(tcp) = stream else { return };
    let set = || {
        // Without it every small reply waits 40 ms for the peer's delayed acknowledgement.
        tcp.set_nodelay(true)?;
        sockopt::set_socket_keepalive(tcp, true)?;
        sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_RETRIES)?;
        io::Result::Ok(())
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "options of a connection not set");
    }
}

fn accepted<S, Io>(
    incoming: S,
    places: Arc<Semaphore>,
) -> impl Stream<Item = io::Result<Connection<Io>>>
where
    S: Stream<Item = io::Result<Io>> + Unpin,
{
    let acceptor = Acceptor { incoming, places, warned: None };
    stream::unfold(acceptor, |mut acceptor| async move {
        let connection = acceptor.next().await?;
        Some((Ok(connection), acceptor))
    })
}

struct Acceptor<S> {
    incoming: S,
    places: Arc<Semaphore>,
    warned: Option<Instant>,
}

impl<S, Io> Acceptor<S>
where
    S: Stream<Item = io::Result<Io>> + Unpin,
{
    /// The next connection; who finds no place waits in the kernel's queue.
    async fn next(&mut self) -> Option<Connection<Io>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        loop {
            match self.incoming.next().await? {
                Ok(io) => return Some(Connection { io, _place: place }),
                // Its peer has left the queue before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.warn(&error);
                    // The transport would try again at once, and again.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn warn(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now - warned >= WARNING_INTERVAL) {
            self.warned = Some(now);
            tracing::warn!(%error, "connections are not accepted");
        }
    }
}

/// A connection and its place.
#[derive(Debug)]
pub(crate) struct Connection<Io> {
    io: Io,
    _place: OwnedSemaphorePermit,
}

impl Connection<SocketStream> {
    /// Who is at the other end; in the file system nobody has an address.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        match &self.io {
            Either::Left(_) => None,
            Either::Right(tcp) => tcp.peer_addr().ok(),
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Connection<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
