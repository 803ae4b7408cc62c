//! One file that is downloaded.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::super::ClientError;
use super::{Download, parts};
use crate::digest::{Digest, Hasher};
use crate::trees::directory::{FileEntry, Properties};
use crate::trees::on_disk::{File, Folder, Kind, set_mtime};

/// Files of so many bytes are written in one step.
const ONE_STEP_BYTES: u64 = 1 << 20;
/// What is hashed at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where a file belongs.
#[derive(Clone, Debug)]
pub(in super::super) struct Place {
    folder: Arc<Folder>,
    name: OsString,
    /// For messages.
    path: String,
}

/// How a file is, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Look {
    /// Before the umask.
    mode: u32,
    properties: Properties,
    is_executable: bool,
}

/// A file under a name that nobody else has. Dropping it removes it.
#[derive(Debug)]
pub(in super::super) struct Part {
    place: Place,
    name: String,
    file: File,
    is_placed: bool,
}

impl Place {
    pub(in super::super) fn new(folder: Arc<Folder>, name: OsString, path: String) -> Self {
        Self { folder, name, path }
    }

    fn error(&self, operation: &'static str, error: io::Error) -> ClientError {
        ClientError::file(operation, &self.path, error)
    }

    /// Whether the right bytes are there, and can be run if they are to be. A device and the like
    /// is not replaced.
    fn has(&self, digest: Digest, look: Look) -> Result<bool, ClientError> {
        let Ok(metadata) = self.folder.metadata_of(&self.name) else { return Ok(false) };
        if metadata.kind == Kind::Other {
            return Err(ClientError::unfit(Path::new(&self.path), super::NOT_REPLACED));
        }
        let is_alike = metadata.kind == Kind::File
            && metadata.size_bytes == digest.size_bytes
            && metadata.is_executable() == look.is_executable
            && look.properties == Properties::default();
        if !is_alike {
            return Ok(false);
        }
        let Ok(mut file) = self.folder.open_file(&self.name) else { return Ok(false) };
        let mut hasher = Hasher::new(digest.function);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = file.read(&mut buffer).map_err(|error| self.error("read", error))?;
            match buffer.get(..length) {
                None | Some([]) => return Ok(hasher.finish() == digest.hash),
                Some(data) => hasher.update(data),
            }
        }
    }
}

impl Look {
    pub(in super::super) fn of(entry: Option<&FileEntry>) -> Self {
        let properties = entry.map(|it| it.properties).unwrap_or_default();
        let is_executable = entry.is_some_and(|it| it.is_executable);
        let run = if is_executable { 0o111 } else { 0 };
        // Bits that lend the rights of an owner are not taken from a server.
        let mode = (properties.unix_mode.unwrap_or(0o666) | run) & 0o777;
        Self { mode, properties, is_executable }
    }
}

impl Part {
    pub(in super::super) fn create(place: Place, look: Look) -> Result<Self, ClientError> {
        let made = parts::create(&place.folder, look.mode);
        let (name, file) = made.map_err(|error| place.error("make", error))?;
        Ok(Self { place, name, file, is_placed: false })
    }

    pub(in super::super) fn write(&mut self, data: &[u8]) -> Result<(), ClientError> {
        self.file.write_all(data).map_err(|error| self.place.error("write", error))
    }

    /// Gives it its name.
    pub(in super::super) fn place(mut self, look: Look) -> Result<(), ClientError> {
        if let Some(mtime) = look.properties.mtime {
            set_mtime(&self.file, mtime)
                .map_err(|error| self.place.error("set the time of", error))?;
        }
        let Place { folder, name, .. } = &self.place;
        let renamed = folder.rename(&self.name, folder, name);
        renamed.map_err(|error| self.place.error("rename to", error))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed the next download may sweep away.
            drop(self.place.folder.remove_file(&self.name));
        }
    }
}

impl Download {
    /// Downloads one file; true when it was there already, with the right bytes.
    pub(super) async fn file(
        &self,
        place: Place,
        digest: Digest,
        entry: Option<&FileEntry>,
        may_have: bool,
    ) -> Result<bool, ClientError> {
        let look = Look::of(entry);
        let path = place.path.clone();
        let jobs = &self.client.jobs;
        if may_have {
            let there = place.clone();
            if jobs.run(move || there.has(digest, look)).await? {
                self.progress.skip_bytes(digest.size_bytes);
                self.progress.finish_files(1);
                return Ok(true);
            }
        }
        let fetched = if digest.size_bytes <= ONE_STEP_BYTES {
            self.small(place, digest, look).await
        } else {
            self.large(place, digest, look).await
        };
        fetched.map_err(|error| match error {
            error @ ClientError::File { .. } => error,
            error => error.at(&path),
        })?;
        self.progress.finish_files(1);
        Ok(false)
    }

    async fn small(&self, place: Place, digest: Digest, look: Look) -> Result<(), ClientError> {
        let data = self.client.read(digest).all().await?;
        self.progress.move_bytes(data.len() as u64);
        let job = move || {
            let mut part = Part::create(place, look)?;
            part.write(&data)?;
            part.place(look)
        };
        self.client.jobs.run(job).await
    }

    async fn large(&self, place: Place, digest: Digest, look: Look) -> Result<(), ClientError> {
        let jobs = &self.client.jobs;
        let mut reading = self.client.read(digest);
        let mut part: Option<Part> = None;
        while let Some(chunk) = reading.next().await? {
            let length = chunk.len() as u64;
            let so_far = part.take();
            let place = place.clone();
            part = Some(jobs.run(move || append(so_far, place, look, &chunk)).await?);
            self.progress.move_bytes(length);
        }
        let Some(part) = part else { return Err(ClientError::Absent(digest)) };
        jobs.run(move || part.place(look)).await
    }
}

/// Writes on; the file is made when there is something to write.
fn append(part: Option<Part>, place: Place, look: Look, data: &Bytes) -> Result<Part, ClientError> {
    let mut part = part.map_or_else(|| Part::create(place, look), Ok)?;
    part.write(data)?;
    Ok(part)
}
