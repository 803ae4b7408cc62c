//! Connections to the endpoints of an upstream, and which of them the next call takes.
//!
//! Owns the health of each endpoint. Connections are made when they are first needed, and again
//! when they broke.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::breaker::{Breaker, Pass};

/// The largest message that is decoded: a batch, or an action result.
pub(super) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// All connections.
#[derive(Debug)]
pub(super) struct Pool {
    endpoints: Vec<Mutex<Breaker>>,
    connections: Vec<Connection>,
    /// Where the search for a connection begins.
    turn: AtomicUsize,
    recoveries: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    endpoint: usize,
    channel: Channel,
    calls: AtomicUsize,
}

impl Pool {
    /// `channels` has the connections of each endpoint.
    pub(super) fn new(channels: Vec<Vec<Channel>>) -> Arc<Self> {
        let endpoints = channels.iter().map(|_| Mutex::default()).collect();
        let connections = channels.into_iter().enumerate().flat_map(|(endpoint, channels)| {
            let calls = || AtomicUsize::new(0);
            channels.into_iter().map(move |channel| Connection {
                endpoint,
                channel,
                calls: calls(),
            })
        });
        Arc::new(Self {
            endpoints,
            connections: connections.collect(),
            turn: AtomicUsize::new(0),
            recoveries: AtomicU64::new(0),
        })
    }

    /// The connection with the fewest calls, of an endpoint that is worth one and is not among
    /// `tried`; `None` when none is.
    pub(super) fn line(
        self: &Arc<Self>,
        permit: Option<OwnedSemaphorePermit>,
        tried: &[usize],
    ) -> Option<Line> {
        let count = self.connections.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<usize> = (0..count).map(|it| start.wrapping_add(it) % count).collect();
        let calls = |it: &Connection| it.calls.load(Ordering::Relaxed);
        order.sort_by_key(|at| self.connections.get(*at).map(calls));
        let now = Instant::now();
        for at in order {
            let connection = self.connections.get(at)?;
            if tried.contains(&connection.endpoint) {
                continue;
            }
            let pass = self.endpoints.get(connection.endpoint)?.lock().admit(now);
            if let Some(pass) = pass {
                connection.calls.fetch_add(1, Ordering::Relaxed);
                return Some(Line {
                    pool: Arc::clone(self),
                    at,
                    channel: connection.channel.clone(),
                    pass,
                    is_settled: AtomicBool::new(false),
                    _permit: permit,
                });
            }
        }
        None
    }

    /// Whether any endpoint that is not among `tried` is worth a call now.
    pub(super) fn is_reachable(&self, tried: &[usize]) -> bool {
        let now = Instant::now();
        let mut endpoints = self.endpoints.iter().enumerate();
        endpoints.any(|(at, it)| !tried.contains(&at) && it.lock().would_admit(now))
    }

    /// Endpoints that are given a pause.
    pub(super) fn open_breakers(&self) -> usize {
        self.endpoints.iter().filter(|it| it.lock().is_open()).count()
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> usize {
        self.connections.iter().map(|it| it.calls.load(Ordering::Relaxed)).sum()
    }

    /// How often an endpoint answered again that had not; the server may be another one then.
    pub(super) fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Acquire)
    }
}

/// A place on a connection for one call, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Line {
    pool: Arc<Pool>,
    at: usize,
    channel: Channel,
    pass: Pass,
    is_settled: AtomicBool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Line {
    /// Which endpoint it leads to.
    pub(super) fn endpoint(&self) -> Option<usize> {
        self.pool.connections.get(self.at).map(|it| it.endpoint)
    }

    fn breaker(&self) -> Option<&Mutex<Breaker>> {
        self.pool.endpoints.get(self.endpoint()?)
    }

    /// The endpoint has answered, whatever it said.
    pub(super) fn answered(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
        if self.breaker().is_some_and(|breaker| breaker.lock().succeeded()) {
            self.pool.recoveries.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The endpoint was not reached, did not answer, or was lost.
    pub(super) fn lost(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
        if let Some(breaker) = self.breaker() {
            breaker.lock().failed(self.pass, Instant::now());
        }
    }

    pub(super) fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn byte_stream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(super) fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel.clone())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(connection) = self.pool.connections.get(self.at) {
            connection.calls.fetch_sub(1, Ordering::Relaxed);
        }
        if !*self.is_settled.get_mut()
            && let Some(breaker) = self.breaker()
        {
            breaker.lock().abandoned(self.pass);
        }
    }
}
