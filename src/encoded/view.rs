//! Borrowed views of `ActionResult`, `Tree` and `Directory`: the fields that name other blobs.
//!
//! A message field that occurs more than once is merged, as protobuf asks: a view sees what a
//! client's decoder sees.

use super::wire::{Field, Fields, WireError};
use crate::digest::{Digest, DigestFunction, InvalidDigest};

/// Field numbers of `ActionResult`, and of `OutputFile` where a name says so.
pub(crate) mod tag {
    /// `output_files`
    pub(crate) const OUTPUT_FILES: u32 = 2;
    /// `output_directories`
    pub(crate) const OUTPUT_DIRECTORIES: u32 = 3;
    /// `stdout_raw`
    pub(crate) const STDOUT_RAW: u32 = 5;
    /// `stdout_digest`
    pub(crate) const STDOUT_DIGEST: u32 = 6;
    /// `stderr_raw`
    pub(crate) const STDERR_RAW: u32 = 7;
    /// `stderr_digest`
    pub(crate) const STDERR_DIGEST: u32 = 8;
    /// `output_file_symlinks`
    pub(crate) const OUTPUT_FILE_SYMLINKS: u32 = 10;
    /// `output_directory_symlinks`
    pub(crate) const OUTPUT_DIRECTORY_SYMLINKS: u32 = 11;
    /// `output_symlinks`
    pub(crate) const OUTPUT_SYMLINKS: u32 = 12;
    /// `OutputFile.contents`
    pub(crate) const OUTPUT_FILE_CONTENTS: u32 = 5;
}

/// A `Digest` as it was sent, unchecked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RawDigest<'a> {
    /// The hash as text.
    pub(crate) hash: &'a [u8],
    /// The size.
    pub(crate) size_bytes: i64,
}

impl<'a> RawDigest<'a> {
    /// Reads an encoded one.
    pub(crate) fn decode(encoded: &'a [u8]) -> Result<Self, WireError> {
        let mut digest = Self::default();
        digest.merge(encoded)?;
        Ok(digest)
    }

    fn merge_into(slot: &mut Option<Self>, encoded: &'a [u8]) -> Result<(), WireError> {
        slot.get_or_insert_default().merge(encoded)
    }

    fn merge(&mut self, encoded: &'a [u8]) -> Result<(), WireError> {
        for field in Fields::new(encoded) {
            let field = field?;
            match field.tag {
                1 => self.hash = field.bytes()?,
                2 => self.size_bytes = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks it.
    pub(crate) fn parse(&self, function: DigestFunction) -> Result<Digest, InvalidDigest> {
        Digest::parse(function, self.hash, self.size_bytes)
    }
}

/// An `OutputFile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputFile<'a> {
    /// Where it belongs.
    pub(crate) path: &'a [u8],
    /// What it holds.
    pub(crate) digest: Option<RawDigest<'a>>,
    /// What it holds, inlined; empty when it is not.
    pub(crate) contents: &'a [u8],
}

impl<'a> OutputFile<'a> {
    /// Reads an encoded one.
    pub(crate) fn decode(encoded: &'a [u8]) -> Result<Self, WireError> {
        let mut file = Self::default();
        for field in Fields::new(encoded) {
            let field = field?;
            match field.tag {
                1 => file.path = field.bytes()?,
                2 => RawDigest::merge_into(&mut file.digest, field.bytes()?)?,
                tag::OUTPUT_FILE_CONTENTS => file.contents = field.bytes()?,
                _ => {}
            }
        }
        Ok(file)
    }
}

/// An `OutputDirectory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputDirectory<'a> {
    /// Where it belongs.
    pub(crate) path: &'a [u8],
    /// Everything below it as one `Tree`.
    pub(crate) tree_digest: Option<RawDigest<'a>>,
    /// Its own `Directory`.
    pub(crate) root_directory_digest: Option<RawDigest<'a>>,
}

impl<'a> OutputDirectory<'a> {
    /// Reads an encoded one.
    pub(crate) fn decode(encoded: &'a [u8]) -> Result<Self, WireError> {
        let mut directory = Self::default();
        for field in Fields::new(encoded) {
            let field = field?;
            let slot = match field.tag {
                1 => {
                    directory.path = field.bytes()?;
                    continue;
                }
                3 => &mut directory.tree_digest,
                5 => &mut directory.root_directory_digest,
                _ => continue,
            };
            RawDigest::merge_into(slot, field.bytes()?)?;
        }
        Ok(directory)
    }
}

/// An `OutputSymlink`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputSymlink<'a> {
    /// Where it belongs.
    pub(crate) path: &'a [u8],
    /// What it points at.
    pub(crate) target: &'a [u8],
}

