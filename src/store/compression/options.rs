//! What is chosen about compression.

/// The smallest block.
pub(super) const MIN_BLOCK_BYTES: u32 = 4 << 10;
/// The largest block.
const MAX_BLOCK_BYTES: u32 = 16 << 20;

/// How a [`CompressionStore`](super::CompressionStore) compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionOptions {
    /// What is compressed at a time, and decompressed for a read of a part: from 4 KiB to 16 MiB.
    pub block_bytes: u32,
    /// Blobs with larger blocks, written when `block_bytes` was another, count as corrupt. Never
    /// less than `block_bytes`.
    pub max_decode_block_bytes: u32,
}

impl Default for CompressionOptions {
    fn default() -> Self {
        Self { block_bytes: 64 << 10, max_decode_block_bytes: MAX_BLOCK_BYTES }
    }
}

impl CompressionOptions {
    /// Says what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let allowed = MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES;
        if !allowed.contains(&self.block_bytes) {
            return Err(format!(
                "a block of {} bytes is not between {MIN_BLOCK_BYTES} and {MAX_BLOCK_BYTES}",
                self.block_bytes
            ));
        }
        if self.max_decode_block_bytes < self.block_bytes {
            return Err(format!(
                "blocks of {} bytes could not be read where {} are the most",
                self.block_bytes, self.max_decode_block_bytes
            ));
        }
        Ok(())
    }

    /// The nearest ones that are right.
    pub(super) fn clamped(self) -> Self {
        let block_bytes = self.block_bytes.clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES);
        let max_decode_block_bytes =
            self.max_decode_block_bytes.clamp(block_bytes, MAX_BLOCK_BYTES);
        Self { block_bytes, max_decode_block_bytes }
    }
}
