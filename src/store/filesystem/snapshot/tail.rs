//! The end of a snapshot: directory, summary and trailer, which say what the rest must be.

use super::record::record_bytes;
use super::{MAGIC, MAGIC_NAME, SectionChecksum, SnapshotError, Summary};
use crate::store::filesystem::fields::Fields;
use crate::store::filesystem::layout::Shard;

const ENTRY_BYTES: usize = 2 + 4 + 8 + 8 + 16;
const POINT_BYTES: usize = 8 + 8;
/// The longest directory and summary, in bytes.
pub(super) const MAX_TAIL_BYTES: usize = tail_bytes(Shard::COUNT, Summary::MAX_TIMELINE);

/// The length of a directory of so many shards and a summary of so many points, in bytes.
pub(super) const fn tail_bytes(shards: usize, points: usize) -> usize {
    let summary_bytes = 8 * 2 + 4;
    4 + shards * ENTRY_BYTES + summary_bytes + points * POINT_BYTES
}

/// The length of the trailer in bytes.
pub(super) const TRAILER_BYTES: usize = 8 + 8 + 32 + MAGIC.len();
/// Separates these checksums from every other use of BLAKE3.
const CONTEXT: &str = "castellan 2026 snapshot directory";

/// What the directory says about one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) records: u32,
    /// Charges of its records with their variants, in bytes.
    pub(super) charge_bytes: u64,
    /// What the directory of the shard takes itself, in bytes.
    pub(super) directory_bytes: u64,
    /// Over its section; zeros without records.
    pub(super) checksum: SectionChecksum,
}

impl Entry {
    /// The length of the section in bytes.
    pub(super) fn section_bytes(&self, shard: Shard) -> u64 {
        u64::from(self.records) * record_bytes(shard.kind()) as u64
    }
}

/// What is known of each shard, by its position; `None` for one without a directory.
pub(super) type Directory = Vec<Option<Entry>>;

/// Directory and summary as bytes. The timeline must not be longer than allowed.
pub(super) fn encode(directory: &Directory, summary: &Summary) -> Vec<u8> {
    let listed = Shard::all().zip(directory).filter_map(|(shard, it)| Some((shard, it.as_ref()?)));
    let mut bytes = vec![0; 4];
    let mut count = 0_u32;
    for (shard, entry) in listed {
        // There are fewer shards than 2^16.
        let index = u16::try_from(shard.index()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&entry.records.to_le_bytes());
        bytes.extend_from_slice(&entry.charge_bytes.to_le_bytes());
        bytes.extend_from_slice(&entry.directory_bytes.to_le_bytes());
        bytes.extend_from_slice(&entry.checksum);
        count += 1;
    }
    for (to, from) in bytes.iter_mut().zip(count.to_le_bytes()) {
        *to = from;
    }
    bytes.extend_from_slice(&summary.clock.to_le_bytes());
    bytes.extend_from_slice(&summary.foreign_bytes.to_le_bytes());
    let points = u32::try_from(summary.timeline.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&points.to_le_bytes());
    for (stamp, unix_seconds) in &summary.timeline {
        bytes.extend_from_slice(&stamp.to_le_bytes());
        bytes.extend_from_slice(&unix_seconds.to_le_bytes());
    }
    bytes
}

/// Reads what [`encode`] gave; allocates no more than the longest of them takes.
pub(super) fn decode(bytes: &[u8]) -> Result<(Directory, Summary), SnapshotError> {
    let mut fields = Fields::new(bytes);
    let directory = decode_directory(&mut fields).ok_or(SnapshotError::Damaged("its directory"))?;
    let summary = decode_summary(&mut fields).ok_or(SnapshotError::Damaged("its summary"))?;
    Ok((directory, summary))
}

fn decode_directory(fields: &mut Fields<'_>) -> Option<Directory> {
    let mut directory = vec![None; Shard::COUNT];
    let count = fields.u32()?;
    let mut next = 0;
    for _ in 0..count {
        let index = usize::from(fields.u16()?);
        let entry = Entry {
            records: fields.u32()?,
            charge_bytes: fields.u64()?,
            directory_bytes: fields.u64()?,
            checksum: fields.take()?,
        };
        // In rising order, each once.
        if index < next {
            return None;
        }
        *directory.get_mut(index)? = Some(entry);
        next = index + 1;
    }
    Some(directory)
}

fn decode_summary(fields: &mut Fields<'_>) -> Option<Summary> {
    let (clock, foreign_bytes) = (fields.u64()?, fields.u64()?);
    let mut summary = Summary { clock, foreign_bytes, timeline: Vec::new() };
    let points = usize::try_from(fields.u32()?).ok()?;
    if points > Summary::MAX_TIMELINE || fields.len() != points * POINT_BYTES {
        return None;
    }
    summary.timeline.reserve_exact(points);
    for _ in 0..points {
        summary.timeline.push((fields.u64()?, fields.u64()?));
    }
    Some(summary)
}

/// The last bytes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Where the directory begins.
    pub(super) tail_offset: u64,
    /// The length of directory and summary in bytes.
    pub(super) tail_bytes: u64,
    checksum: [u8; 32],
}

impl Trailer {
    /// The trailer of a directory and summary that begin at `tail_offset`.
    pub(super) fn of(tail_offset: u64, tail: &[u8]) -> Self {
        let tail_bytes = tail.len() as u64;
        Self { tail_offset, tail_bytes, checksum: checksum(&MAGIC, tail, tail_offset) }
    }

    /// Whether it is the trailer of this header, directory and summary.
    pub(super) fn vouches_for(&self, header: &[u8], tail: &[u8]) -> bool {
        header == MAGIC
            && tail.len() as u64 == self.tail_bytes
            && checksum(header, tail, self.tail_offset) == self.checksum
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        bytes.extend_from_slice(&self.tail_offset.to_le_bytes());
        bytes.extend_from_slice(&self.tail_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.checksum);
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Damaged("its trailer");
        let mut fields = Fields::new(bytes);
        let (Some(tail_offset), Some(tail_bytes), Some(checksum), Some(magic)) =
            (fields.u64(), fields.u64(), fields.take(), fields.take())
        else {
            return Err(damaged);
        };
        if magic != MAGIC && magic.starts_with(MAGIC_NAME) {
            return Err(SnapshotError::Version);
        }
        if magic != MAGIC || !fields.is_empty() {
            return Err(damaged);
        }
        Ok(Self { tail_offset, tail_bytes, checksum })
    }
}

fn checksum(header: &[u8], tail: &[u8], tail_offset: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(header);
    hasher.update(tail);
    hasher.update(&tail_offset.to_le_bytes());
    hasher.update(&(tail.len() as u64).to_le_bytes());
    *hasher.finalize().as_bytes()
}
