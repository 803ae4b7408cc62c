//! Where blobs and results are had from: a server, over one protocol or another.
//!
//! What comes is believed by whoever has checked it, not before.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{Client, ClientError, Reading};
use crate::digest::Digest;
use crate::store::StoreError;

/// Bytes on their way.
#[async_trait]
pub(super) trait Chunks: Send {
    /// The next ones, never none; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError>;
}

/// What can be read from its beginning as often as it takes.
#[async_trait]
pub(super) trait Readable: Send + Sync {
    /// Begins to read.
    async fn open(&self) -> Result<Box<dyn Chunks>, ClientError>;
}

/// A place of blobs and action results.
#[async_trait]
pub(super) trait Origin: Send + Sync + fmt::Debug {
    /// Begins to read a blob.
    async fn open(&self, digest: Digest) -> Result<Box<dyn Chunks>, ClientError>;

    /// The encoded result of an action; `None` when there is none.
    async fn result(&self, action: Digest) -> Result<Option<Bytes>, ClientError>;

    /// The digest of a blob of which only the hash may be known; `None` when it is absent.
    async fn sized(&self, digest: Digest) -> Result<Option<Digest>, ClientError> {
        Ok(Some(digest))
    }
}

/// A blob of an origin.
#[derive(Clone, Debug)]
pub(super) struct OriginBlob {
    pub(super) origin: Arc<dyn Origin>,
    pub(super) digest: Digest,
}

#[async_trait]
impl Readable for OriginBlob {
    async fn open(&self) -> Result<Box<dyn Chunks>, ClientError> {
        self.origin.open(self.digest).await
    }
}

#[async_trait]
impl Chunks for Reading {
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        Self::next(self).await
    }
}

#[async_trait]
impl Origin for Client {
    async fn open(&self, digest: Digest) -> Result<Box<dyn Chunks>, ClientError> {
        Ok(Box::new(self.read(digest)))
    }

    async fn result(&self, action: Digest) -> Result<Option<Bytes>, ClientError> {
        self.encoded_result(action).await
    }
}

/// A blob of at most `limit_bytes`, whole and checked.
pub(super) async fn read_whole(
    origin: &dyn Origin,
    digest: Digest,
    limit_bytes: u64,
) -> Result<Bytes, ClientError> {
    let size_bytes = digest.size_bytes;
    if size_bytes > limit_bytes {
        return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
    }
    let data = collect(&mut *origin.open(digest).await?, digest).await?;
    let actual = Digest::of(digest.function, &data);
    if actual.hash != digest.hash {
        let actual = actual.hash_hex().as_str().to_owned();
        return Err(StoreError::HashMismatch { expected: digest, actual }.into());
    }
    Ok(data)
}

/// As many bytes as a digest says, whatever their hash. The caller bounds the size beforehand.
pub(super) async fn collect(chunks: &mut dyn Chunks, digest: Digest) -> Result<Bytes, ClientError> {
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await? {
        all.extend_from_slice(&chunk);
        if all.len() as u64 > digest.size_bytes {
            break;
        }
    }
    let (expected_bytes, received_bytes) = (digest.size_bytes, all.len() as u64);
    if received_bytes != expected_bytes {
        return Err(StoreError::SizeMismatch { digest, expected_bytes, received_bytes }.into());
    }
    Ok(all.freeze())
}
