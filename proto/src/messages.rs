//! Messages of the hot path, written by hand with zero-copy `bytes` fields.
//!
//! Tags and types are those of `remote_execution.proto` (API 2.13) and `bytestream.proto`. A
//! `string` or sub-message field may be declared `bytes` here: the wire type is the same, and the
//! bytes are kept as they came.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

pub use crate::bounded::Bounded;
use crate::rpc::Status;

/// `Digest` as it came in: the hash is unchecked text.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Digest {
    /// The hash as lower-case hexadecimal text, if the sender keeps the rules.
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    /// The size of the blob in bytes.
    #[prost(int64, tag = "2")]
    pub size_bytes: i64,
}

/// `FindMissingBlobsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct FindMissingBlobsRequest {
    /// The instance to look in.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The digests asked about.
    #[prost(message, repeated, tag = "2")]
    pub blob_digests: Vec<Digest>,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "3")]
    pub digest_function: i32,
}

/// `FindMissingBlobsResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct FindMissingBlobsResponse {
    /// The digests that are not present.
    #[prost(message, repeated, tag = "2")]
    pub missing_blob_digests: Vec<Digest>,
}

/// `BatchUpdateBlobsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchUpdateBlobsRequest {
    /// The instance to store into.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The blobs.
    #[prost(message, repeated, tag = "2")]
    pub requests: Vec<BatchUpdateBlob>,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "5")]
    pub digest_function: i32,
}

/// `BatchUpdateBlobsRequest.Request`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchUpdateBlob {
    /// The digest of the uncompressed data.
    #[prost(message, optional, tag = "1")]
    pub digest: Option<Digest>,
    /// The payload.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// A `Compressor.Value`; 0 is identity.
    #[prost(int32, tag = "3")]
    pub compressor: i32,
}

/// `BatchUpdateBlobsResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchUpdateBlobsResponse {
    /// One outcome for each blob of the request.
    #[prost(message, repeated, tag = "1")]
    pub responses: Vec<BatchUpdateOutcome>,
}

/// `BatchUpdateBlobsResponse.Response`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchUpdateOutcome {
    /// The digest as the request gave it.
    #[prost(message, optional, tag = "1")]
    pub digest: Option<Digest>,
    /// What became of it.
    #[prost(message, optional, tag = "2")]
    pub status: Option<Status>,
}

/// `BatchReadBlobsRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchReadBlobsRequest {
    /// The instance to read from.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The blobs asked for.
    #[prost(message, repeated, tag = "2")]
    pub digests: Vec<Digest>,
    /// `Compressor.Value`s the client can decode; identity always counts as one.
    #[prost(int32, repeated, tag = "3")]
    pub acceptable_compressors: Vec<i32>,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "4")]
    pub digest_function: i32,
}

/// `BatchReadBlobsResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchReadBlobsResponse {
    /// One outcome for each digest of the request.
    #[prost(message, repeated, tag = "1")]
    pub responses: Vec<BatchReadOutcome>,
}

/// `BatchReadBlobsResponse.Response`.
#[derive(Clone, PartialEq, Message)]
pub struct BatchReadOutcome {
    /// The digest as the request gave it.
    #[prost(message, optional, tag = "1")]
    pub digest: Option<Digest>,
    /// The payload, empty unless the status is OK.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// What became of it.
    #[prost(message, optional, tag = "3")]
    pub status: Option<Status>,
    /// The `Compressor.Value` of `data`.
    #[prost(int32, tag = "4")]
    pub compressor: i32,
}

/// `GetTreeRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct GetTreeRequest {
    /// The instance to read from.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The digest of the root `Directory`.
    #[prost(message, optional, tag = "2")]
    pub root_digest: Option<Digest>,
    /// The greatest number of directories in one response; 0 leaves it to the server.
    #[prost(int32, tag = "3")]
    pub page_size: i32,
    /// The token of the page to start with; empty for the first.
    #[prost(string, tag = "4")]
    pub page_token: String,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "5")]
    pub digest_function: i32,
}

/// `GetTreeResponse`, its directories as the very bytes that are stored.
#[derive(Clone, PartialEq, Message)]
pub struct GetTreeResponse {
    /// Encoded `Directory` messages.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub directories: Vec<Bytes>,
    /// The token of the next page; empty on the last.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

/// `GetActionResultRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct GetActionResultRequest {
    /// The instance to look in.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The digest of the `Action`.
    #[prost(message, optional, tag = "2")]
    pub action_digest: Option<Digest>,
    /// Asks for `stdout_raw`.
    #[prost(bool, tag = "3")]
    pub inline_stdout: bool,
    /// Asks for `stderr_raw`.
    #[prost(bool, tag = "4")]
    pub inline_stderr: bool,
    /// Asks for the contents of the output files with exactly these paths.
    #[prost(string, repeated, tag = "5")]
    pub inline_output_files: Vec<String>,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "6")]
    pub digest_function: i32,
}