impl<'a> OutputSymlink<'a> {
    /// Reads an encoded one.
    pub(crate) fn decode(encoded: &'a [u8]) -> Result<Self, WireError> {
        let mut symlink = Self::default();
        for field in Fields::new(encoded) {
            let field = field?;
            match field.tag {
                1 => symlink.path = field.bytes()?,
                2 => symlink.target = field.bytes()?,
                _ => {}
            }
        }
        Ok(symlink)
    }
}

/// One of the two output streams of an `ActionResult`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream<'a> {
    /// What was written to it.
    pub(crate) digest: Option<RawDigest<'a>>,
    /// The same, inlined; empty when it is not.
    pub(crate) raw: &'a [u8],
}

/// Both output streams of an `ActionResult`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams<'a> {
    /// Standard output.
    pub(crate) stdout: Stream<'a>,
    /// Standard error.
    pub(crate) stderr: Stream<'a>,
}

impl<'a> Streams<'a> {
    /// Takes in a field of the result, if it concerns a stream.
    pub(crate) fn merge(&mut self, field: &Field<'a>) -> Result<(), WireError> {
        match field.tag {
            tag::STDOUT_RAW => self.stdout.raw = field.bytes()?,
            tag::STDERR_RAW => self.stderr.raw = field.bytes()?,
            tag::STDOUT_DIGEST => RawDigest::merge_into(&mut self.stdout.digest, field.bytes()?)?,
            tag::STDERR_DIGEST => RawDigest::merge_into(&mut self.stderr.digest, field.bytes()?)?,
            _ => {}
        }
        Ok(())
    }
}

/// What an entry of a `Directory` names. A missing digest is a default one, which no blob has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node<'a> {
    /// A file's content.
    File(RawDigest<'a>),
    /// A child `Directory`.
    Directory(RawDigest<'a>),
    /// Something that names no blob; reported so that a reader of a hostile message can pause.
    Other,
}

/// The entries of an encoded `Directory`.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryNodes<'a> {
    fields: Fields<'a>,
}

impl<'a> DirectoryNodes<'a> {
    /// The entries of `encoded`.
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { fields: Fields::new(encoded) }
    }

    fn digest(field: &Field<'a>) -> Result<RawDigest<'a>, WireError> {
        let mut digest = None;
        for part in Fields::new(field.bytes()?) {
            let part = part?;
            if part.tag == 2 {
                RawDigest::merge_into(&mut digest, part.bytes()?)?;
            }
        }
        Ok(digest.unwrap_or_default())
    }
}

impl<'a> Iterator for DirectoryNodes<'a> {
    type Item = Result<Node<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = match self.fields.next()? {
            Ok(field) => field,
            Err(error) => return Some(Err(error)),
        };
        Some(match field.tag {
            1 => Self::digest(&field).map(Node::File),
            2 => Self::digest(&field).map(Node::Directory),
            _ => Ok(Node::Other),
        })
    }
}

/// The entries of every `Directory` of an encoded `Tree`.
#[derive(Clone, Debug)]
pub(crate) struct TreeNodes<'a> {
    fields: Fields<'a>,
    directory: DirectoryNodes<'a>,
}

impl<'a> TreeNodes<'a> {
    /// The entries of `encoded`.
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Self { fields: Fields::new(encoded), directory: DirectoryNodes::new(&[]) }
    }
}

impl<'a> Iterator for TreeNodes<'a> {
    type Item = Result<Node<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(node) = self.directory.next() {
            return Some(node);
        }
        let field = match self.fields.next()? {
            Ok(field) => field,
            Err(error) => return Some(Err(error)),
        };
        if matches!(field.tag, 1 | 2) {
            match field.bytes() {
                Ok(encoded) => self.directory = DirectoryNodes::new(encoded),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(Node::Other))
    }
}
