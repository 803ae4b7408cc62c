//! What the fake answers, and how it is spoiled.

use std::time::Duration;

use bytes::Bytes;
use castellan_proto::action_cache::action_cache_server::ActionCache;
use castellan_proto::byte_stream::byte_stream_server::ByteStream;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorage;
use castellan_proto::messages::{self, *};
use castellan_proto::rpc;
use castellan_proto::v2::capabilities_server::Capabilities;
use castellan_proto::v2::{GetCapabilitiesRequest, ServerCapabilities};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Arc, Fake, Fault};
use crate::digest::{Digest, DigestFunction, ReadResource, WriteResource};

#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Fake>);

fn parse(function: i32, wire: &messages::Digest) -> Digest {
    let function = DigestFunction::from_wire(function).unwrap();
    Digest::parse(function, &wire.hash, wire.size_bytes).unwrap()
}

fn spoil(data: &Bytes, fault: Option<&Fault>) -> Bytes {
    let mut data = data.to_vec();
    match fault {
        Some(Fault::WrongBytes) => data[0] ^= 1,
        Some(Fault::Short) => drop(data.pop()),
        Some(Fault::Long) => data.push(0),
        _ => {}
    }
    data.into()
}

fn misname(digest: &mut Option<messages::Digest>) {
    let other = Digest::of(DigestFunction::Sha256, b"another");
    *digest = Some(messages::Digest {
        hash: Bytes::copy_from_slice(other.hash_hex().as_str().as_bytes()),
        size_bytes: 7,
    });
}

