//! What names a value in a store.

use std::fmt;

use crate::digest::Digest;

/// The tenant of an entry: derived from an instance name, never used as a path.
///
/// Blobs live in [`Namespace::SHARED`]; action results in the namespace of their instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(pub [u8; Namespace::BYTES]);

impl Namespace {
    /// Length in bytes. 128 bits of BLAKE3: no client can find a second name for one.
    pub const BYTES: usize = 16;

    /// Where everything lives that all instances share.
    pub const SHARED: Self = Self([0; Self::BYTES]);

    /// The namespace of an instance name.
    pub fn of_instance(instance_name: &str) -> Self {
        let hash = blake3::hash(instance_name.as_bytes());
        let mut id = [0; Self::BYTES];
        for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Self(id)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

/// What kind of value a key names, and so whether the bytes must hash to the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The bytes hash to the digest; never replaced.
    Blob = 0,
    /// An encoded `ActionResult` under the digest of its `Action`; the later one wins.
    ActionResult = 1,
}

/// The name of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Whose it is.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// The blob's own digest, or the action's.
    pub digest: Digest,
}

impl Key {
    /// The key of a blob.
    pub fn blob(digest: Digest) -> Self {
        Self { namespace: Namespace::SHARED, kind: Kind::Blob, digest }
    }

    /// The key of an action result.
    pub fn action_result(namespace: Namespace, action_digest: Digest) -> Self {
        Self { namespace, kind: Kind::ActionResult, digest: action_digest }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Blob => write!(f, "blobs/{}", self.digest),
            Kind::ActionResult => write!(f, "actionResults/{}", self.digest),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
