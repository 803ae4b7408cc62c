//! What the hit ratio of a store would be if it were smaller or larger.
//!
//! Pure. A store that evicts in order of use has a value if everything used since its last use,
//! each value once, and the value itself take at most the store's size: that sum is the *reuse
//! distance* of the next reference to it, in bytes. So one histogram of reuse distances tells the
//! hit ratio at every size.
//!
//! Distances come from a sample of the keys, by SHARDS with a fixed number of keys (Waldspurger,
//! Park, Garthwaite, Ahmad: "Efficient MRC Construction with SHARDS", FAST 2015): a key is sampled
//! if its hash is below a threshold, so of each key all uses are seen or none; the sum of the
//! sampled values, divided by the share of keys that is sampled, stands for the sum of all. When
//! there are too many, the one with the largest hash leaves and its hash is the new threshold. The
//! paper rescales the counts then; here a count weighs from the beginning as many references as it
//! stands for, which comes to the same.
//!
//! Where this is more than the paper:
//! - Whether a reference was a hit in the store as it is, is known of all, sampled or not. A
//!   smaller store has only hits that this one has, a larger one all of them, so only the rest is
//!   estimated: of the hits which would be lost, of the misses which would be hits. Like the
//!   paper's correction (`SHARDS_adj`) this counts the hot keys right that are not sampled: what
//!   is missing of the hits are those of the shortest distances.
//! - A value is as young as its last write or hit, for the store has it from then on. A miss that
//!   nobody follows by a write brings nothing in, and a key that was never there is a miss at any
//!   size.
//! - What is so old that no size asked for would have it is forgotten. Otherwise all keys that ever
//!   were would share the sample, and of those in use ever fewer were in it.
//! - History fades: counts are halved whenever they stand for [`FADING`] references to each key of
//!   a full sample, so half of what counts is no older than the last eight to sixteen references to
//!   an average key, and a quarter no older than twice that.
//!
//! The threshold never rises: a store whose values become larger is estimated from fewer keys.
//!
//! Memory: at most 1 MiB ([`MAX_KEYS`] keys, see [`Recency`], and 16 KiB of counts), taken as keys
//! come. A reference to a key that is not sampled is a hash, a comparison, an addition.

mod histogram;
mod recency;
#[cfg(test)]
mod tests;

use std::cmp::Ordering::{Equal, Greater, Less};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Key;
use histogram::Histogram;
use recency::Recency;

/// The most keys in the sample. The paper has errors below 0.01 from so many.
const MAX_KEYS: usize = 8192;
/// What is older than so many times the present size is forgotten: a quarter more than the largest
/// size that anybody asks for.
const HORIZON: f64 = 5.0;
/// References per key of the sample at which history is halved.
const FADING: f64 = 16.0;
/// Sampled references from which on something is said.
const ENOUGH: f64 = 1000.0;
/// Values count as at most so large; the sum of a full sample cannot overflow.
const MAX_BYTES: u64 = 1 << 50;
/// The number of hashes.
const HASHES: f64 = 18_446_744_073_709_551_616.0;

/// Reuse distances of the references to one store.
#[derive(Debug)]
pub(super) struct ReuseDistances<S = RandomState> {
    /// Keyed, so that no client can choose keys that are sampled or are not: the digests of action
    /// results and of blobs that are only asked for can be anything.
    hasher: S,
    /// Keys are sampled whose hash is below. A copy of that in `sample`.
    threshold: AtomicU64,
    found: AtomicU64,
    missed: AtomicU64,
    present_bytes: u64,
    sample: Mutex<Sample>,
}

impl ReuseDistances {
    /// For a store whose values take at most `present_bytes`.
    pub(super) fn new(present_bytes: u64) -> Self {
        Self::with_hasher(present_bytes, RandomState::new(), MAX_KEYS)
    }
}

impl<S: BuildHasher> ReuseDistances<S> {
    fn with_hasher(present_bytes: u64, hasher: S, max_keys: usize) -> Self {
        let sample = Sample::new(present_bytes, max_keys);
        Self {
            hasher,
            threshold: AtomicU64::new(sample.threshold),
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            present_bytes,
            sample: Mutex::new(sample),
        }
    }

