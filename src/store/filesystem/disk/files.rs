//! Files that hold values: made without a name, named once, read, unlinked.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Advice, AtFlags, CWD, FlockOperation, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::faults::Steps;
use super::{Call, Disk, Look, Moment, TEMP_DIRECTORY, allocated};

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// The outcome of something that may not wait for the disk.
#[derive(Debug)]
pub(in crate::store::filesystem) enum Cached<T> {
    /// Everything that it took was in memory.
    Done(T),
    /// Something was not: try again where waiting is allowed.
    WouldWait,
}

/// What may be done with a file that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::filesystem) enum FileMode {
    /// It is read.
    Blob,
    /// It is read and run.
    Executable,
}

impl FileMode {
    pub(super) fn raw(self) -> RawMode {
        match self {
            Self::Blob => 0o444,
            Self::Executable => 0o555,
        }
    }
}

/// A file that has no name yet, or a temporary one.
#[derive(Debug)]
pub(in crate::store::filesystem) struct UnnamedFile {
    pub(super) file: File,
    /// The name in [`TEMP_DIRECTORY`] where `O_TMPFILE` is missing.
    temp_path: Option<String>,
    root: Arc<OwnedFd>,
    pub(super) steps: Steps,
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.temp_path
            && self.steps.step(Call::Unlink).is_ok()
        {
            // Litter of a failed unlink is collected at the next start.
            let _ = rustix::fs::unlinkat(&*self.root, path, AtFlags::empty());
        }
    }
}

impl UnnamedFile {
    pub(super) fn of(file: File, root: Arc<OwnedFd>, steps: Steps) -> Self {
        Self { file, temp_path: None, root, steps }
    }

    /// Writes all of `data` at `offset`. After a failure the same may be tried again.
    pub(in crate::store::filesystem) fn write_at(
        &self,
        data: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        self.steps.write(Call::Write, data, |part| write_all_at(&self.file, part, offset))
    }

    /// Takes over the bytes of another file by sharing its blocks; says whether the file system
    /// can do that here. Nothing has changed where it cannot.
    pub(in crate::store::filesystem) fn clone_from(&self, source: &ReadFile) -> io::Result<bool> {
        source.clone_to(self.file.as_fd())
    }

    /// Puts the file's bytes on the disk.
    pub(in crate::store::filesystem) fn sync(&self) -> io::Result<()> {
        self.steps.step(Call::SyncFile)?;
        Ok(rustix::fs::fsync(&self.file)?)
    }

