//! `Read`: pulls a blob out of the store at the pace of its client.

use std::sync::Arc;

use castellan_proto::messages::{ReadRequest, ReadResponse};
use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::Status;

use super::super::Shared;
use super::super::status::{blob_not_found, invalid_field};
use super::super::trace::record_call;
use super::check_compressor;
use super::reads::Reads;
use crate::digest::ReadResource;
use crate::store::ByteRange;

/// Starts to read a blob. An error of the store in mid-stream ends the stream with its status:
/// a read that ends OK has delivered what was asked for (I20). Cancel safe.
///
/// A client that takes nothing for `read_idle_timeout` loses its read (I23).
pub(super) async fn chunks(
    shared: &Shared,
    reads: &Arc<Reads>,
    request: &ReadRequest,
) -> Result<impl Stream<Item = Result<ReadResponse, Status>> + use<>, Status> {
    let unnamed = shared.options.default_digest_function;
    let resource = ReadResource::parse(&request.resource_name, unnamed)?;
    record_call(&resource.instance_name, Some(&resource.digest));
    let instance = shared.instances.get(&resource.instance_name)?;
    check_compressor(resource.compressor)?;
    let range = requested_range(request, resource.digest.size_bytes)?;
    let Some(reader) = instance.bytestream()?.read(resource.digest, range).await? else {
        return Err(blob_not_found(resource.digest));
    };
    let max_bytes = shared.options.read_chunk_bytes();
    if reader.remaining_bytes() <= max_bytes as u64 {
        // One chunk: read now, so that nothing stays open whenever the client takes it.
        let data = reader.read_all().await?;
        let chunk = (!data.is_empty()).then_some(Ok(ReadResponse { data }));
        return Ok(stream::iter(chunk).left_stream());
    }
    let chunks = stream::try_unfold(reads.start(reader), move |mut read| async move {
        let chunk = read.next(max_bytes).await?;
        Ok(chunk.map(|data| (ReadResponse { data }, read)))
    });
    Ok(chunks.right_stream())
}

/// Checks offset and limit (reapi 55, 56). The size is part of the name, so this asks no store.
fn requested_range(request: &ReadRequest, size_bytes: u64) -> Result<ByteRange, Status> {
    let out_of_range = || {
        let offset = request.read_offset;
        Status::out_of_range(format!("read_offset {offset} is not within 0 to {size_bytes}"))
    };
    let offset = u64::try_from(request.read_offset).map_err(|_| out_of_range())?;
    if offset > size_bytes {
        return Err(out_of_range());
    }
    match u64::try_from(request.read_limit) {
        Ok(0) => Ok(ByteRange { offset, limit: None }),
        Ok(limit) => Ok(ByteRange { offset, limit: Some(limit) }),
        Err(_) => Err(invalid_field("read_limit", "is negative")),
    }
}
