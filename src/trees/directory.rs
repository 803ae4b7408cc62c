//! One directory, decoded and checked.

use super::name::Name;
use crate::digest::Digest;

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
