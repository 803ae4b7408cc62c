//! The messages of `FindMissingBlobs`, read and written in place.
//!
//! A build asks about ten thousand digests at once. Building a message of so many parts, and
//! another for the answer, would take several times what looking them up takes.

use std::collections::HashSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use castellan_proto::bounded::MAX_ENTRIES;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::Status;

use super::status::invalid_field;
use crate::digest::{Digest, DigestFunction};
use crate::encoded::view::RawDigest;
use crate::encoded::wire::{Fields, WireError};

/// `FindMissingBlobsRequest.blob_digests` and `FindMissingBlobsResponse.missing_blob_digests`.
const DIGESTS: u32 = 2;
/// What a digest takes at least, unless it is malformed.
const LEAST_DIGEST_BYTES: usize = 68;
/// What the key and the length of one digest take in an answer, at most.
const FRAMING_BYTES: usize = 11;

/// A `FindMissingBlobsRequest` as it came.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) instance_name: &'a str,
    pub(super) digest_function: i32,
    /// Encoded `Digest`s, no more than [`MAX_ENTRIES`].
    pub(super) digests: Vec<&'a [u8]>,
    /// How many came.
    pub(super) count: usize,
}

impl<'a> Question<'a> {
    /// Finds the parts of an encoded request.
    pub(super) fn read(encoded: &'a [u8]) -> Result<Self, Status> {
        Self::scan(encoded).map_err(|error| invalid_field("the request", malformed(error)))
    }

    fn scan(encoded: &'a [u8]) -> Result<Self, WireError> {
        let digests = Vec::with_capacity(encoded.len() / LEAST_DIGEST_BYTES);
        let mut question = Self { instance_name: "", digest_function: 0, digests, count: 0 };
        for field in Fields::new(encoded) {
            let field = field?;
            match field.tag {
                1 => {
                    let text = WireError::Text { tag: field.tag };
                    question.instance_name = str::from_utf8(field.bytes()?).map_err(|_| text)?;
                }
                DIGESTS => {
                    question.count += 1;
                    let digest = field.bytes()?;
                    if question.count <= MAX_ENTRIES {
                        question.digests.push(digest);
                    }
                }
                // An enum that does not fit is one that nobody knows.
                3 => question.digest_function = i32::try_from(field.varint()?).unwrap_or(-1),
                _ => {}
            }
        }
        Ok(question)
    }

    /// Reads every digest, or names the first that is not one (reapi 5).
    pub(super) fn parse(&self, function: DigestFunction) -> Result<Vec<Digest>, Status> {
        let mut digests = Vec::with_capacity(self.digests.len());
        for (index, encoded) in self.digests.iter().enumerate() {
            let field = || format!("blob_digests[{index}]");
            let raw = RawDigest::decode(encoded)
                .map_err(|error| invalid_field(field(), malformed(error)))?;
            digests.push(raw.parse(function).map_err(|error| invalid_field(field(), error))?);
        }
        Ok(digests)
    }

    /// The encoded answer: every missing digest once (reapi 14), as it was sent.
    pub(super) fn answer(&self, digests: &[Digest], missing: &[bool]) -> Bytes {
        let count = missing.iter().filter(|missing| **missing).count();
        let mut reported = HashSet::with_capacity(count);
        let mut answer = BytesMut::with_capacity(count * (LEAST_DIGEST_BYTES + FRAMING_BYTES));
        for ((encoded, digest), is_missing) in self.digests.iter().zip(digests).zip(missing) {
            if *is_missing && reported.insert(digest) {
                encode_key(DIGESTS, WireType::LengthDelimited, &mut answer);
                encode_varint(encoded.len() as u64, &mut answer);
                answer.put_slice(encoded);
            }
        }
        answer.freeze()
    }
}

fn malformed(error: WireError) -> String {
    format!("does not decode: {error}")
}
