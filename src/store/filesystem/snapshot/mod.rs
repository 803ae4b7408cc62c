//! The snapshot: what the index knew, so that a start need not read every directory.
//!
//! Pure: bytes in, bytes out. A snapshot is a copy of knowledge and never the only place of it, so
//! one that is damaged in any way is an error here and the directories are read instead. It is
//! never half believed: a record is given out only when its section's checksum holds.
//!
//! ```text
//! header     "castellan snap 1"
//! sections   one per shard that has records, in the order of shards, without gaps:
//!            its records, all of one length, least recently used first
//! directory  number of shards (4), then for each:
//!            shard (2) records (4) charges (8) bytes of its directory (8) checksum (16)
//! summary    clock (8) foreign bytes (8) number of points (4), then for each: stamp (8) time (8)
//! trailer    offset of the directory (8) length of directory and summary (8)
//!            BLAKE3 of header, directory, summary and the two numbers before (32)
//!            "castellan snap 1"
//! ```
//! Where a section begins follows from the records before it, so sections cannot overlap. The
//! trailer vouches for the directory, the directory for every section, and a section's checksum is
//! also over its shard: no part of another snapshot fits in. To open a snapshot is to read its
//! ends; sections are read one by one, in any order.

mod reader;
mod record;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::io;

use super::layout::Shard;

pub(super) use reader::SnapshotIndex;
pub(super) use record::Record;
pub(super) use writer::SnapshotWriter;

/// What a snapshot begins and ends with; the last byte is the version.
const MAGIC: [u8; 16] = *b"castellan snap 1";
/// What those of every version begin with.
const MAGIC_NAME: &[u8] = b"castellan snap ";
/// Separates these checksums from every other use of BLAKE3.
const SECTION_CONTEXT: &str = "castellan 2026 snapshot section";

/// What a snapshot says about the store as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The logical time when it was taken: every generation and stamp in it is below.
    pub(crate) clock: u64,
    /// Stamps and the seconds since 1970 when they were given out; at most
    /// [`Summary::MAX_TIMELINE`].
    pub(crate) timeline: Vec<(u64, u64)>,
    /// What files that are not the store's take in the shards, in bytes.
    pub(crate) foreign_bytes: u64,
}

impl Summary {
    /// The most points of a timeline.
    pub(crate) const MAX_TIMELINE: usize = 1024;
}

/// Why a snapshot cannot be used. The directories are read instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// Its bytes could not be had.
    #[error("the snapshot cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It was written by another build.
    #[error("the snapshot has another version")]
    Version,
    /// It is not what was written.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
}

/// The most bytes that a snapshot of so many entries in so many shards takes, with so many points
/// of its timeline, before any block is rounded up.
pub(super) fn snapshot_bytes_upper_bound(entries: u64, shards: usize, points: usize) -> u64 {
    let fixed = MAGIC.len() + tail::tail_bytes(shards, points) + tail::TRAILER_BYTES;
    entries.saturating_mul(record::MAX_RECORD_BYTES as u64).saturating_add(fixed as u64)
}

/// What vouches for the records of one shard.
type SectionChecksum = [u8; 16];

fn section_checksum(shard: Shard, records: &[u8]) -> SectionChecksum {
    let mut hasher = blake3::Hasher::new_derive_key(SECTION_CONTEXT);
    hasher.update(&(shard.index() as u64).to_le_bytes());
    hasher.update(records);
    let mut checksum = SectionChecksum::default();
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}
