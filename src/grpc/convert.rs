//! From wire messages to domain types and back.
//!
//! Every digest and every digest function that a request message names comes through here, so the
//! rules for them hold on every method alike (reapi 1-7, 10).

use std::fmt::Display;

use castellan_proto::messages;
use tonic::Status;

use super::options::GrpcOptions;
use super::status::invalid_field;
use crate::digest::{Digest, DigestFunction, InvalidDigest};

/// Reads a `digest_function` field; 0 is for us to infer.
pub(super) fn digest_function(options: &GrpcOptions, value: i32) -> Result<DigestFunction, Status> {
    match value {
        0 => Ok(options.default_digest_function),
        _ => Ok(DigestFunction::from_wire(value)?),
    }
}

/// Reads a digest of a request in which every digest has the same function.
pub(super) fn digest(
    function: DigestFunction,
    wire: &messages::Digest,
) -> Result<Digest, InvalidDigest> {
    Digest::parse(function, &wire.hash, wire.size_bytes)
}

/// Reads a digest that the request must have, and names its field when it is not one.
pub(super) fn required_digest(
    field: impl Display,
    function: DigestFunction,
    wire: Option<&messages::Digest>,
) -> Result<Digest, Status> {
    let wire = wire.ok_or_else(|| invalid_field(&field, "is required"))?;
    digest(function, wire).map_err(|error| invalid_field(&field, error))
}

/// A size as the wire has it. Sizes are parsed from `i64`, so nothing is ever cut here.
pub(super) fn wire_size(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).unwrap_or(i64::MAX)
}
