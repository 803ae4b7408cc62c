//! Why a digest is missing: the last removals, in memory and in the file `REMOVED`.
//!
//! Written behind: a crash loses the removals of the last second, and nothing else depends on it.

use std::io;

use super::disk::{Disk, RingFile};
use super::index::Victim;
use super::sync::Mutex;
use super::tombstones::{RECORD_BYTES, Reason, Tombstone, Tombstones, capacity_for};
use crate::digest::{Digest, HASH_BYTES};
use crate::store::Key;

/// Its name.
pub(super) const REMOVED_NAME: &str = "REMOVED";
/// Records that are written at once.
const BATCH: usize = 256;

/// A removal that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The value.
    pub key: Key,
    /// When it was removed, in seconds since 1970.
    pub removed_at: u64,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Seconds since its last use, at the removal; `None` when that is not known.
    pub unused_seconds: Option<u32>,
    /// Seconds since it was written, at the removal; `None` when that is not known.
    pub age_seconds: Option<u32>,
}

impl From<&Tombstone> for Removal {
    fn from(tombstone: &Tombstone) -> Self {
        let Tombstone { key, removed_at, reason, unused_seconds, age_seconds, .. } = *tombstone;
        let reason = match reason {
            Reason::Evicted => "evicted to make room",
            Reason::Expired => "expired: not used for longer than the age limit",
            Reason::Count => "evicted: more entries than the limit",
            Reason::Purged => "purged",
            Reason::Corrupt => "corrupt: its bytes were not what was stored",
            Reason::Replaced => "replaced by a later one",
            Reason::Missing => "missing: somebody else deleted its file",
        };
        Self { key, removed_at, reason, unused_seconds, age_seconds }
    }
}

/// The log of one store.
#[derive(Debug)]
pub(super) struct TombstoneLog {
    ring: Mutex<Tombstones>,
    /// `None` where there is no room for it; then the log ends with the process.
    file: Option<RingFile>,
}

impl TombstoneLog {
    /// Reads what former processes left. Blocking.
    pub(super) fn open(disk: &Disk, max_bytes: u64) -> Self {
        let capacity = capacity_for(max_bytes);
        match Self::open_file(disk, capacity) {
            Ok((ring, file)) => Self { ring: Mutex::new(ring), file },
            Err(error) => {
                tracing::warn!(%error, "removals are not kept over a restart");
                Self { ring: Mutex::new(Tombstones::new(capacity)), file: None }
            }
        }
    }

    fn open_file(disk: &Disk, capacity: usize) -> io::Result<(Tombstones, Option<RingFile>)> {
        if capacity == 0 {
            disk.unlink(REMOVED_NAME)?;
            return Ok((Tombstones::new(0), None));
        }
        let file = disk.open_ring(REMOVED_NAME, (capacity * RECORD_BYTES) as u64)?;
        let mut bytes = vec![0; capacity * RECORD_BYTES];
        file.read_at(&mut bytes, 0)?;
        Ok((Tombstones::recover(&bytes, capacity), Some(file)))
    }

    /// Notes removals of values that had been visible.
    pub(super) fn add<'a>(&self, victims: impl Iterator<Item = &'a Victim>, now: u64) {
        let mut ring = self.ring.lock();
        for victim in victims {
            let Some(reason) = victim.reason else { continue };
            ring.push(&Tombstone {
                key: victim.file.key,
                generation: victim.file.generation,
                removed_at: now,
                reason,
                unused_seconds: u32::try_from(victim.unused_seconds).ok(),
                age_seconds: u32::try_from(victim.age_seconds).ok(),
            });
        }
    }

    /// Writes what is new. Blocking; a failure loses records, nothing else.
    pub(super) fn flush(&self) {
        let Some(file) = &self.file else { return };
        loop {
            let batch = self.ring.lock().take_unwritten(BATCH);
            if batch.is_empty() {
                return;
            }
            for (offset, record) in batch {
                if let Err(error) = file.write_at(&record, offset) {
                    tracing::debug!(%error, "removals not written down");
                    return;
                }
            }
        }
    }

    /// The removals of a digest that are remembered, the latest first.
    pub(super) fn find(&self, digest: &Digest) -> Vec<Removal> {
        self.ring.lock().find(digest).iter().map(Removal::from).collect()
    }

    /// Those of a hash whose keys are `wanted`, and how many removals are remembered in all.
    pub(super) fn find_hash(
        &self,
        hash: &[u8; HASH_BYTES],
        wanted: impl Fn(&Key) -> bool,
    ) -> (Vec<Removal>, usize) {
        let ring = self.ring.lock();
        (ring.find_hash(hash, wanted).iter().map(Removal::from).collect(), ring.len())
    }
}
