//! Removing whole directories, however deep and whoever made them.
//!
//! Depth costs no stack, and few descriptors: what is deeper than [`MAX_OPEN`] levels is moved up
//! and removed from there. No path and no `..` is followed, so nothing that is moved meanwhile
//! leads elsewhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags};
use rustix::io::Errno;

use super::{BENEATH, DIRECTORY, Folder, Identity};

/// Directories that are open at once.
const MAX_OPEN: usize = 32;
/// What its owner needs to empty a directory.
const OWNER_ALL: RawMode = 0o700;
/// How often a directory is listed once more because somebody puts something into it.
const MAX_REWINDS: u64 = 100;

/// Nor does a mount point in a directory lead elsewhere: what is mounted there is not part of it.
const INSIDE: ResolveFlags = BENEATH.union(ResolveFlags::NO_XDEV);

/// A directory that is being emptied.
struct Level {
    folder: Folder,
    entries: Dir,
    /// Its name in the level above it.
    name: OsString,
    /// Whether anything has left it since its listing began.
    has_changed: bool,
    /// How often it was listed once more.
    rewinds: u64,
}

impl Level {
    fn open(parent: &Folder, name: &OsStr) -> io::Result<Self> {
        Self::of(open_writable(parent, name)?, name)
    }

    fn of(folder: Folder, name: &OsStr) -> io::Result<Self> {
        let entries = Dir::read_from(&folder.fd)?;
        Ok(Self { folder, entries, name: name.to_owned(), has_changed: false, rewinds: 0 })
    }

    /// The next entry and whether it is known to be a directory.
    fn next(&mut self) -> io::Result<Option<(OsString, bool)>> {
        while let Some(entry) = self.entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let is_folder = entry.file_type() == FileType::Directory;
                return Ok(Some((OsString::from_vec(name.to_vec()), is_folder)));
            }
        }
        Ok(None)
    }
}

/// Opens a directory so that it can be emptied.
fn open_writable(parent: &Folder, name: &OsStr) -> io::Result<Folder> {
    writable(&open_unread(parent, name)?)
}

/// The same for one that is known, whatever has its name by now.
fn writable(known: &Folder) -> io::Result<Folder> {
    let mode = known.metadata()?.mode;
    if mode & OWNER_ALL != OWNER_ALL {
        // By descriptor, so that no link at its name is followed.
        let path = format!("/proc/self/fd/{}", known.fd.as_raw_fd());
        let mode = Mode::from_raw_mode(mode | OWNER_ALL);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())?;
    }
    let fd = rustix::fs::openat2(&known.fd, ".", DIRECTORY, Mode::empty(), INSIDE)?;
    Ok(Folder { fd })
}

/// Opens a directory whatever its mode, for nothing but to know it.
fn open_unread(parent: &Folder, name: &OsStr) -> Result<Folder, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat2(&parent.fd, name, flags, Mode::empty(), INSIDE)?;
    Ok(Folder { fd })
}

/// See [`Folder::identity_of`].
pub(super) fn identity_of(parent: &Folder, name: &OsStr) -> io::Result<Option<Identity>> {
    match open_unread(parent, name) {
        Ok(folder) => folder.identity().map(Some),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is no directory; whether it was none.
fn unlink(parent: &Folder, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// See [`Folder::remove_all`].
pub(super) fn remove_all(parent: &Folder, name: &OsStr) -> io::Result<()> {
    if unlink(parent, name)? {
        return Ok(());
    }
    empty(parent, Level::open(parent, name)?, None).map(drop)
}

/// See [`Folder::remove_this`].
pub(super) fn remove_this(parent: &Folder, name: &OsStr, identity: &Identity) -> io::Result<bool> {
    let known = match open_unread(parent, name) {
        Ok(known) => known,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if known.identity()? != *identity {
        return Ok(false);
    }
    empty(parent, Level::of(writable(&known)?, name)?, Some(identity))
}

/// Removes a directory of `parent` with everything in it; another one that has got its name stays,
/// where it is known which one is meant. False when that has happened at the very end.
fn empty(parent: &Folder, outermost: Level, identity: Option<&Identity>) -> io::Result<bool> {
    let mut levels = vec![outermost];
    let mut moved = 0;
    while let Some(level) = levels.last_mut() {
        let Some((child, is_folder)) = level.next()? else {
            let Some(mut emptied) = levels.pop() else { break };
            let above = levels.last_mut();
            if above.is_none()
                && let Some(identity) = identity
                && identity_of(parent, &emptied.name)?.as_ref() != Some(identity)
            {
                return Ok(false);
            }
            if !remove_emptied(above, parent, &mut emptied, moved)? {
                levels.push(emptied);
            }
            continue;
        };
        level.has_changed = true;
        if !is_folder && unlink(&level.folder, &child)? {
            continue;
        }
        let is_open = levels.len() < MAX_OPEN;
        let done = if is_open {
            let Some(level) = levels.last() else { break };
            Level::open(&level.folder, &child).map(|below| levels.push(below))
        } else {
            move_up(&mut levels, &child, &mut moved)
        };
        match done {
            // Somebody else removes it too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(true)
}

/// Removes a directory after the last of its entries; false when there are some again.
fn remove_emptied(
    above: Option<&mut Level>,
    parent: &Folder,
    emptied: &mut Level,
    moved: u64,
) -> io::Result<bool> {
    let parent = above.map_or(parent, |above| {
        above.has_changed = true;
        &above.folder
    });
    match rustix::fs::unlinkat(&parent.fd, &emptied.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // Something was moved into it, or its listing has passed something over.
        Err(Errno::NOTEMPTY)
            if emptied.has_changed && emptied.rewinds < MAX_REWINDS.saturating_add(moved) =>
        {
            emptied.has_changed = false;
            emptied.rewinds += 1;
            emptied.entries.rewind();
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Moves a directory of the deepest level to the uppermost one.
fn move_up(levels: &mut [Level], child: &OsStr, moved: &mut u64) -> io::Result<()> {
    let [top, .., deepest] = levels else { return Ok(()) };
    // It gets another parent, and so is changed itself.
    drop(open_writable(&deepest.folder, child)?);
    loop {
        let name = format!(".castellan-removed-{moved}");
        *moved += 1;
        match rustix::fs::renameat(&deepest.folder.fd, child, &top.folder.fd, &name) {
            Ok(()) => break,
            // The name is taken.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    top.has_changed = true;
    Ok(())
}
