//! What time it is, to the second. Tests turn it forward.
//!
//! The wall is looked at once. From then on time passes as it does, whoever sets the clock: a jump
//! would end every lease, or none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that was set when it was made.
#[derive(Debug)]
pub(super) struct WallClock {
    set_at: Instant,
    set_to: u64,
    ahead_seconds: AtomicU64,
}

impl Default for WallClock {
    #[expect(clippy::disallowed_methods, reason = "the one place of the store")]
    fn default() -> Self {
        // Before 1970 it is 1970: nothing expires too early by that.
        let set_to = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        Self { set_at: Instant::now(), set_to, ahead_seconds: AtomicU64::new(0) }
    }
}

impl WallClock {
    /// Seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        let passed = self.set_at.elapsed().as_secs();
        self.set_to + passed + self.ahead_seconds.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(super) fn advance(&self, seconds: u64) {
        self.ahead_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}
