//! From directories to the messages that everybody else makes of them: byte for byte the same.

use bytes::Bytes;
use prost::Message as _;

/// A `Tree` whose directories are encoded already.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedTree {
    /// Optional, so that it is there when the root is empty, too.
    #[prost(bytes = "bytes", optional, tag = "1")]
    root: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    children: Vec<Bytes>,
}

/// A `Tree` message of encoded `Directory` messages.
pub fn tree(root: Bytes, children: Vec<Bytes>) -> Vec<u8> {
    EncodedTree { root: Some(root), children }.encode_to_vec()
}