#[tonic::async_trait]
impl ContentAddressableStorage for Service {
    type GetTreeStream = BoxStream<'static, Result<GetTreeResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<RawMessage>,
    ) -> Result<Response<RawMessage>, Status> {
        let asked = FindMissingBlobsRequest::decode(&*request.get_ref().encoded).unwrap();
        let what = format!("{} of {}", asked.blob_digests.len(), asked.digest_function);
        let (fault, _busy) = self.0.enter("FindMissingBlobs", request.metadata(), what).await?;
        let state = self.0.state.lock();
        let is_missing =
            |it: &messages::Digest| !state.blobs.contains_key(&parse(asked.digest_function, it));
        let mut missing: Vec<_> =
            asked.blob_digests.iter().filter(|it| is_missing(it)).cloned().collect();
        if matches!(fault, Some(Fault::Misname)) {
            let mut stray = None;
            misname(&mut stray);
            missing.push(stray.unwrap());
        }
        let encoded = FindMissingBlobsResponse { missing_blob_digests: missing }.encode_to_vec();
        Ok(Response::new(RawMessage { encoded: encoded.into() }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<Bounded<BatchUpdateBlobsRequest>>,
    ) -> Result<Response<BatchUpdateBlobsResponse>, Status> {
        let what = request.get_ref().message.requests.len().to_string();
        let (fault, _busy) = self.0.enter("BatchUpdateBlobs", request.metadata(), what).await?;
        let asked = request.into_inner().message;
        let mut responses = Vec::new();
        for blob in asked.requests {
            let digest = parse(asked.digest_function, blob.digest.as_ref().unwrap());
            if fault.is_none() {
                self.0.state.lock().blobs.insert(digest, blob.data);
            }
            responses.push(BatchUpdateOutcome {
                digest: blob.digest,
                status: Some(rpc::Status::default()),
            });
        }
        match fault {
            Some(Fault::Omit) => drop(responses.remove(0)),
            Some(Fault::Misname) => {
                for one in &mut responses {
                    misname(&mut one.digest);
                }
            }
            _ => {}
        }
        Ok(Response::new(BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<Bounded<BatchReadBlobsRequest>>,
    ) -> Result<Response<BatchReadBlobsResponse>, Status> {
        let what = request.get_ref().message.digests.len().to_string();
        let (fault, _busy) = self.0.enter("BatchReadBlobs", request.metadata(), what).await?;
        let asked = request.into_inner().message;
        let mut responses = Vec::new();
        for wire in asked.digests {
            let data = self.0.blob(&parse(asked.digest_function, &wire));
            let code = if data.is_some() { Code::Ok } else { Code::NotFound };
            responses.push(BatchReadOutcome {
                digest: Some(wire),
                data: data.map(|it| spoil(&it, fault.as_ref())).unwrap_or_default(),
                status: Some(rpc::Status { code: code.into(), ..rpc::Status::default() }),
                compressor: 0,
            });
        }
        match fault {
            Some(Fault::Omit) => drop(responses.remove(0)),
            Some(Fault::Misname) => {
                for one in &mut responses {
                    misname(&mut one.digest);
                }
            }
            Some(Fault::Duplicate) => {
                let mut again = responses.clone();
                for one in &mut again {
                    one.data = spoil(&one.data, Some(&Fault::WrongBytes));
                }
                responses.extend(again);
            }
            _ => {}
        }
        Ok(Response::new(BatchReadBlobsResponse { responses }))
    }

    async fn get_tree(
        &self,
        _request: Request<GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("no trees"))
    }
}

const CHUNK_BYTES: usize = 64 << 10;

#[tonic::async_trait]
impl ByteStream for Service {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let asked = request.get_ref().clone();
        let what = format!("{} {} {}", asked.resource_name, asked.read_offset, asked.read_limit);
        let (fault, _busy) = self.0.enter("Read", request.metadata(), what).await?;
        let resource = ReadResource::parse(&asked.resource_name, DigestFunction::Sha256).unwrap();
        let Some(data) = self.0.blob(&resource.digest) else {
            // Late, as some servers say it: behind the headers.
            let status = Status::not_found("no such blob");
            return Ok(Response::new(stream::iter([Err(status)]).boxed()));
        };
        let mut data = data.slice(usize::try_from(asked.read_offset).unwrap()..);
        if asked.read_limit > 0 {
            data.truncate(usize::try_from(asked.read_limit).unwrap());
        }
        let mut data = spoil(&data, fault.as_ref());
        let ending = match fault {
            Some(Fault::Break(at)) => {
                data.truncate(at);
                stream::iter([Err(Status::unavailable("broken off"))]).boxed()
            }
            Some(Fault::Stall(at)) => {
                data.truncate(at);
                stream::pending().boxed()
            }
            _ => stream::empty().boxed(),
        };
        let chunks: Vec<_> = data
            .chunks(CHUNK_BYTES)
            .map(|chunk| Ok(ReadResponse { data: Bytes::copy_from_slice(chunk) }))
            .collect();
        let empty = stream::iter([Ok(ReadResponse::default())]);
        let pause = if let Some(Fault::Slow(pause)) = fault { pause } else { Duration::ZERO };
        let chunks = stream::iter(chunks).then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            chunk
        });
        Ok(Response::new(empty.chain(chunks).chain(ending).boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let (fault, _busy) = self.0.enter("Write", request.metadata(), String::new()).await?;
        self.receive(fault, request.into_inner()).await
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let name = request.get_ref().resource_name.clone();
        let (_, _busy) =
            self.0.enter("QueryWriteStatus", request.metadata(), String::new()).await?;
        let digest = WriteResource::parse(&name, DigestFunction::Sha256).unwrap().digest;
        let state = self.0.state.lock();
        let complete = state.blobs.contains_key(&digest);
        let committed = state.partial.get(&name).map_or(0, Vec::len) as i64;
        let committed_size = if complete { digest.size_bytes as i64 } else { committed };
        Ok(Response::new(QueryWriteStatusResponse { committed_size, complete }))
    }
}

impl Service {
    fn receive(
        &self,
        fault: Option<Fault>,
        mut messages: Streaming<WriteRequest>,
    ) -> BoxFuture<'_, Result<Response<WriteResponse>, Status>> {
        Box::pin(async move {
            let mut name = String::new();
            let committed = |committed_size| Ok(Response::new(WriteResponse { committed_size }));
            if let Some(Fault::Commit(size)) = fault {
                drop(messages.message().await?);
                return committed(size);
            }
            while let Some(message) = messages.message().await? {
                if name.is_empty() {
                    name = message.resource_name;
                }
                let received = {
                    let mut state = self.0.state.lock();
                    let partial = state.partial.entry(name.clone()).or_default();
                    assert_eq!(message.write_offset, partial.len() as i64, "a gap");
                    partial.extend_from_slice(&message.data);
                    partial.len()
                };
                match fault {
                    Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
                    Some(Fault::Break(at)) if received >= at => {
                        return Err(Status::unavailable("broken off"));
                    }
                    Some(Fault::Stall(at)) if received >= at => std::future::pending().await,
                    _ => {}
                }
                if message.finish_write {
                    let data: Bytes = self.0.state.lock().partial[&name].clone().into();
                    let digest =
                        WriteResource::parse(&name, DigestFunction::Sha256).unwrap().digest;
                    assert_eq!(Digest::of(digest.function, &data), digest, "a wrong upload");
                    self.0.state.lock().blobs.insert(digest, data);
                    if matches!(fault, Some(Fault::BreakAtEnd)) {
                        return Err(Status::unavailable("broken off"));
                    }
                    return committed(received as i64);
                }
            }
            committed(self.0.state.lock().partial.get(&name).map_or(0, Vec::len) as i64)
        })
    }
}

#[tonic::async_trait]
impl ActionCache for Service {
    async fn get_action_result(
        &self,
        request: Request<Bounded<GetActionResultRequest>>,
    ) -> Result<Response<RawMessage>, Status> {
        let asked = request.get_ref().message.clone();
        assert!(!asked.inline_stdout && !asked.inline_stderr);
        let (_, _busy) = self.0.enter("GetActionResult", request.metadata(), String::new()).await?;
        let key = asked.action_digest.unwrap().encode_to_vec();
        let found = self.0.state.lock().results.get(&key).cloned();
        let encoded = found.ok_or_else(|| Status::not_found("no such result"))?;
        Ok(Response::new(RawMessage { encoded }))
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<RawMessage>, Status> {
        let asked = request.get_ref().clone();
        let (_, _busy) =
            self.0.enter("UpdateActionResult", request.metadata(), String::new()).await?;
        let key = asked.action_digest.unwrap().encode_to_vec();
        let encoded = asked.action_result.unwrap();
        self.0.state.lock().results.insert(key, encoded.clone());
        Ok(Response::new(RawMessage { encoded }))
    }
}

#[tonic::async_trait]
impl Capabilities for Service {
    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        let (_, _busy) = self.0.enter("GetCapabilities", request.metadata(), String::new()).await?;
        let cache_capabilities = self.0.state.lock().capabilities.clone();
        Ok(Response::new(ServerCapabilities { cache_capabilities, ..Default::default() }))
    }
}
