//! What the process says about itself: logs to standard error, counters, the last errors.
//!
//! It knows nothing of what it counts: stores and services hold on to its counters.

pub mod clients;
pub mod hits;
pub mod metrics;
pub mod otlp;
pub mod recent_errors;
pub mod spans;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, registry};

use self::otlp::Otlp;
use self::recent_errors::RecentErrors;

/// Why a log filter is no filter.
pub type FilterError = tracing_subscriber::filter::ParseError;

/// Reads a filter such as `info`, `debug` or `castellan=debug,warn`.
///
/// A bare `debug` or `trace` means this program, not the libraries below it: HTTP/2 frames by the
/// thousand would hide what was asked for.
pub fn parse_filter(directives: &str) -> Result<EnvFilter, FilterError> {
    let builder = EnvFilter::builder();
    match directives.trim() {
        verbose @ ("debug" | "trace") => builder.parse(format!("info,castellan={verbose}")),
        directives => builder.parse(directives),
    }
}

/// Starts logging, and keeps the last warnings and errors whatever the filter says; with a
/// collector, requests have spans. A second call has no effect: a program has one log.
pub fn init(filter: EnvFilter, otlp: Option<&Otlp>) -> RecentErrors {
    let recent_errors = RecentErrors::default();
    if subscriber(filter, &recent_errors, otlp).try_init().is_err() {
        tracing::debug!("logging was started before");
    }
    recent_errors
}

/// Each layer has a filter of its own: what one wants makes no difference to the others.
fn subscriber(
    filter: EnvFilter,
    recent_errors: &RecentErrors,
    otlp: Option<&Otlp>,
) -> impl Subscriber + Send + Sync + use<> {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(|| Unfailing(std::io::stderr()))
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(filter);
    let kept = recent_errors.clone().with_filter(LevelFilter::WARN);
    registry().with(log).with(kept).with(otlp.map(Otlp::layer))
}

/// What time it is, for people: the wall clock may jump.
#[expect(clippy::disallowed_methods, reason = "the one place of telemetry")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

/// A writer whose failures nobody hears of: that nobody reads the log, or that its disk is full,
/// is no reason to stop serving.
struct Unfailing<W>(W);

impl<W: Write> Write for Unfailing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(data).unwrap_or(data.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().or(Ok(()))
    }
}
