//! Making blobs local that are only in the stores behind.

use std::collections::BTreeSet;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::pinning::missing;
use super::{Progress, StageError, Stager, Totals, TreeRoot};
use crate::digest::Digest;
use crate::store::{BeginPut, BlobStore as _, BlobStoreExt as _, ByteRange, Key, StoreError};

/// Blobs that are fetched at once.
const AT_ONCE: usize = 16;
/// Blobs whose presence is asked about at once.
const BATCH: usize = 10_000;
/// The largest blob that is held in memory.
const MAX_WHOLE_BYTES: u64 = 1 << 20;
/// How much is read at a time of the rest.
const CHUNK_BYTES: usize = 1 << 20;

impl Stager {
    /// Makes a tree and all its files local. What is nowhere is reported all at once, after the
    /// rest has been fetched.
    ///
    /// Nothing keeps them there but that they were used just now. Cancel safe.
    pub async fn fetch(
        &self,
        root: TreeRoot,
        progress: std::sync::Arc<Progress>,
    ) -> Result<Totals, StageError> {
        let plan = self.plan(root).await?;
        let digests: BTreeSet<Digest> = plan.files.iter().map(|(digest, _)| *digest).collect();
        let digests: Vec<Digest> = digests.into_iter().collect();
        let bytes = digests.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size_bytes));
        progress.expect(digests.len() as u64, bytes);
        self.all_missing(&plan).await?;
        self.fetch_all(&digests, Some(&progress)).await?;
        Ok(plan.totals)
    }

    /// Makes blobs local.
    pub(super) async fn fetch_all(
        &self,
        digests: &[Digest],
        progress: Option<&Progress>,
    ) -> Result<(), StageError> {
        let mut nowhere = Vec::new();
        for batch in digests.chunks(BATCH) {
            let keys: Vec<Key> = batch.iter().copied().map(Key::blob).collect();
            let absent = self.files.find_missing(&keys).await?;
            let fetch = |(digest, is_absent): (Digest, bool)| async move {
                let is_local = !is_absent || self.fetch_one(digest).await?;
                if let Some(progress) = progress {
                    progress.advance(1, digest.size_bytes);
                }
                Ok::<_, StoreError>((!is_local).then_some(digest))
            };
            let work: Vec<_> = batch.iter().copied().zip(absent).map(fetch).collect();
            let mut fetched = stream::iter(work).buffer_unordered(AT_ONCE);
            while let Some(absent) = fetched.try_next().await? {
                nowhere.extend(absent);
            }
        }
        if nowhere.is_empty() { Ok(()) } else { Err(missing(nowhere)) }
    }

    /// Makes one blob local; false when it is nowhere.
    async fn fetch_one(&self, digest: Digest) -> Result<bool, StoreError> {
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
        let key = Key::blob(digest);
        let Some(mut reader) = self.cas.read(digest, ByteRange::ALL).await? else {
            return Ok(false);
        };
        while reader.next(CHUNK_BYTES).await?.is_some() {}
        // Reading it has made it local where the store behind fills this one.
        let BeginPut::Upload(mut upload) = self.files.begin_put(&key, digest.size_bytes).await?
        else {
            return Ok(true);
        };
        let Some(mut reader) = self.cas.read(digest, ByteRange::ALL).await? else {
            return Ok(false);
        };
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
