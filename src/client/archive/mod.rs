//! The format of an archive of action results: a tar file, see `docs/archive-format.md`.
//!
//! Pure: names and headers. Only plain headers are written and believed; an archive is a
//! stranger's until every byte of it has been checked.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;

use tar::{EntryType, Header};

pub(super) use self::read::{ArchiveReader, Found};
pub(super) use self::write::ArchiveWriter;

use crate::digest::{Digest, DigestFunction, parse_hash, shorten};

/// The name of the first member, which is empty.
const FIRST: &str = "castellan-archive/1";
/// What the first member of any version begins with.
const FIRST_OF_ANY: &str = "castellan-archive/";
/// What headers and the padding of members are made of.
const BLOCK_BYTES: usize = 512;
/// Read-only for everybody: whoever unpacks it has what nobody changes.
const MODE: u32 = 0o444;

type Block = [u8; BLOCK_BYTES];

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// A blob.
    Blob(Digest),
    /// The result of an action; of size 0 where only the hash of the action is known.
    Result(Digest),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, digest) = match self {
            Self::Blob(digest) => ("blobs", digest),
            Self::Result(digest) => ("actions", digest),
        };
        let (function, hash) = (digest.function.name(), digest.hash_hex());
        write!(f, "{folder}/{function}/{}-{}", hash.as_str(), digest.size_bytes)
    }
}

impl Member {
    /// Reads the one spelling of a name; `None` for any other.
    fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let mut parts = name.split('/');
        let (folder, function, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let function = DigestFunction::ALL.into_iter().find(|it| it.name() == function)?;
        let (hash, size) = digest.split_once('-')?;
        let (hash, size) = (parse_hash(function, hash.as_bytes()).ok()?, size.parse::<i64>().ok()?);
        let size_bytes = u64::try_from(size).ok()?;
        let member = match folder {
            "blobs" => Self::Blob(Digest::new(function, hash, size_bytes).ok()?),
            "actions" => Self::Result(Digest { function, hash, size_bytes }),
            _ => return None,
        };
        (member.to_string() == name).then_some(member)
    }
}

/// A header with nothing in it that depends on when and by whom it is made.
fn header(name: &str, size_bytes: u64) -> Option<Block> {
    let mut header = Header::new_ustar();
    header.set_path(name).ok()?;
    header.set_size(size_bytes);
    header.set_entry_type(EntryType::Regular);
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Some(*header.as_bytes())
}

/// What fills the last block of a member.
fn padding(size_bytes: u64) -> usize {
    let used = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or_default();
    if used == 0 { 0 } else { BLOCK_BYTES - used }
}

/// What a header says.
#[derive(Debug)]
struct Described {
    name: Vec<u8>,
    kind: EntryType,
    size_bytes: u64,
}

impl Described {
    /// Reads a header whose checksum is right.
    fn read(block: &Block) -> Result<Self, &'static str> {
        let header = Header::from_byte_slice(block);
        let sum = block.iter().enumerate();
        // The field of the checksum counts as spaces.
        let sum =
            sum.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
        if header.cksum().ok() != Some(sum.sum()) {
            return Err("a header is none or damaged");
        }
        let size_bytes = header.entry_size().map_err(|_| "the size of a member is none")?;
        if i64::try_from(size_bytes).is_err() {
            return Err("the size of a member is none");
        }
        Ok(Self { name: header.path_bytes().into_owned(), kind: header.entry_type(), size_bytes })
    }

    /// What it is, or why it is not taken.
    fn member(&self) -> Result<Member, String> {
        match self.kind {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory => return Err("is a directory".to_owned()),
            EntryType::Symlink | EntryType::Link => return Err("is a link".to_owned()),
            EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | EntryType::XGlobalHeader => {
                return Err("is an extension of tar that no such archive has".to_owned());
            }
            _ => return Err("is no file".to_owned()),
        }
        Member::parse(&self.name).ok_or_else(|| "has a name that nothing here has".to_owned())
    }

    /// Its name for messages.
    fn shown(&self) -> String {
        shorten(&String::from_utf8_lossy(&self.name))
    }
}
