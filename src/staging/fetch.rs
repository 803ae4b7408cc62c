//! Making blobs local that are only in the stores behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::pinning::distinct;
use super::{Progress, StageError, Stager, Totals, TreeRoot};
use crate::digest::Digest;
use crate::store::{BeginPut, BlobStore as _, BlobStoreExt as _, ByteRange, Key, StoreError};

/// Blobs that are fetched at once.
pub(super) const AT_ONCE: usize = 16;
/// Blobs whose presence is asked about at once.
pub(super) const BATCH: usize = 10_000;
/// The largest blob that is held in memory.
const MAX_WHOLE_BYTES: u64 = 1 << 20;
/// How much is read at a time of the rest.
const CHUNK_BYTES: usize = 1 << 20;
/// What one of many takes that are sorted.
const DIGEST_BYTES: usize = size_of::<Digest>();
/// Large blobs that are written here at once after one was not made local by being read.
const OWN_WRITES: u32 = 16;

/// Whether reading a blob makes it local. Where it does, a writer of one's own would write
/// everything twice; where it does not, one that waits for the end of the read reads everything
/// twice. So it is tried, seldom.
#[derive(Debug, Default)]
pub(super) struct Habit {
    own_writes: AtomicU32,
}

impl Habit {
    fn is_filling(&self) -> bool {
        let take = |left: u32| left.checked_sub(1);
        self.own_writes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err()
    }

    fn note_unfilled(&self) {
        self.own_writes.store(OWN_WRITES, Ordering::Relaxed);
    }
}

impl Stager {
    /// Makes a tree local, its messages and all its files. What is nowhere is reported all at once,
    /// after the rest has been fetched.
    ///
    /// Nothing keeps them there but that they were used just now. Cancel safe.
    pub async fn fetch(
        &self,
        root: TreeRoot,
        progress: Arc<Progress>,
    ) -> Result<Totals, StageError> {
        let plan = Arc::new(self.plan(root).await?);
        let bytes = plan.files.len().saturating_mul(DIGEST_BYTES);
        let files = Arc::clone(&plan);
        let gather = move || distinct(files.files.iter().map(|(digest, _)| *digest));
        let digests = self.jobs.run_sized(bytes, gather).await?;
        let bytes = digests.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size_bytes));
        progress.expect(digests.len() as u64, bytes);
        self.all_missing(&plan).await?;
        let mut absent = self.fetch_all(&plan.messages, None).await?;
        absent.extend(self.fetch_all(&digests, Some(&progress)).await?);
        if absent.is_empty() { Ok(plan.totals) } else { Err(self.explain_absence(absent).await) }
    }

    /// Makes blobs local; which of them were not to be had.
    async fn fetch_all(
        &self,
        digests: &[Digest],
        progress: Option<&Progress>,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut absent = Vec::new();
        for batch in digests.chunks(BATCH) {
            let keys: Vec<Key> = batch.iter().copied().map(Key::blob).collect();
            let elsewhere = self.files.find_missing(&keys).await?;
            let fetch = |(digest, is_elsewhere): (Digest, bool)| async move {
                let is_local = !is_elsewhere || self.fetch_one(digest).await?;
                if let Some(progress) = progress {
                    progress.advance(1, digest.size_bytes);
                }
                Ok::<_, StoreError>((!is_local).then_some(digest))
            };
            let work: Vec<_> = batch.iter().copied().zip(elsewhere).map(fetch).collect();
            let mut fetched = stream::iter(work).buffer_unordered(AT_ONCE);
            while let Some(unfetched) = fetched.try_next().await? {
                absent.extend(unfetched);
            }
        }
        Ok(absent)
    }

    /// Makes one blob local; false when it is nowhere.
    pub(super) async fn fetch_one(&self, digest: Digest) -> Result<bool, StoreError> {
        let fetched = if digest.size_bytes <= MAX_WHOLE_BYTES {
            self.fetch_whole(digest).await
        } else {
            self.fetch_in_parts(digest).await
        };
        match fetched {
            // It has been removed, and heals by the next upload.
            Err(StoreError::Corrupt { .. }) => Ok(false),
            fetched => fetched,
        }
    }

    async fn fetch_whole(&self, digest: Digest) -> Result<bool, StoreError> {
        let key = Key::blob(digest);
        let Some(data) = self.cas.read_all(digest, MAX_WHOLE_BYTES).await? else {
            return Ok(false);
        };
        // Reading it may have made it local.
        if !self.files.contains(&key).await? {
            self.files.put(&key, data).await?;
        }
        Ok(true)
    }

    async fn fetch_in_parts(&self, digest: Digest) -> Result<bool, StoreError> {
        let open = || self.cas.read(digest, ByteRange::ALL);
        let Some(mut reader) = open().await? else { return Ok(false) };
        let is_filling = self.reads.is_filling();
        if is_filling {
            while reader.next(CHUNK_BYTES).await?.is_some() {}
            // A copy ends after the read that it comes from; this waits for it.
            let Some(again) = open().await? else { return Ok(false) };
            reader = again;
        }
        let key = Key::blob(digest);
        let BeginPut::Upload(mut upload) = self.files.begin_put(&key, digest.size_bytes).await?
        else {
            return Ok(true);
        };
        if is_filling {
            self.reads.note_unfilled();
        }
        while let Some(chunk) = reader.next(CHUNK_BYTES).await? {
            if upload.is_overtaken() {
                return Ok(true);
            }
            upload.write(chunk).await?;
        }
        upload.commit().await?;
        Ok(true)
    }
}
