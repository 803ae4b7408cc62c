//! An upstream in this process that does what a test tells it to, over pipes instead of sockets:
//! the clock can be paused.

mod services;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan_proto::action_cache::action_cache_server::ActionCacheServer;
use castellan_proto::byte_stream::byte_stream_server::ByteStreamServer;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorageServer;
use castellan_proto::v2::CacheCapabilities;
use castellan_proto::v2::capabilities_server::CapabilitiesServer;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Server, ServerTlsConfig};

use self::services::Service;
use crate::digest::{Digest, DigestFunction};
use crate::shutdown;

/// What one call does instead of what it should.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Is refused.
    Refuse(Status),
    /// Never answers.
    Hang,
    /// The bytes are others.
    WrongBytes,
    /// The last byte is missing.
    Short,
    /// There is a byte more.
    Long,
    /// Breaks off behind so many bytes.
    Break(usize),
    /// Stops behind so many bytes.
    Stall(usize),
    /// Waits so long before each message.
    Slow(Duration),
    /// Answers at once, or at the end of a write, with this committed size, and stores nothing.
    Commit(i64),
    /// The batch's answer lacks the first entry.
    Omit,
    /// Each entry of the batch's answer comes twice, the second time with other bytes.
    Duplicate,
    /// Each entry of the answer is about another blob.
    Misname,
    /// Stores everything, then breaks off.
    BreakAtEnd,
}

/// How a connection comes about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    #[default]
    Up,
    /// Refused.
    Down,
    /// Accepted, and nothing more.
    BlackHole,
}

#[derive(Debug, Default)]
struct State {
    reach: Reach,
    blobs: HashMap<Digest, Bytes>,
    partial: HashMap<String, Vec<u8>>,
    results: HashMap<Vec<u8>, Bytes>,
    faults: HashMap<&'static str, VecDeque<Fault>>,
    always: HashMap<&'static str, Fault>,
    calls: Vec<String>,
    headers: Vec<MetadataMap>,
    capabilities: Option<CacheCapabilities>,
    pumps: Vec<JoinHandle<()>>,
    held: Vec<DuplexStream>,
    dials: usize,
    most_at_once: usize,
    at_once: usize,
}

/// The upstream.
#[derive(Debug)]
pub(super) struct Fake {
    state: Mutex<State>,
    incoming: mpsc::Sender<io::Result<DuplexStream>>,
    /// While it is set, calls wait.
    gate: Mutex<Option<Arc<Notify>>>,
}

impl Fake {
    pub(super) fn start() -> Arc<Self> {
        Self::start_with(None)
    }

    pub(super) fn start_with(tls: Option<ServerTlsConfig>) -> Arc<Self> {
        let (incoming, streams) = mpsc::channel(64);
        let fake = Arc::new(Self { state: Mutex::default(), incoming, gate: Mutex::default() });
        let service = Service(Arc::clone(&fake));
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let serving = server
            .add_service(
                ContentAddressableStorageServer::new(service.clone())
                    .max_decoding_message_size(64 << 20),
            )
            .add_service(ByteStreamServer::new(service.clone()))
            .add_service(ActionCacheServer::new(service.clone()))
            .add_service(CapabilitiesServer::new(service))
            .serve_with_incoming(ReceiverStream::new(streams));
        shutdown::spawn("fake upstream", async move {
            drop(serving.await);
        });
        fake
    }

    /// Makes a connection.
    pub(super) fn accept(&self) -> io::Result<TokioIo<DuplexStream>> {
        let mut state = self.state.lock();
        state.dials += 1;
        if state.reach == Reach::Down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (client, mut near) = tokio::io::duplex(64 << 10);
        if state.reach == Reach::BlackHole {
            state.held.push(near);
            return Ok(TokioIo::new(client));
        }
        let (server, mut far) = tokio::io::duplex(64 << 10);
        self.incoming.try_send(Ok(server)).unwrap();
        state.pumps.push(shutdown::spawn("pipe", async move {
            drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        }));
        Ok(TokioIo::new(client))
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        let mut state = self.state.lock();
        state.pumps.drain(..).for_each(|pump| pump.abort());
        state.held.clear();
    }

    pub(super) fn set_reach(&self, reach: Reach) {
        self.state.lock().reach = reach;
        self.cut();
    }

    /// The next call of `method` does this.
    pub(super) fn fail(&self, method: &'static str, fault: Fault) {
        self.state.lock().faults.entry(method).or_default().push_back(fault);
    }

    /// Every call of `method` does this, unless [`Fake::fail`] says otherwise.
    pub(super) fn fail_always(&self, method: &'static str, fault: Fault) {
        self.state.lock().always.insert(method, fault);
    }

    pub(super) fn heal(&self) {
        let mut state = self.state.lock();
        state.always.clear();
        state.faults.clear();
    }

    pub(super) fn announce(&self, capabilities: CacheCapabilities) {
        self.state.lock().capabilities = Some(capabilities);
    }

    pub(super) fn store(&self, data: impl Into<Bytes>) -> Digest {
        self.store_as(DigestFunction::Sha256, data)
    }

    pub(super) fn store_as(&self, function: DigestFunction, data: impl Into<Bytes>) -> Digest {
        let data = data.into();
        let digest = Digest::of(function, &data);
        self.state.lock().blobs.insert(digest, data);
        digest
    }

    pub(super) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.state.lock().blobs.get(digest).cloned()
    }

    /// The calls so far of methods whose name begins like this.
    pub(super) fn calls(&self, method: &str) -> Vec<String> {
        let state = self.state.lock();
        state.calls.iter().filter(|it| it.starts_with(method)).cloned().collect()
    }

    pub(super) fn last_headers(&self) -> MetadataMap {
        self.state.lock().headers.last().cloned().unwrap()
    }

    pub(super) fn dials(&self) -> usize {
        self.state.lock().dials
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.state.lock().most_at_once
    }

    /// Makes calls wait until [`Fake::open`].
    pub(super) fn shut(&self) {
        *self.gate.lock() = Some(Arc::default());
    }

    pub(super) fn open(&self) {
        if let Some(gate) = self.gate.lock().take() {
            gate.notify_waiters();
        }
    }

    fn fault(&self, method: &'static str) -> Option<Fault> {
        let mut state = self.state.lock();
        let next = state.faults.get_mut(method).and_then(VecDeque::pop_front);
        next.or_else(|| state.always.get(method).cloned())
    }

    /// Notes a call; the faults that are the same everywhere happen here.
    async fn enter(
        &self,
        method: &'static str,
        headers: &MetadataMap,
        what: String,
    ) -> Result<(Option<Fault>, Busy<'_>), Status> {
        let gate = {
            let mut state = self.state.lock();
            state.calls.push(format!("{method} {what}"));
            state.headers.push(headers.clone());
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
            self.gate.lock().clone()
        };
        let busy = Busy(self);
        if let Some(gate) = gate {
            gate.notified().await;
        }
        match self.fault(method) {
            Some(Fault::Refuse(status)) => Err(status),
            Some(Fault::Hang) => std::future::pending().await,
            fault => Ok((fault, busy)),
        }
    }
}

struct Busy<'a>(&'a Fake);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.state.lock().at_once -= 1;
    }
}
