//! One file of another server: what it claims to be, and whether it can be that.

use std::io;

use super::super::disk::FormerLook;
use super::super::layout::{FileName, Form, MAX_VALUE_BYTES};
use super::super::shared::Parts;
use super::sources::{Holds, Layout, Source};
use crate::digest::{Digest, HASH_BYTES};
use crate::former::{
    Casblob, CasblobError, FormerEncoding, bazel_remote_cas, bazel_remote_result, nativelink,
};
use crate::store::{Key, Kind, Namespace};

/// A file whose name is that of a value.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its path from the root.
    pub(super) path: String,
    pub(super) hash: [u8; HASH_BYTES],
    /// The length of the value, where the name has it.
    pub(super) size_bytes: Option<u64>,
    pub(super) form: Form,
}

/// One that can be what it claims.
#[derive(Clone, Debug)]
pub(super) struct Examined {
    pub(super) path: String,
    pub(super) look: FormerLook,
    pub(super) stamp: u64,
    pub(super) key: Key,
    pub(super) len_bytes: u64,
    pub(super) form: Form,
}

/// A file that is not taken over: its path, what it is, and why.
pub(super) type Refused = (String, FormerLook, Refusal);

/// Why a file is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no regular file.
    NoFile,
    /// Its length is not what its name says.
    Size,
    /// It is no whole casblob, or one of another length than its name says.
    Header,
    /// An action result of no bytes: a crash has cut it off.
    Empty,
    /// Its bytes do not hash to its name.
    Hash,
    /// It is longer than any value.
    TooLarge,
    /// It is another user's.
    Owner,
    /// It is on another file system than the store.
    Device,
    /// The system does not let it be read or linked.
    Unreadable,
}

impl Refusal {
    /// Whether the file is of no use to anybody.
    pub(super) fn is_lie(self) -> bool {
        matches!(self, Self::Size | Self::Header | Self::Empty | Self::Hash)
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoFile => "no regular file",
            Self::Size => "not of the length in its name",
            Self::Header => "no whole casblob",
            Self::Empty => "empty",
            Self::Hash => "not what its name is the hash of",
            Self::TooLarge => "too large",
            Self::Owner => "not this process's to change",
            Self::Device => "on another file system",
            Self::Unreadable => "not to be read or linked",
        }
    }
}

impl Candidate {
    /// Reads a name in a directory; `None` for a foreign file. `bucket` is what the directory's
    /// own name says.
    pub(super) fn parse(source: &Source, bucket: Option<u8>, name: &str) -> Option<Self> {
        let (hash, size_bytes, encoding) = match (source.layout, source.holds, bucket) {
            (_, Holds::Others, _) | (Layout::Buckets, _, None) => return None,
            (Layout::Flat, Holds::Blobs, _) => {
                let name = nativelink(name)?;
                (name.hash, name.size_bytes, FormerEncoding::Identity)
            }
            // The size is the action's.
            (Layout::Flat, Holds::Results(_), _) => {
                (nativelink(name)?.hash, None, FormerEncoding::Identity)
            }
            (Layout::Buckets, Holds::Blobs, Some(bucket)) => {
                let name = bazel_remote_cas(bucket, name)?;
                (name.hash, name.size_bytes, name.encoding)
            }
            (Layout::Buckets, Holds::Results(_), Some(bucket)) => {
                (bazel_remote_result(bucket, name)?, None, FormerEncoding::Identity)
            }
        };
        let is_own = encoding == FormerEncoding::Identity && source.holds == Holds::Blobs;
        let form = if is_own { Form::Own } else { Form::Former };
        let path = match bucket {
            Some(bucket) => format!("{}/{name}", source.bucket_path(bucket)),
            None => source.path_of(name),
        };
        Some(Self { path, hash, size_bytes, form })
    }

