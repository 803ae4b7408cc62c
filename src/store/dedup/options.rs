//! What is chosen about chunks.

use fastcdc::v2020;

/// How a [`DedupStore`](super::DedupStore) cuts and fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupOptions {
    /// No chunk but a blob's last is smaller. Even, from 64 bytes to 1 MiB.
    pub min_bytes: u32,
    /// What most chunks are close to. Even, from 256 bytes to 4 MiB.
    pub normal_bytes: u32,
    /// No chunk is larger. Even, from 1 KiB to 16 MiB.
    pub max_bytes: u32,
    /// Chunks of one blob that are fetched or written at a time.
    pub max_concurrent_fetches: usize,
}

impl Default for DedupOptions {
    fn default() -> Self {
        Self {
            min_bytes: 64 << 10,
            normal_bytes: 256 << 10,
            max_bytes: 512 << 10,
            max_concurrent_fetches: 10,
        }
    }
}

/// A limit of the algorithm: what it limits, the least and the most.
type Limit = (&'static str, u32, u32);

const MIN: Limit = limit("the smallest chunk", v2020::MINIMUM_MIN, v2020::MINIMUM_MAX);
const NORMAL: Limit = limit("the normal chunk", v2020::AVERAGE_MIN, v2020::AVERAGE_MAX);
const MAX: Limit = limit("the largest chunk", v2020::MAXIMUM_MIN, v2020::MAXIMUM_MAX);
const MAX_FETCHES: usize = 256;

const fn limit(name: &'static str, least: usize, most: usize) -> Limit {
    #[expect(clippy::cast_possible_truncation, reason = "constants of at most 16 MiB")]
    (name, least as u32, most as u32)
}

impl DedupOptions {
    /// Says what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let sizes = [(self.min_bytes, MIN), (self.normal_bytes, NORMAL), (self.max_bytes, MAX)];
        for (bytes, (name, least, most)) in sizes {
            if !(least..=most).contains(&bytes) {
                return Err(format!("{name}, {bytes} bytes, is not between {least} and {most}"));
            }
            if bytes % 2 != 0 {
                return Err(format!("{name}, {bytes} bytes, is not even"));
            }
        }
        if self.min_bytes > self.normal_bytes || self.normal_bytes > self.max_bytes {
            return Err(format!(
                "chunks of {} to {} bytes cannot be normally of {}",
                self.min_bytes, self.max_bytes, self.normal_bytes
            ));
        }
        if !(1..=MAX_FETCHES).contains(&self.max_concurrent_fetches) {
            return Err(format!(
                "{} chunks at a time are not between 1 and {MAX_FETCHES}",
                self.max_concurrent_fetches
            ));
        }
        Ok(())
    }

    /// The nearest ones that are right.
    pub(super) fn clamped(self) -> Self {
        let within = |bytes: u32, (_, least, most): Limit| (bytes & !1).clamp(least, most);
        let min_bytes = within(self.min_bytes, MIN);
        let normal_bytes = within(self.normal_bytes, NORMAL).max(min_bytes);
        let max_bytes = within(self.max_bytes, MAX).max(normal_bytes);
        let max_concurrent_fetches = self.max_concurrent_fetches.clamp(1, MAX_FETCHES);
        Self { min_bytes, normal_bytes, max_bytes, max_concurrent_fetches }
    }
}
