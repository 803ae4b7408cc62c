//! What an operator can choose about the wire, with the defaults that real clients need.

use std::time::Duration;

use super::bytestream::sessions::SessionOptions;
use crate::digest::DigestFunction;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a gRPC client decodes by default.
pub(super) const CLIENT_MESSAGE_BYTES: u64 = 4 * MIB;
/// What digests, statuses and framing may add to the data of a batch.
const BATCH_OVERHEAD_BYTES: u64 = 128 * KIB;
/// Less would be more framing than data.
const MIN_CHUNK_BYTES: usize = 4 << 10;
/// What fits into the smallest message that clients decode.
const MAX_CHUNK_BYTES: usize = (4 << 20) - (64 << 10);

/// What the gRPC front is built with.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// The greatest sum of blob sizes in one batch, as announced in Capabilities.
    ///
    /// The default leaves room for what a reply adds to its data, so that it stays under the
    /// 4 MiB that clients decode (reapi 29).
    pub max_batch_total_size_bytes: u64,
    /// The largest message that is decoded. Raised to what a batch needs if it is less
    /// (reapi 24).
    pub max_decoding_message_size_bytes: u64,
    /// The greatest number of digests or blobs in one request.
    pub max_digests_per_request: usize,
    /// The greatest number of bytes in one message of a read, from 4 KiB to what every client
    /// decodes.
    pub read_chunk_bytes: usize,
    /// How long a read waits for its client to take the next chunk.
    pub read_idle_timeout: Duration,
    /// How long an upload waits for its client's next message.
    pub upload_idle_timeout: Duration,
    /// The greatest number of uploads under way at once.
    pub max_upload_sessions: usize,
    /// How long an interrupted upload waits for its client to come back.
    pub parked_upload_ttl: Duration,
    /// The greatest number of interrupted uploads that are kept.
    pub max_parked_uploads: usize,
    /// The greatest sum of the sizes of the interrupted uploads that are kept. The youngest is
    /// kept whatever its size.
    pub max_parked_bytes: u64,
    /// How long a client that continues an upload waits for its former connection to let go.
    pub takeover_timeout: Duration,
    /// The greatest number of directories in a tree.
    pub max_tree_directories: usize,
    /// The greatest number of levels in a tree.
    pub max_tree_depth: u32,
    /// The greatest number of bytes of all directories of a tree.
    pub max_tree_bytes: u64,
    /// The function of digests whose client names none: all of them are equally long.
    pub default_digest_function: DigestFunction,
    /// Whether messages may come compressed with gzip.
    pub accept_gzip: bool,
    /// Whether messages go out compressed with gzip to those who accept it. Blobs that do not
    /// compress cost the same time.
    pub send_gzip: bool,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            max_batch_total_size_bytes: CLIENT_MESSAGE_BYTES - BATCH_OVERHEAD_BYTES,
            max_decoding_message_size_bytes: 16 * MIB,
            max_digests_per_request: 100_000,
            // No larger size reads faster, and a stalled client holds one chunk.
            read_chunk_bytes: 64 << 10,
            read_idle_timeout: Duration::from_mins(2),
            upload_idle_timeout: Duration::from_mins(1),
            max_upload_sessions: 4096,
            parked_upload_ttl: Duration::from_mins(1),
            max_parked_uploads: 256,
            max_parked_bytes: 1024 * MIB,
            takeover_timeout: Duration::from_secs(5),
            max_tree_directories: 250_000,
            // As many levels as a path of the operating system can have.
            max_tree_depth: 2_048,
            max_tree_bytes: 1024 * MIB,
            default_digest_function: DigestFunction::Sha256,
            accept_gzip: false,
            send_gzip: false,
        }
    }
}

impl GrpcOptions {
    /// The largest message to decode or encode.
    pub(super) fn message_limit_bytes(&self) -> usize {
        let batch = self.max_batch_total_size_bytes.saturating_add(MIB);
        let limit = self.max_decoding_message_size_bytes.max(batch);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// The largest batch reply: what a client decodes that knows only the announced limit.
    pub(super) fn max_reply_bytes(&self) -> usize {
        let batch = self.max_batch_total_size_bytes.saturating_add(BATCH_OVERHEAD_BYTES);
        usize::try_from(batch.max(CLIENT_MESSAGE_BYTES)).unwrap_or(usize::MAX)
    }

    /// The chunk size of reads, within what is sensible on the wire.
    pub(super) fn read_chunk_bytes(&self) -> usize {
        self.read_chunk_bytes.clamp(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
    }

    /// The bounds on uploads.
    pub(super) fn session_options(&self) -> SessionOptions {
        SessionOptions {
            max_active: self.max_upload_sessions,
            max_parked: self.max_parked_uploads,
            max_parked_bytes: self.max_parked_bytes,
            parked_ttl: self.parked_upload_ttl,
            takeover_timeout: self.takeover_timeout,
        }
    }
}
