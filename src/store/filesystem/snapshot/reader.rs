//! Reading a snapshot: its ends first, then any section by itself.

use std::io;

use super::record::{Record, record_bytes};
use super::tail::{self, Directory, Entry, MAX_TAIL_BYTES, TRAILER_BYTES, Trailer};
use super::{MAGIC, SnapshotError, Summary, section_checksum};
use crate::store::filesystem::layout::Shard;

/// What the ends of a snapshot say: what is in which section.
#[derive(Debug)]
pub(crate) struct SnapshotIndex {
    summary: Summary,
    directory: Directory,
    /// Where the section of each shard begins, or would.
    offsets: Vec<u64>,
    identity: String,
}

/// What a snapshot says about one shard without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardSummary {
    /// How many there are.
    pub(crate) records: u32,
    /// What they take with their variants, in bytes.
    pub(crate) charge_bytes: u64,
    /// What the directory of the shard takes itself, in bytes.
    pub(crate) directory_bytes: u64,
}

impl SnapshotIndex {
    /// Reads the ends of a snapshot of `total_len` bytes. `read_at` gives so many bytes from an
    /// offset; it is asked for less than 64 KiB at a time.
    pub(crate) fn parse(
        total_len: u64,
        mut read_at: impl FnMut(u64, usize) -> io::Result<Vec<u8>>,
    ) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Damaged;
        let mut read = |offset, len| match read_at(offset, len)? {
            bytes if bytes.len() == len => Ok(bytes),
            _ => Err(damaged("it is cut short")),
        };
        let trailer_offset =
            total_len.checked_sub(TRAILER_BYTES as u64).ok_or(damaged("it is too short"))?;
        let encoded_trailer = read(trailer_offset, TRAILER_BYTES)?;
        let trailer = Trailer::decode(&encoded_trailer)?;
        let tail_bytes = usize::try_from(trailer.tail_bytes).unwrap_or(usize::MAX);
        let tail_end = trailer.tail_offset.checked_add(trailer.tail_bytes);
        if tail_bytes > MAX_TAIL_BYTES || tail_end != Some(trailer_offset) {
            return Err(damaged("its lengths"));
        }
        let header = read(0, MAGIC.len())?;
        let tail = read(trailer.tail_offset, tail_bytes)?;
        if !trailer.vouches_for(&header, &tail) {
            return Err(damaged("the checksum of its directory"));
        }
        let (directory, summary) = tail::decode(&tail)?;
        let mut offsets = Vec::with_capacity(Shard::COUNT);
        let mut offset = MAGIC.len() as u64;
        for (shard, entry) in Shard::all().zip(&directory) {
            offsets.push(offset);
            let section_bytes = entry.as_ref().map_or(0, |entry| entry.section_bytes(shard));
            offset = offset.saturating_add(section_bytes);
        }
        if offset != trailer.tail_offset {
            return Err(damaged("the lengths of its sections"));
        }
        let identity = blake3::hash(&encoded_trailer).to_hex().to_string();
        Ok(Self { summary, directory, offsets, identity })
    }

    /// What it says about the store as a whole.
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The BLAKE3 of its trailer in hexadecimal digits: no other snapshot has it.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// What it says about a shard; `None` for one that had neither a directory nor records.
    pub(crate) fn shard(&self, shard: Shard) -> Option<ShardSummary> {
        let Entry { records, charge_bytes, directory_bytes, .. } = *self.entry(shard)?;
        Some(ShardSummary { records, charge_bytes, directory_bytes })
    }

    /// Where the section of a shard is, as offset and length in bytes; `None` without records.
    pub(crate) fn section_range(&self, shard: Shard) -> Option<(u64, usize)> {
        let entry = self.entry(shard).filter(|entry| entry.records > 0)?;
        let len = usize::try_from(entry.section_bytes(shard)).ok()?;
        Some((*self.offsets.get(shard.index())?, len))
    }

    /// Reads the bytes at [`SnapshotIndex::section_range`] into `records`, which is empty: the
    /// records of a shard, the least recently used first. On an error nothing in it counts.
    pub(crate) fn decode_section(
        &self,
        shard: Shard,
        bytes: &[u8],
        records: &mut Vec<Record>,
    ) -> Result<(), SnapshotError> {
        let damaged = SnapshotError::Damaged;
        let entry = self
            .entry(shard)
            .filter(|entry| entry.records > 0)
            .ok_or(damaged("a shard has no section"))?;
        if bytes.len() as u64 != entry.section_bytes(shard) {
            return Err(damaged("the length of a section"));
        }
        if section_checksum(shard, bytes) != entry.checksum {
            return Err(damaged("the checksum of a section"));
        }
        let record_bytes = record_bytes(shard.kind());
        records.reserve(bytes.len() / record_bytes);
        let mut charge_bytes = 0_u64;
        let mut last = (0, 0);
        for encoded in bytes.chunks_exact(record_bytes) {
            let record = Record::decode(shard, encoded).ok_or(damaged("a record"))?;
            let order = record.order();
            if order < last || order.0.max(order.1) >= self.summary.clock {
                return Err(damaged("the order of records"));
            }
            last = order;
            charge_bytes = charge_bytes.saturating_add(record.total_bytes());
            records.push(record);
        }
        if charge_bytes != entry.charge_bytes {
            return Err(damaged("the charges of a section"));
        }
        Ok(())
    }

    fn entry(&self, shard: Shard) -> Option<&Entry> {
        self.directory.get(shard.index())?.as_ref()
    }
}
