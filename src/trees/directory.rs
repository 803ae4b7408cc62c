//! One directory, decoded and checked.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Buf as _;
use castellan_proto::{protobuf, v2};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, message, skip_field};
use prost::{DecodeError, Message};

use super::name::Name;
use crate::digest::{Digest, DigestFunction, shorten};

/// The longest target of a symbolic link that file systems take, in bytes.
const MAX_TARGET_BYTES: usize = 4_095;
/// The largest entry, in bytes. What an entry may say is much less.
const MAX_ENTRY_BYTES: u64 = 16 << 10;
/// Entries of what is decoded by itself; more than anybody looks at.
const MAX_ENTRIES: u64 = 2_000_000;
/// The highest permission bits.
const MAX_MODE: u32 = 0o7777;
/// Of a `Timestamp`: the first second of the year 1, and the last of the year 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOSECONDS: u32 = 1_000_000_000;

/// Field numbers of `Directory`.
mod tag {
    pub(super) const FILES: u32 = 1;
    pub(super) const DIRECTORIES: u32 = 2;
    pub(super) const SYMLINKS: u32 = 3;
    pub(super) const NODE_PROPERTIES: u32 = 5;
}

/// Why a message is not a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry:?}: {problem}")]
pub struct InvalidDirectory {
    /// The name of the entry that is wrong, cut to a printable length; empty for the directory
    /// itself.
    pub entry: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Entries that may still be decoded, together: in memory each takes many times what it takes in a
/// message.
#[derive(Debug)]
pub struct Allowance {
    at_most: u64,
    taken: AtomicU64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new(MAX_ENTRIES)
    }
}

impl Allowance {
    /// So many.
    pub fn new(at_most: u64) -> Self {
        Self { at_most, taken: AtomicU64::new(0) }
    }

    /// As many as this one had at first.
    pub(super) fn afresh(&self) -> Self {
        Self::new(self.at_most)
    }

    /// Takes one, before there is memory for it.
    pub(super) fn take(&self) -> Result<(), InvalidDirectory> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.at_most {
            return Ok(());
        }
        let problem = format!("there are more than {} entries", self.at_most);
        Err(InvalidDirectory { entry: String::new(), problem })
    }
}

/// A moment, as node properties have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModificationTime {
    /// Since the epoch.
    pub seconds: i64,
    /// Of that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// What a node says of itself besides its content. A file with any is a private copy when staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// When it was changed last.
    pub mtime: Option<ModificationTime>,
    /// Permission bits, at most `0o7777`.
    pub unix_mode: Option<u32>,
}

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// What it is called.
    pub name: Name,
    /// Its bytes.
    pub digest: Digest,
    /// Whether it can be run.
    pub is_executable: bool,
    /// What else is said of it.
    pub properties: Properties,
}

/// A directory in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// What it is called.
    pub name: Name,
    /// Its `Directory` message.
    pub digest: Digest,
}

/// A symbolic link in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkEntry {
    /// What it is called.
    pub name: Name,
    /// Where it leads; not empty, without NUL.
    pub target: Box<str>,
    /// What else is said of it.
    pub properties: Properties,
}

/// A directory whose names are checked, and which has none of them twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Its directories.
    pub directories: Vec<DirectoryEntry>,
    /// Its symbolic links.
    pub symlinks: Vec<SymlinkEntry>,
    /// What is said of itself.
    pub properties: Properties,
}

impl Properties {
    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn read(node: Option<&v2::NodeProperties>) -> Result<Self, String> {
        let Some(node) = node else { return Ok(Self::default()) };
        let mtime = node.mtime.as_ref().map(ModificationTime::read).transpose()?;
        let unix_mode = node.unix_mode.as_ref().map(|mode| mode.value);
        match unix_mode {
            Some(mode) if mode > MAX_MODE => Err(format!("the mode {mode:o} has unknown bits")),
            _ => Ok(Self { mtime, unix_mode }),
        }
    }

    fn write(self) -> Option<v2::NodeProperties> {
        let mtime = self.mtime.map(|it| protobuf::Timestamp {
            seconds: it.seconds,
            nanos: it.nanoseconds.cast_signed(),
        });
        let unix_mode = self.unix_mode.map(|value| protobuf::UInt32Value { value });
        let node = v2::NodeProperties { properties: Vec::new(), mtime, unix_mode };
        (!self.is_empty()).then_some(node)
    }
}

