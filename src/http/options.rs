//! What an operator can choose about the HTTP listener, with defaults for slow but honest clients.

use std::time::Duration;

use crate::digest::DigestFunction;

/// What the HTTP listener is built with.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// How long a connection may go from one answer to the head of its next request.
    pub idle_timeout: Duration,
    /// How long an answer waits for its client to take the next chunk.
    pub read_idle_timeout: Duration,
    /// Over which time the pace of a request body is measured.
    pub upload_window: Duration,
    /// The fewest bytes of a request body that must come in such a time.
    pub upload_window_bytes: u64,
    /// The greatest number of cache requests under way at once.
    pub max_requests: usize,
    /// The greatest number of bodies that are compressed or decompressed at once.
    pub max_codecs: usize,
    /// The greatest number of action results over 64 KiB that are received at once.
    pub max_large_results: usize,
    /// The function of the hashes in paths, which name none.
    pub default_digest_function: DigestFunction,
    /// Keeps what is stored at `/ac/` as values of any kind, apart from action results.
    pub keeps_raw_results: bool,
    /// Whether each instance has such values of its own.
    pub raw_results_are_mangled: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_mins(1),
            read_idle_timeout: Duration::from_mins(2),
            upload_window: Duration::from_secs(30),
            upload_window_bytes: 256 << 10,
            max_requests: 4096,
            // Each holds a window of up to 8 MiB.
            max_codecs: 32,
            max_large_results: 64,
            default_digest_function: DigestFunction::Sha256,
            keeps_raw_results: false,
            raw_results_are_mangled: false,
        }
    }
}
