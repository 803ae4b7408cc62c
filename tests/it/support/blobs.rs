//! Test data.

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan_proto::{messages, v2};
use prost::Message as _;

/// Bytes and their digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) data: Bytes,
    pub(crate) digest: Digest,
}

impl Blob {
    /// The SHA-256 blob of `data`.
    pub(crate) fn new(data: impl Into<Bytes>) -> Self {
        Self::with(DigestFunction::Sha256, data)
    }

    /// The blob of `data` under a function.
    pub(crate) fn with(function: DigestFunction, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self { digest: Digest::of(function, &data), data }
    }

    /// `len` bytes that no other seed gives.
    pub(crate) fn random(seed: u64, len: usize) -> Self {
        let mut data = vec![0; len];
        fastrand::Rng::with_seed(seed).fill(&mut data);
        Self::new(data)
    }

    /// The digest as the hot-path messages have it.
    pub(crate) fn wire(&self) -> messages::Digest {
        wire(&self.digest)
    }

    /// The hash as text.
    pub(crate) fn digest_hash(&self) -> String {
        self.digest.hash_hex().as_str().to_owned()
    }

    /// The digest as the generated messages have it.
    pub(crate) fn v2(&self) -> v2::Digest {
        v2::Digest {
            hash: self.digest.hash_hex().as_str().to_owned(),
            size_bytes: i64::try_from(self.digest.size_bytes).unwrap(),
        }
    }

    /// `blobs/{hash}/{size}` of the empty instance.
    pub(crate) fn read_name(&self) -> String {
        format!("blobs/{}", self.digest)
    }

    /// `uploads/{uuid}/blobs/{hash}/{size}` of the empty instance, with a fresh uuid.
    pub(crate) fn write_name(&self) -> String {
        format!("uploads/{}/blobs/{}", uuid::Uuid::new_v4(), self.digest)
    }
}

/// A digest as the hot-path messages have it.
pub(crate) fn wire(digest: &Digest) -> messages::Digest {
    messages::Digest {
        hash: Bytes::copy_from_slice(digest.hash_hex().as_str().as_bytes()),
        size_bytes: i64::try_from(digest.size_bytes).unwrap(),
    }
}

/// An encoded `Directory` with these files and sub-directories.
pub(crate) fn directory(files: &[(&str, &Blob)], directories: &[(&str, &Blob)]) -> Blob {
    let files = files
        .iter()
        .map(|(name, blob)| v2::FileNode {
            name: (*name).to_owned(),
            digest: Some(blob.v2()),
            ..v2::FileNode::default()
        })
        .collect();
    let directories = directories
        .iter()
        .map(|(name, blob)| v2::DirectoryNode { name: (*name).to_owned(), digest: Some(blob.v2()) })
        .collect();
    let message = v2::Directory { files, directories, ..v2::Directory::default() };
    Blob::new(message.encode_to_vec())
}
