//! How fast bytes may go.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may go at once after a pause.
const BURST: Duration = Duration::from_millis(500);

/// The longest that one who sends waits for its next part to go, about: servers cut off an upload
/// that stands still for much longer.
const LONGEST_GAP_SECONDS: u64 = 5;
/// The parts in which blobs are sent, at most.
const PART_BYTES: u64 = 1 << 20;

/// A bound on the bytes of a second, for all who wait on it together.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    bucket: Mutex<Bucket>,
}

/// Decides, with the time as others tell it.
#[derive(Debug)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    /// Until when what was let through takes, at the rate that is allowed.
    taken_until: Duration,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { began: Instant::now(), bucket: Mutex::new(Bucket::new(bytes_per_second)) }
    }

    /// How many may share it, of `jobs`: each part of a blob waits for one of every other.
    pub(super) fn jobs(bytes_per_second: u64, jobs: usize) -> usize {
        let parts = bytes_per_second.saturating_mul(LONGEST_GAP_SECONDS) / PART_BYTES;
        usize::try_from(parts).unwrap_or(usize::MAX).clamp(1, jobs.max(1))
    }

    /// The most bytes that are waited for at once.
    pub(super) fn part_bytes(&self) -> usize {
        let bytes = self.bucket.lock().bytes_per_second.saturating_mul(LONGEST_GAP_SECONDS);
        usize::try_from(bytes.min(PART_BYTES)).unwrap_or(usize::MAX)
    }

    /// Waits until so many bytes may go.
    pub(super) async fn wait(&self, bytes: u64) {
        let turn = self.bucket.lock().take(self.began.elapsed(), bytes);
        sleep_until(self.began + turn).await;
    }
}

impl Bucket {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), taken_until: Duration::ZERO }
    }

    /// When so many bytes may go, if it is `now`. They are taken: whoever asks next comes after
    /// them.
    pub(super) fn take(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // What was not used is lost, but for a little.
        let begin = self.taken_until.max(now.saturating_sub(BURST));
        self.taken_until = begin.saturating_add(time);
        begin.max(now).min(now.saturating_add(LONGEST))
    }
}

/// No wait is longer, whatever the rate (I23).
const LONGEST: Duration = Duration::from_hours(1);
