//! What a file shows of those who have links to it.
//!
//! A link shares its inode, and who may write to that can do so past the store. So the moment of
//! the last change of a file is put to a fixed one before the first link is made: every later
//! write shows.

use std::io;

use rustix::fs::{AtFlags, FileType, Mode, RawMode, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::files::{FileMode, ReadFile, UnnamedFile};
use super::{Call, Disk, Moment};

/// When a file that was stamped has changed last, as it says: the first day of 2000. No build
/// tool finds that strange, and every file system can note it.
const STAMP: Moment = Moment { seconds: 946_684_800, nanoseconds: 0 };
/// The bits of a mode that somebody can change.
const MODE_BITS: RawMode = 0o7777;

/// What a look at a file found that can be changed through a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::filesystem) struct Look {
    pub(in crate::store::filesystem) len_bytes: u64,
    /// Whether it has names besides the store's.
    pub(in crate::store::filesystem) has_other_names: bool,
    mode: RawMode,
    changed_at: Moment,
}

impl Look {
    /// `None` for what is no regular file.
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        FileType::from_raw_mode(stat.st_mode).is_file().then(|| Self {
            len_bytes: u64::try_from(stat.st_size).unwrap_or_default(),
            has_other_names: stat.st_nlink > 1,
            mode: stat.st_mode & MODE_BITS,
            changed_at: Moment { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec },
        })
    }

    /// Whether nothing has been written to it since it was stamped, nor its mode changed.
    pub(in crate::store::filesystem) fn is_as_stamped(&self, mode: FileMode, len: u64) -> bool {
        self.changed_at == STAMP && self.mode == mode.raw() && self.len_bytes == len
    }
}

fn stamps() -> Timestamps {
    let of = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: of(0, UTIME_OMIT), last_modification: of(STAMP.seconds, 0) }
}

impl UnnamedFile {
    /// Stamps it, after the last write.
    pub(in crate::store::filesystem) fn stamp(&self, mode: FileMode) -> io::Result<()> {
        self.steps.step(Call::Stamp)?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode.raw()))?;
        Ok(rustix::fs::futimens(&self.file, &stamps())?)
    }
}

impl ReadFile {
    /// Looks at it as it is now.
    pub(in crate::store::filesystem) fn look_again(&self) -> io::Result<Look> {
        self.steps.step(Call::Stat)?;
        Look::of(&rustix::fs::fstat(&self.file)?).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Stamps it, and gives it back its mode.
    pub(in crate::store::filesystem) fn stamp(&self, mode: FileMode) -> io::Result<()> {
        self.steps.step(Call::Stamp)?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode.raw()))?;
        Ok(rustix::fs::futimens(&self.file, &stamps())?)
    }
}

impl Disk {
    /// Looks at a file without opening it; `None` when there is none.
    pub(in crate::store::filesystem) fn look(&self, path: &str) -> io::Result<Option<Look>> {
        self.step(Call::Stat)?;
        match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Look::of(&stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stamps a blob's file before it is linked out for the first time; says whether there is one.
    pub(in crate::store::filesystem) fn stamp(&self, path: &str) -> io::Result<bool> {
        if !self.makes_exact_modes {
            let opened = self.open_file(path)?;
            return opened.map_or(Ok(false), |file| file.stamp(FileMode::Blob).map(|()| true));
        }
        self.step(Call::Stamp)?;
        match rustix::fs::utimensat(&*self.root, path, &stamps(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the process makes files of the very mode that it asks for. Where the kernel does not
/// say it counts as one that does not.
pub(super) fn makes_exact_modes() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let mask = mask.and_then(|mask| RawMode::from_str_radix(mask.trim(), 8).ok());
    mask.is_some_and(|mask| mask & FileMode::Blob.raw() == 0)
}
