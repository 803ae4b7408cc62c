//! A server on a port of its own, and clients for it.

use std::sync::Arc;

use bytes::Bytes;
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    self, QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, WriteRequest,
};
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};

use crate::digest::{Digest, DigestFunction};
use crate::grpc::room::Room;
use crate::grpc::{self, GrpcHandle, GrpcOptions, Shared};
use crate::instance::{InstanceStores, Instances};
use crate::shutdown::{self, Readiness};
use crate::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};

pub(super) const INSTANCE: &str = "projects/p/instances/main";

pub(super) struct TestServer {
    pub(super) handle: GrpcHandle,
    pub(super) store: Arc<FilesystemStore>,
    address: String,
    channel: Channel,
    task: JoinHandle<()>,
    _root: TempDir,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub(super) async fn start() -> Self {
        Self::with(GrpcOptions::default(), 256 << 20).await
    }

    pub(super) async fn with(options: GrpcOptions, max_bytes: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store =
            FilesystemStore::open(FilesystemOptions::new(root.path(), Cap::Bytes(max_bytes))).await;
        let store = store.unwrap();
        let stores = InstanceStores::new(
            Arc::<FilesystemStore>::clone(&store),
            Arc::<FilesystemStore>::clone(&store),
        );
        let read_only = InstanceStores { action_cache_read_only: true, ..stores.clone() };
        let named = [(INSTANCE, &stores), ("", &stores), ("read-only", &read_only)];
        let named = named.map(|(name, stores)| (name.to_owned(), stores.clone()));
        let instances = Arc::new(Instances::named(named.into()));
        let front = grpc::build(instances, options, Readiness::new()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serve = Server::builder()
            .add_routes(front.routes)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = shutdown::spawn("test server", async move { serve.await.unwrap() });
        let channel = connect(&address).await;
        Self { handle: front.handle, store, address, channel, task, _root: root }
    }

    /// What its services work on, for one without the network.
    pub(super) fn shared(&self) -> Shared {
        let stores = InstanceStores::new(
            Arc::<FilesystemStore>::clone(&self.store),
            Arc::<FilesystemStore>::clone(&self.store),
        );
        Shared {
            instances: Arc::new(Instances::any(stores)),
            options: Arc::new(GrpcOptions::default()),
            room: Room::new(Arc::clone(&self.handle.sessions)),
        }
    }

    /// A connection of its own: dropping it is what a vanishing client looks like.
    pub(super) async fn other_connection(&self) -> Channel {
        connect(&self.address).await
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        let client = ContentAddressableStorageClient::new(self.channel());
        client.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
    }

    pub(super) fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel()).max_encoding_message_size(64 << 20)
    }

    pub(super) fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel()).max_decoding_message_size(64 << 20)
    }

    pub(super) fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel())
    }

    pub(super) async fn read(&self, digest: Digest) -> Result<Bytes, Status> {
        self.read_name(&format!("{INSTANCE}/{}", blob_part(digest)), 0, 0).await
    }

    pub(super) async fn read_name(
        &self,
        resource_name: &str,
        read_offset: i64,
        read_limit: i64,
    ) -> Result<Bytes, Status> {
        let resource_name = resource_name.to_owned();
        let request = ReadRequest { resource_name, read_offset, read_limit };
        let mut chunks = self.bytes().read(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            all.extend_from_slice(&chunk.data);
        }
        Ok(all.into())
    }

    pub(super) async fn query(&self, name: &str) -> Result<QueryWriteStatusResponse, Status> {
        let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
        Ok(self.bytes().query_write_status(request).await?.into_inner())
    }

    /// Writes messages that are all at hand.
    pub(super) async fn write(&self, messages: Vec<WriteRequest>) -> Result<i64, Status> {
        let stream = tokio_stream::iter(messages);
        Ok(self.bytes().write(stream).await?.into_inner().committed_size)
    }

    pub(super) async fn put(&self, data: &[u8]) -> Digest {
        let digest = sha256(data);
        let name = write_name("setup", digest);
        let written = self.write(split(&name, data, 0, 1 << 20)).await.unwrap();
        assert_eq!(written, data.len() as i64);
        digest
    }
}

async fn connect(address: &str) -> Channel {
    Channel::from_shared(address.to_owned()).unwrap().connect().await.unwrap()
}

/// A write whose messages are sent one at a time.
pub(super) struct SlowWrite {
    messages: Option<mpsc::Sender<WriteRequest>>,
    pub(super) reply: JoinHandle<Result<i64, Status>>,
}

impl SlowWrite {
    #[expect(clippy::disallowed_methods, reason = "the reply is awaited by the test")]
    pub(super) fn start(channel: Channel) -> Self {
        let (messages, receiver) = mpsc::channel(1);
        let mut client = ByteStreamClient::new(channel).max_encoding_message_size(64 << 20);
        let reply = tokio::spawn(async move {
            let reply = client.write(ReceiverStream::new(receiver)).await?;
            Ok(reply.into_inner().committed_size)
        });
        Self { messages: Some(messages), reply }
    }

    pub(super) async fn send(&self, message: WriteRequest) {
        self.messages.as_ref().unwrap().send(message).await.unwrap();
    }

    pub(super) fn half_close(&mut self) {
        self.messages = None;
    }

    /// Resets the stream, as a client does whose deadline has passed.
    pub(super) fn vanish(self) {
        self.reply.abort();
    }
}

pub(super) fn sha256(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

pub(super) fn wire(digest: Digest) -> messages::Digest {
    messages::Digest {
        hash: Bytes::copy_from_slice(digest.hash_hex().as_bytes()),
        size_bytes: digest.size_bytes as i64,
    }
}

fn blob_part(digest: Digest) -> String {
    format!("blobs/{digest}")
}

pub(super) fn write_name(uuid: &str, digest: Digest) -> String {
    format!("{INSTANCE}/uploads/{uuid}/{}", blob_part(digest))
}

/// The messages that write `data` from `offset` on, the last one with `finish_write`.
pub(super) fn split(name: &str, data: &[u8], offset: usize, chunk: usize) -> Vec<WriteRequest> {
    let mut messages = unfinished(name, data, offset, chunk);
    messages.last_mut().unwrap().finish_write = true;
    messages
}

/// The same without `finish_write`.
pub(super) fn unfinished(
    name: &str,
    data: &[u8],
    offset: usize,
    chunk: usize,
) -> Vec<WriteRequest> {
    let message = |at: usize, data: &[u8]| WriteRequest {
        resource_name: if at == offset { name.to_owned() } else { String::new() },
        write_offset: at as i64,
        finish_write: false,
        data: Bytes::copy_from_slice(data),
    };
    if data.len() == offset {
        return vec![message(offset, &[])];
    }
    let chunks = data[offset..].chunks(chunk).enumerate();
    chunks.map(|(index, data)| message(offset + index * chunk, data)).collect()
}

/// Bytes that differ everywhere and for every seed.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut data);
    data
}

#[track_caller]
pub(super) fn assert_code<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    status
}
