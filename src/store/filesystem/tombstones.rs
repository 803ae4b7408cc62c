//! The log of the last removals: it answers why a digest is missing.
//!
//! Pure. Advice for people, never for the store: nothing decides by it, so it may lose records and
//! is not synced. Bounded in memory and in its file, which is a ring of records of one length; a
//! record's place is its sequence number modulo the capacity. A record with a wrong checksum (torn,
//! half written, never written) is not there.
//!
//! ```text
//! sequence (8) kind and function (1) reason (1) hash (32) size (8) namespace (16) generation (8)
//! removed at (6) unused seconds (4) age in seconds (4) checksum (8)
//! ```

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::fields::{Fields, MAX_SHORT, short};
use super::layout::Generation;
use crate::digest::{Digest, DigestFunction, HASH_BYTES};
use crate::store::{Key, Kind, Namespace};

/// The length of a record in bytes.
pub(crate) const RECORD_BYTES: usize = 96;
const SUMMED_BYTES: usize = RECORD_BYTES - 8;
const HASH_OFFSET: usize = 8 + 1 + 1;
/// The most records of any log.
const MAX_RECORDS: usize = 65_536;
/// The part of the cap that a log may take.
const CAP_SHARE: u64 = 256;
/// What a file takes at least on most file systems, in bytes.
const BLOCK_BYTES: u64 = 4096;
/// No log gets that far: a higher number is not one.
const MAX_SEQUENCE: u64 = u64::MAX >> 1;
/// Seconds that are not known.
const UNKNOWN: u32 = u32::MAX;
/// Separates these checksums from every other use of BLAKE3.
const CONTEXT: &str = "castellan 2026 removed digest";

type Encoded = [u8; RECORD_BYTES];

/// Why a value was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Reason {
    /// To make room under the cap.
    Evicted = 1,
    /// It was over the age limit.
    Expired = 2,
    /// There were more entries than the limit.
    Count = 3,
    /// Somebody purged it.
    Purged = 4,
    /// Its bytes were not those it should have.
    Corrupt = 5,
    /// A later action result took its place.
    Replaced = 6,
    /// Somebody else deleted its file.
    Missing = 7,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Evicted,
        Self::Expired,
        Self::Count,
        Self::Purged,
        Self::Corrupt,
        Self::Replaced,
        Self::Missing,
    ];
}

/// A removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// The value.
    pub(crate) key: Key,
    /// The write that had made it.
    pub(crate) generation: Generation,
    /// When it was removed, in seconds since 1970; below 2^48.
    pub(crate) removed_at: u64,
    /// Why.
    pub(crate) reason: Reason,
    /// Seconds since its last use, at the removal; `None` when that is not known.
    pub(crate) unused_seconds: Option<u32>,
    /// Seconds since it was written, at the removal; `None` when that is not known.
    pub(crate) age_seconds: Option<u32>,
}

/// The last removals, and which of them the file does not have yet.
#[derive(Debug)]
pub(crate) struct Tombstones {
    capacity: usize,
    /// By rising sequence, each within `capacity` of the last, so that no two share a place.
    records: VecDeque<(u64, Encoded)>,
    /// How many of the last ones are not in the file.
    unwritten: usize,
    next_sequence: u64,
}

