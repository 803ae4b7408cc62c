//! `google.bytestream.ByteStream`: blobs of any size, in pieces.
//!
//! Reads are pulled from the store as the client takes them; writes go to the store as they come.
//! Neither ever holds more than one message of a blob.

mod read;
mod reads;
pub(super) mod sessions;
mod write;
mod writer;

use std::sync::Arc;

use castellan_proto::byte_stream::byte_stream_server::ByteStream;
use castellan_proto::messages::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse,
};
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use self::reads::Reads;
use self::sessions::{SessionName, Sessions};
use super::Shared;
use super::convert::wire_size;
use super::status::invalid_field;
use super::trace::record_call;
use crate::digest::{Compressor, WriteResource};

/// The header in which a client may repeat the resource name, for routing (reapi 53).
const RESOURCE_NAME_HEADER: &str = "build.bazel.remote.execution.v2.resource-name";

/// The service.
#[derive(Debug)]
pub(super) struct ByteStreamService {
    shared: Shared,
    sessions: Arc<Sessions>,
    reads: Arc<Reads>,
}

impl ByteStreamService {
    pub(super) fn new(shared: Shared, sessions: Arc<Sessions>) -> Self {
        let reads = Reads::new(shared.options.read_idle_timeout);
        Self { shared, sessions, reads }
    }
}

#[tonic::async_trait]
impl ByteStream for ByteStreamService {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        check_header(request.metadata(), &request.get_ref().resource_name)?;
        let chunks = read::chunks(&self.shared, &self.reads, &request.into_inner()).await?;
        Ok(Response::new(chunks.boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (metadata, _, messages) = request.into_parts();
        let committed_size = write::write(self, &metadata, messages).await?;
        Ok(Response::new(WriteResponse { committed_size: wire_size(committed_size) }))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let name = &request.get_ref().resource_name;
        check_header(request.metadata(), name)?;
        let unnamed = self.shared.options.default_digest_function;
        let resource = WriteResource::parse(name, unnamed)?;
        record_call(&resource.instance_name, Some(&resource.digest));
        let instance = self.shared.instances.get(&resource.instance_name)?;
        check_compressor(resource.compressor)?;
        let digest = resource.digest;
        let complete = instance.bytestream()?.contains(digest).await?;
        // A name nobody has written to is at 0, not an error: clients start over from there
        // (reapi 77).
        let committed_size = if complete {
            digest.size_bytes
        } else {
            self.sessions.committed_bytes(&SessionName::from(resource))
        };
        Ok(Response::new(QueryWriteStatusResponse {
            committed_size: wire_size(committed_size),
            complete,
        }))
    }
}

/// Refuses a call whose header names something else than its message.
fn check_header(metadata: &MetadataMap, resource_name: &str) -> Result<(), Status> {
    match metadata.get(RESOURCE_NAME_HEADER) {
        Some(header) if header.as_encoded_bytes() != resource_name.as_bytes() => {
            let problem = format!("is not what the header {RESOURCE_NAME_HEADER} says");
            Err(invalid_field("resource_name", problem))
        }
        _ => Ok(()),
    }
}

/// Refuses every encoding that Capabilities does not announce (reapi 52).
fn check_compressor(compressor: Compressor) -> Result<(), Status> {
    match compressor {
        Compressor::Identity => Ok(()),
        Compressor::Zstd | Compressor::Deflate | Compressor::Brotli => Err(invalid_field(
            "resource_name",
            format_args!("compressor {compressor:?} is not announced in Capabilities"),
        )),
    }
}
