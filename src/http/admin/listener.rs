//! The connections of the admin API: few, each with one request and an end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::router;
use crate::admin_socket::{AdminListener, AdminStream};
use crate::operator::Operator;
use crate::shutdown;

/// I22: connections at a time; the next ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// How long a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest a purge of a few stores can take; whoever is slower than that is gone.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(10);
/// How long nothing is accepted after an accept failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is told to stop; then requests that are under way are cut off, but a purge
/// that has begun goes on.
pub fn serve(
    listener: AdminListener,
    operator: Arc<Operator>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send {
    let routes = router(operator);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&listener, &places) => accepted,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection of an operator is accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let service = TowerToHyperService::new(routes.clone());
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let until = stop.clone();
            let answering = connections.track_future(async move {
                let _place = place;
                tokio::select! {
                    () = until.cancelled() => {}
                    outcome = timeout(CONNECTION_TIMEOUT, connection) => {
                        if let Ok(Err(error)) = outcome {
                            tracing::debug!(%error, "connection of an operator failed");
                        }
                    }
                }
            });
            drop(shutdown::spawn("admin connection", answering));
        }
        connections.close();
        connections.wait().await;
    }
}

async fn accept(
    listener: &AdminListener,
    places: &Arc<Semaphore>,
) -> io::Result<(AdminStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, place))
}
