//! How often something that failed is tried again.

use crate::document::Node;
use crate::reader::Reader;
use std::time::Duration;

/// More jitter than this would make waits negative.
const MAX_JITTER: f64 = 2.0;

/// When requests to another server are tried again. The default is never.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retry {
    /// How often, after the first try.
    pub max_retries: u64,
    /// The wait before the first time; it doubles each time.
    pub delay: Duration,
    /// How much of a wait is left to chance, from 0 to 2: half of it in both directions.
    pub jitter: f64,
    /// The errors after which it is worth it; absent is the client's choice.
    pub retry_on_errors: Option<Vec<ErrorCode>>,
}

/// A status code of gRPC; its number is the one of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of gRPC")]
pub enum ErrorCode {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

const ERROR_CODES: &[(&str, ErrorCode)] = &[
    ("Cancelled", ErrorCode::Cancelled),
    ("Unknown", ErrorCode::Unknown),
    ("InvalidArgument", ErrorCode::InvalidArgument),
    ("DeadlineExceeded", ErrorCode::DeadlineExceeded),
    ("NotFound", ErrorCode::NotFound),
    ("AlreadyExists", ErrorCode::AlreadyExists),
    ("PermissionDenied", ErrorCode::PermissionDenied),
    ("ResourceExhausted", ErrorCode::ResourceExhausted),
    ("FailedPrecondition", ErrorCode::FailedPrecondition),
    ("Aborted", ErrorCode::Aborted),
    ("OutOfRange", ErrorCode::OutOfRange),
    ("Unimplemented", ErrorCode::Unimplemented),
    ("Internal", ErrorCode::Internal),
    ("Unavailable", ErrorCode::Unavailable),
    ("DataLoss", ErrorCode::DataLoss),
    ("Unauthenticated", ErrorCode::Unauthenticated),
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Retry> {
    reader.object(node, |table| {
        Some(Retry {
            max_retries: table.optional("max_retries", Reader::count).unwrap_or(0),
            delay: table.optional("delay", Reader::decimal_seconds).unwrap_or_default(),
            jitter: table.optional("jitter", read_jitter).unwrap_or(0.0),
            retry_on_errors: table.optional("retry_on_errors", |reader, node| {
                reader.list(node, |reader, node| reader.choice(node, ERROR_CODES))
            }),
        })
    })
}

fn read_jitter(reader: &mut Reader<'_>, node: &Node) -> Option<f64> {
    reader.within_range(node, &(0.0..=MAX_JITTER), "a number from 0 to 2", Reader::decimal)
}
