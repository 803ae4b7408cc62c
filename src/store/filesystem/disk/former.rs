//! Files of former servers under the root, or beside it: looking at them and giving them names of
//! the store's.

use std::io;
use std::ops::ControlFlow;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::directories::{Found, visit_below};
use super::files::FileMode;
use super::{Call, Disk, ReadFile, allocated};
use crate::former::ReadAt;
use crate::store::filesystem::index::calendar_stamp;

/// What a look at a name found, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::filesystem) struct FormerLook {
    pub(in crate::store::filesystem) is_file: bool,
    pub(in crate::store::filesystem) len_bytes: u64,
    pub(in crate::store::filesystem) allocated_bytes: u64,
    /// The later of the last read and the last change: seconds since 1970, and nanoseconds.
    used_at: (u64, u64),
    /// Whether it has no other name.
    pub(in crate::store::filesystem) has_one_name: bool,
    /// Whether it is this process's to change.
    pub(in crate::store::filesystem) is_own: bool,
    identity: (u64, u64),
    mode: u32,
}

impl FormerLook {
    /// When it was used last, as a stamp, and not later than `now`, in seconds since 1970.
    pub(in crate::store::filesystem) fn stamp(&self, now: u64) -> u64 {
        let (seconds, nanoseconds) = self.used_at;
        calendar_stamp(seconds.min(now), nanoseconds)
    }

    /// Whether both are names of one file.
    pub(in crate::store::filesystem) fn is_same_file(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Disk {
    /// Looks at a name; `None` when there is none.
    pub(in crate::store::filesystem) fn look_at_former(
        &self,
        path: &str,
    ) -> io::Result<Option<FormerLook>> {
        self.step(Call::Stat)?;
        let stat = match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let user = rustix::process::geteuid();
        let moment = |seconds: i64, nanoseconds| (u64::try_from(seconds).unwrap_or(0), nanoseconds);
        let read_at = moment(stat.st_atime, stat.st_atime_nsec);
        let changed_at = moment(stat.st_mtime, stat.st_mtime_nsec);
        Ok(Some(FormerLook {
            is_file: FileType::from_raw_mode(stat.st_mode).is_file(),
            len_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            allocated_bytes: allocated(&stat)?,
            used_at: read_at.max(changed_at),
            has_one_name: stat.st_nlink == 1,
            is_own: user.is_root() || user.as_raw() == stat.st_uid,
            identity: (stat.st_dev, stat.st_ino),
            mode: stat.st_mode & 0o7777,
        }))
    }

    /// Gives a file of a former server the mode of the store's files; false when it is another
    /// user's.
    pub(in crate::store::filesystem) fn make_read_only(
        &self,
        path: &str,
        look: &FormerLook,
    ) -> io::Result<bool> {
        let mode = FileMode::Blob.raw();
        if look.mode == mode {
            return Ok(true);
        }
        self.step(Call::Stamp)?;
        // By descriptor: a name that was swapped for a link must not lead to another file.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&*self.root, path, flags, Mode::empty());
        let changed = opened.and_then(|file| rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)));
        match changed {
            Ok(()) => Ok(true),
            Err(Errno::PERM | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file one more name. Fails rather than replace another (I6).
    pub(in crate::store::filesystem) fn link_former(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(Call::Link)?;
        Ok(rustix::fs::linkat(&*self.root, from, &*self.root, to, AtFlags::empty())?)
    }

    /// Gives the names in a directory to `visit` one by one, until it has enough; whether there is
    /// such a directory.
    pub(in crate::store::filesystem) fn visit(
        &self,
        path: &str,
        visit: impl FnMut(Found) -> ControlFlow<()>,
    ) -> io::Result<bool> {
        self.step(Call::List)?;
        visit_below(&self.root, path, visit)
    }

    /// Whether names in a directory can be made and removed.
    pub(in crate::store::filesystem) fn is_writable(&self, path: &str) -> bool {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&*self.root, path, access, AtFlags::EACCESS).is_ok()
    }

    /// Whether a name is a directory itself, not a link to one.
    pub(in crate::store::filesystem) fn is_directory(&self, path: &str) -> io::Result<bool> {
        match self.require_directory(path) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl ReadAt for ReadFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_full(buffer, offset)
    }
}
