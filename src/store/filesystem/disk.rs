//! The disk: the only file that calls the file system.
//!
//! Every operation is one step of the store's protocol, blocking, relative to the root's
//! descriptor, and refuses to run under the index lock (I11). Linux-only things stay in here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::index_cell::assert_not_held;

/// Bytes in the unit of `st_blocks`.
const SECTOR_BYTES: u64 = 512;
/// `f_type` of ext4, whose directories never shrink.
const EXT4_MAGIC: i64 = 0xef53;
/// `f_type` of tmpfs, which knows no read that may not wait, and has none that does.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const LOCK_NAME: &str = "LOCK";
/// Where files begin their life on a file system without `O_TMPFILE`; emptied at every start.
const TEMP_DIRECTORY: &str = "tmp";

/// What is found in a directory: a name and whether it is a regular file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) is_file: bool,
}

/// The outcome of something that may not wait for the disk.
#[derive(Debug)]
pub(super) enum Cached<T> {
    /// Everything that it took was in memory.
    Done(T),
    /// Something was not: try again where waiting is allowed.
    WouldWait,
}

/// A file that has no name yet, or a temporary one.
#[derive(Debug)]
pub(super) struct UnnamedFile {
    file: File,
    /// The name in [`TEMP_DIRECTORY`] where `O_TMPFILE` is missing.
    temp_path: Option<String>,
    root: std::sync::Arc<OwnedFd>,
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.temp_path {
            // Litter of a failed unlink is collected at the next start.
            let _ = rustix::fs::unlinkat(&*self.root, path, AtFlags::empty());
        }
    }
}

impl UnnamedFile {
    /// Appends all of `data`.
    pub(super) fn append(&self, data: &[u8]) -> io::Result<()> {
        assert_not_held();
        io::Write::write_all(&mut &self.file, data)
    }

    /// Bytes that the complete file takes. A file system may have allocated ahead of the writer;
    /// what is behind the end is given back.
    pub(super) fn settled_bytes(&self, len_bytes: u64, expected_bytes: u64) -> io::Result<u64> {
        assert_not_held();
        let bytes = allocated(&rustix::fs::fstat(&self.file)?)?;
        if bytes <= expected_bytes {
            return Ok(bytes);
        }
        rustix::fs::ftruncate(&self.file, len_bytes)?;
        allocated(&rustix::fs::fstat(&self.file)?)
    }
}

/// A root directory that this process has locked.
#[derive(Debug)]
pub(super) struct Disk {
    root: std::sync::Arc<OwnedFd>,
    root_path: PathBuf,
    lock: OwnedFd,
    has_unnamed_files: bool,
    /// `f_type` of the file system.
    file_system: i64,
    /// Whether a file can be linked by its descriptor alone: the kernel is new enough (6.10) or
    /// the process privileged. Saves a walk through `/proc` for each file.
    links_descriptors: bool,
    next_temp: AtomicU64,
}

fn allocated(stat: &rustix::fs::Stat) -> io::Result<u64> {
    u64::try_from(stat.st_blocks)
        .map(|sectors| sectors * SECTOR_BYTES)
        .map_err(|_| io::Error::other("st_blocks is negative"))
}

