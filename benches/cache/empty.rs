//! The server that does nothing: tonic with the same settings, and messages that are taken and
//! made up. What it costs no store can save.

use std::io::Write as _;

use bytes::Bytes;
use castellan_proto::action_cache::action_cache_server::{ActionCache, ActionCacheServer};
use castellan_proto::byte_stream::byte_stream_server::{ByteStream, ByteStreamServer};
use castellan_proto::cas::content_addressable_storage_server::{
    ContentAddressableStorage, ContentAddressableStorageServer,
};
use castellan_proto::messages as wire;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// The variable that makes this program that server.
pub(crate) const MARK: &str = "BENCH_EMPTY_SERVER";

const MESSAGE_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

struct Nothing;

/// Serves until the process is killed.
pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("empty grpc={}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    let cas = ContentAddressableStorageServer::new(Nothing)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let byte_stream = ByteStreamServer::new(Nothing).max_decoding_message_size(MESSAGE_BYTES);
    Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(4096)
        .add_service(cas)
        .add_service(byte_stream)
        .add_service(ActionCacheServer::new(Nothing))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .unwrap();
}

#[tonic::async_trait]
impl ContentAddressableStorage for Nothing {
    type GetTreeStream = BoxStream<'static, Result<wire::GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        _: Request<wire::RawMessage>,
    ) -> Result<Response<wire::RawMessage>, Status> {
        Ok(Response::new(wire::RawMessage::default()))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<wire::Bounded<wire::BatchUpdateBlobsRequest>>,
    ) -> Result<Response<wire::BatchUpdateBlobsResponse>, Status> {
        let outcomes = request.into_inner().message.requests.into_iter();
        let outcomes = outcomes
            .map(|blob| wire::BatchUpdateOutcome { digest: blob.digest, status: None })
            .collect();
        Ok(Response::new(wire::BatchUpdateBlobsResponse { responses: outcomes }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<wire::Bounded<wire::BatchReadBlobsRequest>>,
    ) -> Result<Response<wire::BatchReadBlobsResponse>, Status> {
        let outcomes = request.into_inner().message.digests.into_iter();
        let outcomes = outcomes.map(|digest| wire::BatchReadOutcome {
            data: Bytes::from_static(&ZEROS[..usize::try_from(digest.size_bytes).unwrap()]),
            digest: Some(digest),
            ..wire::BatchReadOutcome::default()
        });
        Ok(Response::new(wire::BatchReadBlobsResponse { responses: outcomes.collect() }))
    }

    async fn get_tree(
        &self,
        _: Request<wire::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }
}

#[tonic::async_trait]
impl ByteStream for Nothing {
    type ReadStream = BoxStream<'static, Result<wire::ReadResponse, Status>>;

    async fn read(
        &self,
        request: Request<wire::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let name = request.into_inner().resource_name;
        let size: usize = name.rsplit('/').next().unwrap().parse().unwrap();
        let chunk = || Ok(wire::ReadResponse { data: Bytes::from_static(&ZEROS) });
        Ok(Response::new(stream::repeat_with(chunk).take(size / CHUNK_BYTES).boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<wire::WriteRequest>>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let mut messages = request.into_inner();
        let mut committed_size = 0;
        while let Some(message) = messages.message().await? {
            committed_size += message.data.len() as i64;
        }
        Ok(Response::new(wire::WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<wire::QueryWriteStatusRequest>,
    ) -> Result<Response<wire::QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

#[tonic::async_trait]
impl ActionCache for Nothing {
    async fn get_action_result(
        &self,
        _: Request<wire::Bounded<wire::GetActionResultRequest>>,
    ) -> Result<Response<wire::RawMessage>, Status> {
        // Field 5, `stdout_raw`, as long as a small result.
        static RESULT: [u8; 503] = {
            let mut result = [0; 503];
            (result[0], result[1], result[2]) = (0x2a, 0xf4, 0x03);
            result
        };
        Ok(Response::new(wire::RawMessage { encoded: Bytes::from_static(&RESULT) }))
    }

    async fn update_action_result(
        &self,
        request: Request<wire::UpdateActionResultRequest>,
    ) -> Result<Response<wire::RawMessage>, Status> {
        let encoded = request.into_inner().action_result.unwrap_or_default();
        Ok(Response::new(wire::RawMessage { encoded }))
    }
}
