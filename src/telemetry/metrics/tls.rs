//! TLS: handshakes, and new versions of certificates.

use std::sync::atomic::{AtomicU64, Ordering};

use super::model::{Family, Kind, Samples, Unit};

static HANDSHAKES: Family = Family {
    name: "castellan_tls_handshakes_total",
    help: "Handshakes of TLS that have ended: done, failed (a client without a right certificate, \
           or that speaks no TLS), timeout.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["result"],
};
static RELOADS: Family = Family {
    name: "castellan_tls_reloads_total",
    help: "New versions of certificate files: done, failed (the former ones stay in use).",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["result"],
};

pub(super) static FAMILIES: [&Family; 2] = [&HANDSHAKES, &RELOADS];

/// How a handshake ended.
#[derive(Clone, Copy, Debug)]
pub enum Handshake {
    /// Well.
    Done,
    /// The client spoke no TLS, or had no right certificate, or did not like the server's.
    Failed,
    /// It took too long.
    TimedOut,
}

/// The counters of all listeners with TLS.
#[derive(Debug, Default)]
pub struct TlsCounters {
    done: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
}

impl TlsCounters {
    /// Counts a handshake.
    pub fn count_handshake(&self, how: Handshake) {
        let counter = match how {
            Handshake::Done => &self.done,
            Handshake::Failed => &self.failed,
            Handshake::TimedOut => &self.timed_out,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a new version of the files.
    pub fn count_reload(&self, is_good: bool) {
        let counter = if is_good { &self.reloads } else { &self.failed_reloads };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        let counters = [
            (&HANDSHAKES, "done", &self.done),
            (&HANDSHAKES, "failed", &self.failed),
            (&HANDSHAKES, "timeout", &self.timed_out),
            (&RELOADS, "done", &self.reloads),
            (&RELOADS, "failed", &self.failed_reloads),
        ];
        for (family, result, counter) in counters {
            samples.integer(family, &[result], counter.load(Ordering::Relaxed));
        }
    }
}
