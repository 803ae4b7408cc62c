//! What another place holds, brought to a server.
//!
//! Nothing is believed: a blob is hashed while it goes, and a result is stored when the server has
//! everything that it reaches. What the server has is not sent again, so a second import goes on
//! where the first one ended.

mod archive;
mod connection;
mod directory;
mod file;
mod http;
mod listed;
mod tally;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

pub use self::directory::DirectoryOptions;
pub use self::http::{HttpCache, InvalidHttpCache};
pub use self::tally::{Imported, OnSkip, Reason, Skipped};

use self::file::{Place, PlaceOn};
use self::tally::Tally;
use super::actions::decode_result;
use super::closure::{self, Named};
use super::origin::{Origin, OriginBlob, Readable, collect};
use super::pace::Pace;
use super::patience::persist;
use super::sending::{InFlight, Sending};
use super::{Client, ClientError, Progress};
use crate::digest::Digest;
use crate::store::remote::with_sources;
use crate::store::{BlobStore as _, Key, StoreError};

/// Blobs of so many bytes are sent whole.
const WHOLE_BYTES: u64 = 4 << 20;
/// The largest result.
const MAX_RESULT_BYTES: u64 = 4 << 20;
/// Results that are stored at once.
const RESULTS: usize = 16;

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Blobs that are sent at once; fewer where `bytes_per_second` is too little for so many.
    pub jobs: usize,
    /// How fast they may go.
    pub bytes_per_second: Option<u64>,
    /// Whether nothing is sent.
    pub is_dry_run: bool,
}

/// An import to a server.
pub struct Import {
    target: Arc<Client>,
    progress: Arc<Progress>,
    options: ImportOptions,
    pace: Option<Pace>,
    /// One for each blob that is sent at once.
    jobs: Semaphore,
    in_flight: InFlight,
    tally: Tally,
}

/// A blob that the server may lack.
struct Item {
    digest: Digest,
    bytes: ItemBytes,
}

/// Where its bytes are.
enum ItemBytes {
    Here(Bytes),
    There(OriginBlob),
    File(Place),
}

/// A result that the server may lack.
struct NewResult {
    action: Digest,
    encoded: Bytes,
    /// What it is called where it is.
    name: String,
}

impl Item {
    /// What it is called where it is.
    fn name(&self) -> String {
        match &self.bytes {
            ItemBytes::File(place) => place.path(),
            _ => self.digest.to_string(),
        }
    }
}

impl Import {
    /// Begins one. `on_skip` is told of everything that is not taken.
    pub fn new(
        target: Arc<Client>,
        progress: Arc<Progress>,
        options: ImportOptions,
        on_skip: OnSkip,
    ) -> Arc<Self> {
        let jobs = options.jobs.max(1);
        let jobs = options.bytes_per_second.map_or(jobs, |rate| Pace::jobs(rate, jobs));
        Arc::new(Self {
            target,
            progress,
            pace: options.bytes_per_second.map(Pace::new),
            jobs: Semaphore::new(jobs),
            options,
            in_flight: InFlight::default(),
            tally: Tally::new(on_skip),
        })
    }

    /// What it has come to.
    pub fn imported(&self) -> Imported {
        self.tally.imported()
    }

    /// Asks for blobs and sends those that the server lacks.
    async fn blobs(self: &Arc<Self>, batch: Vec<Item>) -> Result<(), ClientError> {
        let digests: Vec<Digest> = batch.iter().map(|item| item.digest).collect();
        let missing = self.target.find_missing(&digests).await?;
        let mut wanted = Vec::new();
        for (item, is_missing) in batch.into_iter().zip(missing) {
            if is_missing && !item.digest.is_empty() {
                let import = Arc::clone(self);
                wanted.push(async move { import.blob(item).await });
            } else {
                self.progress.skip_bytes(item.digest.size_bytes);
                self.progress.finish_files(1);
                self.tally.blob(item.digest, false);
            }
        }
        let jobs = self.options.jobs.max(1);
        stream::iter(wanted).buffer_unordered(jobs).try_collect::<()>().await
    }

