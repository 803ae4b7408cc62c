//! Uploads to an upstream: hashed here, so that a wrong one never ends there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::writes::Writing;
use super::{RemoteStore, Upstream};
use crate::digest::{Digest, Hasher};
use crate::store::announced::{Announced, check_hash, check_size};
use crate::store::{Key, Kind, StoreError, UploadSink};

/// A large blob, sent on as it comes but for its end.
#[derive(Debug)]
pub(super) struct StreamedUpload {
    digest: Digest,
    hasher: Hasher,
    writing: Writing,
    /// What came last; it goes when more comes, or when all of it was right.
    held: Bytes,
    written_bytes: u64,
    is_broken: bool,
}

impl StreamedUpload {
    pub(super) fn new(upstream: &Arc<Upstream>, digest: Digest) -> Self {
        Self {
            digest,
            hasher: Hasher::new(digest.function),
            writing: Writing::stream(upstream, digest),
            held: Bytes::new(),
            written_bytes: 0,
            is_broken: false,
        }
    }
}

#[async_trait]
impl UploadSink for StreamedUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.is_broken = true;
        let written_bytes = self.written_bytes.saturating_add(data.len() as u64);
        Announced::of_blob(self.digest).check_more(written_bytes)?;
        self.hasher.update(&data);
        if !data.is_empty() {
            let held = std::mem::replace(&mut self.held, data);
            if !self.writing.is_complete() && !held.is_empty() {
                self.writing.send(held).await?;
            }
        }
        self.written_bytes = written_bytes;
        self.is_broken = false;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn is_resumable(&self) -> bool {
        !self.is_broken
    }

    fn is_overtaken(&self) -> bool {
        self.writing.is_complete()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self { digest, hasher, mut writing, held, written_bytes, .. } = *self;
        check_size(digest, written_bytes)?;
        check_hash(digest, hasher.finish())?;
        if !writing.is_complete() {
            writing.send(held).await?;
        }
        writing.finish().await
    }
}

/// A small value, sent when it is whole.
#[derive(Debug)]
pub(super) struct CollectedUpload {
    store: RemoteStore,
    key: Key,
    announced: Announced,
    data: BytesMut,
    is_broken: bool,
}

impl CollectedUpload {
    pub(super) fn new(store: RemoteStore, key: Key, size_bytes: u64) -> Self {
        let announced = Announced::of(&key, size_bytes);
        Self { store, key, announced, data: BytesMut::new(), is_broken: false }
    }
}

#[async_trait]
impl UploadSink for CollectedUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let written_bytes = self.written_bytes().saturating_add(data.len() as u64);
        let checked = self.announced.check_more(written_bytes);
        self.is_broken |= checked.is_err();
        checked?;
        self.data.extend_from_slice(&data);
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.data.len() as u64
    }

    fn is_resumable(&self) -> bool {
        !self.is_broken
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.announced.check_end(self.written_bytes())?;
        let Self { store, key, data, .. } = *self;
        match key.kind {
            Kind::Blob => store.put_blob(key.digest, data.freeze()).await,
            Kind::ActionResult => store.upstream.put_result(&key, data.freeze()).await,
        }
    }
}

/// Refuses bytes that are not those of the digest.
pub(super) fn check_data(digest: Digest, data: &[u8]) -> Result<(), StoreError> {
    check_size(digest, data.len() as u64)?;
    check_hash(digest, Digest::of(digest.function, data).hash)
}