    /// A read, or a question whether a value is there: `found_bytes` is what it takes, `None` when
    /// it was not there.
    pub(super) fn reference(&self, key: &Key, found_bytes: Option<u64>) {
        let counter = if found_bytes.is_some() { &self.found } else { &self.missed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.update(key, |sample, hash| sample.reference(hash, found_bytes));
    }

    /// A value was stored, or was there already when somebody wanted to store it. No reference.
    pub(super) fn write(&self, key: &Key, size_bytes: u64) {
        self.update(key, |sample, hash| sample.touch(hash, size_bytes));
    }

    fn update(&self, key: &Key, change: impl FnOnce(&mut Sample, u64)) {
        // Without the size: who asks by hash alone does not know it.
        let Key { namespace, kind, digest } = key;
        let hash = self.hasher.hash_one((namespace, kind, digest.function, digest.hash));
        if hash >= self.threshold.load(Ordering::Relaxed) {
            return;
        }
        let mut sample = self.sample.lock();
        // It may have fallen meanwhile.
        if hash < sample.threshold {
            change(&mut sample, hash);
            self.threshold.store(sample.threshold, Ordering::Relaxed);
            self.fade(&mut sample);
        }
    }

    fn fade(&self, sample: &mut Sample) {
        if self.references() as f64 / sample.weight() < FADING * sample.max_keys as f64 {
            return;
        }
        sample.halve();
        for counter in [&self.found, &self.missed] {
            // What is added meanwhile by others stays.
            counter.fetch_sub(counter.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }

    /// How many references the estimate rests on; those that have faded count in part.
    pub(super) fn references(&self) -> u64 {
        self.found.load(Ordering::Relaxed) + self.missed.load(Ordering::Relaxed)
    }

    /// The share of references that a store of `cap_bytes` would have answered, from 0 to 1; `None`
    /// until there were enough of them.
    ///
    /// At the present size that is the share that was answered; sizes over four times as large are
    /// not told from that.
    pub(super) fn predict(&self, cap_bytes: u64) -> Option<f64> {
        let sample = self.sample.lock();
        let references = self.references() as f64;
        if references / sample.weight() < ENOUGH {
            return None;
        }
        let found = self.found.load(Ordering::Relaxed) as f64;
        let hits = match cap_bytes.cmp(&self.present_bytes) {
            Less => found - sample.found_weight + sample.found.up_to(cap_bytes),
            Equal => found,
            Greater => found + sample.missed.up_to(cap_bytes),
        };
        Some((hits / references).clamp(0.0, 1.0))
    }
}

/// The sampled keys and what they tell.
#[derive(Debug)]
struct Sample {
    threshold: u64,
    max_keys: usize,
    horizon_bytes: f64,
    recency: Recency,
    /// Hits, those among them whose distance is not known too.
    found_weight: f64,
    /// Hits by distance.
    found: Histogram,
    /// Misses by distance, of keys that have been there.
    missed: Histogram,
}

impl Sample {
    fn new(present_bytes: u64, max_keys: usize) -> Self {
        Self {
            threshold: u64::MAX,
            max_keys,
            horizon_bytes: present_bytes as f64 * HORIZON,
            recency: Recency::new(max_keys),
            found_weight: 0.0,
            found: Histogram::default(),
            missed: Histogram::default(),
        }
    }

    /// How many keys, and references to keys, a sampled one stands for.
    fn weight(&self) -> f64 {
        HASHES / self.threshold as f64
    }

    fn reference(&mut self, hash: u64, found_bytes: Option<u64>) {
        let weight = self.weight();
        let last = self.recency.last_use(hash);
        // Its own bytes are known, those of the others stand for more.
        let distance = last.map(|it| it.bytes as f64 + it.younger_bytes as f64 * weight);
        if let Some(bytes) = found_bytes {
            self.found_weight += weight;
            if let Some(distance) = distance {
                self.found.add(distance, weight);
            }
            self.touch(hash, bytes);
        } else if let Some(distance) = distance {
            self.missed.add(distance, weight);
        }
    }

    /// Makes a key the youngest.
    fn touch(&mut self, hash: u64, bytes: u64) {
        self.recency.touch(hash, bytes.min(MAX_BYTES));
        if self.recency.len() > self.max_keys
            && let Some(largest) = self.recency.remove_largest()
        {
            self.threshold = largest.max(1);
        }
        self.forget_old();
    }

    fn forget_old(&mut self) {
        let weight = self.weight();
        while let Some(oldest) = self.recency.oldest() {
            let younger_bytes = self.recency.total_bytes() - oldest.bytes;
            if oldest.bytes as f64 + younger_bytes as f64 * weight <= self.horizon_bytes {
                return;
            }
            self.recency.remove(oldest.hash);
        }
    }

    fn halve(&mut self) {
        self.found_weight /= 2.0;
        self.found.halve();
        self.missed.halve();
    }
}