impl ModificationTime {
    fn read(timestamp: &protobuf::Timestamp) -> Result<Self, String> {
        let nanoseconds = u32::try_from(timestamp.nanos).ok().filter(|it| *it < NANOSECONDS);
        match nanoseconds {
            Some(nanoseconds) if TIMESTAMP_SECONDS.contains(&timestamp.seconds) => {
                Ok(Self { seconds: timestamp.seconds, nanoseconds })
            }
            _ => {
                let (seconds, nanos) = (timestamp.seconds, timestamp.nanos);
                Err(format!("{seconds} s and {nanos} ns is no time"))
            }
        }
    }
}

fn read_name(name: &str) -> Result<Name, String> {
    Name::new(name).map_err(|problem| problem.to_string())
}

fn read_digest(function: DigestFunction, digest: Option<&v2::Digest>) -> Result<Digest, String> {
    let digest = digest.ok_or("has no digest")?;
    Digest::parse(function, digest.hash.as_bytes(), digest.size_bytes)
        .map_err(|problem| problem.to_string())
}

fn write_digest(digest: &Digest) -> v2::Digest {
    let hash = digest.hash_hex().as_str().to_owned();
    v2::Digest { hash, size_bytes: digest.size_bytes.cast_signed() }
}

/// Names the entry of a problem with it.
fn naming<T>(name: &str, read: Result<T, String>) -> Result<T, InvalidDirectory> {
    read.map_err(|problem| InvalidDirectory { entry: shorten(name), problem })
}

/// A problem with the message itself.
fn malformed(problem: impl std::fmt::Display) -> InvalidDirectory {
    InvalidDirectory {
        entry: String::new(),
        problem: format!("is no Directory message: {problem}"),
    }
}

impl FileEntry {
    fn read(function: DigestFunction, node: &v2::FileNode) -> Result<Self, String> {
        Ok(Self {
            name: read_name(&node.name)?,
            digest: read_digest(function, node.digest.as_ref())?,
            is_executable: node.is_executable,
            properties: Properties::read(node.node_properties.as_ref())?,
        })
    }

    fn write(&self) -> v2::FileNode {
        v2::FileNode {
            name: self.name.to_string(),
            digest: Some(write_digest(&self.digest)),
            is_executable: self.is_executable,
            node_properties: self.properties.write(),
        }
    }
}

impl DirectoryEntry {
    fn read(function: DigestFunction, node: &v2::DirectoryNode) -> Result<Self, String> {
        let digest = read_digest(function, node.digest.as_ref())?;
        Ok(Self { name: read_name(&node.name)?, digest })
    }

    fn write(&self) -> v2::DirectoryNode {
        v2::DirectoryNode { name: self.name.to_string(), digest: Some(write_digest(&self.digest)) }
    }
}

impl SymlinkEntry {
    fn read(node: &v2::SymlinkNode) -> Result<Self, String> {
        let name = read_name(&node.name)?;
        match node.target.as_bytes() {
            [] => return Err("its target is empty".to_owned()),
            target if target.len() > MAX_TARGET_BYTES => {
                return Err(format!("its target has more than {MAX_TARGET_BYTES} bytes"));
            }
            target if target.contains(&0) => return Err("its target has a NUL in it".to_owned()),
            _ => {}
        }
        let properties = Properties::read(node.node_properties.as_ref())?;
        Ok(Self { name, target: node.target.as_str().into(), properties })
    }

    fn write(&self) -> v2::SymlinkNode {
        v2::SymlinkNode {
            name: self.name.to_string(),
            target: self.target.to_string(),
            node_properties: self.properties.write(),
        }
    }
}

/// Reads one field that is a message, built for a moment only: a hostile one is a hundred times
/// as large in memory as in its encoding.
fn field<M: Message + Default>(
    wire_type: WireType,
    encoded: &mut &[u8],
    into: M,
) -> Result<M, InvalidDirectory> {
    let mut ahead = *encoded;
    let length = decode_varint(&mut ahead).map_err(malformed)?;
    if length > MAX_ENTRY_BYTES {
        return Err(malformed(format!("an entry has more than {MAX_ENTRY_BYTES} bytes")));
    }
    let mut read = into;
    message::merge(wire_type, &mut read, encoded, DecodeContext::default()).map_err(malformed)?;
    Ok(read)
}

