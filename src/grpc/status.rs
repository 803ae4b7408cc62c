//! The one place that turns an error of the layers below into a gRPC status.
//!
//! Nothing that our own state causes is `INVALID_ARGUMENT`: clients do not retry that code. What
//! an operator must know is logged here, once; a client's mistake and a miss are not.

use std::fmt::Display;
use std::time::Duration;

use castellan_proto::rpc;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt as _};

use super::bytestream::sessions::TooManyUploads;
use crate::action_cache::ActionCacheError;
use crate::digest::{Digest, InvalidDigest, InvalidFunction, InvalidResourceName};
use crate::instance::InstanceError;
use crate::staging::StageError;
use crate::store::StoreError;

/// What a client is asked to wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// What the violations of one status may take: details travel among the trailers in base64, and
/// some clients take no more than 8 KiB of those.
const MAX_VIOLATIONS_BYTES: usize = 5 << 10;
/// Tags and lengths around the texts of a violation.
const VIOLATION_FRAME_BYTES: usize = 8;
const MISSING: &str = "MISSING";

/// A refusal that the same request may not meet a moment later.
pub(super) fn retry_later(code: Code, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(RETRY_DELAY)))
}

/// A client's mistake in one field.
pub(super) fn invalid_field(field: impl Display, problem: impl Display) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

/// The answer for a blob that is absent.
pub(super) fn blob_not_found(digest: Digest) -> Status {
    Status::not_found(format!("blob {digest} not found"))
}

/// The answer for a tree that lacks blobs: as many of them as a status holds.
fn missing_blobs(message: &str, missing: &[Digest]) -> Status {
    let mut room = MAX_VIOLATIONS_BYTES;
    let violations: Vec<_> = missing
        .iter()
        .map(|digest| PreconditionViolation::new(MISSING, format!("blobs/{digest}"), ""))
        .take_while(|it| {
            let bytes = VIOLATION_FRAME_BYTES + MISSING.len() + it.subject.len();
            room.checked_sub(bytes).map(|rest| room = rest).is_some()
        })
        .collect();
    let message = match missing.len() - violations.len() {
        0 => message.to_owned(),
        more => format!("{message}; {more} more than the details name"),
    };
    let details = ErrorDetails::with_precondition_failure(violations);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

/// The answer for a directory of a worker that cannot be opened or removed.
pub(super) fn from_folder(field: &str, path: &str, error: &std::io::Error) -> Status {
    use rustix::io::Errno;
    let path = crate::digest::shorten(path);
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    // What the kernel says of symbolic links, and of what leads out of the worker root.
    if [Errno::LOOP, Errno::XDEV, Errno::NOTDIR].into_iter().any(is) {
        let problem = format_args!("{path:?} leads over what is no directory: {error}").to_string();
        return invalid_field(field, problem);
    }
    from_target(error, format!("{field}: {path:?}: {error}"))
}

/// The answer for what the file system of a worker refuses.
fn from_target(error: &std::io::Error, message: String) -> Status {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => Status::not_found(message),
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Status::already_exists(message),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Status::permission_denied(message)
        }
        ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            Status::invalid_argument(message)
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            retry_later(Code::ResourceExhausted, message)
        }
        // No hard link or no reflink can be made, and nothing else was wanted.
        ErrorKind::CrossesDevices | ErrorKind::Unsupported => Status::unimplemented(message),
        _ => {
            let status = from_io("directory of a worker", error);
            Status::new(status.code(), message)
        }
    }
}

/// The status of one blob in a batch.
pub(super) fn to_rpc_status(status: &Status) -> rpc::Status {
    let bare = || rpc::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    };
    if status.details().is_empty() {
        return bare();
    }
    // The details of a tonic status are an encoded `google.rpc.Status`, code and message included.
    rpc::Status::decode(status.details()).unwrap_or_else(|_| bare())
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::HashMismatch { .. }
            | StoreError::SizeMismatch { .. }
            | StoreError::TooLarge { .. } => Self::invalid_argument(message),
            StoreError::NoSpace { .. } => {
                tracing::debug!(%message, "no space");
                retry_later(Code::ResourceExhausted, message)
            }
            StoreError::Corrupt { key } => {
                tracing::warn!(key, "corrupt bytes in the store");
                Self::data_loss(message)
            }
            StoreError::ShuttingDown
            | StoreError::Purged
            | StoreError::TooManyPurges
            | StoreError::Unavailable { .. } => retry_later(Code::Unavailable, message),
            StoreError::Unsupported { .. } => Self::unimplemented(message),
            StoreError::Io { operation, source } => from_io(operation, &source),
        }
    }
}

fn from_io(operation: &'static str, source: &std::io::Error) -> Status {
    use rustix::io::Errno;
    let errno = source.raw_os_error();
    // Out of descriptors is load, not damage: the same request works a moment later.
    if [Errno::MFILE, Errno::NFILE].iter().any(|limit| errno == Some(limit.raw_os_error())) {
        tracing::warn!(operation, error = %source, "out of file descriptors");
        return retry_later(Code::Unavailable, format!("{operation}: out of file descriptors"));
    }
    tracing::error!(operation, error = %source, "store I/O error");
    Status::internal(format!("{operation}: {source}"))
}

impl From<InvalidDigest> for Status {
    fn from(error: InvalidDigest) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<InvalidFunction> for Status {
    fn from(error: InvalidFunction) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<InvalidResourceName> for Status {
    fn from(error: InvalidResourceName) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl From<InstanceError> for Status {
    /// One code for every instance that cannot be used, known or not, on every method (reapi 12).
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::Invalid(_)
            | InstanceError::Unknown { .. }
            | InstanceError::NoService { .. } => Self::invalid_argument(error.to_string()),
        }
    }
}

impl From<ActionCacheError> for Status {
    fn from(error: ActionCacheError) -> Self {
        match error {
            ActionCacheError::Store(error) => error.into(),
            ActionCacheError::Invalid { .. } => Self::invalid_argument(error.to_string()),
            ActionCacheError::ReadOnly => Self::permission_denied(
                "the action cache of this instance is read-only (update_enabled is false)",
            ),
        }
    }
}

impl From<StageError> for Status {
    fn from(error: StageError) -> Self {
        let message = error.to_string();
        match error {
            StageError::Missing(missing) => missing_blobs(&message, &missing),
            StageError::Invalid { .. } => Self::invalid_argument(message),
            StageError::Target { source, .. } => from_target(&source, message),
            StageError::Store(error) => error.into(),
        }
    }
}

impl From<TooManyUploads> for Status {
    fn from(error: TooManyUploads) -> Self {
        let TooManyUploads { limit } = error;
        let message = format!("{limit} uploads are under way, which is the limit");
        retry_later(Code::ResourceExhausted, message)
    }
}
