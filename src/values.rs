//! L2: values under names that clients choose, apart from blobs and action results.
//!
//! For clients whose values are no `ActionResult`s. They are kept like those, in a store of their
//! own: the later one replaces the earlier, a checksum is verified at every read, and both ways are
//! streams. The store is another and the namespaces are, so nothing here can be asked for as an
//! action result, or take room from one.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::digest::{Digest, DigestFunction, HASH_BYTES, Hasher};
use crate::store::{BeginPut, BlobReader, BlobStore, ByteRange, Key, Namespace, StoreError};

/// The longest name in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// The largest value that the index of a store can express under a name.
pub const MAX_VALUE_BYTES: u64 = u32::MAX as u64;

/// Whose values they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueNamespace {
    /// Of ccache.
    Ccache,
    /// Of Gradle.
    Gradle,
    /// Of sccache, and of whoever else speaks `WebDAV`.
    Webdav,
    /// Of whoever keeps something else at `/ac/` than action results, where that is allowed.
    RawResults,
}

impl ValueNamespace {
    /// What paths of the namespace begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ccache => "/ccache/",
            Self::Gradle => "/gradle/",
            Self::Webdav => "/webdav/",
            Self::RawResults => "/ac/",
        }
    }
}

/// The name of a value within its namespace: segments between single slashes.
///
/// Only its hash is kept, and never is it a path on a disk; what could be read in two ways is
/// refused all the same, so that a value has one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueName([u8; HASH_BYTES]);

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It is too long.
    #[error("the name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// A `%` without two hexadecimal digits.
    #[error("the name has a % that no two hexadecimal digits follow")]
    Encoding,
    /// A control character.
    #[error("the name has a control character")]
    Control,
    /// An empty segment, `.` or `..`.
    #[error("the name has a segment that is empty, . or ..")]
    Segment,
}

impl ValueName {
    /// Reads a name from the path of a request, behind the prefix and percent-encoded.
    pub fn parse(path: &str) -> Result<Self, InvalidName> {
        let name = decode(path.as_bytes())?;
        if name.len() > MAX_NAME_BYTES {
            return Err(InvalidName::TooLong);
        }
        if name.iter().any(u8::is_ascii_control) {
            return Err(InvalidName::Control);
        }
        // After decoding: an encoded slash or dot is one too.
        let is_odd = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
        if name.split(|byte| *byte == b'/').any(is_odd) {
            return Err(InvalidName::Segment);
        }
        let mut hasher = Hasher::new(DigestFunction::Sha256);
        hasher.update(&name);
        Ok(Self(hasher.finish()))
    }

    /// A name that is a hash already, such as that of an action.
    pub fn of_hash(hash: [u8; HASH_BYTES]) -> Self {
        Self(hash)
    }
}

fn decode(path: &[u8]) -> Result<Vec<u8>, InvalidName> {
    let mut name = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            name.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(InvalidName::Encoding)?;
        let mut byte = [0];
        const_hex::decode_to_slice(digits, &mut byte).map_err(|_| InvalidName::Encoding)?;
        name.extend(byte);
        rest = after;
    }
    Ok(name)
}

/// The values of all namespaces.
#[derive(Clone, Debug)]
pub struct Values {
    store: Arc<dyn BlobStore>,
    max_value_bytes: u64,
}

impl Values {
    /// The values in `store`, none of them larger than this.
    pub fn new(store: Arc<dyn BlobStore>, max_value_bytes: u64) -> Self {
        let max_value_bytes = max_value_bytes.min(store.max_blob_bytes()).min(MAX_VALUE_BYTES);
        Self { store, max_value_bytes }
    }

    /// Opens a value; `None` when it is absent.
    pub async fn get(
        &self,
        namespace: ValueNamespace,
        name: &ValueName,
        range: ByteRange,
    ) -> Result<Option<BlobReader>, StoreError> {
        self.store.get(&key(namespace, name), range).await
    }

    /// The length of a value; `None` when it is absent.
    pub async fn size_bytes(
        &self,
        namespace: ValueNamespace,
        name: &ValueName,
    ) -> Result<Option<u64>, StoreError> {
        let reader = self.get(namespace, name, ByteRange::ALL).await?;
        Ok(reader.map(|reader| reader.remaining_bytes()))
    }

    /// Starts to write a value; its end replaces the one that is there.
    pub async fn begin_put(
        &self,
        namespace: ValueNamespace,
        name: &ValueName,
        size_bytes: u64,
    ) -> Result<BeginPut, StoreError> {
        let limit_bytes = self.max_value_bytes;
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes });
        }
        self.store.begin_put(&key(namespace, name), size_bytes).await
    }

    /// Whether somebody waits for room now.
    pub fn is_waiting_for_room(&self) -> bool {
        self.store.is_waiting_for_room()
    }

    /// Removes a value; false when it was not there.
    pub async fn remove(
        &self,
        namespace: ValueNamespace,
        name: &ValueName,
    ) -> Result<bool, StoreError> {
        self.store.remove(&key(namespace, name)).await
    }
}

fn key(namespace: ValueNamespace, name: &ValueName) -> Key {
    let digest = Digest { function: DigestFunction::Sha256, hash: name.0, size_bytes: 0 };
    Key::action_result(Namespace::of_values(namespace.prefix()), digest)
}
