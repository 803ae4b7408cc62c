//! The one place that turns an error of the layers below into an HTTP status.
//!
//! Nothing that our own state causes is a 4xx: clients do not retry those. What an operator must
//! know is logged here, once; a client's mistake and a miss are not.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{CONNECTION, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::action_cache::ActionCacheError;
use crate::digest::InvalidDigest;
use crate::instance::InstanceError;
use crate::store::StoreError;

/// Seconds that a client is asked to wait before it tries again.
const RETRY_DELAY_SECONDS: HeaderValue = HeaderValue::from_static("1");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A request that is not served, and the line of text that says why.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with a status of its own.
    pub(super) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    /// The same with a header field.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The client's mistake.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A miss.
    pub(super) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A refusal that the same request may not meet a moment later.
    pub(super) fn retry_later(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with(RETRY_AFTER, RETRY_DELAY_SECONDS)
    }

    /// The process is about to end: the client does well to connect anew, elsewhere.
    pub(super) fn draining() -> Self {
        Self::retry_later("the server is shutting down").with(CONNECTION, CLOSE)
    }

    /// The request body came too slowly.
    pub(super) fn too_slow(window: Duration, bytes: u64) -> Self {
        let seconds = window.as_secs();
        let message = format!("fewer than {bytes} bytes came in {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, message).with(CONNECTION, CLOSE)
    }

    /// The request body has stopped while others wait for the room that it holds.
    pub(super) fn gave_way() -> Self {
        Self::retry_later("others wait for the room of this upload").with(CONNECTION, CLOSE)
    }

    /// The request body ended before its announced end, or its framing is broken.
    pub(super) fn cut_short() -> Self {
        Self::bad_request("the request body ended too early").with(CONNECTION, CLOSE)
    }

    /// Whether nothing more is read from the client.
    pub(super) fn ends_connection(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == CONNECTION)
    }

    /// What went wrong, for the body of an answer that has begun.
    pub(super) fn into_io_error(self) -> std::io::Error {
        std::io::Error::other(self.message.into_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = format!("{}\n", self.message).into_response();
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. } => {
                Self::bad_request(message)
            }
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, message),
            StoreError::NoSpace { .. } => {
                tracing::debug!(%message, "no space");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, message)
                    .with(RETRY_AFTER, RETRY_DELAY_SECONDS)
            }
            StoreError::Corrupt { key } => {
                tracing::warn!(key, "corrupt bytes in the store");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            }
            StoreError::ShuttingDown
            | StoreError::Purged
            | StoreError::TooManyPurges
            | StoreError::Unavailable { .. } => Self::retry_later(message),
            StoreError::Unsupported { .. } => Self::new(StatusCode::NOT_IMPLEMENTED, message),
            StoreError::Io { operation, source } => from_io(operation, &source),
        }
    }
}

fn from_io(operation: &'static str, source: &std::io::Error) -> Refusal {
    use rustix::io::Errno;
    let errno = source.raw_os_error();
    // Out of descriptors is load, not damage: the same request works a moment later.
    if [Errno::MFILE, Errno::NFILE].iter().any(|limit| errno == Some(limit.raw_os_error())) {
        tracing::warn!(operation, error = %source, "out of file descriptors");
        return Refusal::retry_later(format!("{operation}: out of file descriptors"));
    }
    tracing::error!(operation, error = %source, "store I/O error");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{operation}: {source}"))
}

impl From<InvalidDigest> for Refusal {
    fn from(error: InvalidDigest) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<InstanceError> for Refusal {
    /// One status for every instance that cannot be used. Not 404: every request of a client that
    /// has the wrong name would look like a miss for ever.
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::Invalid(_)
            | InstanceError::Unknown { .. }
            | InstanceError::NoService { .. } => Self::bad_request(error.to_string()),
        }
    }
}

impl From<ActionCacheError> for Refusal {
    fn from(error: ActionCacheError) -> Self {
        match error {
            ActionCacheError::Store(error) => error.into(),
            ActionCacheError::Invalid { .. } => Self::bad_request(error.to_string()),
            ActionCacheError::ReadOnly => {
                Self::new(StatusCode::FORBIDDEN, "the action cache of this instance is read-only")
            }
        }
    }
}