impl Directory {
    /// Reads and checks an encoded `Directory` whose digests are of `function`. The order of its
    /// entries is the sender's affair.
    pub fn decode(function: DigestFunction, encoded: &[u8]) -> Result<Self, InvalidDirectory> {
        Self::decode_within(function, encoded, &Allowance::default())
    }

    /// The same for one of several messages that have no more entries than allowed.
    pub fn decode_within(
        function: DigestFunction,
        encoded: &[u8],
        allowance: &Allowance,
    ) -> Result<Self, InvalidDirectory> {
        let mut directory = Self::default();
        let mut properties = v2::NodeProperties::default();
        let mut rest = encoded;
        while rest.has_remaining() {
            let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
            if matches!(tag, tag::FILES | tag::DIRECTORIES | tag::SYMLINKS) {
                allowance.take()?;
            }
            match tag {
                tag::FILES => {
                    let node = field(wire_type, &mut rest, v2::FileNode::default())?;
                    let read = FileEntry::read(function, &node);
                    directory.files.push(naming(&node.name, read)?);
                }
                tag::DIRECTORIES => {
                    let node = field(wire_type, &mut rest, v2::DirectoryNode::default())?;
                    let read = DirectoryEntry::read(function, &node);
                    directory.directories.push(naming(&node.name, read)?);
                }
                tag::SYMLINKS => {
                    let node = field(wire_type, &mut rest, v2::SymlinkNode::default())?;
                    directory.symlinks.push(naming(&node.name, SymlinkEntry::read(&node))?);
                }
                tag::NODE_PROPERTIES => {
                    properties = field(wire_type, &mut rest, properties)?;
                    // Nobody asks for them, and they would add up.
                    properties.properties = Vec::new();
                }
                _ => skip(wire_type, tag, &mut rest).map_err(malformed)?,
            }
        }
        directory.properties = naming("", Properties::read(Some(&properties)))?;
        directory.check_names()?;
        directory.shrink();
        Ok(directory)
    }

    /// The message as REAPI wants it: entries in the order of their names.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = v2::Directory {
            files: self.files.iter().map(FileEntry::write).collect(),
            directories: self.directories.iter().map(DirectoryEntry::write).collect(),
            symlinks: self.symlinks.iter().map(SymlinkEntry::write).collect(),
            node_properties: self.properties.write(),
        };
        message.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        message.directories.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        message.symlinks.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        message.encode_to_vec()
    }

    /// The names of all entries.
    fn names(&self) -> impl Iterator<Item = &Name> {
        let files = self.files.iter().map(|it| &it.name);
        let directories = self.directories.iter().map(|it| &it.name);
        files.chain(directories).chain(self.symlinks.iter().map(|it| &it.name))
    }

    /// The number of its entries.
    pub fn entries(&self) -> usize {
        self.files.len() + self.directories.len() + self.symlinks.len()
    }

    /// About the memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let names: usize = self.names().map(|name| name.as_str().len()).sum();
        let targets: usize = self.symlinks.iter().map(|it| it.target.len()).sum();
        size_of::<Self>()
            + size_of_val(self.files.as_slice())
            + size_of_val(self.directories.as_slice())
            + size_of_val(self.symlinks.as_slice())
            + names
            + targets
    }

    /// No file system has a name twice in one directory.
    fn check_names(&self) -> Result<(), InvalidDirectory> {
        let mut seen = HashSet::with_capacity(self.entries());
        match self.names().find(|name| !seen.insert(*name)) {
            None => Ok(()),
            Some(twice) => {
                naming(twice.as_str(), Err("is the name of another entry, too".to_owned()))
            }
        }
    }

    fn shrink(&mut self) {
        self.files.shrink_to_fit();
        self.directories.shrink_to_fit();
        self.symlinks.shrink_to_fit();
    }
}

fn skip(wire_type: WireType, tag: u32, rest: &mut &[u8]) -> Result<(), DecodeError> {
    skip_field(wire_type, tag, rest, DecodeContext::default())
}
