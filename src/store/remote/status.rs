//! What a status of the upstream means to us: whether to try again, and which error it is.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::options::{RetryOptions, with_sources};
use super::{Upstream, chance};
use crate::store::{Key, StoreError};

/// The longest pause between two attempts that nobody has asked for.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// No status came at all.
#[derive(Debug, thiserror::Error)]
#[error("no answer within the time an operation may take")]
struct NoAnswer;

/// Says of a call that it was given up, as the transport says of one that it lost.
pub(super) fn no_answer() -> Status {
    let mut status = Status::deadline_exceeded("no answer in time");
    status.set_source(Arc::new(NoAnswer));
    status
}

/// Whether a status was made on our side, because the upstream gave none.
pub(super) fn is_of_transport(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether a call may be worth another attempt.
pub(super) fn is_retriable(status: &Status, options: &RetryOptions) -> bool {
    let code = status.code();
    if let Some(codes) = &options.retry_on {
        return codes.contains(&i32::from(code));
    }
    is_of_transport(status)
        || matches!(code, Code::Unavailable | Code::Aborted | Code::DeadlineExceeded)
        || wanted_delay(status).is_some()
}

/// Whether a transfer that broke may be continued. More than [`is_retriable`]: an end in
/// mid-message has many names.
pub(super) fn is_interruption(status: &Status, options: &RetryOptions) -> bool {
    is_of_transport(status)
        || is_retriable(status, options)
        || matches!(
            status.code(),
            Code::Unavailable | Code::Aborted | Code::Cancelled | Code::Internal | Code::Unknown
        )
}

/// How long the upstream asks to wait.
fn wanted_delay(status: &Status) -> Option<Duration> {
    if status.details().is_empty() {
        return None;
    }
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// The pause before another attempt, after `retries` of them.
pub(super) fn delay(status: &Status, options: &RetryOptions, retries: u32) -> Duration {
    let doubled = options.delay.saturating_mul(1_u32.checked_shl(retries).unwrap_or(u32::MAX));
    let jitter = options.jitter.clamp(0.0, 1.0);
    let pause = doubled.min(LONGEST_DELAY).mul_f64(1.0 - jitter * chance());
    wanted_delay(status).map_or(pause, |wanted| wanted.max(pause))
}

impl Upstream {
    /// The error that a refused or failed call about a value is.
    pub(super) fn error(&self, key: &Key, status: &Status) -> StoreError {
        match status.code() {
            Code::Unimplemented => unsupported("the upstream does not serve this"),
            Code::PermissionDenied | Code::Unauthenticated if !is_of_transport(status) => {
                unsupported("the upstream does not allow this")
            }
            Code::DataLoss => self.corrupt_key(key),
            _ => self.unavailable(format_args!("{key}: {}", text(status))),
        }
    }

    /// The same of a value that should have been stored.
    pub(super) fn write_error(&self, key: &Key, size_bytes: u64, status: &Status) -> StoreError {
        match status.code() {
            Code::ResourceExhausted if !is_of_transport(status) => {
                StoreError::NoSpace { size_bytes, reason: "the server that was asked has no room" }
            }
            _ => self.error(key, status),
        }
    }

    /// The upstream did not do its part.
    pub(super) fn unavailable(&self, what: impl std::fmt::Display) -> StoreError {
        StoreError::Unavailable { what: format!("upstream {}: {what}", self.name) }
    }

    /// The upstream gave other bytes than those it was asked for. Counted here.
    pub(super) fn lie(&self, key: &Key) -> StoreError {
        self.counters.corrupt.add(1);
        tracing::warn!(upstream = self.name, %key, "the upstream sent other bytes than asked for");
        self.corrupt_key(key)
    }

    fn corrupt_key(&self, key: &Key) -> StoreError {
        StoreError::Corrupt { key: format!("{key} at upstream {}", self.name) }
    }
}

fn unsupported(what: &'static str) -> StoreError {
    StoreError::Unsupported { what }
}

/// What a person wants to know of a status.
fn text(status: &Status) -> String {
    let said = crate::digest::shorten(status.message());
    match status.source() {
        Some(source) => format!("{:?}: {said} ({})", status.code(), with_sources(source)),
        None => format!("{:?}: {said}", status.code()),
    }
}
