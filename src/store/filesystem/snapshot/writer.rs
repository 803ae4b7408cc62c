//! Writing a snapshot, front to back, with one section in memory at a time.

use std::io::{self, Write};

use super::record::{Record, record_bytes};
use super::tail::{self, Directory, Entry, Trailer};
use super::{MAGIC, Summary, section_checksum};
use crate::store::filesystem::layout::Shard;

/// A snapshot under way. After an error it is of no use; nothing reads what has no trailer.
#[derive(Debug)]
pub(crate) struct SnapshotWriter<W> {
    to: W,
    written_bytes: u64,
    directory: Directory,
    /// The position of the first shard that may still come.
    next_shard: usize,
    /// Everything written so far happened before.
    least_clock: u64,
    buffers: Buffers,
}

/// Kept from section to section.
#[derive(Debug, Default)]
struct Buffers {
    /// Records as they came.
    records: Vec<u8>,
    /// Stamp and generation of each, and the position of its bytes.
    order: Vec<((u64, u64), usize)>,
    /// Records in order, where they did not come in order.
    sorted: Vec<u8>,
}

impl<W: Write> SnapshotWriter<W> {
    /// Begins a snapshot. The writer need not be buffered.
    pub(crate) fn new(mut to: W) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        Ok(Self {
            to,
            written_bytes: MAGIC.len() as u64,
            directory: vec![None; Shard::COUNT],
            next_shard: 0,
            least_clock: 0,
            buffers: Buffers::default(),
        })
    }

    /// Writes the records of a shard, in whatever order they come. Shards come in rising order,
    /// each once; one without records may be left out.
    ///
    /// Fails with `InvalidInput` for a shard out of order, for a record of another shard, and for
    /// one that no store can have.
    pub(crate) fn section(
        &mut self,
        shard: Shard,
        records: impl Iterator<Item = Record>,
    ) -> io::Result<()> {
        if shard.index() < self.next_shard {
            return Err(invalid("its sections are not in order"));
        }
        self.next_shard = shard.index() + 1;
        let mut charge_bytes = 0_u64;
        self.buffers.clear();
        for record in records {
            charge_bytes = charge_bytes.saturating_add(record.total_bytes());
            let (stamp, generation) = record.order();
            self.least_clock = self.least_clock.max(stamp).max(generation);
            let position = self.buffers.records.len();
            self.buffers.order.push((record.order(), position));
            record
                .encode(shard, &mut self.buffers.records)
                .ok_or_else(|| invalid("a record is not one of its shard"))?;
        }
        let count = u32::try_from(self.buffers.order.len()).map_err(|_| invalid("too many"))?;
        if count == 0 {
            return Ok(());
        }
        let bytes = self.buffers.in_order(record_bytes(shard.kind()));
        self.to.write_all(bytes)?;
        self.written_bytes += bytes.len() as u64;
        let checksum = section_checksum(shard, bytes);
        let entry = entry_of(&mut self.directory, shard)?;
        *entry = Entry { records: count, charge_bytes, checksum, ..*entry };
        Ok(())
    }

    /// Notes what the directory of a shard takes itself. At any time, for shards without records
    /// too.
    pub(crate) fn shard_directory_bytes(&mut self, shard: Shard, bytes: u64) -> io::Result<()> {
        entry_of(&mut self.directory, shard)?.directory_bytes = bytes;
        Ok(())
    }

    /// Ends the snapshot; returns its length in bytes. Putting it on the disk is up to the caller.
    ///
    /// Fails with `InvalidInput` when the clock is not above every generation and stamp, or when
    /// the timeline is too long.
    pub(crate) fn finish(mut self, summary: &Summary) -> io::Result<u64> {
        let is_empty = self.directory.iter().flatten().all(|entry| entry.records == 0);
        if !is_empty && summary.clock <= self.least_clock {
            return Err(invalid("its clock is behind its records"));
        }
        if summary.timeline.len() > Summary::MAX_TIMELINE {
            return Err(invalid("its timeline is too long"));
        }
        let tail = tail::encode(&self.directory, summary);
        let trailer = Trailer::of(self.written_bytes, &tail).encode();
        self.to.write_all(&tail)?;
        self.to.write_all(&trailer)?;
        self.to.flush()?;
        Ok(self.written_bytes + (tail.len() + trailer.len()) as u64)
    }
}

fn entry_of(directory: &mut Directory, shard: Shard) -> io::Result<&mut Entry> {
    let entry = directory.get_mut(shard.index()).ok_or_else(|| invalid("no such shard"))?;
    Ok(entry.get_or_insert_default())
}

impl Buffers {
    fn clear(&mut self) {
        self.records.clear();
        self.order.clear();
    }

    /// The records in order. Sorting keys and copying each record once is several times faster
    /// than sorting records.
    fn in_order(&mut self, record_bytes: usize) -> &[u8] {
        if self.order.is_sorted() {
            return &self.records;
        }
        self.order.sort_unstable();
        self.sorted.clear();
        self.sorted.reserve(self.records.len());
        for (_, position) in &self.order {
            let record = self.records.get(*position..*position + record_bytes);
            self.sorted.extend_from_slice(record.unwrap_or_default());
        }
        &self.sorted
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the snapshot cannot be written: {what}"))
}