impl Tombstones {
    /// An empty log of at most `capacity` records; 0 keeps nothing.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, records: VecDeque::new(), unwritten: 0, next_sequence: 0 }
    }

    /// The log that a file holds. Damaged records are skipped and the sequence goes on. The file
    /// may have been written for another capacity: then all of it is to be written again, and
    /// whatever is beyond `capacity` records can be cut off.
    pub(crate) fn recover(bytes: &[u8], capacity: usize) -> Self {
        let mut log = Self::new(capacity);
        let mut found = Vec::new();
        for (place, encoded) in bytes.as_chunks::<RECORD_BYTES>().0.iter().enumerate() {
            if let Some(sequence) = checked_sequence(encoded) {
                let is_misplaced = log.place_of(sequence) != Some(place as u64);
                found.push((sequence, is_misplaced, encoded));
            }
        }
        // Of two copies the one in its place counts.
        found.sort_unstable_by_key(|(sequence, is_misplaced, _)| (*sequence, *is_misplaced));
        found.dedup_by_key(|(sequence, ..)| *sequence);
        log.next_sequence = found.last().map_or(0, |(sequence, ..)| sequence + 1);
        let first = log.first_kept();
        found.retain(|(sequence, ..)| *sequence >= first);
        let is_in_place = found.iter().all(|(_, is_misplaced, _)| !is_misplaced);
        log.unwritten = if is_in_place { 0 } else { found.len() };
        log.records =
            found.into_iter().map(|(sequence, _, encoded)| (sequence, *encoded)).collect();
        log
    }

    /// Notes a removal. The oldest makes room, written out or not.
    pub(crate) fn push(&mut self, tombstone: &Tombstone) {
        if self.capacity == 0 {
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.records.push_back((sequence, encode(sequence, tombstone)));
        self.drop_oldest();
        self.unwritten = (self.unwritten + 1).min(self.records.len());
    }

    /// At most `max` records that the file does not have, the oldest first, each with its offset
    /// in the file in bytes. They count as written from now on: what then is not written is lost
    /// to the file, not to [`Tombstones::find`].
    pub(crate) fn take_unwritten(&mut self, max: usize) -> Vec<(u64, [u8; RECORD_BYTES])> {
        let first = self.records.len() - self.unwritten;
        let taken = self.unwritten.min(max);
        self.unwritten -= taken;
        let records = self.records.iter().skip(first).take(taken);
        records
            .filter_map(|(sequence, encoded)| {
                Some((self.place_of(*sequence)? * RECORD_BYTES as u64, *encoded))
            })
            .collect()
    }

    /// The removals of a digest, the latest first: blobs and action results of all namespaces.
    /// Reads the whole log.
    pub(crate) fn find(&self, digest: &Digest) -> Vec<Tombstone> {
        self.find_hash(&digest.hash, |key| key.is_of(digest))
    }

    /// How many removals are remembered.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Those of a hash whose keys are `wanted`, the latest first. Reads the whole log.
    pub(crate) fn find_hash(
        &self,
        hash: &[u8; HASH_BYTES],
        wanted: impl Fn(&Key) -> bool,
    ) -> Vec<Tombstone> {
        let latest_first = self.records.iter().rev();
        let of_hash = latest_first.filter_map(|(_, encoded)| decode_if_of(encoded, hash));
        of_hash.filter(|it| wanted(&it.key)).collect()
    }

    fn place_of(&self, sequence: u64) -> Option<u64> {
        sequence.checked_rem(self.capacity as u64)
    }

    fn first_kept(&self) -> u64 {
        self.next_sequence.saturating_sub(self.capacity as u64)
    }

    fn drop_oldest(&mut self) {
        let first = self.first_kept();
        while self.records.front().is_some_and(|(sequence, _)| *sequence < first) {
            self.records.pop_front();
        }
    }
}

/// How many records a log may have under a cap of so many bytes; 0 where it is not worth a block.
pub(crate) fn capacity_for(cap_bytes: u64) -> usize {
    let budget_bytes = cap_bytes / CAP_SHARE / BLOCK_BYTES * BLOCK_BYTES;
    let records = usize::try_from(budget_bytes / RECORD_BYTES as u64).unwrap_or(usize::MAX);
    records.min(MAX_RECORDS)
}