fn directory_mode() -> Mode {
    Mode::from_raw_mode(0o700)
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl Disk {
    /// Opens or creates the root and locks it against every other process.
    pub(super) fn open(root_path: &Path) -> io::Result<Self> {
        create_directories(root_path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = std::sync::Arc::new(rustix::fs::openat(CWD, root_path, flags, Mode::empty())?);
        let lock = rustix::fs::openat(
            &*root,
            LOCK_NAME,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(0o600),
        )?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == Errno::WOULDBLOCK {
                io::Error::new(io::ErrorKind::ResourceBusy, "another process uses this directory")
            } else {
                error.into()
            }
        })?;
        let file_system = rustix::fs::fstatfs(&*root)?.f_type;
        let mut disk = Self {
            root,
            root_path: root_path.to_owned(),
            lock,
            has_unnamed_files: true,
            file_system,
            links_descriptors: true,
            next_temp: AtomicU64::new(0),
        };
        disk.links_descriptors = disk.probe_unnamed_files();
        disk.has_unnamed_files = disk.links_descriptors || disk.probe_unnamed_files();
        if !disk.has_unnamed_files {
            disk.make_directory(TEMP_DIRECTORY)?;
        }
        disk.empty_temp_directory()?;
        Ok(disk)
    }

    /// Lets other processes have the directory. At once, even while a child that is being started
    /// still holds a copy of the descriptor.
    pub(super) fn unlock(&self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "lock file not released");
        }
    }

    pub(super) fn root_path(&self) -> &Path {
        &self.root_path
    }

    /// Whether a file can be made without a name and given one later.
    fn probe_unnamed_files(&self) -> bool {
        const PROBE: &str = "PROBE";
        let _ = rustix::fs::unlinkat(&*self.root, PROBE, AtFlags::empty());
        let works = self.open_unnamed_in_root().and_then(|file| self.link(&file, PROBE)).is_ok();
        let _ = rustix::fs::unlinkat(&*self.root, PROBE, AtFlags::empty());
        works
    }

    /// Links through `/proc` from now on, as on an older kernel without privileges.
    #[cfg(test)]
    pub(super) fn forget_descriptor_links(&mut self) {
        self.links_descriptors = false;
    }

    /// Uses the temp directory from now on, as on a file system without `O_TMPFILE`.
    #[cfg(test)]
    pub(super) fn forget_unnamed_files(&mut self) -> io::Result<()> {
        self.has_unnamed_files = false;
        self.make_directory(TEMP_DIRECTORY)
    }

    /// A new file, mode 0444 from the start, that no name leads to (I5).
    pub(super) fn create(&self) -> io::Result<UnnamedFile> {
        assert_not_held();
        if self.has_unnamed_files {
            return self.open_unnamed_in_root();
        }
        let number = self.next_temp.fetch_add(1, Ordering::Relaxed);
        let path = format!("{TEMP_DIRECTORY}/{number}");
        let file = rustix::fs::openat(
            &*self.root,
            &path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(0o444),
        )?;
        let root = std::sync::Arc::clone(&self.root);
        Ok(UnnamedFile { file: file.into(), temp_path: Some(path), root })
    }

    fn open_unnamed_in_root(&self) -> io::Result<UnnamedFile> {
        let file = rustix::fs::openat(
            &*self.root,
            ".",
            OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o444),
        )?;
        let root = std::sync::Arc::clone(&self.root);
        Ok(UnnamedFile { file: file.into(), temp_path: None, root })
    }

    /// Gives the file its name. Fails rather than replace another file (I6).
    pub(super) fn link(&self, file: &UnnamedFile, path: &str) -> io::Result<()> {
        assert_not_held();
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

    /// Removes a name; a name that is gone already counts as removed.
    pub(super) fn unlink(&self, path: &str) -> io::Result<()> {
        assert_not_held();
        match rustix::fs::unlinkat(&*self.root, path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading and says how long it is; `None` when there is none. May
    /// wait for the disk.
    pub(super) fn open_file(&self, path: &str) -> io::Result<Option<(File, u64)>> {
        assert_not_held();
        opened(rustix::fs::openat(&*self.root, path, open_flags(), Mode::empty()))
    }

    /// The same, if the kernel has the path in memory.
    pub(super) fn open_file_cached(&self, path: &str) -> io::Result<Cached<Option<(File, u64)>>> {
        assert_not_held();
        let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&*self.root, path, open_flags(), Mode::empty(), resolve) {
            // Not in memory, or a kernel before 5.12, which knows no such question.
            Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(Cached::WouldWait),
            outcome => opened(outcome).map(Cached::Done),
        }
    }

    /// Makes sure that a name is a directory itself, not a link to one: the store's files are
    /// never reached through links.
    pub(super) fn require_directory(&self, path: &str) -> io::Result<()> {
        assert_not_held();
        let stat = rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{path} is not a directory")))
    }

    /// Allocated bytes of a name and of everything below it, as `du` counts them. What cannot be
    /// read counts for itself alone.
    pub(super) fn allocated_below(&self, path: &str) -> u64 {
        let mut total = 0;
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            total += self.allocated_at(&path).unwrap_or_default();
            let found = self.list(&path).ok().flatten().unwrap_or_default();
            pending.extend(found.iter().map(|entry| format!("{path}/{}", entry.name)));
        }
        total
    }

    /// Whether anything has this name.
    pub(super) fn exists(&self, path: &str) -> io::Result<bool> {
        assert_not_held();
        match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The path of something below the root for calls that take no descriptor.
    pub(super) fn absolute(&self, path: &str) -> String {
        format!("/proc/self/fd/{}/{path}", self.root.as_raw_fd())
    }

    /// Makes a directory unless it is there.
    pub(super) fn make_directory(&self, path: &str) -> io::Result<()> {
        assert_not_held();
        match rustix::fs::mkdirat(&*self.root, path, directory_mode()) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a directory if it is empty; that it is not, or is gone, is no error.
    pub(super) fn remove_empty_directory(&self, path: &str) {
        assert_not_held();
        if let Err(error) = rustix::fs::unlinkat(&*self.root, path, AtFlags::REMOVEDIR)
            && !matches!(error, Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT)
        {
            tracing::debug!(path, %error, "empty directory not removed");
        }
    }

    /// Bytes that a directory or file itself takes; 0 when it is not there.
    pub(super) fn allocated_at(&self, path: &str) -> io::Result<u64> {
        assert_not_held();
        match rustix::fs::statat(&*self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => allocated(&stat),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists a directory; `None` when there is none. Names that are no UTF-8 come out garbled and
    /// so are foreign.
    pub(super) fn list(&self, path: &str) -> io::Result<Option<Vec<Found>>> {
        assert_not_held();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = match rustix::fs::openat(&*self.root, path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                let kind = match entry.file_type() {
                    // Some file systems do not say; the inode does.
                    FileType::Unknown => file_type(&directory, entry.file_name()),
                    kind => kind,
                };
                found.push(Found { name, is_file: kind.is_file() });
            }
        }
        Ok(Some(found))
    }

    fn empty_temp_directory(&self) -> io::Result<()> {
        for entry in self.list(TEMP_DIRECTORY)?.unwrap_or_default() {
            self.unlink(&format!("{TEMP_DIRECTORY}/{}", entry.name))?;
        }
        Ok(())
    }

    /// Reads a small file of the store's own; `None` when there is none.
    pub(super) fn read_own(&self, path: &str) -> io::Result<Option<String>> {
        const LIMIT_BYTES: u64 = 4096;
        let Some((file, _)) = self.open_file(path)? else {
            return Ok(None);
        };
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(file, LIMIT_BYTES), &mut text)?;
        Ok(Some(text))
    }

    /// Replaces a small file of the store's own, durably: it holds the old or the new text after
    /// any crash.
    pub(super) fn write_own(&self, path: &str, text: &str) -> io::Result<()> {
        assert_not_held();
        let new = format!("{path}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let mut file: File =
            rustix::fs::openat(&*self.root, &new, flags | OFlags::NOFOLLOW, mode)?.into();
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        rustix::fs::renameat(&*self.root, &new, &*self.root, path)?;
        rustix::fs::fsync(&*self.root)?;
        Ok(())
    }

    /// Puts everything written so far on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        assert_not_held();
        Ok(rustix::fs::syncfs(&*self.root)?)
    }

    /// Bytes that could still be written to the file system.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&*self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether files are in memory, so that no read ever waits for a disk.
    pub(super) fn is_memory(&self) -> bool {
        self.file_system == TMPFS_MAGIC
    }

    /// Whether a directory that had many names takes less once they are gone.
    pub(super) fn directories_shrink(&self) -> bool {
        self.file_system != EXT4_MAGIC
    }

    /// The allocation unit in bytes.
    pub(super) fn block_size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstatvfs(&*self.root)?.f_frsize.max(SECTOR_BYTES))
    }
}

fn open_flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK
}

/// What an attempt to open a value's file means.
fn opened(outcome: Result<OwnedFd, Errno>) -> io::Result<Option<(File, u64)>> {
    let file = match outcome {
        Ok(file) => file,
        // A link planted at the name is not the file that was stored there.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    let is_regular = FileType::from_raw_mode(stat.st_mode).is_file();
    let len = u64::try_from(stat.st_size).unwrap_or_default();
    Ok(is_regular.then(|| (file.into(), len)))
}

fn file_type(directory: &OwnedFd, name: &std::ffi::CStr) -> FileType {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(_) => FileType::Unknown,
    }
}

/// Reads at `offset` only what is in memory already.
pub(super) fn read_cached(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<Cached<usize>> {
    assert_not_held();
    let mut parts = [io::IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => Ok(Cached::Done(read)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(Cached::WouldWait),
        Err(error) => Err(error.into()),
    }
}

/// Fills `buffer` from `offset` on, short only at the end of the file. May wait for the disk.
pub(super) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    assert_not_held();
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

fn create_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
