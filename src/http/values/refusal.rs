//! The one place under these prefixes that turns an error into an HTTP status.
//!
//! What an operator must know is logged here, once; a client's mistake and a miss are not.

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_RANGE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::store::StoreError;
use crate::values::InvalidName;

/// A status, and a line for people.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// There is no value of this name.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such value")
    }

    /// Values are not served at all.
    pub(super) fn off() -> Self {
        let text = "values are off: --values-max-size is 0, not given beside a configuration \
                    file, or its part of --max-size too small to be of use";
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// Only these methods are served here.
    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("the methods are {allowed}"))
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    /// The range asked for has no byte of the value.
    pub(super) fn range(size_bytes: u64) -> Self {
        let refusal = Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "the range is behind the end");
        match HeaderValue::try_from(format!("bytes */{size_bytes}")) {
            Ok(value) => refusal.with(CONTENT_RANGE, value),
            Err(_) => refusal,
        }
    }
}

impl From<InvalidName> for Refusal {
    fn from(error: InvalidName) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "the body is not as long as announced")
            }
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, text),
            StoreError::NoSpace { .. } => {
                tracing::debug!(%text, "no space for a value");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, text)
            }
            // What cannot be served is not there; the next who needs it stores it again.
            StoreError::Corrupt { key } => {
                tracing::warn!(key, "corrupt value in the store");
                Self::not_found()
            }
            StoreError::ShuttingDown | StoreError::Purged | StoreError::TooManyPurges => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
                    .with(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            StoreError::Io { operation, source } => {
                tracing::error!(operation, error = %source, "store I/O error");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{operation}: {source}"))
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