/// The removals in a file of those digests that are `wanted`, the latest first, and how many
/// records it has in all. The file may be in use.
pub(crate) fn scan(bytes: &[u8], wanted: impl Fn(&Key) -> bool) -> (Vec<Tombstone>, usize) {
    let records = bytes.as_chunks::<RECORD_BYTES>().0.iter();
    let mut found: Vec<(u64, Tombstone)> = records
        .filter_map(|encoded| Some((checked_sequence(encoded)?, decode(encoded)?)))
        .collect();
    found.sort_unstable_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
    // A log that was laid out anew can have a record twice.
    found.dedup_by_key(|(sequence, _)| *sequence);
    let count = found.len();
    let tombstones = found.into_iter().map(|(_, tombstone)| tombstone);
    (tombstones.filter(|it| wanted(&it.key)).collect(), count)
}

fn encode(sequence: u64, tombstone: &Tombstone) -> Encoded {
    let Key { namespace, kind, digest } = tombstone.key;
    let removed_at = short(tombstone.removed_at.min(MAX_SHORT)).unwrap_or_default();
    let seconds = |it: Option<u32>| it.map_or(UNKNOWN, |it| it.min(UNKNOWN - 1)).to_le_bytes();
    let (unused, age) = (seconds(tombstone.unused_seconds), seconds(tombstone.age_seconds));
    let parts: [&[u8]; 10] = [
        &sequence.to_le_bytes(),
        &[class_of(kind, digest.function)],
        &[tombstone.reason as u8],
        &digest.hash,
        &digest.size_bytes.to_le_bytes(),
        &namespace.0,
        &tombstone.generation.0.to_le_bytes(),
        &removed_at,
        &unused,
        &age,
    ];
    let mut encoded = [0; RECORD_BYTES];
    for (to, from) in encoded.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    let sum = checksum(&encoded);
    for (to, from) in encoded.iter_mut().skip(SUMMED_BYTES).zip(sum) {
        *to = from;
    }
    encoded
}

/// Reads a record; says nothing about its checksum.
fn decode(encoded: &Encoded) -> Option<Tombstone> {
    let mut fields = Fields::new(encoded);
    let _sequence = fields.u64()?;
    let (kind, function) = class_from(fields.u8()?)?;
    let code = fields.u8()?;
    let reason = Reason::ALL.into_iter().find(|reason| *reason as u8 == code)?;
    let digest = Digest { function, hash: fields.take()?, size_bytes: fields.u64()? };
    let key = Key { namespace: Namespace(fields.take()?), kind, digest };
    let generation = Generation(fields.u64()?);
    let removed_at = fields.short()?;
    let unused_seconds = fields.u32().filter(|it| *it != UNKNOWN);
    let age_seconds = fields.u32().filter(|it| *it != UNKNOWN);
    Some(Tombstone { key, generation, removed_at, reason, unused_seconds, age_seconds })
}

/// Reads a record when it is about this hash.
fn decode_if_of(encoded: &Encoded, hash: &[u8; HASH_BYTES]) -> Option<Tombstone> {
    let noted = encoded.get(HASH_OFFSET..HASH_OFFSET + HASH_BYTES)?;
    if noted == hash { decode(encoded) } else { None }
}

/// The sequence number of a record that is as it was written.
fn checked_sequence(encoded: &Encoded) -> Option<u64> {
    let sequence = Fields::new(encoded).u64()?;
    let is_sound = sequence <= MAX_SEQUENCE
        && encoded.get(SUMMED_BYTES..) == Some(checksum(encoded).as_slice())
        && decode(encoded).is_some();
    is_sound.then_some(sequence)
}

fn checksum(encoded: &Encoded) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(encoded.get(..SUMMED_BYTES).unwrap_or_default());
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Kind and function in a byte: the kind in its upper half.
fn class_of(kind: Kind, function: DigestFunction) -> u8 {
    (kind as u8) << 4 | function as u8
}

fn class_from(code: u8) -> Option<(Kind, DigestFunction)> {
    let kinds = [Kind::Blob, Kind::ActionResult].into_iter();
    let mut classes = kinds.flat_map(|kind| DigestFunction::ALL.map(|function| (kind, function)));
    classes.find(|(kind, function)| class_of(*kind, *function) == code)
}