    /// The key that it claims, when the value has this length; `None` where nothing is asked for.
    pub(super) fn key(&self, parts: &Parts, source: &Source, len_bytes: u64) -> Option<Key> {
        let digest =
            |size_bytes| Digest { function: parts.former.function, hash: self.hash, size_bytes };
        match source.holds {
            Holds::Blobs => Some(Key::blob(digest(self.size_bytes.unwrap_or(len_bytes)))),
            Holds::Results(namespace) => Some(Key::action_result(namespace, digest(0))),
            Holds::Others => None,
        }
    }

    /// Looks at the file; `None` when it is gone. Blocking.
    pub(super) fn examine(
        self,
        parts: &Parts,
        source: &Source,
    ) -> io::Result<Option<Result<Examined, Refused>>> {
        let Some(look) = parts.disk.look_at_former(&self.path)? else { return Ok(None) };
        // One file that cannot be read is no reason to leave the others.
        let judged = self.judge(parts, source, &look).unwrap_or_else(|error| {
            tracing::warn!(path = self.path, %error, "file of another server not readable");
            Err(Refusal::Unreadable)
        });
        Ok(Some(match judged {
            Ok((key, len_bytes)) => {
                let stamp = look.stamp(parts.clock.now());
                Ok(Examined { path: self.path, look, stamp, key, len_bytes, form: self.form })
            }
            Err(refusal) => Err((self.path, look, refusal)),
        }))
    }

    fn judge(
        &self,
        parts: &Parts,
        source: &Source,
        look: &FormerLook,
    ) -> io::Result<Result<(Key, u64), Refusal>> {
        if !look.is_file {
            return Ok(Err(Refusal::NoFile));
        }
        if !look.is_own {
            return Ok(Err(Refusal::Owner));
        }
        let len_bytes = match (self.form, source.holds) {
            (Form::Former, Holds::Blobs) => match self.casblob_bytes(parts)? {
                Ok(len_bytes) => len_bytes,
                Err(refusal) => return Ok(Err(refusal)),
            },
            _ => look.len_bytes,
        };
        if self.size_bytes.is_some_and(|size_bytes| size_bytes != len_bytes) {
            return Ok(Err(Refusal::Size));
        }
        let Some(key) = self.key(parts, source, len_bytes) else {
            return Ok(Err(Refusal::NoFile));
        };
        let most_bytes = match key.kind {
            // The one blob that nobody hashes.
            Kind::Blob if len_bytes == 0 && key.digest != Digest::of(key.digest.function, &[]) => {
                return Ok(Err(Refusal::Hash));
            }
            Kind::Blob => MAX_VALUE_BYTES,
            Kind::ActionResult if len_bytes == 0 && key.namespace == Namespace::ADOPTED => {
                return Ok(Err(Refusal::Empty));
            }
            // What an entry can say of it.
            Kind::ActionResult => u64::from(u32::MAX),
        };
        let cap_bytes = parts.index.lock(|index| index.ledger().max_bytes);
        if len_bytes > most_bytes || parts.blocks.charge_of(len_bytes) > cap_bytes {
            return Ok(Err(Refusal::TooLarge));
        }
        let is_own = parts.disk.make_read_only(&self.path, look)?;
        Ok(if is_own { Ok((key, len_bytes)) } else { Err(Refusal::Owner) })
    }

    /// The length of the blob in a casblob.
    fn casblob_bytes(&self, parts: &Parts) -> io::Result<Result<u64, Refusal>> {
        let Some(file) = parts.disk.open_untouched(&self.path)? else {
            return Ok(Err(Refusal::NoFile));
        };
        match Casblob::open(&file, file.len_bytes()) {
            Ok(casblob) => Ok(Ok(casblob.size_bytes())),
            Err(CasblobError::Io(error)) => Err(error),
            Err(CasblobError::Invalid(problem)) => {
                tracing::debug!(path = self.path, problem, "not a whole casblob");
                Ok(Err(Refusal::Header))
            }
        }
    }
}

impl Examined {
    /// The name that it gets.
    pub(super) fn file_name(&self, generation: super::super::layout::Generation) -> FileName {
        FileName { key: self.key, len_bytes: self.len_bytes, generation, form: self.form }
    }
}
