//! Private copies of files, where there can be no link. Blocking.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::place::{CHOSEN_MODE, Place, Work};
use super::{LinkMode, StageError};
use crate::store::filesystem::{CopyBy, PinnedFile};
use crate::trees::directory::FileEntry;
use crate::trees::on_disk::{self, File, Folder};

/// How long a copy may have to wait because another process has a copy of the descriptor that it
/// was written through.
const WRITER_WAIT: Duration = Duration::from_secs(5);
const WRITER_PAUSE: Duration = Duration::from_millis(1);

impl Work {
    /// Makes a private copy, empty without a `source`; false when the blob has left the store.
    pub(super) fn copy_file(
        &self,
        place: &Place,
        entry: &FileEntry,
        source: Option<&PinnedFile>,
    ) -> Result<bool, StageError> {
        let name = entry.name.as_str();
        let created = place.folder.create_file(name, 0o600);
        let file = created.map_err(self.explain("make the file", (place, name)))?;
        let mode = self.mode_of(entry);
        let probe = if mode & 0o111 == 0 { Ok(None) } else { mark(&place.folder, name, &file) };
        let probe = probe.map_err(self.explain("make the executable", (place, name)))?;
        if let Some(source) = source {
            let by = match self.options.link_mode {
                LinkMode::Reflink => CopyBy::Reflink,
                _ => CopyBy::Any,
            };
            let copied = source.copy_to(&file, by);
            let copied =
                copied.map_err(|error| self.explain_store("copy to", (place, name), error));
            if !copied? {
                return Ok(false);
            }
            self.copied.fetch_add(1, Ordering::Relaxed);
        }
        let finished = self.finish_copy(&file, entry, mode);
        finished.map_err(self.explain("finish the file", (place, name)))?;
        // Closed before anybody may run it.
        drop(file);
        let waited = probe.as_ref().map_or(Ok(()), wait_for_writers);
        waited.map_err(self.explain("finish the executable", (place, name)))?;
        Ok(true)
    }

    fn mode_of(&self, entry: &FileEntry) -> u32 {
        let run = if entry.is_executable { 0o111 } else { 0 };
        let mode = entry.properties.unix_mode.unwrap_or(0o444) | run;
        mode & CHOSEN_MODE & 0o777 & !self.options.umask
    }

    fn finish_copy(&self, file: &File, entry: &FileEntry, mode: u32) -> io::Result<()> {
        if self.options.uid.is_some() || self.options.gid.is_some() {
            on_disk::set_owner(file, self.options.uid, self.options.gid)?;
        }
        on_disk::set_mode(file, mode)?;
        entry.properties.mtime.map_or(Ok(()), |mtime| on_disk::set_mtime(file, mtime))
    }
}

/// Marks a file that is about to be written and run; by what is given back it can be told whether
/// anybody can still write to it.
fn mark(folder: &Folder, name: &str, file: &File) -> io::Result<Option<File>> {
    if on_disk::mark_writer(file)? { folder.open_file(name).map(Some) } else { Ok(None) }
}

/// A process that was forked while the file was written has a copy of the descriptor until it
/// runs its program, and until then the kernel does not run the file (`ETXTBSY`).
fn wait_for_writers(probe: &File) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    while on_disk::has_writer(probe)? {
        if waited >= WRITER_WAIT {
            return Err(io::ErrorKind::ExecutableFileBusy.into());
        }
        std::thread::sleep(WRITER_PAUSE);
        waited += WRITER_PAUSE;
    }
    Ok(())
}
