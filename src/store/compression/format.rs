//! How a compressed blob looks in the store behind. Pure: bytes to bytes.
//!
//! The folder's documentation has the layout.

use bytes::Bytes;
use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

use super::options::MIN_BLOCK_BYTES;
use crate::digest::{Digest, DigestFunction, HASH_BYTES};

/// Length of the header.
pub(super) const HEADER_BYTES: usize = 36;
/// What stands before each block.
pub(super) const FRAME_BYTES: usize = 12;
/// Length of an entry of the index.
pub(super) const ENTRY_BYTES: usize = 8;

const MAGIC: [u8; 4] = *b"CSLZ";
const VERSION: u8 = 1;
/// The bytes of the header that its checksum covers, with the hash.
const COVERED_BYTES: usize = 20;
/// In the first word of a frame: the block is not compressed.
const RAW: u32 = 1 << 31;

/// Separate these checksums from every other use of BLAKE3.
const HEADER_CONTEXT: &str = "castellan 2026 header of a compressed blob";
const BLOCK_CONTEXT: &str = "castellan 2026 block of a compressed blob";

type HeaderChecksum = [u8; HEADER_BYTES - COVERED_BYTES];
pub(super) type BlockChecksum = [u8; FRAME_BYTES - 4];

/// What a compressed blob says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whose bytes it has.
    pub(super) digest: Digest,
    /// Length of every block but the last.
    pub(super) block_bytes: u32,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let covered = self.covered();
        let checksum = self.checksum(&covered);
        let mut encoded = [0; HEADER_BYTES];
        for (to, from) in encoded.iter_mut().zip(covered.iter().chain(&checksum)) {
            *to = *from;
        }
        encoded
    }

    /// The header of the blob with this hash; `None` when it is not one, or has blocks that are
    /// larger than allowed.
    pub(super) fn parse(
        mut encoded: &[u8],
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
        max_block_bytes: u32,
    ) -> Option<Self> {
        let whole: [u8; HEADER_BYTES] = encoded.try_into().ok()?;
        let _fixed: [u8; 8] = take(&mut encoded)?;
        let block_bytes = u32::from_le_bytes(take(&mut encoded)?);
        let size_bytes = u64::from_le_bytes(take(&mut encoded)?);
        let header = Self { digest: Digest { function, hash, size_bytes }, block_bytes };
        let is_allowed = (MIN_BLOCK_BYTES..=max_block_bytes).contains(&block_bytes);
        (is_allowed && header.encode() == whole).then_some(header)
    }

    fn covered(&self) -> [u8; COVERED_BYTES] {
        let fixed = [VERSION, self.digest.function as u8, 0, 0];
        let block_bytes = self.block_bytes.to_le_bytes();
        let size_bytes = self.digest.size_bytes.to_le_bytes();
        let mut covered = [0; COVERED_BYTES];
        let fields = MAGIC.iter().chain(&fixed).chain(&block_bytes).chain(&size_bytes);
        for (to, from) in covered.iter_mut().zip(fields) {
            *to = *from;
        }
        covered
    }

    fn checksum(&self, covered: &[u8]) -> HeaderChecksum {
        let mut hasher = blake3::Hasher::new_derive_key(HEADER_CONTEXT);
        hasher.update(&self.digest.hash).update(covered);
        let mut checksum = HeaderChecksum::default();
        hasher.finalize_xof().fill(&mut checksum);
        checksum
    }

    /// What the checksums of its blocks are made with.
    pub(super) fn seal(&self) -> Seal {
        let mut hasher = blake3::Hasher::new_derive_key(BLOCK_CONTEXT);
        hasher.update(&self.digest.hash).update(&self.covered());
        Seal(hasher.finalize().into())
    }

    /// The number of its blocks.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks_in(self.digest.size_bytes)
    }

    /// The number of blocks that the first `bytes` are in.
    pub(super) fn blocks_in(&self, bytes: u64) -> u64 {
        bytes.div_ceil(u64::from(self.block_bytes))
    }

    /// The most that so many blocks take.
    pub(super) fn most_of(&self, blocks: u64) -> u64 {
        blocks.saturating_mul(u64::from(self.block_bytes).saturating_add(FRAME_BYTES as u64))
    }

    /// The length of a block.
    pub(super) fn block_len(&self, number: u64) -> usize {
        let block_bytes = u64::from(self.block_bytes);
        let start = number.saturating_mul(block_bytes);
        let len = self.digest.size_bytes.saturating_sub(start).min(block_bytes);
        usize::try_from(len).unwrap_or(self.block_bytes as usize)
    }

    /// The length of the index: the first block needs no entry.
    pub(super) fn index_bytes(&self) -> u64 {
        self.blocks().saturating_sub(1).saturating_mul(ENTRY_BYTES as u64)
    }

    /// The most that it takes with its blocks and the index.
    pub(super) fn worst_case(&self) -> u64 {
        let frames = self.blocks().saturating_mul(FRAME_BYTES as u64);
        let all = self.digest.size_bytes.saturating_add(frames);
        all.saturating_add(self.index_bytes()).saturating_add(HEADER_BYTES as u64)
    }
}

