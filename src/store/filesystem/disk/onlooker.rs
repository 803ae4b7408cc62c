//! Looking into a directory that another process may be serving: without its lock, and without
//! changing anything.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::directories::{Found, list_below};

/// No own file that is read as a whole is longer.
const READ_LIMIT_BYTES: u64 = 64 << 20;

/// A root directory that somebody else may have locked.
#[derive(Debug)]
pub(in crate::store::filesystem) struct Onlooker {
    root: OwnedFd,
}

impl Onlooker {
    /// Opens a directory that is there.
    pub(in crate::store::filesystem) fn open(root_path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::openat(CWD, root_path, flags, Mode::empty())? })
    }

    /// Lists a directory; `None` when there is none.
    pub(in crate::store::filesystem) fn list(&self, path: &str) -> io::Result<Option<Vec<Found>>> {
        list_below(&self.root, path)
    }

    /// The length of a file; `None` when there is none.
    pub(in crate::store::filesystem) fn len_bytes(&self, path: &str) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(u64::try_from(stat.st_size).ok()),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an own file; `None` when there is none.
    pub(in crate::store::filesystem) fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = match rustix::fs::openat(&self.root, path, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(READ_LIMIT_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}
