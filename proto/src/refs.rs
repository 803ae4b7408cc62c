//! Lean views of `Directory`, `Tree` and `ActionResult`: only the fields that name other blobs.
//!
//! A Tree may be tens of megabytes, most of it file names; these views skip everything but the
//! digests, so walking one costs a fraction of decoding it.

use prost::Message;

use crate::messages::Digest;

/// The digests that a `Directory` names.
#[derive(Clone, PartialEq, Message)]
pub struct DirectoryRefs {
    /// `FileNode`s.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<FileNodeRef>,
    /// `DirectoryNode`s.
    #[prost(message, repeated, tag = "2")]
    pub directories: Vec<DirectoryNodeRef>,
}

/// The digest of a `FileNode`.
#[derive(Clone, PartialEq, Message)]
pub struct FileNodeRef {
    /// The file's content.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
}

/// The digest of a `DirectoryNode`.
#[derive(Clone, PartialEq, Message)]
pub struct DirectoryNodeRef {
    /// The encoded child `Directory`.
    #[prost(message, optional, tag = "2")]
    pub digest: Option<Digest>,
}

/// The digests that a `Tree` names.
#[derive(Clone, PartialEq, Message)]
pub struct TreeRefs {
    /// The root directory.
    #[prost(message, optional, tag = "1")]
    pub root: Option<DirectoryRefs>,
    /// Every directory below it.
    #[prost(message, repeated, tag = "2")]
    pub children: Vec<DirectoryRefs>,
}
