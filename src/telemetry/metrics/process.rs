//! What the process itself takes: memory, descriptors, processor time; and which build it is.
//!
//! From `/proc/self` and the kernel's counters. What cannot be read is left out.

use std::fs::File;
use std::io::Read as _;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::model::{Family, Kind, Samples, Unit, Value};
use crate::telemetry::unix_seconds;

const fn gauge(name: &'static str, help: &'static str, unit: Unit) -> Family {
    Family { name, help, kind: Kind::Gauge, unit, labels: &[] }
}

static RESIDENT: Family = gauge(
    "castellan_process_resident_memory_bytes",
    "Memory of the process that is in RAM.",
    Unit::Bytes,
);
static THREADS: Family = gauge("castellan_process_threads", "Threads of the process.", Unit::None);
static OPEN_DESCRIPTORS: Family =
    gauge("castellan_process_open_descriptors", "Open file descriptors.", Unit::None);
static MAX_DESCRIPTORS: Family = gauge(
    "castellan_process_max_descriptors",
    "The most file descriptors that the process may open.",
    Unit::None,
);
static CPU: Family = Family {
    name: "castellan_process_cpu_seconds_total",
    help: "Processor time of all threads.",
    kind: Kind::Counter,
    unit: Unit::Seconds,
    labels: &[],
};
static START_TIME: Family = gauge(
    "castellan_process_start_time_seconds",
    "When the process started, in seconds since 1970.",
    Unit::Seconds,
);
static UPTIME: Family =
    gauge("castellan_process_uptime_seconds", "How long the process runs.", Unit::Seconds);
static BUILD: Family = Family {
    name: "castellan_build_info",
    help: "Always 1; the labels say which build this is.",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &["version", "architecture"],
};

pub(super) static FAMILIES: [&Family; 8] =
    [&BUILD, &START_TIME, &UPTIME, &CPU, &RESIDENT, &THREADS, &OPEN_DESCRIPTORS, &MAX_DESCRIPTORS];

/// Far more than the kernel writes into `/proc/self/status`.
const MAX_STATUS_BYTES: u64 = 64 << 10;

/// A process that has started.
#[derive(Debug)]
pub(super) struct Process {
    started: Instant,
    started_at: u64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), started_at: unix_seconds() }
    }

    /// How long it runs, in whole seconds.
    pub(super) fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        let version = env!("CARGO_PKG_VERSION");
        samples.integer(&BUILD, &[version, std::env::consts::ARCH], 1);
        samples.integer(&START_TIME, &[], self.started_at);
        samples.add(&UPTIME, &[], Value::Real(self.started.elapsed().as_secs_f64()));
        samples.add(&CPU, &[], Value::Real(cpu_seconds()));
        let status = status().unwrap_or_default();
        if let Some(kilobytes) = number(&status, "VmRSS:") {
            samples.integer(&RESIDENT, &[], kilobytes * 1024);
        }
        if let Some(threads) = number(&status, "Threads:") {
            samples.integer(&THREADS, &[], threads);
        }
        if let Some(open) = open_descriptors() {
            samples.integer(&OPEN_DESCRIPTORS, &[], open);
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            samples.integer(&MAX_DESCRIPTORS, &[], limit);
        }
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn status() -> Option<String> {
    let mut text = String::new();
    let file = File::open("/proc/self/status").ok()?;
    file.take(MAX_STATUS_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The number behind a name in `/proc/self/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Since Linux 6.2 the length of the directory says it; before, it is counted.
fn open_descriptors() -> Option<u64> {
    const DESCRIPTORS: &str = "/proc/self/fd";
    let length = std::fs::metadata(DESCRIPTORS).ok()?.len();
    if length > 0 {
        return Some(length);
    }
    let open = std::fs::read_dir(DESCRIPTORS).ok()?.count() as u64;
    // Not the one that looks.
    Some(open.saturating_sub(1))
}
