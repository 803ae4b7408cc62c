//! The store's own files: replaced durably, or overwritten in place where nothing can be added.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::faults::Steps;
use super::files::{ReadFile, read_full_at, write_all_at};
use super::{Call, Disk, is_full};

/// The own files that are replaced, by whose names their unfinished successors are found.
const REPLACED_NAMES: [&str; 3] = ["FORMAT", "SNAPSHOT", "REMOVED"];
/// The longest text that is read at once.
const READ_LIMIT_BYTES: u64 = 1 << 20;
/// Bytes that are collected before they are written.
const WRITE_BYTES: usize = 64 << 10;

fn successor(path: &str) -> String {
    format!("{path}.new")
}

fn own_mode() -> Mode {
    Mode::from_raw_mode(0o600)
}

/// The successor of an own file; gone when dropped before [`OwnWriter::commit`].
#[derive(Debug)]
pub(in crate::store::filesystem) struct OwnWriter {
    file: File,
    path: String,
    buffer: Vec<u8>,
    /// Bytes before those in the buffer.
    flushed_bytes: u64,
    is_in_place: bool,
    root: Arc<OwnedFd>,
    steps: Steps,
}

impl Drop for OwnWriter {
    fn drop(&mut self) {
        if !self.is_in_place && self.steps.step(Call::Unlink).is_ok() {
            // Litter of a failed unlink is collected at the next start.
            let _ = rustix::fs::unlinkat(&*self.root, successor(&self.path), AtFlags::empty());
        }
    }
}

impl OwnWriter {
    /// Appends all of `data`. Nothing may follow a failure but the drop.
    pub(in crate::store::filesystem) fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Bytes given to it so far.
    pub(in crate::store::filesystem) fn written_bytes(&self) -> u64 {
        self.flushed_bytes + self.buffer.len() as u64
    }

    /// Puts it in the place of its predecessor, durably: there is one or the other after any
    /// crash.
    pub(in crate::store::filesystem) fn commit(mut self) -> io::Result<()> {
        self.flush()?;
        self.steps.step(Call::SyncFile)?;
        rustix::fs::fsync(&self.file)?;
        self.steps.step(Call::RenameOwn)?;
        rustix::fs::renameat(&*self.root, successor(&self.path), &*self.root, &self.path)?;
        self.is_in_place = true;
        self.steps.step(Call::SyncDirectory)?;
        Ok(rustix::fs::fsync(&*self.root)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        let (file, offset) = (&self.file, self.flushed_bytes);
        let write = |part: &[u8]| write_all_at(file, part, offset);
        self.steps.write(Call::WriteOwn, &self.buffer, write)?;
        self.flushed_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// An own file of fixed size, every block of which is there already: writing to it needs no room.
#[derive(Debug)]
pub(in crate::store::filesystem) struct RingFile {
    file: File,
    len_bytes: u64,
    steps: Steps,
}

impl RingFile {
    /// Writes all of `data` at `offset`; refuses what goes over the end.
    pub(in crate::store::filesystem) fn write_at(
        &self,
        data: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        if offset.saturating_add(data.len() as u64) > self.len_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "over the end of a ring"));
        }
        self.steps.write(Call::WriteRing, data, |part| write_all_at(&self.file, part, offset))
    }

    /// Fills `buffer` from `offset` on, short only at the end.
    pub(in crate::store::filesystem) fn read_at(
        &self,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        self.steps.step(Call::ReadOwn)?;
        read_full_at(&self.file, buffer, offset)
    }
}

