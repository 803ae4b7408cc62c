//! How blobs and trees are named on the command line.

use std::fmt;

use crate::digest::{Digest, DigestFunction, InvalidDigest};

/// What the bytes of a blob stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// Themselves.
    Blob,
    /// A directory with what is in it, as its `Directory` message.
    Directory,
    /// The same as a `Tree` message.
    Tree,
}

/// A digest, and what its blob stands for where that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What was said.
    pub kind: Option<ReferenceKind>,
    /// The blob.
    pub digest: Digest,
}

/// Why a text names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It has another form.
    #[error("{0:?} is not [blob:|dir:|tree:][sha256/|blake3/]HASH/SIZE")]
    Form(String),
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl ReferenceKind {
    /// What stands before a digest.
    fn prefix(self) -> &'static str {
        match self {
            Self::Blob => "blob:",
            Self::Directory => "dir:",
            Self::Tree => "tree:",
        }
    }
}

impl Reference {
    /// A directory.
    pub fn directory(digest: Digest) -> Self {
        Self { kind: Some(ReferenceKind::Directory), digest }
    }

    /// A blob that is nothing but itself.
    pub fn blob(digest: Digest) -> Self {
        Self { kind: None, digest }
    }

    /// Reads `[blob:|dir:|tree:][sha256/|blake3/]HASH/SIZE`; `function` is meant where none is
    /// said.
    pub fn parse(text: &str, function: DigestFunction) -> Result<Self, InvalidReference> {
        let mut rest = text.trim();
        let mut kind = None;
        for named in [ReferenceKind::Blob, ReferenceKind::Directory, ReferenceKind::Tree] {
            if let Some(behind) = rest.strip_prefix(named.prefix()) {
                (kind, rest) = (Some(named), behind);
                break;
            }
        }
        let form = || InvalidReference::Form(crate::digest::shorten(text));
        let (function, rest) = match rest.split_once('/') {
            Some(("sha256", behind)) => (DigestFunction::Sha256, behind),
            Some(("blake3", behind)) => (DigestFunction::Blake3, behind),
            _ => (function, rest),
        };
        let (hash, size) = rest.split_once('/').ok_or_else(form)?;
        let size_bytes: i64 = size.parse().map_err(|_| form())?;
        Ok(Self { kind, digest: Digest::parse(function, hash.as_bytes(), size_bytes)? })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.map_or("", ReferenceKind::prefix), self.digest)
    }
}
