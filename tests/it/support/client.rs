//! A client of any server: whole transfers, uploads fed by hand, connections that can be cut.

use std::net::Shutdown;
use std::ops::Range;

use bytes::Bytes;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{self, QueryWriteStatusRequest, ReadRequest, WriteRequest};
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use castellan_proto::v2::{CacheCapabilities, GetCapabilitiesRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

use super::{Blob, TestServer};

const MESSAGE_BYTES: usize = 64 << 20;
/// What one message of an upload carries.
const CHUNK_BYTES: usize = 256 << 10;

/// One connection.
pub(crate) struct Client {
    channel: Channel,
    socket: socket2::Socket,
}

impl Client {
    /// A connection to a server in this process.
    pub(crate) async fn of(server: &TestServer) -> Self {
        Self::connect(&server.server.grpc_address().unwrap().to_string()).await
    }

    /// A connection to an address.
    pub(crate) async fn connect(address: &str) -> Self {
        Self::connect_with(address, |endpoint| endpoint).await
    }

    /// A connection that takes no more than `window_bytes` of a read before the test reads on.
    pub(crate) async fn with_window(address: &str, window_bytes: u32) -> Self {
        Self::connect_with(address, |endpoint| endpoint.initial_stream_window_size(window_bytes))
            .await
    }

    async fn connect_with(address: &str, set: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let socket = socket2::SockRef::from(&tcp).try_clone().unwrap();
        let mut once = Some(TokioIo::new(tcp));
        let connector = tower::service_fn(move |_: Uri| {
            let io = once.take().ok_or_else(|| std::io::Error::other("the connection was cut"));
            std::future::ready(io)
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = set(endpoint).connect_with_connector(connector).await.unwrap();
        Self { channel, socket }
    }

    /// Cuts the connection without a word, as a machine does that is switched off.
    pub(crate) fn cut(self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }

    /// For the services that have no method here.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn byte_stream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// Sends messages that are all at hand; returns the committed size.
    pub(crate) async fn write(&self, requests: Vec<WriteRequest>) -> Result<i64, Status> {
        let response = self.byte_stream().write(tokio_stream::iter(requests)).await?;
        Ok(response.into_inner().committed_size)
    }

    /// Uploads a blob under a fresh name of the empty instance.
    pub(crate) async fn put(&self, blob: &Blob) -> Result<i64, Status> {
        self.write(whole(&blob.write_name(), &blob.data)).await
    }

    /// Begins an upload whose messages the test sends one at a time.
    #[expect(clippy::disallowed_methods, reason = "the test awaits the reply")]
    pub(crate) fn open_write(&self) -> OpenWrite {
        let (messages, receiver) = mpsc::channel(1);
        let mut client = self.byte_stream();
        let reply = tokio::spawn(async move {
            let response = client.write(ReceiverStream::new(receiver)).await?;
            Ok(response.into_inner().committed_size)
        });
        OpenWrite { messages: Some(messages), reply }
    }

    /// Begins a read.
    pub(crate) async fn open_read(
        &self,
        name: &str,
        read_offset: i64,
        read_limit: i64,
    ) -> Result<Streaming<messages::ReadResponse>, Status> {
        let request = ReadRequest { resource_name: name.to_owned(), read_offset, read_limit };
        Ok(self.byte_stream().read(request).await?.into_inner())
    }

    /// Reads a whole resource.
    pub(crate) async fn read(&self, name: &str) -> Result<Bytes, Status> {
        self.read_range(name, 0, 0).await
    }

    /// Reads a part of a resource.
    pub(crate) async fn read_range(
        &self,
        name: &str,
        offset: i64,
        limit: i64,
    ) -> Result<Bytes, Status> {
        drain(self.open_read(name, offset, limit).await?).await
    }

    /// How far an upload has come and whether its blob is there.
    pub(crate) async fn query(&self, name: &str) -> Result<(i64, bool), Status> {
        let request = QueryWriteStatusRequest { resource_name: name.to_owned() };
        let response = self.byte_stream().query_write_status(request).await?.into_inner();
        Ok((response.committed_size, response.complete))
    }

    /// Whether a blob is missing; refreshes it if not.
    pub(crate) async fn is_missing(&self, blob: &Blob) -> bool {
        let request = messages::FindMissingBlobsRequest {
            blob_digests: vec![blob.wire()],
            digest_function: blob.digest.function.to_wire(),
            ..messages::FindMissingBlobsRequest::default()
        };
        let mut cas = ContentAddressableStorageClient::new(self.channel.clone());
        let response = cas.find_missing_blobs(request).await.unwrap();
        !response.into_inner().missing_blob_digests.is_empty()
    }

    /// What an instance announces about its cache.
    pub(crate) async fn capabilities(
        &self,
        instance_name: &str,
    ) -> Result<CacheCapabilities, Status> {
        let request = GetCapabilitiesRequest { instance_name: instance_name.to_owned() };
        let mut client = CapabilitiesClient::new(self.channel.clone());
        let response = client.get_capabilities(request).await?.into_inner();
        Ok(response.cache_capabilities.unwrap())
    }
}

/// Reads a stream to its end.
pub(crate) async fn drain(mut stream: Streaming<messages::ReadResponse>) -> Result<Bytes, Status> {
    let mut data = Vec::new();
    while let Some(message) = stream.message().await? {
        data.extend_from_slice(&message.data);
    }
    Ok(data.into())
}

/// An upload under way, fed by hand.
pub(crate) struct OpenWrite {
    messages: Option<mpsc::Sender<WriteRequest>>,
    reply: JoinHandle<Result<i64, Status>>,
}

impl OpenWrite {
    /// Sends one message; a server that has replied already takes none, and its reply says why.
    pub(crate) async fn send(&self, message: WriteRequest) {
        drop(self.messages.as_ref().unwrap().send(message).await);
    }

    /// Waits for the reply while this side stays open.
    pub(crate) async fn reply(self) -> Result<i64, Status> {
        let reply = self.reply.await.unwrap();
        drop(self.messages);
        reply
    }

    /// Ends this side, then waits for the reply.
    pub(crate) async fn half_close(mut self) -> Result<i64, Status> {
        self.messages = None;
        self.reply.await.unwrap()
    }

    /// Resets the stream, as a client does whose deadline has passed.
    pub(crate) fn reset(self) {
        self.reply.abort();
    }
}

/// One message with a part of `data`, under a name.
pub(crate) fn part(name: &str, data: &Bytes, range: Range<usize>) -> WriteRequest {
    WriteRequest {
        resource_name: name.to_owned(),
        write_offset: i64::try_from(range.start).unwrap(),
        finish_write: false,
        data: data.slice(range),
    }
}

/// The messages that send `range` of `data`, none of them the last.
pub(crate) fn parts(
    name: &str,
    data: &Bytes,
    range: Range<usize>,
    chunk_bytes: usize,
) -> Vec<WriteRequest> {
    let mut start = range.start;
    let mut requests = Vec::new();
    while requests.is_empty() || start < range.end {
        let end = range.end.min(start + chunk_bytes);
        // The name goes into the first message only, as Bazel does it.
        let name = if requests.is_empty() { name } else { "" };
        requests.push(part(name, data, start..end));
        start = end;
    }
    requests
}

/// The messages that send `data` from an offset to its end, the last with `finish_write`.
pub(crate) fn rest(
    name: &str,
    data: &Bytes,
    offset: usize,
    chunk_bytes: usize,
) -> Vec<WriteRequest> {
    let mut requests = parts(name, data, offset..data.len(), chunk_bytes);
    requests.last_mut().unwrap().finish_write = true;
    requests
}

/// The messages of a whole upload.
pub(crate) fn whole(name: &str, data: &Bytes) -> Vec<WriteRequest> {
    rest(name, data, 0, CHUNK_BYTES)
}

/// Turns messages into the last ones of their upload.
pub(crate) fn finished(mut requests: Vec<WriteRequest>) -> Vec<WriteRequest> {
    requests.last_mut().unwrap().finish_write = true;
    requests
}