impl Disk {
    /// Reads a small file of the store's own; `None` when there is none.
    pub(in crate::store::filesystem) fn read_own(&self, path: &str) -> io::Result<Option<String>> {
        self.step(Call::ReadOwn)?;
        let Some(opened) = self.open_unstepped(path)? else {
            return Ok(None);
        };
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(opened.file, READ_LIMIT_BYTES), &mut text)?;
        Ok(Some(text))
    }

    /// Opens an own file for reading; `None` when there is none.
    pub(in crate::store::filesystem) fn open_own(
        &self,
        path: &str,
    ) -> io::Result<Option<ReadFile>> {
        self.step(Call::ReadOwn)?;
        self.open_unstepped(path)
    }

    /// Replaces a small file of the store's own, durably: it holds the old or the new text after
    /// any crash. Where there is no room for a second file the first is overwritten, which only
    /// the end of the machine can interrupt: its text is one write.
    pub(in crate::store::filesystem) fn write_own(&self, path: &str, text: &str) -> io::Result<()> {
        let replaced = self.begin_own(path).and_then(|mut new| {
            new.write_all(text.as_bytes())?;
            new.commit()
        });
        match replaced {
            Err(error) if is_full(&error) => {
                if self.overwrite_own(path, text)? {
                    tracing::warn!(path, "no room for a second file, overwritten in place");
                    return Ok(());
                }
                Err(error)
            }
            outcome => outcome,
        }
    }

    /// Writes over an own file; says whether there is one. Blank lines take the place of what the
    /// text leaves of the old one, so that no part of that remains whenever this stops.
    fn overwrite_own(&self, path: &str, text: &str) -> io::Result<bool> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        self.step(Call::OverwriteOwn)?;
        let file: File = match rustix::fs::openat(&*self.root, path, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let old_bytes = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
        let old_bytes = usize::try_from(old_bytes.min(READ_LIMIT_BYTES)).unwrap_or_default();
        let mut padded = text.as_bytes().to_vec();
        padded.resize(padded.len().max(old_bytes), b'\n');
        let write = |part: &[u8]| write_all_at(&file, part, 0);
        self.steps.write(Call::OverwriteOwn, &padded, write)?;
        self.step(Call::SyncFile)?;
        rustix::fs::fsync(&file)?;
        Ok(true)
    }

    /// Begins the successor of an own file of any length.
    pub(in crate::store::filesystem) fn begin_own(&self, path: &str) -> io::Result<OwnWriter> {
        self.step(Call::WriteOwn)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&*self.root, successor(path), flags, own_mode())?;
        Ok(OwnWriter {
            file: file.into(),
            path: path.to_owned(),
            buffer: Vec::new(),
            flushed_bytes: 0,
            is_in_place: false,
            root: Arc::clone(&self.root),
            steps: self.steps.clone(),
        })
    }

    /// Removes an own file, durably; it may be gone already.
    pub(in crate::store::filesystem) fn remove_own(&self, path: &str) -> io::Result<()> {
        self.unlink(path)?;
        self.step(Call::SyncDirectory)?;
        Ok(rustix::fs::fsync(&*self.root)?)
    }

    /// Removes what a crash left of unfinished successors.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        REPLACED_NAMES.iter().try_for_each(|name| self.unlink(&successor(name)))
    }

    /// Opens an own file of exactly `len_bytes`, made if missing; what is new in it is zero. Its
    /// blocks are on the disk before this returns.
    pub(in crate::store::filesystem) fn open_ring(
        &self,
        path: &str,
        len_bytes: u64,
    ) -> io::Result<RingFile> {
        self.step(Call::WriteOwn)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file: File = rustix::fs::openat(&*self.root, path, flags, own_mode())?.into();
        let old_bytes = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or_default();
        if old_bytes != len_bytes {
            self.resize_ring(&file, old_bytes, len_bytes)?;
        }
        Ok(RingFile { file, len_bytes, steps: self.steps.clone() })
    }

    fn resize_ring(&self, file: &File, old_bytes: u64, len_bytes: u64) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        if old_bytes > len_bytes {
            rustix::fs::ftruncate(file, len_bytes)?;
        } else {
            // Room first, so that it is all there or the file is not begun; the length last.
            let room = FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(file, room, 0, len_bytes) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            // Written, or each first write would split an extent and need room for that.
            let mut offset = old_bytes;
            while offset < len_bytes {
                let rest = usize::try_from(len_bytes - offset).unwrap_or(usize::MAX);
                let part = ZEROS.get(..rest.min(ZEROS.len())).unwrap_or_default();
                write_all_at(file, part, offset)?;
                offset += part.len() as u64;
            }
        }
        self.step(Call::SyncFile)?;
        rustix::fs::fsync(file)?;
        self.step(Call::SyncDirectory)?;
        Ok(rustix::fs::fsync(&*self.root)?)
    }
}
