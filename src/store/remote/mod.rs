//! A store that is another server: whatever serves blobs or action results over REAPI.
//!
//! Owns the client: connections, batches, transfers that go on after a break, and the doubt about
//! what comes back. A dead upstream costs a moment, then nothing until it is back.
//!
//! What an upstream cannot be told from here: to remove, to purge, and to look a blob up by its
//! hash alone. A purge that covers such a store is refused, for it would not be one.

mod batches;
mod breaker;
mod counters;
mod find;
mod limits;
mod names;
mod options;
mod pool;
mod reads;
mod results;
mod status;
mod upload;
mod upstream;
mod writes;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use tonic::transport::Channel;

use self::batches::{Batches, Direction, Outcome};
pub use self::counters::RemoteStats;
pub(crate) use self::options::with_sources;
pub use self::options::{
    BatchingOptions, ClientTls, Endpoint, RemoteError, RemoteKind, RemoteOptions, RetryOptions,
};
use self::upload::{CollectedUpload, StreamedUpload};
use self::upstream::Upstream;
use self::writes::Writing;
use super::announced::{check_limit, check_size};
use super::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Kind, Purged, Selection, StoreError, Upload,
};
use crate::digest::{Digest, DigestFunction, HASH_BYTES};

/// Blobs over this size are asked for before they are sent.
const ASK_FIRST_BYTES: u64 = 1 << 20;
/// The largest action result.
const MAX_RESULT_BYTES: u64 = 4 << 20;

/// Blobs or action results of another server.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    upstream: Arc<Upstream>,
    reads: Arc<Batches>,
    writes: Arc<Batches>,
}

impl RemoteStore {
    /// A store over an upstream that need not be there yet: connections are made when they are
    /// needed. Must be called on a runtime.
    pub fn connect(options: RemoteOptions) -> Result<Arc<Self>, RemoteError> {
        Self::dial(options, tonic::transport::Endpoint::connect_lazy)
    }

    fn dial(
        options: RemoteOptions,
        dial: impl Fn(&tonic::transport::Endpoint) -> Channel,
    ) -> Result<Arc<Self>, RemoteError> {
        let upstream = Upstream::new(options, dial)?;
        Ok(Arc::new(Self {
            reads: Batches::new(Arc::clone(&upstream), Direction::Read),
            writes: Batches::new(Arc::clone(&upstream), Direction::Write),
            upstream,
        }))
    }

    /// Gauges and counters.
    pub fn stats(&self) -> RemoteStats {
        let Upstream { counters, pool, .. } = &*self.upstream;
        RemoteStats {
            requests: counters.requests.get(),
            retries: counters.retries.get(),
            failures: counters.failures.get(),
            corrupt: counters.corrupt.get(),
            strays: counters.strays.get(),
            bytes_read: counters.bytes_read.get(),
            bytes_written: counters.bytes_written.get(),
            breaker_open: pool.open_breakers() as u64,
            in_flight: pool.in_flight() as u64,
        }
    }

    fn keeps_blobs(&self) -> bool {
        self.upstream.options.kind == RemoteKind::Cas
    }

    /// Whether a value with this key can be stored.
    fn check_key(&self, key: &Key) -> Result<(), StoreError> {
        let what = match (key.kind, self.keeps_blobs()) {
            (Kind::Blob, false) => "the upstream keeps action results only",
            (Kind::ActionResult, _) if key.is_derived() => {
                "an upstream keeps nothing that stands for blobs"
            }
            (Kind::ActionResult, true) => "the upstream keeps blobs only",
            (Kind::ActionResult, false) if !Upstream::has_results_of(key) => {
                "an upstream keeps a result only of an action whose size is known"
            }
            (Kind::Blob, true) | (Kind::ActionResult, false) => return Ok(()),
        };
        Err(StoreError::Unsupported { what })
    }

    fn max_bytes(&self) -> u64 {
        if self.keeps_blobs() {
            self.upstream.known_limits.latest().max_blob_bytes
        } else {
            MAX_RESULT_BYTES
        }
    }

    /// Whether a blob of this size may be sent; whether it travels with others.
    async fn travels(&self, digest: Digest, deadline: Instant) -> Result<bool, StoreError> {
        let limits = self.upstream.limits(deadline).await;
        if !limits.knows(digest.function) {
            return Err(StoreError::Unsupported {
                what: "the upstream does not know this digest function",
            });
        }
        let size_bytes = digest.size_bytes;
        check_limit(size_bytes, limits.max_blob_bytes)?;
        let batching = &self.upstream.options.batching;
        Ok(size_bytes <= batching.max_blob_bytes.min(limits.max_batch_bytes))
    }

