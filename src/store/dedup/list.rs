//! The list of a blob's chunks. Pure: bytes to bytes.
//!
//! The folder's documentation has the layout.

use bytes::Bytes;

use crate::digest::{Digest, DigestFunction, HASH_BYTES};

const MAGIC: [u8; 4] = *b"CSDL";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 20;
const CHUNK_BYTES: usize = HASH_BYTES + 4;
const CHECKSUM_BYTES: usize = 16;

/// Separates the checksum from every other use of BLAKE3.
const CONTEXT: &str = "castellan 2026 list of chunks";

/// The longest list that is written or read.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The largest chunk that is read.
const MAX_CHUNK_BYTES: u32 = 16 << 20;

/// What a list of so many chunks takes.
pub(super) fn list_bytes(chunks: u64) -> u64 {
    let fixed = (HEADER_BYTES + CHECKSUM_BYTES) as u64;
    chunks.saturating_mul(CHUNK_BYTES as u64).saturating_add(fixed)
}

/// The most chunks that a list of at most so many bytes can have.
pub(super) fn max_chunks(max_list_bytes: u64) -> u64 {
    let fixed = (HEADER_BYTES + CHECKSUM_BYTES) as u64;
    max_list_bytes.min(MAX_LIST_BYTES).saturating_sub(fixed) / CHUNK_BYTES as u64
}

/// Whether a list may have so many bytes.
pub(super) fn may_have(bytes: u64) -> bool {
    bytes <= MAX_LIST_BYTES
}

/// Which chunks a blob is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    /// The blob.
    pub(super) digest: Digest,
    /// As they are stored.
    encoded: Bytes,
}

impl List {
    /// The list of the blob with this hash; `None` when it is not one.
    pub(super) fn parse(
        encoded: &Bytes,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Option<Self> {
        let (covered, checksum) = encoded.split_last_chunk::<CHECKSUM_BYTES>()?;
        if *checksum != checksum_of(&hash, covered) {
            return None;
        }
        let (header, chunks) = covered.split_first_chunk::<HEADER_BYTES>()?;
        let (_, size_bytes) = header.split_first_chunk::<8>()?;
        let size_bytes = u64::from_le_bytes(*size_bytes.first_chunk()?);
        let digest = Digest { function, hash, size_bytes };
        let count = u32::try_from(chunks.len() / CHUNK_BYTES).ok()?;
        if *header != header_of(digest, count) || chunks.len() % CHUNK_BYTES != 0 {
            return None;
        }
        let list = Self { digest, encoded: encoded.clone() };
        let mut sum = 0_u64;
        for chunk in list.chunks() {
            let is_possible = (1..=u64::from(MAX_CHUNK_BYTES)).contains(&chunk.size_bytes);
            sum = sum.saturating_add(chunk.size_bytes);
            if !is_possible {
                return None;
            }
        }
        (sum == size_bytes).then_some(list)
    }

    /// The chunks, in the order of the blob.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Digest> + '_ {
        let end = self.encoded.len().saturating_sub(CHECKSUM_BYTES);
        let chunks = self.encoded.get(HEADER_BYTES..end).unwrap_or_default();
        chunks.chunks_exact(CHUNK_BYTES).filter_map(|chunk| self.chunk(chunk))
    }

    fn chunk(&self, encoded: &[u8]) -> Option<Digest> {
        let (hash, size_bytes) = encoded.split_first_chunk()?;
        let size_bytes = u64::from(u32::from_le_bytes(size_bytes.try_into().ok()?));
        Some(Digest { function: self.digest.function, hash: *hash, size_bytes })
    }

    /// How it is stored.
    pub(super) fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}

/// A list under way.
#[derive(Debug, Default)]
pub(super) struct ListBuilder {
    /// One after the other, as they are stored.
    chunks: Vec<u8>,
}

impl ListBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push(&mut self, chunk: &Digest) {
        // A chunk has at most 16 MiB.
        let size_bytes = u32::try_from(chunk.size_bytes).unwrap_or(u32::MAX);
        self.chunks.extend_from_slice(&chunk.hash);
        self.chunks.extend_from_slice(&size_bytes.to_le_bytes());
    }

    /// The list of the blob `digest`.
    pub(super) fn finish(self, digest: Digest) -> List {
        let count = u32::try_from(self.chunks.len() / CHUNK_BYTES).unwrap_or(u32::MAX);
        let mut encoded = header_of(digest, count).to_vec();
        encoded.extend_from_slice(&self.chunks);
        let checksum = checksum_of(&digest.hash, &encoded);
        encoded.extend_from_slice(&checksum);
        List { digest, encoded: encoded.into() }
    }
}

fn header_of(digest: Digest, count: u32) -> [u8; HEADER_BYTES] {
    let fixed = [VERSION, digest.function as u8, 0, 0];
    let size_bytes = digest.size_bytes.to_le_bytes();
    let count = count.to_le_bytes();
    let mut header = [0; HEADER_BYTES];
    let fields = MAGIC.iter().chain(&fixed).chain(&size_bytes).chain(&count);
    for (to, from) in header.iter_mut().zip(fields) {
        *to = *from;
    }
    header
}

fn checksum_of(hash: &[u8; HASH_BYTES], covered: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(hash).update(covered);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}
