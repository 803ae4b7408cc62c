//! The digest functions this build announces.

use std::fmt;

use super::HASH_BYTES;

/// A digest function of REAPI. All listed here are announced in Capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DigestFunction {
    /// SHA-256, the function every client has.
    Sha256 = 1,
    /// BLAKE3, several times cheaper to compute.
    Blake3 = 9,
}

/// A `DigestFunction.Value` that is not announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("digest_function {value} is not supported (supported: SHA256 = 1, BLAKE3 = 9)")]
pub struct InvalidFunction {
    /// The wire value.
    pub value: i32,
}

const SHA256_EMPTY: [u8; HASH_BYTES] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];
const BLAKE3_EMPTY: [u8; HASH_BYTES] = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];

impl DigestFunction {
    /// Every announced function, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Blake3];

    /// Reads the wire value; 0 ("infer it") is SHA-256, the only announced function of its length
    /// for which a client may leave the field out.
    pub fn from_wire(value: i32) -> Result<Self, InvalidFunction> {
        match value {
            0 | 1 => Ok(Self::Sha256),
            9 => Ok(Self::Blake3),
            _ => Err(InvalidFunction { value }),
        }
    }

    /// The wire value.
    pub fn to_wire(self) -> i32 {
        self as i32
    }

    /// The segment that resource names carry for this function; `None` where they must not.
    pub fn path_segment(self) -> Option<&'static str> {
        match self {
            Self::Sha256 => None,
            Self::Blake3 => Some("blake3"),
        }
    }

    /// The function that a resource-name segment stands for.
    pub fn from_path_segment(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.path_segment() == Some(segment))
    }

    /// A short lower-case name, stable on disk and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// Digits of the hash as text.
    pub fn hex_digits(self) -> usize {
        2 * HASH_BYTES
    }

    /// The hash of the empty blob.
    pub fn empty_hash(self) -> [u8; HASH_BYTES] {
        match self {
            Self::Sha256 => SHA256_EMPTY,
            Self::Blake3 => BLAKE3_EMPTY,
        }
    }
}

impl fmt::Display for DigestFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA256",
            Self::Blake3 => "BLAKE3",
        })
    }
}