/// The largest blob that takes at most `limit_bytes`, whatever is in it.
pub(super) fn largest_within(limit_bytes: u64, block_bytes: u32) -> u64 {
    let empty = Digest::empty(DigestFunction::Sha256);
    let (mut fitting, mut limit) = (0, limit_bytes);
    while fitting < limit {
        let middle = limit - (limit - fitting) / 2;
        let digest = Digest { size_bytes: middle, ..empty };
        if (Header { digest, block_bytes }).worst_case() <= limit_bytes {
            fitting = middle;
        } else {
            limit = middle - 1;
        }
    }
    fitting
}

/// Binds blocks to their blob, its header and their place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal([u8; blake3::KEY_LEN]);

/// What stands before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    word: u32,
    checksum: BlockChecksum,
}

impl Frame {
    /// The frame of a block of `block_len` bytes; `None` when it cannot be one.
    pub(super) fn parse(mut encoded: &[u8], block_len: usize) -> Option<Self> {
        let word = u32::from_le_bytes(take(&mut encoded)?);
        let frame = Self { word, checksum: take(&mut encoded)? };
        let stored = frame.stored_bytes();
        let is_possible = if frame.is_raw() { stored == block_len } else { stored < block_len };
        (is_possible && stored > 0 && encoded.is_empty()).then_some(frame)
    }

    /// The length of what is stored.
    pub(super) fn stored_bytes(self) -> usize {
        (self.word & !RAW) as usize
    }

    fn is_raw(self) -> bool {
        self.word & RAW != 0
    }
}

impl Seal {
    pub(super) fn checksum(&self, number: u64, word: u32, stored: &[u8]) -> BlockChecksum {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&number.to_le_bytes()).update(&word.to_le_bytes()).update(stored);
        let mut checksum = BlockChecksum::default();
        hasher.finalize_xof().fill(&mut checksum);
        checksum
    }

    /// Appends a block with its frame, compressed if that makes it smaller.
    pub(super) fn encode_block(&self, number: u64, block: &[u8], into: &mut Vec<u8>) {
        let start = into.len();
        let body = start + FRAME_BYTES;
        into.resize(body + get_maximum_output_size(block.len()), 0);
        let space = into.get_mut(body..).unwrap_or_default();
        let compressed = compress_into(block, space).ok().filter(|len| *len < block.len());
        if let Some(len) = compressed {
            into.truncate(body + len);
        } else {
            into.truncate(body);
            into.extend_from_slice(block);
        }
        // Blocks have at most 16 MiB.
        let len = u32::try_from(into.len() - body).unwrap_or(RAW);
        let word = if compressed.is_some() { len } else { len | RAW };
        let checksum = self.checksum(number, word, into.get(body..).unwrap_or_default());
        let frame = word.to_le_bytes().into_iter().chain(checksum);
        for (to, from) in into.iter_mut().skip(start).zip(frame) {
            *to = from;
        }
    }

    /// The block that is stored as `stored`; `None` when that has changed.
    pub(super) fn decode_block(
        &self,
        number: u64,
        frame: Frame,
        stored: Bytes,
        block_len: usize,
    ) -> Option<Bytes> {
        if self.checksum(number, frame.word, &stored) != frame.checksum {
            return None;
        }
        if frame.is_raw() {
            return Some(stored);
        }
        let mut block = vec![0; block_len];
        let len = decompress_into(&stored, &mut block).ok()?;
        (len == block_len).then(|| block.into())
    }
}

/// Takes the first bytes off.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
