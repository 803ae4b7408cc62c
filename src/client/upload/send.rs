//! Asking for blobs, and sending those that the server lacks.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::super::origin::{Chunks, Readable};
use super::super::patience::persist;
use super::super::sending::Sending;
use super::super::{ClientError, DIGESTS_PER_QUESTION};
use super::walk::open_deep;
use super::{Counts, Item, Job, Source};
use crate::digest::Digest;
use crate::store::{BlobStore as _, Key, StoreError};
use crate::trees::on_disk::File;

/// Questions, and what follows of them, at once.
const QUESTIONS: usize = 2;
/// Blobs of one question that are sent at once; small ones travel together.
const SENDS: usize = 64;
/// Files of so many bytes are read whole.
const WHOLE_BYTES: u64 = 4 << 20;
/// What is read at once of a larger one.
const CHUNK_BYTES: u64 = 1 << 20;
/// Digests that are remembered to have been asked for: as many as a tree can have that is
/// downloaded.
const MAX_ASKED: usize = 1 << 21;

impl Job {
    /// Sends what comes out of the queue, until it ends.
    pub(super) async fn send_all(
        self: &Arc<Self>,
        queue: mpsc::Receiver<Item>,
    ) -> Result<(), ClientError> {
        let batches = stream::unfold(queue, |mut queue| async move {
            let mut batch = Vec::new();
            let count = queue.recv_many(&mut batch, DIGESTS_PER_QUESTION).await;
            (count > 0).then_some((batch, queue))
        });
        let sending = batches.map(|batch| Arc::clone(self).send_batch(batch));
        sending.buffer_unordered(QUESTIONS).try_collect::<()>().await
    }

    async fn send_batch(self: Arc<Self>, batch: Vec<Item>) -> Result<(), ClientError> {
        let batch = self.new_ones(batch);
        let digests: Vec<Digest> = batch.iter().map(|item| item.digest).collect();
        let missing = self.client.find_missing(&digests).await?;
        let mut wanted = Vec::new();
        for (item, is_missing) in batch.into_iter().zip(missing) {
            if is_missing {
                let job = Arc::clone(&self);
                wanted.push(async move { job.send(item).await });
            } else {
                self.done_without(&item);
            }
        }
        stream::iter(wanted).buffer_unordered(SENDS).try_collect::<()>().await
    }

    /// Leaves out what was asked for before.
    fn new_ones(&self, batch: Vec<Item>) -> Vec<Item> {
        let mut asked = self.asked.lock();
        if asked.len() >= MAX_ASKED {
            *asked = HashSet::new();
        }
        let (new, known): (Vec<Item>, Vec<Item>) =
            batch.into_iter().partition(|item| asked.insert(item.digest));
        drop(asked);
        for item in &known {
            self.done_without(item);
        }
        new
    }

    fn done_without(&self, item: &Item) {
        if let Source::File { .. } = item.source {
            self.progress.skip_bytes(item.digest.size_bytes);
            self.progress.finish_files(1);
        }
    }

    async fn send(self: Arc<Self>, item: Item) -> Result<(), ClientError> {
        let Item { digest, source } = item;
        let size_bytes = digest.size_bytes;
        let _turn = self.in_flight.turn(size_bytes).await?;
        let is_sent = match source {
            Source::Bytes(data) => {
                self.put(digest, data).await?;
                true
            }
            Source::File { path } => {
                let is_sent = self.send_file(digest, &path).await?;
                self.progress.finish_files(1);
                is_sent
            }
        };
        if is_sent {
            Counts::add(&self.counts.sent_blobs, 1);
            Counts::add(&self.counts.sent_bytes, size_bytes);
        }
        Ok(())
    }

    async fn put(&self, digest: Digest, data: Bytes) -> Result<(), ClientError> {
        let key = Key::blob(digest);
        Ok(persist(|| self.client.blobs.put(&key, data.clone())).await?)
    }

    /// Sends a file; false when somebody else has meanwhile.
    async fn send_file(self: &Arc<Self>, digest: Digest, path: &str) -> Result<bool, ClientError> {
        let sent = if digest.size_bytes <= WHOLE_BYTES {
            self.send_whole(digest, path).await.map(|()| true)
        } else {
            self.send_parts(digest, path).await
        };
        sent.map_err(|error| match error {
            ClientError::Store(
                StoreError::HashMismatch { .. } | StoreError::SizeMismatch { .. },
            ) => ClientError::Changed(self.shown(path)),
            error @ ClientError::File { .. } => error,
            error => error.at(path),
        })
    }

    async fn send_whole(self: &Arc<Self>, digest: Digest, path: &str) -> Result<(), ClientError> {
        let (job, opened) = (Arc::clone(self), path.to_owned());
        let read = move || {
            let file = job.open(&opened)?;
            // One more than there should be shows that it has grown.
            job.read(&file, &opened, digest.size_bytes.saturating_add(1))
        };
        let data = self.client.jobs.run(read).await?;
        self.put(digest, data).await?;
        self.progress.move_bytes(digest.size_bytes);
        Ok(())
    }

    async fn send_parts(self: &Arc<Self>, digest: Digest, path: &str) -> Result<bool, ClientError> {
        let sending = Sending { client: &self.client, progress: &self.progress, pace: None };
        sending.blob(digest, &Part { job: Arc::clone(self), path: path.to_owned() }).await
    }

    fn open(&self, path: &str) -> Result<File, ClientError> {
        let failed = |error| ClientError::file("open", self.shown(path), error);
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        open_deep(&self.root, parent).and_then(|it| it.open_file(name)).map_err(failed)
    }

    /// Reads on, at most so many bytes.
    fn read(&self, file: &File, path: &str, at_most: u64) -> Result<Bytes, ClientError> {
        let mut data = Vec::new();
        let read = file.take(at_most).read_to_end(&mut data);
        read.map_err(|error| ClientError::file("read", self.shown(path), error))?;
        Ok(data.into())
    }
}

/// A file that is sent in parts.
struct Part {
    job: Arc<Job>,
    path: String,
}

/// One that is open.
struct Parts {
    job: Arc<Job>,
    path: String,
    file: Option<File>,
}

#[async_trait]
impl Readable for Part {
    async fn open(&self) -> Result<Box<dyn Chunks>, ClientError> {
        let (job, path) = (Arc::clone(&self.job), self.path.clone());
        let file = self.job.client.jobs.run(move || job.open(&path)).await?;
        let (job, path) = (Arc::clone(&self.job), self.path.clone());
        Ok(Box::new(Parts { job, path, file: Some(file) }))
    }
}

#[async_trait]
impl Chunks for Parts {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(file) = self.file.take() else { return Ok(None) };
        let (job, path) = (Arc::clone(&self.job), self.path.clone());
        let read = move || job.read(&file, &path, CHUNK_BYTES).map(|data| (file, data));
        let (file, data) = self.job.client.jobs.run(read).await?;
        if data.is_empty() {
            return Ok(None);
        }
        self.file = Some(file);
        Ok(Some(data))
    }
}
