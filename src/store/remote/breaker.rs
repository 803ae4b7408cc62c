//! Whether an endpoint is worth a call: a circuit breaker.
//!
//! Pure: it is told the time and what calls came to. After a few failures in a row nobody is let
//! through for a pause; then one call is, and what becomes of it decides.

use std::time::Duration;

use tokio::time::Instant;

use super::chance;

/// Failures in a row, with no success in between, that open it.
const FAILURES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The state of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Until when nobody is let through.
    closed_again: Option<Instant>,
    /// How often it has opened since the last success.
    openings: u32,
    is_probed: bool,
}

/// Leave to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// One of many.
    Call,
    /// The one that tries whether the endpoint is back.
    Probe,
}

impl Breaker {
    /// Asks for leave to make a call.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.closed_again {
            None => Some(Pass::Call),
            Some(until) if now >= until && !self.is_probed => {
                self.is_probed = true;
                Some(Pass::Probe)
            }
            Some(_) => None,
        }
    }

    /// Whether a call would be let through.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        self.closed_again.is_none_or(|until| now >= until && !self.is_probed)
    }

    /// Whether it is open, a probe under way or not.
    pub(super) fn is_open(&self) -> bool {
        self.closed_again.is_some()
    }

    /// The endpoint has answered. Says whether it had failed before.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_ill = self.failures > 0;
        *self = Self::default();
        was_ill
    }

    /// The endpoint could not be reached, or did not answer.
    pub(super) fn failed(&mut self, pass: Pass, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let is_probe = pass == Pass::Probe && self.is_probed;
        // Calls that began before it opened do not lengthen the pause.
        if is_probe || (self.failures >= FAILURES && self.closed_again.is_none()) {
            self.closed_again = Some(now + pause(self.openings));
            self.openings = self.openings.saturating_add(1);
            self.is_probed = false;
        }
    }

    /// A call ended without saying anything about the endpoint; after a probe the next may try.
    pub(super) fn abandoned(&mut self, pass: Pass) {
        if pass == Pass::Probe {
            self.is_probed = false;
        }
    }
}

/// Half to all of a pause that doubles: clients of one upstream must not come back in step.
fn pause(openings: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(openings).unwrap_or(u32::MAX));
    pause.min(LONGEST_PAUSE).mul_f64(0.5 + chance() / 2.0)
}
