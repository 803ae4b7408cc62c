//! Incremental hashing.

use sha2::Digest as _;

use super::{DigestFunction, HASH_BYTES};

/// An incremental hash of one blob.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Sha256(sha2::Sha256),
    // Boxed: its state is 2 KiB, and hashers live in every upload.
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(function: DigestFunction) -> Self {
        Self(match function {
            DigestFunction::Sha256 => State::Sha256(sha2::Sha256::new()),
            DigestFunction::Blake3 => State::Blake3(Box::default()),
        })
    }

    /// Appends `data`.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(data),
            State::Blake3(hasher) => {
                hasher.update(data);
            }
        }
    }

    /// The hash of everything appended.
    pub fn finish(self) -> [u8; HASH_BYTES] {
        match self.0 {
            State::Sha256(hasher) => hasher.finalize().into(),
            State::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}
