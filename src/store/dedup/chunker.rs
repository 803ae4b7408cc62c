//! Cuts a stream where its bytes say so: an insertion moves the cuts with the bytes behind it.

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::{FastCDC, Normalization};

use super::DedupOptions;

/// A stream being cut, of which less than the largest chunk is held.
#[derive(Debug)]
pub(super) struct Chunker {
    options: DedupOptions,
    rest: BytesMut,
}

impl Chunker {
    /// For options that are right.
    pub(super) fn new(options: DedupOptions) -> Self {
        Self { options, rest: BytesMut::new() }
    }

    /// Takes of `data` until a chunk is known; `None` when all is taken.
    pub(super) fn next(&mut self, data: &mut Bytes) -> Option<Bytes> {
        let max_bytes = self.options.max_bytes as usize;
        if self.rest.is_empty() && data.len() >= max_bytes {
            let len = self.cut(data);
            return Some(data.split_to(len));
        }
        let missing = max_bytes.saturating_sub(self.rest.len());
        self.rest.extend_from_slice(&data.split_to(missing.min(data.len())));
        (self.rest.len() >= max_bytes).then(|| self.next_of_rest())
    }

    /// The next chunk when the stream has ended; `None` when there is none.
    pub(super) fn next_at_end(&mut self) -> Option<Bytes> {
        (!self.rest.is_empty()).then(|| self.next_of_rest())
    }

    fn next_of_rest(&mut self) -> Bytes {
        let len = self.cut(&self.rest);
        self.rest.split_to(len).freeze()
    }

    /// The length of the first chunk, which is not empty. No byte behind the largest one matters.
    fn cut(&self, bytes: &[u8]) -> usize {
        let DedupOptions { min_bytes, normal_bytes, max_bytes, .. } = self.options;
        let (min_bytes, normal_bytes) = (min_bytes as usize, normal_bytes as usize);
        let (max_bytes, level) = (max_bytes as usize, Normalization::Level2);
        let cutter = FastCDC::with_level(bytes, min_bytes, normal_bytes, max_bytes, level);
        let (_, len) = cutter.cut(0, bytes.len());
        len.clamp(1, bytes.len().max(1)).min(bytes.len())
    }
}
