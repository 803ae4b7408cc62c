//! Which of several weighted stores has a digest: the layout of `NativeLink`'s `shard` store, so
//! that directories which that store has filled are found where they are.
//!
//! Hash and size are folded to 32 bits by exclusive or, as little-endian words. Each store has a
//! part of these numbers in proportion to its weight, one after the other.

use crate::digest::Digest;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Shards {
    /// The last number of each store's part; ascending, the last one is the last there is.
    ends: Vec<u32>,
}

impl Shards {
    /// `None` without stores, or with a weight of 0.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        if weights.is_empty() || weights.contains(&0) {
            return None;
        }
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut end = 0_u32;
        let mut ends: Vec<u32> = Vec::with_capacity(weights.len());
        for weight in weights {
            let part = u64::from(*weight) * u64::from(u32::MAX) / total;
            end = end.saturating_add(u32::try_from(part).unwrap_or(u32::MAX));
            ends.push(end);
        }
        // What rounding has left over.
        *ends.last_mut()? = u32::MAX;
        Some(Self { ends })
    }

    /// The store of a digest.
    pub(super) fn of(&self, digest: &Digest) -> usize {
        let folded = fold(digest);
        self.ends.partition_point(|end| *end < folded)
    }
}

fn fold(digest: &Digest) -> u32 {
    let words = digest.hash.as_chunks::<4>().0.iter();
    let size = digest.size_bytes.to_le_bytes();
    words.chain(size.as_chunks::<4>().0).fold(0, |folded, word| folded ^ u32::from_le_bytes(*word))
}
