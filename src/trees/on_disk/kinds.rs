//! What is in a directory, and what the system knows about it.

use std::ffi::OsString;

use rustix::fs::{FileType, Stat, Statx, StatxFlags};

use crate::trees::directory::ModificationTime;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket or a device.
    Other,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Symlink,
            _ => Self::Other,
        }
    }

    /// What a listing says; some file systems say nothing.
    pub(super) fn of_entry(kind: FileType) -> Option<Self> {
        (kind != FileType::Unknown).then(|| Self::of(kind))
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is called, which may be no UTF-8.
    pub name: OsString,
    /// What it is.
    pub kind: Kind,
}

/// What the system knows about something on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, at most `0o7777`.
    pub mode: u32,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// What its blocks take, in bytes.
    pub allocated_bytes: u64,
    /// Who owns it.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// When it was changed last.
    pub mtime: ModificationTime,
}

/// Which directory it is, whatever it is called. No other one has the same at any time, except on
/// a file system that says of nothing when it was made: there, one that is made after this has gone
/// may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: (u32, u32),
    inode: u64,
    /// When it was made, for numbers are given out again; `None` where that is not known.
    born: Option<(i64, u32)>,
}

impl Identity {
    /// What it is made of.
    pub(super) const FIELDS: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);

    pub(super) fn of(found: &Statx) -> Self {
        let knows_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        Self {
            device: (found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: knows_birth.then_some(born),
        }
    }
}

impl Metadata {
    /// Whether its owner may run it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

impl From<Stat> for Metadata {
    fn from(stat: Stat) -> Self {
        Self {
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
            mode: stat.st_mode & 0o7777,
            size_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            allocated_bytes: u64::try_from(stat.st_blocks).unwrap_or_default() * 512,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_dev,
            inode: stat.st_ino,
            mtime: ModificationTime {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
        }
    }
}