    async fn blob(self: Arc<Self>, item: Item) -> Result<(), ClientError> {
        let digest = item.digest;
        let outcome = match self.check_size(digest) {
            Ok(()) if self.options.is_dry_run => {
                self.progress.skip_bytes(digest.size_bytes);
                Ok(true)
            }
            Ok(()) => self.send(&item).await,
            Err(error) => Err(error),
        };
        self.progress.finish_files(1);
        match outcome {
            Ok(is_sent) => self.tally.blob(digest, is_sent),
            Err(error) => {
                self.progress.skip_bytes(digest.size_bytes);
                self.skip(item.name(), Reason::of_blob(&error), error)?;
            }
        }
        Ok(())
    }

    /// Skips what there is a reason to skip.
    fn skip(
        &self,
        name: String,
        reason: Option<Reason>,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let Some(reason) = reason else { return Err(error) };
        self.tally.skip(name, reason, with_sources(&error));
        Ok(())
    }

    fn sending(&self) -> Sending<'_> {
        Sending { client: &self.target, progress: &self.progress, pace: self.pace.as_ref() }
    }

    fn check_size(&self, Digest { size_bytes, .. }: Digest) -> Result<(), ClientError> {
        let limit_bytes = self.target.blobs.max_blob_bytes();
        if size_bytes <= limit_bytes {
            return Ok(());
        }
        Err(StoreError::TooLarge { size_bytes, limit_bytes }.into())
    }

    /// Sends a blob; false when the server has it meanwhile.
    async fn send(&self, item: &Item) -> Result<bool, ClientError> {
        let digest = item.digest;
        let _job = self.jobs.acquire().await.map_err(|_| StoreError::ShuttingDown)?;
        let _turn = self.in_flight.turn(digest.size_bytes).await?;
        let jobs = &self.target.jobs;
        let from: Box<dyn Readable + '_> = match &item.bytes {
            ItemBytes::Here(data) => return self.send_whole(digest, data).await,
            ItemBytes::There(blob) => Box::new(blob.clone()),
            ItemBytes::File(place) => Box::new(PlaceOn { place, jobs }),
        };
        if digest.size_bytes > WHOLE_BYTES {
            return self.sending().blob(digest, &*from).await;
        }
        let data = persist_client(|| async { collect(&mut *from.open().await?, digest).await });
        self.send_whole(digest, &data.await?).await
    }

    async fn send_whole(&self, digest: Digest, data: &Bytes) -> Result<bool, ClientError> {
        if let Some(pace) = &self.pace {
            pace.wait(digest.size_bytes).await;
        }
        let key = Key::blob(digest);
        persist(|| self.target.blobs.put(&key, data.clone())).await?;
        self.progress.move_bytes(digest.size_bytes);
        Ok(true)
    }

    /// Stores the results of which the server has everything and that it has not.
    async fn results(self: &Arc<Self>, results: Vec<NewResult>) -> Result<(), ClientError> {
        let stored = results.into_iter().map(|result| Arc::clone(self).result(result));
        stream::iter(stored).buffer_unordered(RESULTS).try_collect::<()>().await
    }

    async fn result(self: Arc<Self>, result: NewResult) -> Result<(), ClientError> {
        let action = result.action;
        match self.store_result(action, result.encoded).await {
            Ok(is_taken) => self.tally.result(action, is_taken),
            Err(error) => self.skip(result.name, Reason::of_result(&error), error)?,
        }
        Ok(())
    }

    /// Stores a result; false when the server has one.
    async fn store_result(&self, action: Digest, encoded: Bytes) -> Result<bool, ClientError> {
        let result = decode_result(action, encoded.clone())?;
        closure::check(action.function, &result)?;
        if self.target.encoded_result(action).await?.is_some() {
            return Ok(false);
        }
        if self.options.is_dry_run {
            return Ok(true);
        }
        let target: Arc<dyn Origin> = Arc::<Client>::clone(&self.target);
        let reached = Named::of(action.function, &result)?.closure(&target).await?;
        let absent = self.target.absent(&reached).await?;
        if !absent.is_empty() {
            return Err(ClientError::Missing(absent));
        }
        self.target.put_result(action, encoded).await?;
        Ok(true)
    }
}

/// Does something with another server until it is done or it cannot help to try it again.
async fn persist_client<T, F>(work: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut patience = super::patience::Patience::default();
    loop {
        match work().await {
            Err(ClientError::Store(error)) => patience.pause(error).await?,
            outcome => return outcome,
        }
    }
}
