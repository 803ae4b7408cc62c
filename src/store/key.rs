//! What names a value in a store.

use std::fmt;
use std::hash::{Hash, Hasher};

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

    /// What a compression store keeps in the store behind it.
    pub const COMPRESSED: Self = Self([1; Self::BYTES]);

    /// The lists of chunks that a deduplicating store keeps in the store behind it.
    pub const CHUNK_LISTS: Self = Self([2; Self::BYTES]);

    /// The action results that another server left, whatever the instance. Each instance asks for
    /// them when it has none of its own.
    pub const ADOPTED: Self = Self([3; Self::BYTES]);

    /// Whether values under it stand for blobs, see [`Key::derived`].
    pub fn is_derived(self) -> bool {
        self == Self::COMPRESSED || self == Self::CHUNK_LISTS
    }

    /// The namespace of an instance name.
    pub fn of_instance(instance_name: &str) -> Self {
        Self::first_of(&blake3::hash(instance_name.as_bytes()))
    }

    /// The namespace of values that are no action results, under the prefix they are asked for.
    pub fn of_values(prefix: &str) -> Self {
        let hash = blake3::derive_key("castellan 2026 namespace of values", prefix.as_bytes());
        Self::first_of(&hash.into())
    }

    fn first_of(hash: &blake3::Hash) -> Self {
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
    /// An encoded `ActionResult` under the digest of its `Action`, or another value whose bytes do
    /// not hash to its name; the later one wins.
    ActionResult = 1,
}

/// The name of a value.
///
/// The size in the digest of anything but a blob is a hint: it tells no two keys apart, and is 0
/// where it is not known.
#[derive(Clone, Copy)]
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

    /// The key of what stands for a blob and has other bytes, such as the blob compressed.
    ///
    /// It keeps the blob's size for stores that choose by size; a digest of which only the hash is
    /// known has size 0.
    pub fn derived(namespace: Namespace, digest: Digest) -> Self {
        debug_assert!(namespace.is_derived(), "{namespace:?}");
        Self { namespace, kind: Kind::ActionResult, digest }
    }

    /// Whether its value stands for a blob, see [`Key::derived`].
    pub fn is_derived(&self) -> bool {
        self.kind == Kind::ActionResult && self.namespace.is_derived()
    }

    /// The same key without the hint about a size.
    #[must_use]
    pub fn without_hint(self) -> Self {
        match self.kind {
            Kind::Blob => self,
            Kind::ActionResult => Self { digest: Digest { size_bytes: 0, ..self.digest }, ..self },
        }
    }

    /// Whether it is of this blob, or of a result of the action with this digest.
    pub fn is_of(&self, digest: &Digest) -> bool {
        match self.kind {
            Kind::Blob => self.digest == *digest,
            Kind::ActionResult => {
                self.digest.function == digest.function && self.digest.hash == digest.hash
            }
        }
    }

    /// The key of an action result.
    ///
    /// The size of the action is a hint only: two actions of one hash are one, and clients that
    /// speak HTTP know no sizes.
    pub fn action_result(namespace: Namespace, action_digest: Digest) -> Self {
        Self { namespace, kind: Kind::ActionResult, digest: action_digest }
    }

    /// What tells keys apart.
    fn identity(&self) -> (Namespace, Kind, Digest) {
        let Self { namespace, kind, digest } = self.without_hint();
        (namespace, kind, digest)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Blob => write!(f, "blobs/{}", self.digest),
            Kind::ActionResult => write!(f, "actionResults/{}", self.digest.hash_hex().as_str()),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
