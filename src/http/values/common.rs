//! What every protocol does with one value: GET, HEAD, PUT and DELETE, with bodies as streams.
//!
//! A body is pulled at the pace of whoever is slower: one chunk of a value is in memory, however
//! large it is.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, HeaderMap, RANGE,
};
use http::{Method, StatusCode};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::store::{BeginPut, BlobReader, ByteRange, StoreError};
use crate::values::{ValueName, ValueNamespace, Values};

const METHODS: &str = "GET, HEAD, PUT, DELETE";
/// What is read from the store and handed on at once.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest wait for more of a body (I23).
const BODY_IDLE: Duration = Duration::from_mins(1);
/// Of a body that is refused so much is still taken: a client that writes before it reads would
/// otherwise see a broken connection instead of the answer.
const MAX_DRAINED_BYTES: u64 = 64 << 20;
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// The one value that a request is about.
pub(super) struct Item {
    values: Arc<Values>,
    namespace: ValueNamespace,
    name: ValueName,
}

/// Answers a request for a value; `written` is what a write is answered with.
pub(super) async fn serve_item(
    item: &Item,
    request: Request,
    written: StatusCode,
) -> Result<Response, Refusal> {
    match *request.method() {
        Method::GET => item.get(request.headers()).await,
        Method::HEAD => item.head().await,
        Method::PUT => {
            item.put(request).await?;
            Ok(empty(written))
        }
        Method::DELETE => item.delete().await,
        _ => Err(Refusal::method(METHODS)),
    }
}

/// An answer that is its status.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl Item {
    /// The value at a path of a namespace.
    pub(super) fn new(
        values: Arc<Values>,
        namespace: ValueNamespace,
        path: &str,
    ) -> Result<Self, Refusal> {
        let name = path.strip_prefix(namespace.prefix()).unwrap_or_default();
        Ok(Self { values, namespace, name: ValueName::parse(name)? })
    }

    /// The length of the value; `None` when it is absent.
    pub(super) async fn size_bytes(&self) -> Result<Option<u64>, Refusal> {
        Ok(self.values.size_bytes(self.namespace, &self.name).await?)
    }

    async fn open(&self, range: ByteRange) -> Result<BlobReader, Refusal> {
        let reader = self.values.get(self.namespace, &self.name, range).await?;
        reader.ok_or_else(Refusal::not_found)
    }

    async fn head(&self) -> Result<Response, Refusal> {
        let size_bytes = self.size_bytes().await?.ok_or_else(Refusal::not_found)?;
        Ok(with_length(empty(StatusCode::OK), size_bytes))
    }

    async fn get(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        let whole = self.open(ByteRange::ALL).await?;
        let size_bytes = whole.remaining_bytes();
        let Some((offset, length)) = requested_range(headers, size_bytes)? else {
            return respond(whole).await;
        };
        drop(whole);
        let part = self.open(ByteRange { offset, limit: Some(length) }).await?;
        if part.remaining_bytes() != length {
            // Another value has taken its place.
            return Err(Refusal::range(offset + part.remaining_bytes()));
        }
        let mut response = respond(part).await?;
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = offset + length - 1;
        if let Ok(range) = format!("bytes {offset}-{last}/{size_bytes}").try_into() {
            response.headers_mut().insert(CONTENT_RANGE, range);
        }
        Ok(response)
    }

    /// Stores the body.
    pub(super) async fn put(&self, request: Request) -> Result<(), Refusal> {
        let size_bytes = declared_size(&request)?;
        let waits_for_leave = request.headers().contains_key(EXPECT);
        let mut body = request.into_body().into_data_stream();
        let outcome = self.store(size_bytes, &mut body).await;
        // Asking for a body that the client has not begun to send would tell it to.
        if outcome.is_err() && !waits_for_leave {
            drop(timeout(MAX_DRAIN, drain(&mut body)).await);
        }
        outcome
    }

    async fn store(&self, size_bytes: u64, body: &mut BodyDataStream) -> Result<(), Refusal> {
        let begun = self.values.begin_put(self.namespace, &self.name, size_bytes).await?;
        let BeginPut::Upload(mut upload) = begun else {
            // A store says so of blobs only.
            return Err(Refusal::new(StatusCode::CONFLICT, "a value is there already"));
        };
        while let Some(chunk) = next_chunk(body).await? {
            upload.write(chunk).await?;
        }
        Ok(upload.commit().await?)
    }

    async fn delete(&self) -> Result<Response, Refusal> {
        if self.values.remove(self.namespace, &self.name).await? {
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        Err(Refusal::not_found())
    }
}

/// The length that a request announces for its body.
fn declared_size(request: &Request) -> Result<u64, Refusal> {
    let is_declared = request.headers().contains_key(CONTENT_LENGTH);
    let size_bytes = request.body().size_hint().exact().filter(|_| is_declared);
    size_bytes.ok_or_else(|| Refusal::new(StatusCode::LENGTH_REQUIRED, "no Content-Length"))
}

/// The next piece of a body; `None` at its end.
async fn next_chunk(body: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match timeout(BODY_IDLE, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
        Ok(Some(Err(_))) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "the body could not be read"))
        }
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "no more of the body came")),
    }
}

/// Reads a body to its end, within bounds, for nothing.
async fn drain(body: &mut BodyDataStream) {
    let mut drained_bytes = 0;
    while drained_bytes < MAX_DRAINED_BYTES
        && let Some(Ok(chunk)) = body.next().await
    {
        drained_bytes += chunk.len() as u64;
    }
}

/// An answer with what a reader has, as its body.
async fn respond(mut reader: BlobReader) -> Result<Response, Refusal> {
    let size_bytes = reader.remaining_bytes();
    // The first chunk beforehand: most values are one, and what turns out to be corrupt in it is
    // a miss and not a connection that breaks.
    let first = reader.next(CHUNK_BYTES).await?;
    let body = if reader.remaining_bytes() == 0 {
        Body::from(first.unwrap_or_default())
    } else {
        let rest = stream::try_unfold(reader, |mut reader| async move {
            let chunk = reader.next(CHUNK_BYTES).await.inspect_err(broken)?;
            Ok::<_, StoreError>(chunk.map(|chunk| (chunk, reader)))
        });
        Body::from_stream(stream::iter(first.map(Ok)).chain(rest))
    };
    Ok(with_length(Response::new(body), size_bytes))
}

/// The head has been sent: only the connection can say that the rest does not come.
fn broken(error: &StoreError) {
    tracing::warn!(%error, "a value could not be read to its end");
}

fn with_length(mut response: Response, size_bytes: u64) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, size_bytes.into());
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, http::HeaderValue::from_static("bytes"));
    response
}

/// The first byte and the number of bytes that `Range` asks for; `None` for the whole, as with
/// every form that is not one range of bytes.
fn requested_range(headers: &HeaderMap, size_bytes: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) =
        text.and_then(|text| text.strip_prefix("bytes=")).and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (offset, end) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1)),
        (Some(first), None) if last.trim().is_empty() => (first, size_bytes),
        (None, Some(suffix)) if first.trim().is_empty() => {
            (size_bytes.saturating_sub(suffix), if suffix == 0 { 0 } else { size_bytes })
        }
        _ => return Ok(None),
    };
    match end.min(size_bytes).checked_sub(offset) {
        None | Some(0) => Err(Refusal::range(size_bytes)),
        Some(length) => Ok(Some((offset, length))),
    }
}
