//! A blob on its way into the store behind, block by block.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::Shared;
use super::format::{HEADER_BYTES, Header, Seal};
use crate::digest::{Digest, Hasher};
use crate::store::announced::{Announced, check_hash, check_size, interrupted};
use crate::store::work::Processors;
use crate::store::{StoreError, Upload, UploadSink};

/// Makes compressed bytes of the bytes of a blob, and hashes these.
#[derive(Debug)]
pub(super) struct Encoder {
    header: Header,
    seal: Seal,
    hasher: Hasher,
    /// The length of each block so far with its frame; the index is made of them.
    lens: Vec<u32>,
}

impl Encoder {
    pub(super) fn new(header: Header) -> Self {
        let hasher = Hasher::new(header.digest.function);
        Self { header, seal: header.seal(), hasher, lens: Vec::new() }
    }

    /// What comes before the next block.
    fn head(&self) -> Vec<u8> {
        if self.lens.is_empty() { self.header.encode().to_vec() } else { Vec::new() }
    }

    /// What the next block becomes.
    async fn encode(
        self,
        block: Bytes,
        processors: &Processors,
    ) -> Result<(Self, Vec<u8>), StoreError> {
        let len = block.len();
        processors.run_sized(len, move || self.encode_here(&block)).await
    }

    fn encode_here(mut self, block: &[u8]) -> (Self, Vec<u8>) {
        let mut encoded = self.head();
        let head_bytes = encoded.len();
        self.hasher.update(block);
        self.seal.encode_block(self.lens.len() as u64, block, &mut encoded);
        // A block has at most 16 MiB.
        let len = u32::try_from(encoded.len() - head_bytes).unwrap_or(u32::MAX);
        self.lens.push(len);
        (self, encoded)
    }

    /// What the rest, at most a block, becomes, and what comes behind it.
    ///
    /// I20: refuses bytes that are not the digest's.
    pub(super) async fn finish(
        self,
        rest: Bytes,
        processors: &Processors,
    ) -> Result<Bytes, StoreError> {
        let (this, mut encoded) = if rest.is_empty() {
            let head = self.head();
            (self, head)
        } else {
            self.encode(rest, processors).await?
        };
        check_hash(this.header.digest, this.hasher.finish())?;
        let mut offset = HEADER_BYTES as u64;
        for len in this.lens.iter().take(this.lens.len().saturating_sub(1)) {
            offset += u64::from(*len);
            encoded.extend_from_slice(&offset.to_le_bytes());
        }
        Ok(encoded.into())
    }
}

/// An upload that holds less than a block, and the lengths of those before.
#[derive(Debug)]
pub(super) struct CompressedUpload {
    digest: Digest,
    written_bytes: u64,
    /// `None` while a write is under way and after one was dropped or failed.
    state: Option<State>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct State {
    encoder: Encoder,
    /// Less than a block.
    rest: BytesMut,
    upload: Upload,
}

impl State {
    async fn append(mut self, mut data: Bytes, shared: &Shared) -> Result<Self, StoreError> {
        let block_bytes = shared.options.block_bytes as usize;
        while !data.is_empty() {
            let missing = block_bytes - self.rest.len();
            if data.len() < missing {
                self.rest.extend_from_slice(&data);
                break;
            }
            let end = data.split_to(missing);
            let block = if self.rest.is_empty() {
                end
            } else {
                self.rest.extend_from_slice(&end);
                self.rest.split().freeze()
            };
            let (encoder, frame) = self.encoder.encode(block, &shared.processors).await?;
            self.encoder = encoder;
            self.upload.write(frame.into()).await?;
            // A large write is hundreds of blocks.
            tokio::task::yield_now().await;
        }
        Ok(self)
    }
}

impl CompressedUpload {
    pub(super) fn new(shared: &Arc<Shared>, digest: Digest, upload: Upload) -> Self {
        let encoder = Encoder::new(shared.header(digest));
        let state = State { encoder, rest: BytesMut::new(), upload };
        Self { digest, written_bytes: 0, state: Some(state), shared: Arc::clone(shared) }
    }
}

#[async_trait]
impl UploadSink for CompressedUpload {
    async fn write(&mut self, data: Bytes) -> Result<(), StoreError> {
        let received_bytes = self.written_bytes.saturating_add(data.len() as u64);
        // Taken out for the duration: after a dropped write there is a gap.
        let state = self.state.take().ok_or_else(interrupted)?;
        Announced::of_blob(self.digest).check_more(received_bytes)?;
        self.state = Some(state.append(data, &self.shared).await?);
        self.written_bytes = received_bytes;
        Ok(())
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    fn is_resumable(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.upload.is_resumable())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        check_size(self.digest, self.written_bytes)?;
        let state = self.state.take().ok_or_else(interrupted)?;
        let State { encoder, mut rest, mut upload } = state;
        let end = encoder.finish(rest.split().freeze(), &self.shared.processors).await?;
        upload.write(end).await?;
        let compressed_bytes = upload.written_bytes();
        upload.commit().await?;
        self.shared.note_written(self.digest.size_bytes, compressed_bytes);
        Ok(())
    }
}
