//! Files of others that become the store's own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Stat, StatxFlags, Timespec, Timestamps, Uid};

use super::faults::Steps;
use super::files::{FileMode, ReadFile, UnnamedFile};
use super::{Call, Disk, Look, allocated};

/// `O_ACCMODE`: whether a descriptor reads, writes or does both.
const ACCESS_MODE: u64 = 3;

/// A file of somebody else, and what it was like.
#[derive(Debug)]
pub(in crate::store::filesystem) struct ForeignFile {
    file: File,
    before: Stat,
    root: Arc<OwnedFd>,
    steps: Steps,
}

impl Disk {
    /// Looks whether a file could become one of the store's: it is of this file system, of so many
    /// bytes, takes no more than `most_bytes`, has one name, and the descriptor is for reading.
    pub(in crate::store::filesystem) fn inspect(
        &self,
        file: OwnedFd,
        len_bytes: u64,
        most_bytes: u64,
    ) -> io::Result<Option<ForeignFile>> {
        self.step(Call::Stat)?;
        let before = rustix::fs::fstat(&file)?;
        let own = rustix::fs::fstat(&*self.root)?;
        let access = rustix::fs::fcntl_getfl(&file)?;
        let has_length =
            Look::of(&before).is_some_and(|it| it.len_bytes == len_bytes && !it.has_other_names);
        let is_fit = has_length
            && before.st_nlink == 1
            && before.st_dev == own.st_dev
            && allocated(&before)? <= most_bytes
            && !access.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::PATH);
        let (root, steps) = (Arc::clone(&self.root), self.steps.clone());
        Ok(is_fit.then(|| ForeignFile { file: file.into(), before, root, steps }))
    }
}

impl ForeignFile {
    /// Makes it this process's and keeps everybody from opening it for writing; false when
    /// somebody has it open for that, or may not be kept from it. Whatever is written to it from
    /// now on, through a mapping too, changes its stamp.
    pub(in crate::store::filesystem) fn take_over(&self) -> io::Result<bool> {
        self.steps.step(Call::Stamp)?;
        let user = rustix::process::geteuid();
        if self.before.st_uid != user.as_raw()
            && rustix::fs::fchown(&self.file, Some(user), None).is_err()
        {
            return Ok(false);
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(FileMode::Blob.raw()))?;
        self.steps.step(Call::List)?;
        if has_visible_writer(&self.file)? {
            return Ok(false);
        }
        // A page that waits to be written can be changed through a mapping without a trace.
        self.steps.step(Call::SyncFile)?;
        rustix::fs::fdatasync(&self.file)?;
        self.read()?.stamp(FileMode::Blob)?;
        Ok(true)
    }

    /// The same file for reading.
    pub(in crate::store::filesystem) fn read(&self) -> io::Result<ReadFile> {
        self.steps.step(Call::Stat)?;
        let look = Look::of(&rustix::fs::fstat(&self.file)?);
        let look = look.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(ReadFile::new(self.file.try_clone()?, look, self.steps.clone()))
    }

    /// The same file as one that wants a name.
    pub(in crate::store::filesystem) fn unnamed(&self) -> io::Result<UnnamedFile> {
        Ok(UnnamedFile::of(self.file.try_clone()?, Arc::clone(&self.root), self.steps.clone()))
    }

    /// Makes it what it was, as far as that can be done.
    pub(in crate::store::filesystem) fn give_back(&self) {
        let before = &self.before;
        let omitted = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let changed_at = Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: i64::try_from(before.st_mtime_nsec).unwrap_or_default(),
        };
        let times = Timestamps { last_access: omitted, last_modification: changed_at };
        let given_back = self.steps.step(Call::Stamp).and_then(|()| {
            rustix::fs::futimens(&self.file, &times)?;
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(before.st_mode & 0o7777))?;
            let owner = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
            Ok(rustix::fs::fchown(&self.file, Some(owner.0), Some(owner.1))?)
        });
        if let Err(error) = given_back {
            tracing::debug!(%error, "a file that was not adopted is not what it was");
        }
    }
}

/// Whether a process that this one can see has a file open for writing. A kernel that is asked
/// for a lease would know better, but only through code that is not safe.
fn has_visible_writer(file: &File) -> io::Result<bool> {
    let identity = |directory: rustix::fd::BorrowedFd<'_>, path: &Path, flags: AtFlags| {
        // Not a word to a server that may not answer.
        let flags = flags | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(directory, path, flags, StatxFlags::INO).ok()?;
        Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
    };
    let own = identity(rustix::fd::AsFd::as_fd(file), Path::new(""), AtFlags::EMPTY_PATH);
    for process in std::fs::read_dir("/proc")?.flatten() {
        // Not a process, over, or none of this user's business.
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let is_it = identity(CWD, &descriptor.path(), AtFlags::empty()) == own;
            if is_it && writes(&process.path().join("fdinfo").join(descriptor.file_name())) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a descriptor is one for writing, by what the kernel says of it; also when it is silent.
fn writes(info: &Path) -> bool {
    // The descriptor has been closed since.
    let Ok(info) = std::fs::read_to_string(info) else { return false };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_none_or(|flags| flags & ACCESS_MODE != 0)
}
