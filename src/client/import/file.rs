//! A file in the directory of a cache, and the bytes of the value it holds.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::ClientError;
use super::super::jobs::Jobs;
use super::super::origin::{Chunks, Readable};
use super::super::tree::joined;
use super::MAX_RESULT_BYTES;
use crate::former::{Casblob, CasblobError, ReadAt};
use crate::shutdown;
use crate::store::filesystem::offline::result_of_file;
use crate::store::{Key, StoreError};
use crate::trees::on_disk::{File, Folder};

/// What is read at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Chunks that are read before they are sent.
const CHUNKS_AHEAD: usize = 2;

/// A file that is opened when its turn comes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    folder: Arc<Folder>,
    /// Of the folder, for messages.
    folder_path: Arc<str>,
    name: OsString,
    form: Form,
}

/// How a file holds a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// Compressed, in chunks.
    Casblob,
    /// An action result with a checksum behind it.
    Sealed(Key),
}

impl Place {
    pub(super) fn new(folder: &Arc<Folder>, folder_path: &str, name: &OsStr, form: Form) -> Self {
        let folder_path = folder_path.into();
        Self { folder: Arc::clone(folder), folder_path, name: name.to_owned(), form }
    }

    /// What it is called, below the root.
    pub(super) fn path(&self) -> String {
        joined(&self.folder_path, &self.name.to_string_lossy())
    }

    fn failed(&self, error: io::Error) -> ClientError {
        ClientError::file("read", self.path(), error)
    }

    fn open_file(&self) -> Result<File, ClientError> {
        self.folder.open_file(&self.name).map_err(|error| self.failed(error))
    }

    /// The bytes of an action result. Blocking.
    pub(super) fn read_result(&self) -> Result<Bytes, ClientError> {
        let mut data = Vec::new();
        let read = self.open_file()?.take(MAX_RESULT_BYTES + 1).read_to_end(&mut data);
        read.map_err(|error| self.failed(error))?;
        let size_bytes = data.len() as u64;
        if size_bytes > MAX_RESULT_BYTES {
            let limit_bytes = MAX_RESULT_BYTES;
            return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
        }
        match &self.form {
            Form::Sealed(key) => {
                let length = result_of_file(key, &data);
                let corrupt = || StoreError::Corrupt { key: key.to_string() };
                data.truncate(length.ok_or_else(corrupt)?);
            }
            // It would be a result of an action that made nothing; a crash makes more of them.
            _ if data.is_empty() => return Err(ClientError::invalid(self.path(), "is empty")),
            Form::Plain | Form::Casblob => {}
        }
        Ok(data.into())
    }

    /// Gives what it holds to `to`, until nobody takes it any more. Blocking.
    fn read(&self, to: &mpsc::Sender<Piece>) -> Result<(), ClientError> {
        let file = self.open_file()?;
        if matches!(self.form, Form::Casblob) {
            return self.decode(file, to);
        }
        loop {
            let mut data = Vec::new();
            let read = (&file).take(CHUNK_BYTES).read_to_end(&mut data);
            read.map_err(|error| self.failed(error))?;
            if data.is_empty() || to.blocking_send(Ok(data.into())).is_err() {
                return Ok(());
            }
        }
    }

    fn decode(&self, file: File, to: &mpsc::Sender<Piece>) -> Result<(), ClientError> {
        let length = file.metadata().map_err(|error| self.failed(error))?.len();
        let file = Positioned(file);
        let decoded = Casblob::open(&file, length).and_then(|casblob| {
            casblob.decode(&file, |data| {
                let sent = to.blocking_send(Ok(Bytes::copy_from_slice(data)));
                sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
            })
        });
        match decoded {
            Err(CasblobError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(CasblobError::Io(error)) => Err(self.failed(error)),
            Err(error) => Err(ClientError::invalid(self.path(), error)),
            Ok(()) => Ok(()),
        }
    }

    /// Begins to read it.
    pub(super) fn chunks(&self, jobs: &Jobs) -> Box<dyn Chunks> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (place, jobs) = (self.clone(), jobs.clone());
        drop(shutdown::spawn("reader of an import", async move {
            let pieces = sender.clone();
            if let Err(error) = jobs.run(move || place.read(&pieces)).await {
                // Nobody waits for it any more when this fails.
                drop(sender.send(Err(error)).await);
            }
        }));
        Box::new(Pieces(receiver))
    }
}

type Piece = Result<Bytes, ClientError>;

/// What a thread reads.
struct Pieces(mpsc::Receiver<Piece>);

#[async_trait]
impl Chunks for Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.0.recv().await.transpose()
    }
}

/// A file and the threads that it is read on.
pub(super) struct PlaceOn<'j> {
    pub(super) place: &'j Place,
    pub(super) jobs: &'j Jobs,
}

#[async_trait]
impl Readable for PlaceOn<'_> {
    async fn open(&self) -> Result<Box<dyn Chunks>, ClientError> {
        Ok(self.place.chunks(self.jobs))
    }
}

struct Positioned(File);

impl ReadAt for Positioned {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}
