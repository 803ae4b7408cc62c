//! Logs: `tracing` to standard error, filtered by one directive string.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Why a log filter is no filter.
pub type FilterError = tracing_subscriber::filter::ParseError;

/// Reads a filter such as `info` or `castellan=debug,warn`.
pub fn parse_filter(directives: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().parse(directives)
}

/// Starts logging. A second call has no effect: a program has one log.
pub fn init(filter: EnvFilter) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if log.try_init().is_err() {
        tracing::debug!("logging was started before");
    }
}
