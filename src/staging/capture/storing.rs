//! What is captured, on its way into the store: only what is missing there.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use super::contents::{Content, Stamp, read_piece};
use super::inventory::{Cursor, Inventory, changed, failed};
use crate::cas::Cas;
use crate::digest::Digest;
use crate::staging::jobs::Jobs;
use crate::staging::{StageError, Stager};
use crate::store::{BeginPut, StoreError, Upload};
use crate::trees::on_disk::File;

/// Digests that are asked about at once.
const BATCH: usize = 1000;
/// Values that are stored at the same time.
const MAX_UPLOADS: usize = 16;
/// What is read at once. A file up to this is stored in one step, given up or not.
const PIECE_BYTES: usize = 1 << 20;

/// A file whose inode the store has now; the worker's name of it is still there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Adopted {
    file: usize,
    inode: (u64, u64),
}

/// Stores the files of one inventory.
#[derive(Debug)]
pub(super) struct FileStoring {
    pub(super) stager: Arc<Stager>,
    /// Whether the store of files may take over those that it is able to.
    pub(super) gives_up_files: bool,
    pub(super) inventory: Arc<Inventory>,
    pub(super) contents: Arc<[Content]>,
    pub(super) cursor: Mutex<Cursor>,
}

/// Stores what of `items` is missing: asks about `digest` of each, then stores some at a time.
async fn store_missing<T, R, F: Future<Output = Result<R, StageError>>>(
    cas: &Cas,
    items: Vec<(Digest, T)>,
    store: impl Fn(Digest, T) -> F,
) -> Result<Vec<R>, StageError> {
    let mut stored = Vec::new();
    let mut items = items.into_iter();
    loop {
        let batch: Vec<_> = items.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(stored);
        }
        let digests: Vec<Digest> = batch.iter().map(|(digest, _)| *digest).collect();
        let missing = cas.find_missing(&digests).await?;
        let absent = batch.into_iter().zip(missing).filter(|(_, is_missing)| *is_missing);
        let uploads: Vec<F> = absent.map(|((digest, item), _)| store(digest, item)).collect();
        let uploads = stream::iter(uploads).buffer_unordered(MAX_UPLOADS);
        stored.append(&mut uploads.try_collect().await?);
    }
}

/// Stores messages.
pub(super) async fn store_messages(
    cas: &Cas,
    messages: Vec<(Digest, Bytes)>,
) -> Result<(), StageError> {
    let store = |digest, encoded| {
        let cas = cas.clone();
        async move { Ok(cas.put(digest, encoded).await?) }
    };
    store_missing(cas, messages, store).await.map(|_: Vec<()>| ())
}

impl FileStoring {
    /// Stores every file that is not there yet, each content once.
    pub(super) async fn store(self: &Arc<Self>) -> Result<Vec<Adopted>, StageError> {
        let mut seen = HashSet::new();
        let distinct = self.contents.iter().enumerate();
        let distinct = distinct.filter(|(_, content)| seen.insert(content.digest));
        let distinct = distinct.map(|(file, content)| (content.digest, file)).collect();
        let store = |digest, file| {
            let this = Arc::clone(self);
            async move { this.store_one(digest, file).await }
        };
        let stored = store_missing(&self.stager.cas, distinct, store).await?;
        Ok(stored.into_iter().flatten().collect())
    }

    async fn store_one(
        self: &Arc<Self>,
        digest: Digest,
        file: usize,
    ) -> Result<Option<Adopted>, StageError> {
        if digest.size_bytes <= PIECE_BYTES as u64 {
            let (_, data) = self.first_piece(digest, file).await?;
            let put = self.stager.cas.put(digest, data).await;
            put.map_err(|error| self.name_file(file, error))?;
            return Ok(None);
        }
        let adopted = self.adopt(digest, file).await?;
        // What was adopted is in the store of files; what stands before it may have to know, and
        // to pass it on.
        if let BeginPut::Upload(upload) = self.stager.cas.begin_upload(digest).await? {
            self.upload(upload, digest, file).await?;
        }
        Ok(adopted)
    }

