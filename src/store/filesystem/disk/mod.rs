//! The disk: the only folder that calls the file system.
//!
//! Every operation is one step of the store's protocol, blocking, relative to the root's
//! descriptor, and refuses to run under the index lock (I11). Linux-only things stay in here.

mod adopted;
mod directories;
mod faults;
mod files;
mod former;
mod looks;
mod onlooker;
mod own;
#[cfg(not(feature = "shuttle"))]
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

pub(super) use adopted::ForeignFile;
pub(super) use faults::Call;
#[cfg(test)]
#[cfg_attr(feature = "shuttle", expect(unused_imports, reason = "no schedule has faults yet"))]
pub(super) use faults::{Faults, Lasting};
pub(super) use files::{Cached, FileMode, ReadFile, UnnamedFile, write_out};
pub(super) use former::FormerLook;
pub(super) use looks::Look;
pub(super) use onlooker::Onlooker;
pub(super) use own::{OwnWriter, RingFile};

use faults::Steps;

/// Bytes in the unit of `st_blocks`.
const SECTOR_BYTES: u64 = 512;
/// `f_type` of ext4, whose directories never shrink.
const EXT4_MAGIC: i64 = 0xef53;
/// `f_type` of tmpfs, which knows no read that may not wait, and has none that does.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// `STATX_MNT_ID`: the mount's number, which a later mount may get again. Linux 5.8.
const MOUNT_ID: u32 = 0x1000;
/// `STATX_MNT_ID_UNIQUE`: a number that no other mount has had since the machine started. Linux
/// 6.8.
const UNIQUE_MOUNT_ID: u32 = 0x4000;
const LOCK_NAME: &str = "LOCK";
/// Where files begin their life on a file system without `O_TMPFILE`; emptied at every start.
const TEMP_DIRECTORY: &str = "tmp";

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// What this user could still write.
    pub(super) free_bytes: u64,
    /// What all files take, the store's and those of others.
    pub(super) used_bytes: u64,
    /// Files that this user could still make; `u64::MAX` where nobody counts them.
    pub(super) free_inodes: u64,
    /// The allocation unit in bytes.
    pub(super) block_size: u64,
}

/// Which mount in which run of the machine a root is on. One that has changed since a stop that
/// was not clean means that what was not on the disk may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountIdentity {
    /// The kernel's name for this run of the machine; empty when it does not tell.
    pub(super) boot: String,
    /// The kernel's number of the mount; 0 when it does not tell.
    pub(super) mount: u64,
}

/// A root directory that this process has locked.
#[derive(Debug)]
pub(super) struct Disk {
    root: Arc<OwnedFd>,
    root_path: PathBuf,
    lock: OwnedFd,
    has_unnamed_files: bool,
    /// `f_type` of the file system.
    file_system: i64,
    /// Whether a file can be linked by its descriptor alone: the kernel is new enough (6.10) or
    /// the process privileged. Saves a walk through `/proc` for each file.
    links_descriptors: bool,
    /// Whether files are made with the very mode that is asked for.
    makes_exact_modes: bool,
    next_temp: AtomicU64,
    steps: Steps,
}

fn allocated(stat: &rustix::fs::Stat) -> io::Result<u64> {
    u64::try_from(stat.st_blocks)
        .map(|sectors| sectors * SECTOR_BYTES)
        .map_err(|_| io::Error::other("st_blocks is negative"))
}

/// Whether a call failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a hard link failed because the inode has as many as it can have.
pub(super) fn is_out_of_links(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MLINK.raw_os_error())
}

