//! L0: what a digest is, how it is computed and how resources are named.
//!
//! Pure: no async, no I/O, no clock, nothing from the layers above.

mod function;
mod hasher;
mod resource_name;
#[cfg(test)]
mod tests;

use std::fmt;

pub use function::{DigestFunction, InvalidFunction};
pub use hasher::Hasher;
pub use resource_name::{
    Compressor, InvalidResourceName, ReadResource, WriteResource, check_instance_name,
};

/// Length in bytes of the hashes this build knows.
pub const HASH_BYTES: usize = 32;

/// The identity of a blob: a function, the hash it gives, and the length in bytes.
///
/// The size is part of the identity (REAPI `Digest`): the same hash with another size names
/// another blob, one that can never exist.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    /// The function that gives `hash`.
    pub function: DigestFunction,
    /// The raw hash.
    pub hash: [u8; HASH_BYTES],
    /// Length of the blob in bytes.
    pub size_bytes: u64,
}

/// Why a pair of hash text and size is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDigest {
    /// The text is not lower-case hexadecimal of the right length.
    #[error(
        "digest hash {text:?} is not {expected} lower-case hexadecimal digits of {function}, \
         the length that function has"
    )]
    Hash {
        /// The text, cut to a printable length.
        text: String,
        /// The digits expected.
        expected: usize,
        /// The function the digest was read as.
        function: DigestFunction,
    },
    /// The hash has a length that no announced function gives.
    #[error(
        "digest hash {text:?} has {length} characters, which no supported digest function gives \
         (supported: SHA256, BLAKE3, both 64)"
    )]
    Length {
        /// The text, cut to a printable length.
        text: String,
        /// Its length in characters.
        length: usize,
    },
    /// The size is negative or not a decimal number.
    #[error("digest size {text:?} is not a decimal number from 0 to 9223372036854775807")]
    Size {
        /// The text, cut to a printable length.
        text: String,
    },
    /// Size 0 with a hash that is not the empty blob's, or the reverse.
    #[error("digest {hash}-{size_bytes} contradicts the empty blob, whose hash is {empty}")]
    Empty {
        /// The hash given.
        hash: String,
        /// The size given.
        size_bytes: u64,
        /// The hash of the empty blob.
        empty: String,
    },
}

/// Cuts `text` so that an error never repeats a hostile payload at length.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT_CHARS: usize = 80;
    if text.chars().count() <= LIMIT_CHARS {
        return text.to_owned();
    }
    text.chars().take(LIMIT_CHARS).chain("...".chars()).collect()
}

impl Digest {
    /// Reads a digest from its text form and a wire size.
    pub fn parse(
        function: DigestFunction,
        hash: &[u8],
        size_bytes: i64,
    ) -> Result<Self, InvalidDigest> {
        let size_bytes = u64::try_from(size_bytes)
            .map_err(|_| InvalidDigest::Size { text: size_bytes.to_string() })?;
        Self::new(function, parse_hash(function, hash)?, size_bytes)
    }

    /// The digest of a hash and a size, which must not contradict each other.
    pub fn new(
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
        size_bytes: u64,
    ) -> Result<Self, InvalidDigest> {
        let digest = Self { function, hash, size_bytes };
        // Only the hash of nothing has size 0, and nothing has no other size.
        if (size_bytes == 0) != (digest.hash == function.empty_hash()) {
            return Err(InvalidDigest::Empty {
                hash: digest.hash_hex().as_str().to_owned(),
                size_bytes,
                empty: const_hex::encode(function.empty_hash()),
            });
        }
        Ok(digest)
    }

    /// The digest of `data`.
    pub fn of(function: DigestFunction, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(function);
        hasher.update(data);
        Self { function, hash: hasher.finish(), size_bytes: data.len() as u64 }
    }

    /// The digest of the empty blob.
    pub fn empty(function: DigestFunction) -> Self {
        Self { function, hash: function.empty_hash(), size_bytes: 0 }
    }

    /// Whether this is the empty blob, which is always present and never stored.
    pub fn is_empty(&self) -> bool {
        self.size_bytes == 0
    }

    /// The hash as text, without an allocation.
    pub fn hash_hex(&self) -> const_hex::Buffer<HASH_BYTES> {
        let mut buffer = const_hex::Buffer::new();
        buffer.format(&self.hash);
        buffer
    }
}

/// `<function>/<hash>/<size>`, the function left out where resource names leave it out.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(segment) = self.function.path_segment() {
            write!(f, "{segment}/")?;
        }
        write!(f, "{}/{}", self.hash_hex().as_str(), self.size_bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads exactly the lower-case digits of one hash; anything else would be a second spelling of
/// the same blob.
pub fn parse_hash(
    function: DigestFunction,
    text: &[u8],
) -> Result<[u8; HASH_BYTES], InvalidDigest> {
    let invalid = || InvalidDigest::Hash {
        text: shorten(&String::from_utf8_lossy(text)),
        expected: function.hex_digits(),
        function,
    };
    if text.len() != function.hex_digits() {
        let text = String::from_utf8_lossy(text);
        let length = text.chars().count();
        return Err(InvalidDigest::Length { text: shorten(&text), length });
    }
    let mut hash = [0; HASH_BYTES];
    const_hex::decode_to_slice(text, &mut hash).map_err(|_| invalid())?;
    // All at once rather than up to the first: vectorized, this is a few instructions.
    if text.iter().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
        return Err(invalid());
    }
    Ok(hash)
}