/// `UpdateActionResultRequest`, the result as the very bytes that were sent.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateActionResultRequest {
    /// The instance to store into.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The digest of the `Action`.
    #[prost(message, optional, tag = "2")]
    pub action_digest: Option<Digest>,
    /// An encoded `ActionResult`; `None` when the field is absent.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub action_result: Option<Bytes>,
    /// A `DigestFunction.Value`; 0 means "infer it".
    #[prost(int32, tag = "5")]
    pub digest_function: i32,
}

/// `google.bytestream.ReadRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ReadRequest {
    /// What to read.
    #[prost(string, tag = "1")]
    pub resource_name: String,
    /// The first byte to return, counted in the uncompressed blob.
    #[prost(int64, tag = "2")]
    pub read_offset: i64,
    /// The greatest number of bytes to return; 0 means all.
    #[prost(int64, tag = "3")]
    pub read_limit: i64,
}

/// `google.bytestream.ReadResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct ReadResponse {
    /// The next bytes.
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
}

/// `google.bytestream.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// What to write; required on the first message only.
    #[prost(string, tag = "1")]
    pub resource_name: String,
    /// Where `data` belongs.
    #[prost(int64, tag = "2")]
    pub write_offset: i64,
    /// True on the last message.
    #[prost(bool, tag = "3")]
    pub finish_write: bool,
    /// The payload.
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
}

/// `google.bytestream.WriteResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WriteResponse {
    /// Bytes committed, or -1 for an early finish of a compressed upload.
    #[prost(int64, tag = "1")]
    pub committed_size: i64,
}

/// `google.bytestream.QueryWriteStatusRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueryWriteStatusRequest {
    /// The name of the write asked about.
    #[prost(string, tag = "1")]
    pub resource_name: String,
}

/// `google.bytestream.QueryWriteStatusResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueryWriteStatusResponse {
    /// Where the next write of this name continues.
    #[prost(int64, tag = "1")]
    pub committed_size: i64,
    /// Whether the blob is whole and visible.
    #[prost(bool, tag = "2")]
    pub complete: bool,
}

/// A message that is already encoded.
///
/// Encoding and decoding a whole message leave its bytes unchanged and unchecked, so fields this
/// program does not know survive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawMessage {
    /// The encoded message.
    pub encoded: Bytes,
}

impl Message for RawMessage {
    /// Merging two messages is appending the one to the other.
    fn merge(&mut self, mut buf: impl Buf) -> Result<(), DecodeError> {
        let more = buf.copy_to_bytes(buf.remaining());
        self.encoded =
            if self.encoded.is_empty() { more } else { [&*self.encoded, &*more].concat().into() };
        Ok(())
    }

    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut field = Vec::with_capacity(self.encoded.len());
        field.extend_from_slice(&self.encoded);
        prost::encoding::encode_key(tag, wire_type, &mut field);
        match wire_type {
            WireType::LengthDelimited => {
                let mut value = Bytes::new();
                prost::encoding::bytes::merge(wire_type, &mut value, buf, ctx)?;
                prost::encoding::encode_varint(value.len() as u64, &mut field);
                field.extend_from_slice(&value);
            }
            WireType::Varint => {
                let value = prost::encoding::decode_varint(buf)?;
                prost::encoding::encode_varint(value, &mut field);
            }
            WireType::ThirtyTwoBit => {
                let mut value = 0_u32;
                prost::encoding::fixed32::merge(wire_type, &mut value, buf, ctx)?;
                field.extend_from_slice(&value.to_le_bytes());
            }
            WireType::SixtyFourBit => {
                let mut value = 0_u64;
                prost::encoding::fixed64::merge(wire_type, &mut value, buf, ctx)?;
                field.extend_from_slice(&value.to_le_bytes());
            }
            WireType::StartGroup | WireType::EndGroup => {
                prost::encoding::skip_field(wire_type, tag, buf, ctx)?;
                return Ok(());
            }
        }
        self.encoded = field.into();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    fn clear(&mut self) {
        self.encoded.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_message_keeps_every_byte_and_merges_by_appending() {
        let mut message = RawMessage::decode(&b"\x08\x01\x7a\x01x"[..]).unwrap();
        assert_eq!(message.encode_to_vec(), b"\x08\x01\x7a\x01x");
        message.merge(&b"\x08\x02"[..]).unwrap();
        assert_eq!(message.encode_to_vec(), b"\x08\x01\x7a\x01x\x08\x02");
    }
}