/// A moment as the file system notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    seconds: i64,
    nanoseconds: u64,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl Disk {
    /// Opens or creates the root and locks it against every other process.
    pub(super) fn open(root_path: &Path) -> io::Result<Self> {
        Self::open_stepped(root_path, Steps::default())
    }

    /// The same with something going wrong.
    #[cfg(test)]
    pub(super) fn open_with(root_path: &Path, faults: Arc<Faults>) -> io::Result<Self> {
        Self::open_stepped(root_path, Steps::new(faults))
    }

    fn open_stepped(root_path: &Path, steps: Steps) -> io::Result<Self> {
        steps.step(Call::MakeDirectory)?;
        create_directories(root_path)?;
        steps.step(Call::Open)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Arc::new(rustix::fs::openat(CWD, root_path, flags, Mode::empty())?);
        steps.step(Call::Lock)?;
        let lock = lock(&root)?;
        steps.step(Call::Stat)?;
        let file_system = rustix::fs::fstatfs(&*root)?.f_type;
        let mut disk = Self {
            root,
            root_path: root_path.to_owned(),
            lock,
            has_unnamed_files: true,
            file_system,
            links_descriptors: true,
            makes_exact_modes: looks::makes_exact_modes(),
            next_temp: AtomicU64::new(0),
            steps,
        };
        disk.links_descriptors = disk.probe_unnamed_files().is_ok();
        if !disk.links_descriptors {
            let probed = disk.probe_unnamed_files();
            // Only who could make such a file finds that there is no room for it.
            disk.has_unnamed_files = probed.as_ref().map_or_else(is_full, |()| true);
        }
        if !disk.has_unnamed_files {
            disk.make_directory(TEMP_DIRECTORY)?;
        }
        disk.empty_temp_directory()?;
        disk.remove_unfinished()?;
        Ok(disk)
    }

    /// The same root once more, as one who opens it next finds it, without looking again.
    #[cfg(all(test, feature = "shuttle"))]
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            root: Arc::clone(&self.root),
            root_path: self.root_path.clone(),
            lock: self.lock.try_clone()?,
            has_unnamed_files: self.has_unnamed_files,
            file_system: self.file_system,
            links_descriptors: self.links_descriptors,
            makes_exact_modes: self.makes_exact_modes,
            next_temp: AtomicU64::new(0),
            steps: Steps::default(),
        })
    }

    /// To be called before each call to the file system.
    #[inline]
    pub(super) fn step(&self, call: Call) -> io::Result<()> {
        self.steps.step(call)
    }

    /// What shall go wrong.
    #[cfg(test)]
    pub(super) fn faults(&self) -> &Arc<Faults> {
        self.steps.faults()
    }

    /// Lets other processes have the directory. At once, even while a child that is being started
    /// still holds a copy of the descriptor. No step: a process that ends does it too.
    pub(super) fn unlock(&self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "lock file not released");
        }
    }

    pub(super) fn root_path(&self) -> &Path {
        &self.root_path
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

    /// The path of something below the root for calls that take no descriptor.
    pub(super) fn absolute(&self, path: &str) -> String {
        format!("/proc/self/fd/{}/{path}", self.root.as_raw_fd())
    }

    fn empty_temp_directory(&self) -> io::Result<()> {
        for entry in self.list(TEMP_DIRECTORY)?.unwrap_or_default() {
            self.unlink(&format!("{TEMP_DIRECTORY}/{}", entry.name))?;
        }
        Ok(())
    }

    /// Puts everything written so far on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.step(Call::Sync)?;
        Ok(rustix::fs::syncfs(&*self.root)?)
    }

    /// The room on the file system now.
    pub(super) fn space(&self) -> io::Result<Space> {
        self.step(Call::Stat)?;
        let stat = rustix::fs::fstatvfs(&*self.root)?;
        let unit = stat.f_frsize;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(unit),
            used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(unit),
            free_inodes: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
            block_size: unit.max(SECTOR_BYTES),
        })
    }

    /// Which mount in which run of the machine this is.
    pub(super) fn identity(&self) -> io::Result<MountIdentity> {
        self.step(Call::Stat)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let ask = |number: u32| {
            let wanted = StatxFlags::from_bits_retain(number);
            let stat = rustix::fs::statx(&*self.root, "", AtFlags::EMPTY_PATH, wanted).ok()?;
            (stat.stx_mask & number != 0).then_some(stat.stx_mnt_id)
        };
        let mount = ask(UNIQUE_MOUNT_ID).or_else(|| ask(MOUNT_ID)).unwrap_or_default();
        Ok(MountIdentity { boot: boot.trim_end().to_owned(), mount })
    }

    /// Whether files are in memory, so that no read ever waits for a disk.
    pub(super) fn is_memory(&self) -> bool {
        self.file_system == TMPFS_MAGIC
    }

    /// Whether a directory that had many names takes less once they are gone.
    pub(super) fn directories_shrink(&self) -> bool {
        self.file_system != EXT4_MAGIC
    }
}

fn lock(root: &OwnedFd) -> io::Result<OwnedFd> {
    let lock = rustix::fs::openat(
        root,
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
    Ok(lock)
}

fn create_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
