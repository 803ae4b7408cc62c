//! Writing the index down, now and then and at a clean stop.
//!
//! A snapshot says when each entry was used and how long it is leased, which no name can say; at a
//! clean stop it says all there is to know. It is written a few entries at a time, so a periodic
//! one is no picture of one moment; what it says of a generation was true at some moment, and the
//! next start looks at the names as well.

use std::io::{self, Write};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::disk::{OwnWriter, ReadFile};
use super::layout::Shard;
use super::own_room::OwnRoom;
use super::shared::Parts;
use super::snapshot::{SnapshotIndex, SnapshotWriter, Summary, snapshot_bytes_upper_bound};
use super::sync::{Mutex, sleep};

/// Its name.
pub(super) const SNAPSHOT_NAME: &str = "SNAPSHOT";
/// Entries read under one hold of the index lock.
const BATCH: usize = 512;
/// A snapshot takes at most this part of the cap; small stores are read as quickly without.
const LEAST_SHARE: u64 = 16;

/// What the snapshot on the disk takes. Held while one is written.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    charged_bytes: Mutex<u64>,
}

impl Snapshots {
    /// `charged_bytes` are those of the snapshot that is there.
    pub(super) fn new(charged_bytes: u64) -> Self {
        Self { charged_bytes: Mutex::new(charged_bytes) }
    }
}

/// Writes a snapshot each `snapshot_interval` until the store closes.
pub(super) async fn run_snapshots(parts: Arc<Parts>, closing: CancellationToken) {
    let mut written = 0;
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = sleep(parts.settings.snapshot_interval) => {}
        }
        let clock = parts.index.lock(|index| index.clock());
        // Before every shard is read a snapshot would forget what the last one knew.
        if clock == written || !parts.loader.is_done() {
            continue;
        }
        let worker = Arc::clone(&parts);
        let job = move || make_room(&worker).map(write).transpose();
        match parts.pool.run_unmetered(job).await {
            Ok(Ok(_)) => written = clock,
            outcome => tracing::warn!(?outcome, "no snapshot written"),
        }
    }
}

/// Makes room for a snapshot, by eviction if need be; `None` when that is not worth it. Blocking.
pub(super) fn make_room(parts: &Parts) -> Option<OwnRoom<'_>> {
    let (entries, max_bytes, points, shards) = parts.index.lock(|index| {
        let shards = index.shard_bytes().iter().filter(|bytes| **bytes > 0).count();
        (index.len() as u64, index.ledger().max_bytes, index.timeline().len(), shards)
    });
    // And what may be added while it is written.
    let (entries, shards) = (entries + entries / 16 + 16, (shards + 16).min(Shard::COUNT));
    let bound = snapshot_bytes_upper_bound(entries, shards, points + 1);
    let bytes = parts.blocks.reservation_for(bound);
    if bytes > max_bytes / LEAST_SHARE { None } else { OwnRoom::make(parts, bytes) }
}

/// Writes a snapshot and gives its identity. Blocking.
pub(super) fn write(mut room: OwnRoom<'_>) -> io::Result<String> {
    let parts = room.parts();
    let mut charged_bytes = parts.snapshots.charged_bytes.lock();
    let written = write_file(parts, room.bytes());
    // I3: after a failure too, which may have come behind the renaming.
    let now_bytes = parts.disk.allocated_at(SNAPSHOT_NAME)?;
    room.settle(now_bytes, *charged_bytes);
    *charged_bytes = now_bytes;
    written?;
    let missing = || io::Error::from(io::ErrorKind::NotFound);
    let file = parts.disk.open_own(SNAPSHOT_NAME)?.ok_or_else(missing)?;
    Ok(parse(&file)?.identity().to_owned())
}

/// Reads the ends of a snapshot.
pub(super) fn parse(file: &ReadFile) -> io::Result<SnapshotIndex> {
    let read_at = |offset, len| {
        let mut bytes = vec![0; len];
        let read = file.read_full(&mut bytes, offset)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    SnapshotIndex::parse(file.len_bytes(), read_at).map_err(io::Error::other)
}

fn write_file(parts: &Parts, room_bytes: u64) -> io::Result<()> {
    let mut to = Bounded { file: parts.disk.begin_own(SNAPSHOT_NAME)?, room_bytes };
    let slots = slots_by_shard(parts);
    let mut writer = SnapshotWriter::new(&mut to)?;
    let mut rest = slots.as_slice();
    while let Some((shard, _)) = rest.first().copied() {
        let len = rest.partition_point(|(it, _)| *it == shard);
        let (own, others) = rest.split_at(len);
        rest = others;
        let batches = own.chunks(BATCH).flat_map(|batch| {
            let slots: Vec<u32> = batch.iter().map(|(_, slot)| *slot).collect();
            parts.index.lock(|index| index.records(shard, &slots))
        });
        writer.section(shard, batches)?;
    }
    let shard_bytes = parts.index.lock(|index| index.shard_bytes().to_vec());
    for (shard, bytes) in Shard::all().zip(shard_bytes).filter(|(_, bytes)| *bytes > 0) {
        writer.shard_directory_bytes(shard, bytes)?;
    }
    let (clock, timeline) = parts.index.lock(|index| (index.clock() + 1, index.timeline()));
    let foreign_bytes = parts.loader.foreign_bytes();
    writer.finish(&Summary { clock, timeline, foreign_bytes })?;
    to.file.commit()
}

/// Every entry's shard and slot, in the order of shards.
fn slots_by_shard(parts: &Parts) -> Vec<(Shard, u32)> {
    let mut slots = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let (some, rest) = parts.index.lock(|index| index.slots_from(from, BATCH));
        slots.extend(some);
        next = rest;
    }
    slots.sort_unstable();
    slots
}

/// An own file that may not grow over what was reserved for it (I3).
struct Bounded {
    file: OwnWriter,
    room_bytes: u64,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.file.written_bytes() + data.len() as u64 > self.room_bytes {
            return Err(io::Error::other("the snapshot outgrew its room"));
        }
        self.file.write_all(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
