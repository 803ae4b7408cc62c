//! A blob on its way here, over as many connections as it takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::ClientError;
use super::patience::Patience;
use crate::digest::{Digest, Hasher};
use crate::store::remote::RemoteStore;
use crate::store::{BlobReader, BlobStore as _, ByteRange, Key, StoreError};

/// The most bytes that are handed out at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A blob being read. Its last bytes are handed out when all of them were right (I20).
#[derive(Debug)]
pub struct Reading {
    blobs: Arc<RemoteStore>,
    digest: Digest,
    hasher: Hasher,
    position: u64,
    reader: Option<BlobReader>,
    /// What came last.
    held: Bytes,
    patience: Patience,
    is_over: bool,
}

impl Reading {
    pub(super) fn new(blobs: Arc<RemoteStore>, digest: Digest) -> Self {
        Self {
            blobs,
            digest,
            hasher: Hasher::new(digest.function),
            position: 0,
            reader: None,
            held: Bytes::new(),
            patience: Patience::default(),
            is_over: false,
        }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while !self.is_over {
            match self.pull().await {
                Ok(Some(chunk)) => {
                    self.patience.renew();
                    self.position = self.position.saturating_add(chunk.len() as u64);
                    self.hasher.update(&chunk);
                    let earlier = std::mem::replace(&mut self.held, chunk);
                    if !earlier.is_empty() {
                        return Ok(Some(earlier));
                    }
                }
                Ok(None) => {
                    self.is_over = true;
                    let hasher =
                        std::mem::replace(&mut self.hasher, Hasher::new(self.digest.function));
                    let is_whole = self.position == self.digest.size_bytes;
                    if !is_whole || hasher.finish() != self.digest.hash {
                        return Err(self.other_bytes());
                    }
                }
                Err(ClientError::Store(StoreError::Corrupt { .. })) => {
                    return Err(self.other_bytes());
                }
                Err(ClientError::Store(error)) => {
                    self.reader = None;
                    self.patience.pause(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        let last = std::mem::take(&mut self.held);
        Ok(Some(last).filter(|it| !it.is_empty()))
    }

    fn other_bytes(&self) -> ClientError {
        ClientError::OtherBytes(self.digest)
    }

    /// All of it. The caller bounds the size beforehand.
    pub async fn all(mut self) -> Result<Bytes, ClientError> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let capacity = usize::try_from(self.digest.size_bytes).unwrap_or_default();
        let mut all = BytesMut::with_capacity(capacity);
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    async fn pull(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.position >= self.digest.size_bytes && self.reader.is_none() {
            // It broke after its last byte, or is empty.
            return Ok(None);
        }
        if self.reader.is_none() {
            let range = ByteRange { offset: self.position, limit: None };
            self.reader = self.blobs.get(&Key::blob(self.digest), range).await?;
        }
        let Some(reader) = &mut self.reader else { return Err(ClientError::Absent(self.digest)) };
        let chunk = reader.next(CHUNK_BYTES).await?;
        if chunk.is_none() && self.position < self.digest.size_bytes {
            let what = format!("{} ended early", self.digest);
            return Err(StoreError::Unavailable { what }.into());
        }
        Ok(chunk)
    }
}
