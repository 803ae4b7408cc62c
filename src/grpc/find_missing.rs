//! The messages of `FindMissingBlobs`, read and written in place.
//!
//! A build asks about ten thousand digests at once. Building a message of so many parts, and
//! another for the answer, would take several times what looking them up takes.

use std::collections::HashSet;

use bytes::{BufMut as _, Bytes, BytesMut};
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
    /// How many digests there are.
    pub(super) count: usize,
    /// Encoded `Digest`s, as many as were allowed.
    digests: Vec<&'a [u8]>,
}

impl<'a> Question<'a> {
    /// Finds the parts of an encoded request; keeps at most `limit` digests.
    pub(super) fn read(encoded: &'a [u8], limit: usize) -> Result<Self, Status> {
        Self::scan(encoded, limit).map_err(|error| invalid_field("the request", malformed(error)))
    }

    fn scan(encoded: &'a [u8], limit: usize) -> Result<Self, WireError> {
        let digests = Vec::with_capacity(encoded.len() / LEAST_DIGEST_BYTES);
        let mut question = Self { instance_name: "", digest_function: 0, count: 0, digests };
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
                    if question.count <= limit {
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

#[cfg(test)]
mod tests {
    use castellan_proto::messages::{self, FindMissingBlobsRequest, FindMissingBlobsResponse};
    use prost::Message as _;
    use tonic::Code;

    use super::*;

    fn digests(count: u8) -> Vec<messages::Digest> {
        let digest = |byte: u8| messages::Digest {
            hash: const_hex::encode([byte; 32]).into(),
            size_bytes: 7,
        };
        (1..=count).map(digest).collect()
    }

    fn request(blob_digests: Vec<messages::Digest>) -> Vec<u8> {
        let instance_name = "main".to_owned();
        FindMissingBlobsRequest { instance_name, blob_digests, digest_function: 9 }.encode_to_vec()
    }

    #[test]
    fn reapi_14_the_answer_has_each_missing_digest_once_as_it_was_sent() {
        let [one, two, three] = digests(3).try_into().unwrap();
        let asked = vec![one.clone(), two, one.clone(), three.clone(), three.clone()];
        let encoded = request(asked);
        let question = Question::read(&encoded, 5).unwrap();
        assert_eq!((question.instance_name, question.digest_function), ("main", 9));
        let parsed = question.parse(DigestFunction::Blake3).unwrap();
        let answer = question.answer(&parsed, &[true, false, true, true, true]);
        let answer = FindMissingBlobsResponse::decode(answer).unwrap();
        assert_eq!(answer.missing_blob_digests, [one, three]);
    }

    #[test]
    fn digests_over_the_limit_are_counted_and_not_kept() {
        let encoded = request(digests(9));
        let question = Question::read(&encoded, 4).unwrap();
        assert_eq!((question.count, question.digests.len()), (9, 4));
    }

    #[test]
    fn every_cut_and_every_wrong_type_is_the_senders_mistake() {
        let encoded = request(digests(2));
        // Up to the end of the name, of each digest, of everything: whole messages all.
        let (name, digest) = (6, 70);
        let whole = [name, name + digest, name + 2 * digest, encoded.len()];
        for end in 1..encoded.len() {
            assert_ne!(is_refused(&encoded[..end]), whole.contains(&end), "cut at {end}");
        }
        // Fields 1, 2 and 3 as a varint, a varint and bytes; and a name that is no text.
        for wrong in [&[0x08, 1][..], &[0x10, 1], &[0x1a, 0], &[0x0a, 1, 0xff]] {
            assert!(is_refused(wrong), "{wrong:?}");
        }
    }

    fn is_refused(encoded: &[u8]) -> bool {
        let outcome = Question::read(encoded, 2).map(drop);
        outcome.is_err_and(|status| status.code() == Code::InvalidArgument)
    }

    #[test]
    fn an_unknown_function_stays_unknown() {
        for value in [i32::MIN, -1, 77] {
            let message = FindMissingBlobsRequest { digest_function: value, ..Default::default() };
            let encoded = message.encode_to_vec();
            let question = Question::read(&encoded, 1).unwrap();
            assert!(DigestFunction::from_wire(question.digest_function).is_err());
        }
    }
}