    /// Has the store take over the inode of a file.
    async fn adopt(
        self: &Arc<Self>,
        digest: Digest,
        file: usize,
    ) -> Result<Option<Adopted>, StageError> {
        // The store's inodes cannot be run. If this capture failed and the worker tried again, it
        // would no longer be known that its file can.
        let is_executable = self.contents.get(file).is_none_or(|content| content.is_executable);
        if !self.gives_up_files || is_executable {
            return Ok(None);
        }
        let this = Arc::clone(self);
        let opened = self.stager.capture_jobs.run(move || {
            let opened = this.open(digest, file)?;
            let stamp = Stamp::of(&opened).map_err(|error| this.failed(file, error))?;
            Ok::<_, StageError>((opened, stamp.inode))
        });
        let (opened, inode) = opened.await??;
        match self.stager.files.adopt(digest, opened).await {
            Ok(is_adopted) => Ok(is_adopted.then_some(Adopted { file, inode })),
            // It was given back; what cannot be taken over may still be copied.
            Err(error @ StoreError::Io { .. }) => {
                tracing::debug!(%error, %digest, "a file is copied that was to be adopted");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn upload(
        self: &Arc<Self>,
        mut upload: Upload,
        digest: Digest,
        at: usize,
    ) -> Result<(), StageError> {
        let (mut file, mut piece) = self.first_piece(digest, at).await?;
        loop {
            let written = upload.write(piece).await;
            written.map_err(|error| self.name_file(at, error))?;
            if upload.written_bytes() >= digest.size_bytes {
                break;
            }
            (file, piece) = self.next_piece(file, digest, at, upload.written_bytes()).await?;
        }
        upload.commit().await.map_err(|error| self.name_file(at, error))
    }

    /// Opens a file and reads the first piece of it, which is all of a small one.
    async fn first_piece(
        self: &Arc<Self>,
        digest: Digest,
        at: usize,
    ) -> Result<(File, Bytes), StageError> {
        let this = Arc::clone(self);
        self.stager
            .capture_jobs
            .run(move || this.read(this.open(digest, at)?, digest, at, 0))
            .await?
    }

    async fn next_piece(
        self: &Arc<Self>,
        file: File,
        digest: Digest,
        at: usize,
        offset: u64,
    ) -> Result<(File, Bytes), StageError> {
        let this = Arc::clone(self);
        self.stager.capture_jobs.run(move || this.read(file, digest, at, offset)).await?
    }

    /// Opens a file that must be as long as it was. Blocking.
    fn open(&self, digest: Digest, at: usize) -> Result<File, StageError> {
        let file = self.cursor.lock().file(at)?;
        let metadata = file.metadata().map_err(|error| self.failed(at, error))?;
        if metadata.len() == digest.size_bytes { Ok(file) } else { Err(self.changed(at)) }
    }

    /// Reads a piece. Blocking.
    fn read(
        &self,
        file: File,
        digest: Digest,
        at: usize,
        offset: u64,
    ) -> Result<(File, Bytes), StageError> {
        let rest = digest.size_bytes.saturating_sub(offset);
        let len = usize::try_from(rest).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES));
        let piece = read_piece(&file, offset, len).map_err(|error| self.failed(at, error))?;
        Ok((file, piece.ok_or_else(|| self.changed(at))?))
    }

    fn changed(&self, file: usize) -> StageError {
        changed(self.inventory.path_of_file(file))
    }

    fn failed(&self, file: usize, error: std::io::Error) -> StageError {
        failed("read", self.inventory.path_of_file(file), error)
    }

    /// What has another hash or size than a moment ago has changed.
    fn name_file(&self, file: usize, error: StoreError) -> StageError {
        match error {
            StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. } => self.changed(file),
            error => error.into(),
        }
    }
}

/// Removes the worker's names of files that the store has taken over. Where that is not possible
/// the store still finds out when somebody writes to them.
pub(super) async fn give_up(jobs: &Jobs, inventory: &Arc<Inventory>, mut adopted: Vec<Adopted>) {
    if adopted.is_empty() {
        return;
    }
    adopted.sort_unstable_by_key(|it| it.file);
    let inventory = Arc::clone(inventory);
    let removed = jobs.run(move || {
        let mut cursor = Cursor::new(&inventory);
        adopted.iter().filter(|it| !remove(&inventory, &mut cursor, it)).count()
    });
    match removed.await {
        Ok(0) => {}
        Ok(left) => tracing::warn!(left, "names of files that a worker gave up are still there"),
        Err(error) => tracing::warn!(%error, "names of files that a worker gave up not removed"),
    }
}

/// Whether a name of a file that was given up is gone.
fn remove(inventory: &Inventory, cursor: &mut Cursor, adopted: &Adopted) -> bool {
    let Some(file) = inventory.files.get(adopted.file) else { return false };
    let Ok(folder) = cursor.folder(file.folder) else { return false };
    let now = folder.metadata_of(&file.name);
    let is_same = now.is_ok_and(|now| (now.device, now.inode) == adopted.inode);
    is_same && folder.remove_file(&file.name).is_ok()
}
