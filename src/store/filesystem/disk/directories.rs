//! Directories: making, removing, listing and measuring them.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Call, Disk, allocated};

/// What is found in a directory: a name and whether it is a regular file.
#[derive(Debug)]
pub(in crate::store::filesystem) struct Found {
    pub(in crate::store::filesystem) name: String,
    pub(in crate::store::filesystem) is_file: bool,
}

fn directory_mode() -> Mode {
    Mode::from_raw_mode(0o700)
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

impl Disk {
    /// Makes sure that a name is a directory itself, not a link to one: the store's files are
    /// never reached through links.
    pub(in crate::store::filesystem) fn require_directory(&self, path: &str) -> io::Result<()> {
        self.step(Call::Stat)?;
        let stat = rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{path} is not a directory")))
    }

    /// Allocated bytes of a name and of everything below it, as `du` counts them. What cannot be
    /// read counts for itself alone.
    pub(in crate::store::filesystem) fn allocated_below(&self, path: &str) -> u64 {
        let mut total = 0;
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            total += self.allocated_at(&path).unwrap_or_default();
            let found = self.list(&path).ok().flatten().unwrap_or_default();
            pending.extend(found.iter().map(|entry| format!("{path}/{}", entry.name)));
        }
        total
    }

    /// Makes a directory unless it is there.
    pub(in crate::store::filesystem) fn make_directory(&self, path: &str) -> io::Result<()> {
        self.step(Call::MakeDirectory)?;
        match rustix::fs::mkdirat(&*self.root, path, directory_mode()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory if it is empty; that it is not, or is gone, is no error.
    pub(in crate::store::filesystem) fn remove_empty_directory(&self, path: &str) {
        let removing = || -> io::Result<()> {
            self.step(Call::RemoveDirectory)?;
            match rustix::fs::unlinkat(&*self.root, path, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        if let Err(error) = removing() {
            tracing::debug!(path, %error, "empty directory not removed");
        }
    }

    /// Bytes that a directory or file itself takes; 0 when it is not there.
    pub(in crate::store::filesystem) fn allocated_at(&self, path: &str) -> io::Result<u64> {
        self.step(Call::Stat)?;
        match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => allocated(&stat),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists a directory; `None` when there is none. Names that are no UTF-8 come out garbled and
    /// so are foreign.
    pub(in crate::store::filesystem) fn list(&self, path: &str) -> io::Result<Option<Vec<Found>>> {
        self.step(Call::List)?;
        list_below(&self.root, path)
    }

    /// Puts the names in a directory on the disk.
    pub(in crate::store::filesystem) fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.step(Call::SyncDirectory)?;
        let directory = rustix::fs::openat(&*self.root, path, directory_flags(), Mode::empty())?;
        Ok(rustix::fs::fsync(&directory)?)
    }
}

/// See [`Disk::list`].
pub(super) fn list_below(root: &OwnedFd, path: &str) -> io::Result<Option<Vec<Found>>> {
    let mut all = Vec::new();
    let add = |found| {
        all.push(found);
        ControlFlow::Continue(())
    };
    Ok(visit_below(root, path, add)?.then_some(all))
}

/// See [`Disk::visit`].
pub(super) fn visit_below(
    root: &OwnedFd,
    path: &str,
    mut visit: impl FnMut(Found) -> ControlFlow<()>,
) -> io::Result<bool> {
    let directory = match rustix::fs::openat(root, path, directory_flags(), Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            let kind = match entry.file_type() {
                // Some file systems do not say; the inode does.
                FileType::Unknown => file_type(&directory, entry.file_name()),
                kind => kind,
            };
            if visit(Found { name, is_file: kind.is_file() }).is_break() {
                break;
            }
        }
    }
    Ok(true)
}

fn file_type(directory: &OwnedFd, name: &std::ffi::CStr) -> FileType {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(_) => FileType::Unknown,
    }
}
