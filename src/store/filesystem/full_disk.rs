//! A full disk is an ordinary day: others write to it too.
//!
//! The cap says what the store may take, the disk says what there is. When the disk has less, the
//! effective cap shrinks to what it has, entries go as if the cap had always been that, and the
//! write that met the full disk is tried again. As room comes back the effective cap grows again.

use std::io;
use std::sync::Arc;

use super::index::Victim;
use super::shared::Parts;

/// Entries that make room for one write at once.
const BATCH: usize = 16;
/// Free inodes below which it is those that a write lacks.
const SPARE_INODES: u64 = 16;
/// Rounds of that for one write; the largest value over the smallest files must end.
const MAX_ROUNDS: usize = 4096;

/// How often one write that meets the full disk is tried again: what it made room with, others may
/// take, for what the disk has is only known roughly while they write.
const MAX_RETRIES: u32 = 16;

/// The further tries of one write.
#[derive(Debug, Default)]
pub(super) struct Retries {
    made: u32,
    /// Whether nothing was left to evict; it is tried again all the same, once: somebody else may
    /// have made the room.
    is_last: bool,
}

impl Retries {
    /// Makes room for `bytes` for one more try; false when there shall be none. Cancel safe.
    pub(super) async fn make_room(&mut self, parts: &Arc<Parts>, bytes: u64) -> bool {
        if self.is_last || self.made == MAX_RETRIES {
            return false;
        }
        self.made += 1;
        self.is_last = !make_room(parts, bytes).await;
        true
    }
}

/// Shrinks the effective cap to what the disk has and evicts for `bytes` more; whether anything
/// was evicted. Cancel safe.
pub(super) async fn make_room(parts: &Arc<Parts>, bytes: u64) -> bool {
    parts.counters.full_disks.add(1);
    let worker = Arc::clone(parts);
    // I12: takes no permit, or a store full of writers could not make room.
    let made = parts.pool.run_unmetered(move || make_room_blocking(&worker, bytes)).await;
    made.unwrap_or_else(|error| {
        tracing::error!(%error, "no room made on a full disk");
        false
    })
}

fn make_room_blocking(parts: &Parts, bytes: u64) -> bool {
    if let Err(error) = measure(parts) {
        tracing::warn!(%error, "free space not known");
    }
    let free_inodes = parts.disk.space().map_or(0, |it| it.free_inodes);
    let files = if free_inodes < SPARE_INODES { BATCH } else { 1 };
    let mut wanted = bytes;
    for round in 0..MAX_ROUNDS {
        let victims = parts.index.lock(|index| index.evict_for_disk(wanted, files, BATCH));
        if victims.is_empty() {
            return round > 0;
        }
        let freed: u64 = victims.iter().map(Victim::charge).sum();
        parts.bury(victims);
        wanted = wanted.saturating_sub(freed);
        let is_short = parts.index.lock(|index| index.is_short_of_disk());
        if wanted == 0 && !is_short {
            break;
        }
    }
    true
}

/// Sets the effective cap from the free space of the disk, less the margin that shall stay free:
/// where others have taken that, the store gives back of its own.
pub(super) fn measure(parts: &Parts) -> io::Result<()> {
    let free = parts.disk.space()?.free_bytes;
    let margin = parts.settings.min_free_bytes;
    let (was_cut, is_cut) = parts.update(|index| {
        let books = index.ledger();
        // What is reserved is still to be written, so it must come out of the free space.
        let on_disk = books.total_bytes() - books.reserved_bytes;
        let limit = on_disk.saturating_add(free).saturating_sub(margin).min(books.max_bytes);
        index.set_limit(limit);
        (books.limit_bytes < books.max_bytes, limit < books.max_bytes)
    });
    match (was_cut, is_cut) {
        (false, true) => tracing::warn!(free, "the disk has less than the cap allows, using less"),
        (true, false) => tracing::info!(free, "the disk has what the cap allows again"),
        _ => {}
    }
    Ok(())
}