    /// Marks the file as open for writing until the last copy of this descriptor is closed, those
    /// that child processes inherited included. See [`Disk::has_writer`].
    pub(in crate::store::filesystem) fn mark_writer(&self) -> io::Result<()> {
        self.steps.step(Call::Lock)?;
        Ok(rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)?)
    }

    /// Bytes that the complete file takes. A file system may have allocated ahead of the writer;
    /// what is behind the end is given back.
    pub(in crate::store::filesystem) fn settled_bytes(
        &self,
        len_bytes: u64,
        expected_bytes: u64,
    ) -> io::Result<u64> {
        self.steps.step(Call::Stat)?;
        let bytes = allocated(&rustix::fs::fstat(&self.file)?)?;
        if bytes <= expected_bytes {
            return Ok(bytes);
        }
        rustix::fs::ftruncate(&self.file, len_bytes)?;
        allocated(&rustix::fs::fstat(&self.file)?)
    }

    /// Another descriptor of the same open file, such as a child process inherits.
    #[cfg(test)]
    pub(in crate::store::filesystem) fn inherited(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// A file that is open for reading.
#[derive(Debug)]
pub(in crate::store::filesystem) struct ReadFile {
    pub(super) file: File,
    look: Look,
    pub(super) steps: Steps,
}

impl ReadFile {
    pub(super) fn new(file: File, look: Look, steps: Steps) -> Self {
        Self { file, look, steps }
    }

    /// Its length when it was opened.
    pub(in crate::store::filesystem) fn len_bytes(&self) -> u64 {
        self.look.len_bytes
    }

    /// What it looked like when it was opened.
    pub(in crate::store::filesystem) fn look(&self) -> &Look {
        &self.look
    }

    /// Reads at `offset` only what is in memory already.
    pub(in crate::store::filesystem) fn read_cached(
        &self,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<Cached<usize>> {
        self.steps.step(Call::Read)?;
        let mut parts = [io::IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Cached::Done(read)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
                Ok(Cached::WouldWait)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fills `buffer` from `offset` on, short only at the end of the file. May wait for the disk.
    pub(in crate::store::filesystem) fn read_full(
        &self,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.steps.step(Call::Read)?;
        read_full_at(&self.file, buffer, offset)
    }

    /// Shares its blocks with another file, from the beginning on; says whether the file system can
    /// do that here. Nothing has changed where it cannot.
    pub(in crate::store::filesystem) fn clone_to(&self, to: BorrowedFd<'_>) -> io::Result<bool> {
        self.steps.step(Call::Clone)?;
        match rustix::fs::ioctl_ficlone(to, &self.file) {
            Ok(()) => Ok(true),
            Err(error) if is_beyond(error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies its first `len_bytes` bytes to the beginning of another file; false when it does not
    /// have as many.
    pub(in crate::store::filesystem) fn copy_to(
        &self,
        to: BorrowedFd<'_>,
        len_bytes: u64,
    ) -> io::Result<bool> {
        self.steps.step(Call::Read)?;
        let mut done = 0;
        while done < len_bytes {
            let rest = usize::try_from(len_bytes - done).unwrap_or(usize::MAX);
            let (mut from, mut at) = (done, done);
            let copied =
                rustix::fs::copy_file_range(&self.file, Some(&mut from), to, Some(&mut at), rest);
            match copied {
                Ok(0) => return Ok(false),
                Ok(copied) => done += copied as u64,
                Err(Errno::INTR) => {}
                Err(error) if is_beyond(error) => return self.copy_piecewise(to, done, len_bytes),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The same through this process, from `done` on.
    fn copy_piecewise(
        &self,
        to: BorrowedFd<'_>,
        mut done: u64,
        len_bytes: u64,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; COPY_BYTES];
        while done < len_bytes {
            let rest = usize::try_from(len_bytes - done).unwrap_or(usize::MAX);
            let space = buffer.get_mut(..rest.min(COPY_BYTES)).unwrap_or_default();
            let read = read_full_at(&self.file, space, done)?;
            if read == 0 {
                return Ok(false);
            }
            write_all_at(to, space.get(..read).unwrap_or_default(), done)?;
            done += read as u64;
        }
        Ok(true)
    }

    /// Tells the kernel to forget the file's pages, so that the next read is one of the disk.
    /// Pages that are not on the disk yet stay.
    pub(in crate::store::filesystem) fn drop_cached(&self) -> io::Result<()> {
        self.steps.step(Call::Forget)?;
        Ok(rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }
}

impl Disk {
    /// Whether a file can be made without a name and given one later.
    pub(super) fn probe_unnamed_files(&self) -> io::Result<()> {
        const PROBE: &str = "PROBE";
        // What comes of removing it is not asked: a name that stays is a foreign file.
        drop(self.unlink(PROBE));
        let probed = self.open_unnamed_in_root(FileMode::Blob);
        let linked = probed.and_then(|file| self.link(&file, PROBE));
        drop(self.unlink(PROBE));
        linked
    }

    /// A new file, read-only from the start, that no name leads to (I5).
    pub(in crate::store::filesystem) fn create(&self, mode: FileMode) -> io::Result<UnnamedFile> {
        if self.has_unnamed_files {
            return self.open_unnamed_in_root(mode);
        }
        self.step(Call::Create)?;
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let path = format!("{TEMP_DIRECTORY}/{number}");
        let file = rustix::fs::openat(
            &*self.root,
            &path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(mode.raw()),
        )?;
        Ok(self.unnamed(file, Some(path)))
    }

    fn open_unnamed_in_root(&self, mode: FileMode) -> io::Result<UnnamedFile> {
        self.step(Call::Create)?;
        let file = rustix::fs::openat(
            &*self.root,
            ".",
            OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode.raw()),
        )?;
        Ok(self.unnamed(file, None))
    }

    fn unnamed(&self, file: OwnedFd, temp_path: Option<String>) -> UnnamedFile {
        let (root, steps) = (Arc::clone(&self.root), self.steps.clone());
        UnnamedFile { file: file.into(), temp_path, root, steps }
    }

    /// Gives the file its name. Fails rather than replace another file (I6).
    pub(in crate::store::filesystem) fn link(
        &self,
        file: &UnnamedFile,
        path: &str,
    ) -> io::Result<()> {
        self.step(Call::Link)?;
        if let Some(temp) = &file.temp_path {
            let (root, empty) = (&*self.root, AtFlags::empty());
            rustix::fs::linkat(root, temp, root, path, empty)?;
            return Ok(());
        }
        if self.links_descriptors {
            rustix::fs::linkat(&file.file, "", &*self.root, path, AtFlags::EMPTY_PATH)?;
            return Ok(());
        }
        let own = format!("/proc/self/fd/{}", file.file.as_fd().as_raw_fd());
        rustix::fs::linkat(CWD, &own, &*self.root, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    }

    /// Gives a file of the store another name outside of it. Fails rather than replace a file
    /// there, follows no link.
    pub(in crate::store::filesystem) fn link_out(
        &self,
        path: &str,
        target: &Path,
    ) -> io::Result<()> {
        self.step(Call::Link)?;
        Ok(rustix::fs::linkat(&*self.root, path, CWD, target, AtFlags::empty())?)
    }

    /// The same into a directory that is open.
    pub(in crate::store::filesystem) fn link_out_at(
        &self,
        path: &str,
        directory: BorrowedFd<'_>,
        name: &str,
    ) -> io::Result<()> {
        self.step(Call::Link)?;
        Ok(rustix::fs::linkat(&*self.root, path, directory, name, AtFlags::empty())?)
    }

    /// Removes a name; a name that is gone already counts as removed.
    pub(in crate::store::filesystem) fn unlink(&self, path: &str) -> io::Result<()> {
        self.step(Call::Unlink)?;
        match rustix::fs::unlinkat(&*self.root, path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading; `None` when there is none. May wait for the disk.
    pub(in crate::store::filesystem) fn open_file(
        &self,
        path: &str,
    ) -> io::Result<Option<ReadFile>> {
        self.step(Call::Open)?;
        self.open_unstepped(path)
    }

    /// The same without a trace in its times, where that is allowed: they say when it was used.
    pub(in crate::store::filesystem) fn open_untouched(
        &self,
        path: &str,
    ) -> io::Result<Option<ReadFile>> {
        self.step(Call::Open)?;
        let flags = open_flags() | OFlags::NOATIME;
        match rustix::fs::openat(&*self.root, path, flags, Mode::empty()) {
            // Another user's.
            Err(Errno::PERM) => self.open_unstepped(path),
            outcome => self.opened(outcome),
        }
    }

    /// The same, as a part of another call.
    pub(super) fn open_unstepped(&self, path: &str) -> io::Result<Option<ReadFile>> {
        self.opened(rustix::fs::openat(&*self.root, path, open_flags(), Mode::empty()))
    }

    /// The same, if the kernel has the path in memory.
    pub(in crate::store::filesystem) fn open_file_cached(
        &self,
        path: &str,
    ) -> io::Result<Cached<Option<ReadFile>>> {
        self.step(Call::Open)?;
        let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&*self.root, path, open_flags(), Mode::empty(), resolve) {
            // Not in memory, or a kernel before 5.12, which knows no such question.
            Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(Cached::WouldWait),
            outcome => self.opened(outcome).map(Cached::Done),
        }
    }

    /// What an attempt to open a value's file means.
    fn opened(&self, outcome: Result<OwnedFd, Errno>) -> io::Result<Option<ReadFile>> {
        let file = match outcome {
            Ok(file) => file,
            // A link planted at the name is not the file that was stored there.
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        let Some(look) = Look::of(&stat) else { return Ok(None) };
        Ok(Some(ReadFile { file: file.into(), look, steps: self.steps.clone() }))
    }

    /// Whether some process still has a file open for writing that was made with
    /// [`UnnamedFile::mark_writer`]: this one, or a child that was being started meanwhile. Until
    /// then the file cannot be run (`ETXTBSY`).
    pub(in crate::store::filesystem) fn has_writer(&self, path: &str) -> io::Result<bool> {
        self.step(Call::Lock)?;
        let file = rustix::fs::openat(&*self.root, path, open_flags(), Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// When the bytes of a file, or the names in a directory, last changed.
    pub(in crate::store::filesystem) fn changed_at(&self, path: &str) -> io::Result<Moment> {
        self.step(Call::Stat)?;
        let stat = rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Moment { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec })
    }

    /// Whether anything has this name.
    pub(in crate::store::filesystem) fn exists(&self, path: &str) -> io::Result<bool> {
        self.step(Call::Stat)?;
        match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn open_flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK
}

/// Whether the kernel cannot do that at all: not with this file system, not with this pair of
/// files, not in this version, not in this sandbox.
fn is_beyond(error: Errno) -> bool {
    let beyond = [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS];
    beyond.contains(&error) || error == Errno::PERM
}

/// Writes all of `data` at `offset` of a file outside of the store.
pub(in crate::store::filesystem) fn write_out(
    to: BorrowedFd<'_>,
    data: &[u8],
    offset: u64,
) -> io::Result<()> {
    write_all_at(to, data, offset)
}

/// Writes all of `data` at `offset`.
pub(super) fn write_all_at(file: impl AsFd, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(&file, data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data = data.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset` on, short only at the end of the file.
pub(super) fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}
