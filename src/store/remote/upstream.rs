//! Calls to an upstream: their time, their number, and how often they are made.
//!
//! Owns what all calls share. An operation has one deadline for all its attempts, connecting and
//! waiting for a turn included (I23).

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::counters::Counters;
use super::limits::KnownLimits;
use super::options::{RemoteError, RemoteOptions};
use super::pool::{Line, Pool};
use super::status::{delay, is_of_transport, is_retriable, no_answer};

/// The server behind a remote store.
pub(super) struct Upstream {
    /// For messages.
    pub(super) name: String,
    pub(super) options: RemoteOptions,
    pub(super) counters: Counters,
    pub(super) pool: Arc<Pool>,
    pub(super) known_limits: KnownLimits,
    /// What uploads may keep to send it again, in KiB.
    pub(super) resend_kib: Arc<Semaphore>,
    permits: Option<Arc<Semaphore>>,
    metadata: MetadataMap,
}

impl fmt::Debug for Upstream {
    /// Without the headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("instance_name", &self.options.instance_name)
            .field("kind", &self.options.kind)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Connects nothing yet; `dial` makes the channels.
    pub(super) fn new(
        options: RemoteOptions,
        dial: impl Fn(&tonic::transport::Endpoint) -> Channel,
    ) -> Result<Arc<Self>, RemoteError> {
        let options = options.checked()?;
        let metadata = options.metadata()?;
        let mut channels = Vec::with_capacity(options.endpoints.len());
        for endpoint in &options.endpoints {
            let transport = endpoint.transport()?;
            let count = options.connections_per_endpoint;
            channels.push((0..count).map(|_| dial(&transport)).collect());
        }
        let addresses: Vec<_> = options.endpoints.iter().map(|it| it.address.as_str()).collect();
        let limit = options.max_concurrent_requests.min(Semaphore::MAX_PERMITS);
        let resend_kib = options.batching.max_queued_bytes >> 10;
        Ok(Arc::new(Self {
            name: addresses.join(", "),
            counters: Counters::default(),
            pool: Pool::new(channels),
            known_limits: KnownLimits::new(&options),
            resend_kib: Arc::new(Semaphore::new(
                usize::try_from(resend_kib).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS),
            )),
            permits: (limit > 0).then(|| Arc::new(Semaphore::new(limit))),
            metadata,
            options,
        }))
    }

    /// When an operation that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.options.rpc_timeout
    }

    /// A request with the headers of every request.
    pub(super) fn request<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }

    /// The same, and the upstream is told how long somebody waits for the answer.
    pub(super) fn unary<M>(&self, message: M, deadline: Instant) -> Request<M> {
        let mut request = self.request(message);
        let left = deadline.saturating_duration_since(Instant::now());
        request.set_timeout(left.max(Duration::from_millis(1)));
        request
    }

    /// Makes a call, and makes it again as long as that may help and there is time. Cancel safe.
    pub(super) async fn call<T, F>(
        &self,
        deadline: Instant,
        attempt: impl Fn(Arc<Line>) -> F + Send + Sync,
    ) -> Result<T, Status>
    where
        T: Send,
        F: Future<Output = Result<T, Status>> + Send,
    {
        let mut retries = 0;
        let mut tried = Vec::new();
        loop {
            let line = self.line_past(&tried, deadline).await?;
            let status = match self.attempt(&line, deadline, &attempt).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let is_over = Instant::now() >= deadline || !is_failure(status.code());
            // All that is asked of an upstream may be asked twice. Another endpoint is not
            // another attempt: this one may just have been the probe of one that is down.
            if is_of_transport(&status) && !is_over {
                tried.extend(line.endpoint());
                drop(line);
                if self.pool.is_reachable(&tried) {
                    continue;
                }
            }
            tried.clear();
            let options = &self.options.retry;
            if is_over || retries >= options.max_retries || !is_retriable(&status, options) {
                return Err(status);
            }
            let pause = delay(&status, options, retries);
            if deadline.saturating_duration_since(Instant::now()) <= pause {
                return Err(status);
            }
            retries += 1;
            self.counters.retries.add(1);
            sleep(pause).await;
        }
    }

    /// Makes a call once.
    pub(super) async fn attempt<T, F>(
        &self,
        line: &Arc<Line>,
        deadline: Instant,
        attempt: impl Fn(Arc<Line>) -> F + Send + Sync,
    ) -> Result<T, Status>
    where
        T: Send,
        F: Future<Output = Result<T, Status>> + Send,
    {
        self.counters.requests.add(1);
        let answer = within(deadline, attempt(Arc::clone(line))).await;
        let status = match answer {
            Ok(answer) => {
                line.answered();
                return Ok(answer);
            }
            Err(status) => status,
        };
        self.settle(line, &status);
        Err(status)
    }

    /// Notes what a failed call or a broken stream says of its connection.
    pub(super) fn settle(&self, line: &Line, status: &Status) {
        if is_of_transport(status) {
            line.lost();
        } else {
            line.answered();
        }
        if is_failure(status.code()) {
            self.counters.failures.add(1);
        }
    }

    /// Waits for a turn, bounded. While no endpoint is worth a call it fails at once.
    pub(super) async fn line(&self, deadline: Instant) -> Result<Arc<Line>, Status> {
        self.line_past(&[], deadline).await
    }

    /// The same of the endpoints that are not among `tried`.
    async fn line_past(&self, tried: &[usize], deadline: Instant) -> Result<Arc<Line>, Status> {
        let unreachable = || Status::unavailable("cannot be reached; is tried again in a moment");
        if !self.pool.is_reachable(tried) {
            return Err(unreachable());
        }
        let mut permit = None;
        if let Some(permits) = &self.permits {
            let turn = timeout_at(deadline, Arc::clone(permits).acquire_owned()).await;
            let Ok(Ok(turn)) = turn else {
                let limit = self.options.max_concurrent_requests;
                let problem = format!("{limit} calls are under way, which is the limit");
                return Err(Status::unavailable(problem));
            };
            permit = Some(turn);
        }
        self.pool.line(permit, tried).map(Arc::new).ok_or_else(unreachable)
    }
}

/// What comes of a call until a deadline.
///
/// The transport panics over some answers that are no gRPC, such as a status whose details are no
/// base64: what an upstream sends must not take down the task of a client.
pub(super) async fn within<T: Send>(
    deadline: Instant,
    answer: impl Future<Output = Result<T, Status>> + Send,
) -> Result<T, Status> {
    match AssertUnwindSafe(timeout_at(deadline, answer)).catch_unwind().await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(no_answer()),
        Err(_) => Err(Status::internal("the upstream's answer is not gRPC")),
    }
}

/// Whether a code is more than the answer that something is not there.
fn is_failure(code: Code) -> bool {
    code != Code::NotFound
}
