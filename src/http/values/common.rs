//! What every protocol does with one value: GET, HEAD, PUT and DELETE, with bodies as streams.
//!
//! A body is pulled at the pace of whoever is slower: one chunk of a value is in memory, however
//! large it is.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};

use super::{Call, Space};
use crate::http::body::{CHUNK_BYTES, unless_others_wait};
use crate::http::cache::range::{self, Part};
use crate::http::status::Refusal;
use crate::store::{BeginPut, BlobReader, ByteRange, StoreError, Upload};
use crate::values::ValueName;

const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A refusal of a method where only these are served.
pub(super) fn method_not_allowed(allowed: HeaderValue) -> Refusal {
    let message = "this method is not served here";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).with(ALLOW, allowed)
}

/// A miss.
pub(super) fn missing() -> Refusal {
    Refusal::not_found("no value has this name")
}

/// An answer that is its status.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl Space<'_> {
    /// The name of the value at a path.
    pub(super) fn item(&self, path: &str) -> Result<ValueName, Refusal> {
        let name = path.strip_prefix(self.namespace.prefix()).unwrap_or_default();
        ValueName::parse(name).map_err(|error| Refusal::bad_request(error.to_string()))
    }

    /// The length of a value; `None` when it is absent.
    pub(super) async fn size_bytes(self, name: &ValueName) -> Result<Option<u64>, Refusal> {
        Ok(self.values.size_bytes(self.namespace, name).await?)
    }

    async fn open(self, name: &ValueName, range: ByteRange) -> Result<BlobReader, Refusal> {
        self.values.get(self.namespace, name, range).await?.ok_or_else(missing)
    }

    async fn remove(self, name: &ValueName) -> Result<(), Refusal> {
        if self.values.remove(self.namespace, name).await? { Ok(()) } else { Err(missing()) }
    }

    async fn begin_put(self, name: &ValueName, size_bytes: u64) -> Result<Upload, Refusal> {
        match self.values.begin_put(self.namespace, name, size_bytes).await? {
            BeginPut::Upload(upload) => Ok(upload),
            // A store says so of blobs only.
            BeginPut::AlreadyPresent => {
                Err(Refusal::new(StatusCode::CONFLICT, "a value is there already"))
            }
        }
    }
}

impl Call<'_> {
    /// Answers a request for a value; `written` is what a write is answered with.
    pub(super) async fn serve(
        mut self,
        name: &ValueName,
        written: StatusCode,
    ) -> Result<Response, Refusal> {
        match self.parts.method {
            Method::GET => self.get(name).await,
            Method::HEAD => {
                let size_bytes = self.space.size_bytes(name).await?.ok_or_else(missing)?;
                Ok(with_length(empty(StatusCode::OK), size_bytes))
            }
            Method::PUT => self.put(name).await.map(|()| empty(written)),
            Method::DELETE => {
                self.space.remove(name).await?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err(method_not_allowed(ALLOWED)),
        }
    }

    async fn get(self, name: &ValueName) -> Result<Response, Refusal> {
        let whole = self.space.open(name, ByteRange::ALL).await?;
        let size_bytes = whole.remaining_bytes();
        // No tag: one that says when a value is another would have to be stored with it.
        let (offset, length) = match range::wanted(&self.parts.headers, size_bytes, "") {
            Part::Whole => return self.send(whole).await,
            Part::Unsatisfiable => return Err(unsatisfiable(size_bytes)),
            Part::Bytes { offset, length } => (offset, length),
        };
        drop(whole);
        let part = self.space.open(name, ByteRange { offset, limit: Some(length) }).await?;
        if part.remaining_bytes() != length {
            // A shorter value has taken its place.
            return Err(unsatisfiable(offset + part.remaining_bytes()));
        }
        let mut response = self.send(part).await?;
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = offset + length - 1;
        set_range(response.headers_mut(), &format!("bytes {offset}-{last}/{size_bytes}"));
        Ok(response)
    }

    /// An answer with what a reader has, as its body.
    async fn send(self, mut reader: BlobReader) -> Result<Response, Refusal> {
        let size_bytes = reader.remaining_bytes();
        // The first chunk beforehand: what turns out to be corrupt in it, and most values are no
        // longer, is a miss and not a connection that breaks.
        let first = reader.next(CHUNK_BYTES).await.map_err(|error| match error {
            StoreError::Corrupt { key } => {
                tracing::warn!(key, "corrupt value in the store");
                missing()
            }
            error => error.into(),
        })?;
        let body = if reader.remaining_bytes() == 0 {
            Body::from(first.unwrap_or_default())
        } else {
            let rest = stream::try_unfold((reader, self.place), |(mut reader, place)| async {
                let chunk = reader.next(CHUNK_BYTES).await.inspect_err(broken)?;
                Ok::<_, StoreError>(chunk.map(|chunk| (chunk, (reader, place))))
            });
            Body::from_stream(stream::iter(first.map(Ok)).chain(rest))
        };
        Ok(with_length(Response::new(body), size_bytes))
    }

    /// Stores the body. Cancel safe: a dropped call has stored the value or has not.
    async fn put(&mut self, name: &ValueName) -> Result<(), Refusal> {
        let size_bytes = self.declared_bytes()?;
        // Neither is kept beside a value: who reads it would take it for something else.
        let headers = &self.parts.headers;
        if headers.get(CONTENT_ENCODING).is_some_and(|it| it != "identity") {
            let message = "a value is kept as it is sent, without a Content-Encoding";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        if headers.contains_key(CONTENT_RANGE) {
            return Err(Refusal::bad_request("a value is written whole"));
        }
        let mut upload = self.space.begin_put(name, size_bytes).await?;
        let values = self.space.values;
        let do_others_wait = || values.is_waiting_for_room();
        while let Some(data) = unless_others_wait(self.incoming.next(), do_others_wait).await? {
            upload.write(data).await.map_err(wrong_length)?;
        }
        upload.commit().await.map_err(wrong_length)
    }

    /// The length that the request announces for its body.
    fn declared_bytes(&self) -> Result<u64, Refusal> {
        let required = || Refusal::new(StatusCode::LENGTH_REQUIRED, "Content-Length is required");
        let length = self.parts.headers.get(CONTENT_LENGTH).ok_or_else(required)?;
        let length = length.to_str().ok().and_then(|length| length.parse().ok());
        length.ok_or_else(|| Refusal::bad_request("Content-Length is not a number of bytes"))
    }
}

/// A store speaks of digests; here there are none.
fn wrong_length(error: StoreError) -> Refusal {
    match error {
        StoreError::SizeMismatch { expected_bytes, received_bytes, .. } => {
            let message = format!("{received_bytes} bytes came, {expected_bytes} were announced");
            Refusal::bad_request(message)
        }
        error => error.into(),
    }
}

/// The head has been sent: only the connection can say that the rest does not come.
fn broken(error: &StoreError) {
    tracing::warn!(%error, "a value could not be read to its end");
}

fn unsatisfiable(size_bytes: u64) -> Refusal {
    let range = HeaderValue::try_from(format!("bytes */{size_bytes}")).unwrap_or(OCTETS);
    Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "the value is shorter")
        .with(CONTENT_RANGE, range)
}

fn set_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(range) = range.try_into() {
        headers.insert(CONTENT_RANGE, range);
    }
}

fn with_length(mut response: Response, size_bytes: u64) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, size_bytes.into());
    headers.insert(CONTENT_TYPE, OCTETS);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response
}
