//! What a remote store counts.

use crate::store::counter::Counter;

/// See the fields of the same names of [`RemoteStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) failures: Counter,
    pub(super) corrupt: Counter,
    pub(super) strays: Counter,
    pub(super) bytes_read: Counter,
    pub(super) bytes_written: Counter,
}

/// What a remote store has done since it was made, and does now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Calls made, retries among them.
    pub requests: u64,
    /// Calls made again, and transfers continued.
    pub retries: u64,
    /// Calls that failed; "not found" is none.
    pub failures: u64,
    /// Values whose bytes were not what they were asked for; none was stored or served.
    pub corrupt: u64,
    /// Parts of answers that nobody had asked for; each was ignored.
    pub strays: u64,
    /// Bytes of values that came.
    pub bytes_read: u64,
    /// Bytes of values that were sent.
    pub bytes_written: u64,
    /// Endpoints that are given a pause now, because they cannot be reached.
    pub breaker_open: u64,
    /// Calls under way now.
    pub in_flight: u64,
}
