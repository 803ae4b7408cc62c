//! Directories of workers and users: the only folder that calls the file system for them.
//!
//! Whoever owns such a directory may change it while it is worked on. So nothing here follows a
//! path: each call takes an open directory and one name in it, and never a symbolic link.

mod kinds;
mod remove;
#[cfg(test)]
mod tests;
mod writers;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, RawMode, ResolveFlags, StatxFlags, Timespec,
    Timestamps, UTIME_OMIT,
};

pub use kinds::{Identity, Kind, Listed, Metadata};
/// A file of a worker or a user.
pub use std::fs::File;
pub use writers::{has_writer, mark_writer};

use super::directory::ModificationTime;
use super::name::Name;

/// Nothing leads out of a directory, and nothing in it leads elsewhere.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `None` where there is nothing, or something else.
fn if_there<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    let none = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::XDEV];
    match opened {
        Err(error) if none.iter().any(|it| error.raw_os_error() == Some(it.raw_os_error())) => {
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// Refuses what is not one component of a path.
fn component(name: &OsStr) -> io::Result<&OsStr> {
    Name::check(name.as_bytes())
        .map_err(|problem| io::Error::new(io::ErrorKind::InvalidInput, problem))?;
    Ok(name)
}

impl Folder {
    /// Opens a directory that the operator or the user names; symbolic links are followed.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        Ok(Self { fd: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// The same, and makes it when it is not there, with all above it.
    pub fn make_root(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::open_root(path)
    }

    /// Opens a directory below this one, by names with `/` between them; "" is this one once more.
    /// Refuses what leads out of it and symbolic links anywhere on the way.
    pub fn open_beneath(&self, relative: &str) -> io::Result<Self> {
        let path = if relative.is_empty() { "." } else { relative };
        Ok(Self { fd: rustix::fs::openat2(&self.fd, path, DIRECTORY, Mode::empty(), BENEATH)? })
    }

    /// The same; `None` when no directory is there.
    pub fn find_beneath(&self, relative: &str) -> io::Result<Option<Self>> {
        if_there(self.open_beneath(relative))
    }

    /// Opens a directory in this one.
    pub fn open_folder(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = component(name.as_ref())?;
        Ok(Self { fd: rustix::fs::openat2(&self.fd, name, DIRECTORY, Mode::empty(), BENEATH)? })
    }

    /// The same directory once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Makes a directory, without those bits of `mode` that the process masks, and opens it.
    pub fn make_folder(&self, name: impl AsRef<OsStr>, mode: RawMode) -> io::Result<Self> {
        let name = component(name.as_ref())?;
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))?;
        self.open_folder(name).inspect_err(|_| drop(self.remove_folder(name)))
    }

    /// Makes a file that is not there yet and opens it for reading and writing.
    pub fn create_file(&self, name: impl AsRef<OsStr>, mode: RawMode) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (name, mode) = (component(name.as_ref())?, Mode::from_raw_mode(mode));
        Ok(rustix::fs::openat2(&self.fd, name, flags, mode, BENEATH)?.into())
    }

    /// Makes a symbolic link, wherever it may lead.
    pub fn symlink(&self, name: impl AsRef<OsStr>, target: &str) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, component(name.as_ref())?)?)
    }

    /// Opens a regular file for reading. What is none is `InvalidInput`; nothing waits for the
    /// other end of a pipe.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = component(name.as_ref())?;
        let fd = rustix::fs::openat2(&self.fd, name, flags, Mode::empty(), BENEATH)?;
        if Metadata::from(rustix::fs::fstat(&fd)?).kind != Kind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
        }
        Ok(fd.into())
    }

    /// The same; `None` when no regular file is there.
    pub fn find_file(&self, name: impl AsRef<OsStr>) -> io::Result<Option<File>> {
        match self.open_file(name) {
            // Something else.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            opened => if_there(opened),
        }
    }

    /// What is in it, in no order; an error when that is more than `at_most`.
    pub fn list(&self, at_most: usize) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        self.visit(|entry| {
            if listed.len() == at_most {
                let problem = format!("has more than {at_most} entries");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
            }
            listed.push(entry);
            Ok(())
        })?;
        Ok(listed)
    }

    /// Goes through what is in it, in no order, until `each` fails.
    pub fn visit(&self, mut each: impl FnMut(Listed) -> io::Result<()>) -> io::Result<()> {
        // A descriptor of its own: a place in the listing is not shared with other callers.
        let mut entries = Dir::read_from(&self.fd)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let name = OsString::from_vec(name.to_vec());
            let kind = match Kind::of_entry(entry.file_type()) {
                Some(kind) => kind,
                None => self.metadata_of(&name)?.kind,
            };
            each(Listed { name, kind })?;
        }
        Ok(())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        match self.list(0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the system knows about this directory.
    pub fn metadata(&self) -> io::Result<Metadata> {
        Ok(rustix::fs::fstat(&self.fd)?.into())
    }

    /// What the system knows about something in it, which is not opened; of a symbolic link itself.
    pub fn metadata_of(&self, name: impl AsRef<OsStr>) -> io::Result<Metadata> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.fd, component(name.as_ref())?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Gives something in it another name, in this or another directory of the same file system.
    /// What has that name already goes, if it is an empty directory or none at all, like `name`.
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &Self,
        new_name: impl AsRef<OsStr>,
    ) -> io::Result<()> {
        let (name, new_name) = (component(name.as_ref())?, component(new_name.as_ref())?);
        Ok(rustix::fs::renameat(&self.fd, name, &to.fd, new_name)?)
    }

    /// Removes a file or a symbolic link.
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn remove_folder(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = component(name.as_ref())?;
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Which directory this is.
    pub fn identity(&self) -> io::Result<Identity> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(Identity::of(&rustix::fs::statx(&self.fd, "", flags, Identity::FIELDS)?))
    }

    /// Which one has a name in it; `None` when no directory has.
    pub fn identity_of(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Identity>> {
        remove::identity_of(self, component(name.as_ref())?)
    }

    /// Whether something can move from here to there in one step.
    pub fn is_on_mount_of(&self, other: &Self) -> io::Result<bool> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let of = |folder: &Self| {
            let found = rustix::fs::statx(&folder.fd, "", flags, StatxFlags::MNT_ID)?;
            io::Result::Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
        };
        Ok(of(self)? == of(other)?)
    }

    /// Locks the directory for as long as this is open; false when another has it locked.
    pub fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the directory with a name, with everything in it, if it is this one; false when it
    /// is another or not there. Nothing of another is touched, whoever moves them meanwhile, nor
    /// what is mounted in it, which is an error.
    pub fn remove_this(&self, name: impl AsRef<OsStr>, identity: &Identity) -> io::Result<bool> {
        remove::remove_this(self, component(name.as_ref())?, identity)
    }

    /// Removes something with everything in it; what is not there is removed. However deep it is,
    /// it takes few descriptors; directories that may not be changed are made so that they may.
    /// What is mounted in it is an error.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        remove::remove_all(self, component(name.as_ref())?)
    }

    /// Gives the directory an owner and a group; `None` leaves them.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        set_owner(self, uid, gid)
    }

    /// Gives something in it an owner and a group; a symbolic link itself.
    pub fn set_owner_of(
        &self,
        name: impl AsRef<OsStr>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let (name, flags) = (component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW);
        Ok(rustix::fs::chownat(&self.fd, name, owner(uid), group(gid), flags)?)
    }

    /// Gives the directory its permission bits.
    pub fn set_mode(&self, mode: RawMode) -> io::Result<()> {
        set_mode(self, mode)
    }

    /// Says when the directory was changed last.
    pub fn set_mtime(&self, mtime: ModificationTime) -> io::Result<()> {
        set_mtime(self, mtime)
    }

    /// Says when something in it was changed last; a symbolic link itself.
    pub fn set_mtime_of(&self, name: impl AsRef<OsStr>, mtime: ModificationTime) -> io::Result<()> {
        let (name, flags) = (component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW);
        Ok(rustix::fs::utimensat(&self.fd, name, &times(mtime), flags)?)
    }
}

fn owner(uid: Option<u32>) -> Option<rustix::fs::Uid> {
    uid.map(rustix::fs::Uid::from_raw)
}

fn group(gid: Option<u32>) -> Option<rustix::fs::Gid> {
    gid.map(rustix::fs::Gid::from_raw)
}

fn times(mtime: ModificationTime) -> Timestamps {
    let last_modification =
        Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

/// Gives an open file or directory an owner and a group; `None` leaves them.
pub fn set_owner(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    Ok(rustix::fs::fchown(file, owner(uid), group(gid))?)
}

/// Gives an open file or directory its permission bits, whatever the process masks.
pub fn set_mode(file: impl AsFd, mode: RawMode) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Says when an open file or directory was changed last.
pub fn set_mtime(file: impl AsFd, mtime: ModificationTime) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}
