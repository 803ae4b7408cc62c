//! `GET` and `HEAD` of `/cas/{hash}`: a blob, or a part of one, or the whole as zstd.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use axum::http::response::Builder;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::compression::Compressor;
use super::conditions::{self, Condition};
use super::negotiation::wants_zstd;
use super::range::{self, Part};
use super::{Call, OCTETS};
use crate::digest::Digest;
use crate::http::body::CHUNK_BYTES;
use crate::http::status::Refusal;
use crate::store::{BlobReader, ByteRange, StoreError};

/// Answers with a blob. An error of the store behind the head of the answer cuts it off: an answer
/// that ends well has delivered what was asked for (I20).
pub(super) async fn fetch(call: Call<'_>) -> Result<Response, Refusal> {
    let cas = call.instance.cas()?;
    let missing = || Refusal::not_found("no blob has this hash");
    let Some(digest) = cas.find_by_hash(call.function(), call.hash).await? else {
        cas.count_unknown_hash(!call.is_head);
        return Err(missing());
    };
    let hash = digest.hash_hex();
    let etag = conditions::etag(hash.as_str());
    let part = if call.is_head {
        // Only GET has parts.
        Part::Whole
    } else {
        range::wanted(call.headers, digest.size_bytes, &etag)
    };
    let codec = codec(&call, digest, part);
    let etag = match codec {
        Some(_) => conditions::weak_etag(hash.as_str(), "zstd"),
        None => etag,
    };
    let reader = if call.is_head {
        cas.contains(digest).await?.then(|| BlobReader::Bytes(Bytes::new()))
    } else {
        cas.read(digest, byte_range(part)).await?
    };
    let reader = reader.ok_or_else(missing)?;
    let answer = Response::builder().header(ETAG, &etag).header(VARY, "accept-encoding");
    match (conditions::check(call.headers, &etag), part) {
        (Condition::NotModified, _) => {
            build(answer.status(StatusCode::NOT_MODIFIED), Body::empty())
        }
        (Condition::Failed, _) => {
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "the blob has another tag"))
        }
        (Condition::Holds, Part::Unsatisfiable) => {
            let range = format!("bytes */{}", digest.size_bytes);
            let range = HeaderValue::try_from(range).unwrap_or(OCTETS);
            Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "the blob is shorter")
                .with(CONTENT_RANGE, range))
        }
        (Condition::Holds, part) => send(call, digest, part, codec, reader, answer).await,
    }
}

/// A place to compress the blob in, if the client wants that and there is one.
fn codec(call: &Call<'_>, digest: Digest, part: Part) -> Option<OwnedSemaphorePermit> {
    let is_wanted = part == Part::Whole && wants_zstd(call.headers);
    if !is_wanted || !call.can_chunk || digest.is_empty() {
        return None;
    }
    Arc::clone(&call.cache.codecs).try_acquire_owned().ok()
}

fn byte_range(part: Part) -> ByteRange {
    match part {
        Part::Whole | Part::Unsatisfiable => ByteRange::ALL,
        Part::Bytes { offset, length } => ByteRange { offset, limit: Some(length) },
    }
}

async fn send(
    call: Call<'_>,
    digest: Digest,
    part: Part,
    codec: Option<OwnedSemaphorePermit>,
    reader: BlobReader,
    answer: Builder,
) -> Result<Response, Refusal> {
    let answer = answer.header(CONTENT_TYPE, OCTETS);
    if let Some(codec) = codec {
        let answer = answer.header(CONTENT_ENCODING, "zstd");
        if call.is_head {
            // Of unknown length, as GET is.
            return build(answer, Body::from_stream(stream::empty::<io::Result<Bytes>>()));
        }
        let compressor = Compressor::new(digest.size_bytes, codec)
            .map_err(|error| StoreError::io("start zstd", error))?;
        return build(answer, compressed(reader, compressor, call.place));
    }
    let (answer, length) = match part {
        Part::Bytes { offset, length } => {
            let size_bytes = digest.size_bytes;
            let last = offset + length - 1;
            let range = format!("bytes {offset}-{last}/{size_bytes}");
            (answer.status(StatusCode::PARTIAL_CONTENT).header(CONTENT_RANGE, range), length)
        }
        Part::Whole | Part::Unsatisfiable => (answer, digest.size_bytes),
    };
    let answer = answer.header(ACCEPT_RANGES, "bytes").header(CONTENT_LENGTH, length);
    if call.is_head {
        return build(answer, Body::empty());
    }
    if reader.remaining_bytes() <= CHUNK_BYTES as u64 {
        // One chunk: read now, so that a failure has a status, and nothing stays open whenever
        // the client takes it.
        return build(answer, Body::from(reader.read_all().await?));
    }
    build(answer, identity(reader, call.place))
}

pub(super) fn build(answer: Builder, body: Body) -> Result<Response, Refusal> {
    answer.body(body).map_err(|error| {
        tracing::error!(%error, "malformed answer");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "malformed answer")
    })
}

/// The chunks of a blob as they are. `place` is held to the end.
fn identity(reader: BlobReader, place: OwnedSemaphorePermit) -> Body {
    Body::from_stream(stream::try_unfold((reader, place), |(mut reader, place)| async move {
        let chunk = next_chunk(&mut reader).await?;
        Ok::<_, io::Error>(chunk.map(|chunk| (chunk, (reader, place))))
    }))
}

/// The chunks of a blob as one zstd frame, in pieces. `place` is held to the end.
fn compressed(reader: BlobReader, compressor: Compressor, place: OwnedSemaphorePermit) -> Body {
    let state = Some((reader, compressor, place));
    Body::from_stream(stream::try_unfold(state, |state| async move {
        let Some((mut reader, mut compressor, place)) = state else { return Ok(None) };
        while let Some(chunk) = next_chunk(&mut reader).await? {
            let piece = compressor.push(&chunk)?;
            if !piece.is_empty() {
                return Ok::<_, io::Error>(Some((piece, Some((reader, compressor, place)))));
            }
        }
        Ok(Some((compressor.finish()?, None)))
    }))
}

/// The next chunk; `None` at the end. I20: a reader gives the last one when all are right.
async fn next_chunk(reader: &mut BlobReader) -> io::Result<Option<Bytes>> {
    let next = reader.next(CHUNK_BYTES).await;
    next.map_err(|error| Refusal::from(error).into_io_error())
}
