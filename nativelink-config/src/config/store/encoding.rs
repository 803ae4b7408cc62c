//! Stores that keep content in another form than they were given it.

use super::super::facts::Facts;
use super::{Backend, read_backend};
use crate::document::Node;
use crate::reader::Reader;

const LZ4_BLOCK_BYTES: u64 = 64 << 10;
const DEDUP_MIN_BYTES: u64 = 64 << 10;
const DEDUP_NORMAL_BYTES: u64 = 256 << 10;
const DEDUP_MAX_BYTES: u64 = 512 << 10;
const DEDUP_FETCHES: u64 = 10;

/// The settings of a `compression` store.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressionStore {
    /// Where compressed content goes.
    pub backend: Backend,
    /// How it is compressed.
    pub compression_algorithm: CompressionAlgorithm,
}

/// A way to compress content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionAlgorithm {
    /// `lz4`.
    Lz4(Lz4Config),
}

/// The settings of `lz4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lz4Config {
    /// How much is compressed at a time, in bytes; 64 KiB unless said.
    pub block_size: u64,
    /// The largest block that is read back, in bytes; `block_size` unless said.
    pub max_decode_block_size: u64,
}

/// The settings of a `dedup` store: content in pieces that blobs share.
#[derive(Debug, Clone, PartialEq)]
pub struct DedupStore {
    /// Where the lists of pieces go, under the digests of their blobs.
    pub index_store: Backend,
    /// Where the pieces go, under digests of their own.
    pub content_store: Backend,
    /// The least size of a piece, in bytes; 64 KiB unless said. Never above `normal_size`.
    pub min_size: u64,
    /// The size around which pieces are cut, in bytes; 256 KiB unless said.
    pub normal_size: u64,
    /// The largest size of a piece, in bytes; 512 KiB unless said. Never below `normal_size`.
    pub max_size: u64,
    /// The most pieces that one read fetches at a time; 10 unless said.
    pub max_concurrent_fetch_per_get: u64,
}

pub(super) fn read_compression(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<CompressionStore> {
    reader.object(node, |table| {
        let backend = table.required("backend", |reader, node| read_backend(reader, node, facts));
        let compression_algorithm = table.required("compression_algorithm", read_algorithm);
        Some(CompressionStore { backend: backend?, compression_algorithm: compression_algorithm? })
    })
}

fn read_algorithm(reader: &mut Reader<'_>, node: &Node) -> Option<CompressionAlgorithm> {
    reader.object(node, |table| table.required("lz4", read_lz4).map(CompressionAlgorithm::Lz4))
}

fn read_lz4(reader: &mut Reader<'_>, node: &Node) -> Option<Lz4Config> {
    reader.object(node, |table| {
        let block_size =
            table.optional("block_size", Reader::nonzero_size).unwrap_or(LZ4_BLOCK_BYTES);
        let max_decode_block_size =
            table.optional("max_decode_block_size", Reader::nonzero_size).unwrap_or(block_size);
        if max_decode_block_size < block_size {
            table.report("`max_decode_block_size` is below `block_size`: nothing could be read");
        }
        Some(Lz4Config { block_size, max_decode_block_size })
    })
}

pub(super) fn read_dedup(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<DedupStore> {
    reader.object(node, |table| {
        let index_store =
            table.required("index_store", |reader, node| read_backend(reader, node, facts));
        let content_store =
            table.required("content_store", |reader, node| read_backend(reader, node, facts));
        let mut size = |key, default| table.optional(key, Reader::nonzero_size).unwrap_or(default);
        let min_size = size("min_size", DEDUP_MIN_BYTES);
        let normal_size = size("normal_size", DEDUP_NORMAL_BYTES);
        let max_size = size("max_size", DEDUP_MAX_BYTES);
        if min_size > normal_size || normal_size > max_size {
            let message = format!(
                "the sizes of pieces are not in order: `min_size` {min_size}, `normal_size` \
                 {normal_size}, `max_size` {max_size}"
            );
            table.report(message);
        }
        let max_concurrent_fetch_per_get = table
            .optional("max_concurrent_fetch_per_get", Reader::nonzero_count)
            .unwrap_or(DEDUP_FETCHES);
        Some(DedupStore {
            index_store: index_store?,
            content_store: content_store?,
            min_size,
            normal_size,
            max_size,
            max_concurrent_fetch_per_get,
        })
    })
}
