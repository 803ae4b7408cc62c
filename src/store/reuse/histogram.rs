//! Counts by distance, in buckets whose width grows with the distance.

/// Buckets between a distance and its double, as a power of two.
const RESOLUTION_BITS: u32 = 4;
/// Distances are numbers of bytes, below 2^64.
const BUCKETS: usize = 64 << RESOLUTION_BITS;
/// What leaves of a number its exponent and the upper bits of its mantissa, which number the
/// buckets.
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - RESOLUTION_BITS;
/// The number of the bucket that begins at 1.
const FIRST: u64 = 1.0_f64.to_bits() >> SHIFT;

/// Counts by distance; 8 KiB.
#[derive(Debug)]
pub(super) struct Histogram(Vec<f64>);

impl Default for Histogram {
    fn default() -> Self {
        Self(vec![0.0; BUCKETS])
    }
}

impl Histogram {
    /// Counts a distance in bytes.
    pub(super) fn add(&mut self, distance: f64, weight: f64) {
        if let Some(count) = self.0.get_mut(bucket_of(distance)) {
            *count += weight;
        }
    }

    /// The count of distances of at most so many bytes. Within a bucket they count as spread
    /// evenly; it is a sixteenth as wide as it is far at most.
    pub(super) fn up_to(&self, bytes: u64) -> f64 {
        let end = bytes as f64 + 1.0;
        let last = bucket_of(end);
        let below: f64 = self.0.iter().take(last).sum();
        let (from, to) = (start_of(last), start_of(last + 1));
        let part = ((end - from) / (to - from)).clamp(0.0, 1.0);
        below + self.0.get(last).copied().unwrap_or_default() * part
    }

    /// Makes everything count half as much.
    pub(super) fn halve(&mut self) {
        for count in &mut self.0 {
            *count /= 2.0;
        }
    }
}

fn bucket_of(distance: f64) -> usize {
    let number = (distance.max(1.0).to_bits() >> SHIFT).saturating_sub(FIRST);
    usize::try_from(number).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

fn start_of(bucket: usize) -> f64 {
    f64::from_bits((bucket as u64 + FIRST) << SHIFT)
}