    /// Stores a blob whose bytes are all here.
    async fn put_blob(&self, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        upload::check_data(digest, &data)?;
        if digest.is_empty() {
            return Ok(());
        }
        let deadline = self.upstream.deadline();
        let asks_first = digest.size_bytes > ASK_FIRST_BYTES;
        if self.travels(digest, deadline).await? {
            match self.writes.travel(digest, data.clone(), deadline).await {
                Outcome::Stored => return Ok(()),
                Outcome::Failed(status) => {
                    let key = Key::blob(digest);
                    return Err(self.upstream.write_error(&key, digest.size_bytes, &status));
                }
                Outcome::Alone | Outcome::Absent | Outcome::Read(_) => {}
            }
        } else if asks_first && self.upstream.contains(digest, deadline).await? {
            return Ok(());
        }
        Writing::whole(&self.upstream, digest, data).await
    }
}

#[async_trait]
impl BlobStore for RemoteStore {
    /// A store of the other kind of values misses everything. Action results are asked for one by
    /// one.
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        if !self.keeps_blobs() {
            return self.upstream.find_missing_results(keys).await;
        }
        let blobs = keys.iter().filter(|key| key.kind == Kind::Blob);
        let digests: Vec<Digest> = blobs.map(|key| key.digest).collect();
        let deadline = self.upstream.deadline();
        let mut missing = self.upstream.find_missing(&digests, deadline).await?.into_iter();
        let is_missing = |key: &Key| key.kind != Kind::Blob || missing.next().unwrap_or(true);
        Ok(keys.iter().map(is_missing).collect())
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        match (key.kind, self.keeps_blobs()) {
            (Kind::Blob, true) => reads::open(&self.reads, &self.upstream, key.digest, range).await,
            (Kind::ActionResult, false) => {
                let result = self.upstream.get_result(key).await?;
                Ok(result.map(|data| BlobReader::Bytes(results::cut(data, range))))
            }
            _ => Ok(None),
        }
    }

    /// A large blob is sent on while it comes. When its connection breaks, it goes on as long as
    /// what the upstream lacks is among the last that was sent; otherwise it fails as
    /// [`StoreError::Unavailable`].
    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        self.check_key(key)?;
        check_limit(size_bytes, self.max_bytes())?;
        let upload: Box<dyn super::UploadSink> = match key.kind {
            Kind::Blob => {
                let digest = key.digest;
                check_size(digest, size_bytes)?;
                let deadline = self.upstream.deadline();
                let is_small = digest.is_empty() || self.travels(digest, deadline).await?;
                let asks_first = size_bytes > ASK_FIRST_BYTES;
                if asks_first && self.upstream.contains(digest, deadline).await? {
                    return Ok(BeginPut::AlreadyPresent);
                }
                if is_small {
                    Box::new(CollectedUpload::new(self.clone(), *key, size_bytes))
                } else {
                    Box::new(StreamedUpload::new(&self.upstream, digest))
                }
            }
            Kind::ActionResult => Box::new(CollectedUpload::new(self.clone(), *key, size_bytes)),
        };
        Ok(BeginPut::Upload(Upload::Other(upload)))
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.check_key(key)?;
        check_limit(data.len() as u64, self.max_bytes())?;
        match key.kind {
            Kind::Blob => self.put_blob(key.digest, data).await,
            Kind::ActionResult => self.upstream.put_result(key, data).await,
        }
    }

    /// Always `None`: an upstream finds nothing without its size.
    async fn find_by_hash(
        &self,
        _function: DigestFunction,
        _hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        Ok(None)
    }

    async fn remove(&self, _key: &Key) -> Result<bool, StoreError> {
        Err(StoreError::Unsupported { what: "an upstream removes nothing that it is asked to" })
    }

    async fn purge_selected(&self, _selection: Selection) -> Result<Purged, StoreError> {
        Err(StoreError::Unsupported { what: "an upstream cannot be purged from here" })
    }

    /// What the upstream has announced, once it has.
    fn max_blob_bytes(&self) -> u64 {
        self.max_bytes()
    }
}

/// A random number; `RandomState` has a fresh key each time.
fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    f64::from(u32::try_from(random() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
