//! The last warnings and errors, kept in memory for those who cannot read the log.
//!
//! A layer beside the log, with a level of its own: what the log is told to say makes no
//! difference here.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::metrics::{Family, Kind, Samples, Unit};
use super::unix_seconds;

/// Events that are kept.
const MAX_EVENTS: usize = 32;
/// Where each text of an event is cut.
const MAX_TEXT_BYTES: usize = 512;

static EVENTS: Family = Family {
    name: "castellan_log_events_total",
    help: "Warnings and errors, whether they were logged or not.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["level"],
};

pub(super) static FAMILIES: [&Family; 1] = [&EVENTS];

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentError {
    /// When, in seconds since 1970.
    pub unix_seconds: u64,
    /// `WARN` or `ERROR`.
    pub level: &'static str,
    /// Which part of the program.
    pub target: &'static str,
    /// What happened.
    pub message: String,
    /// The facts, as `name=value` with spaces between.
    pub fields: String,
}

/// The last warnings and errors. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct RecentErrors {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    events: Mutex<VecDeque<RecentError>>,
    warnings: AtomicU64,
    errors: AtomicU64,
}

impl RecentErrors {
    /// What is kept, the oldest first.
    pub fn list(&self) -> Vec<RecentError> {
        self.shared.events.lock().iter().cloned().collect()
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        let Shared { warnings, errors, .. } = &*self.shared;
        samples.integer(&EVENTS, &["warn"], warnings.load(Ordering::Relaxed));
        samples.integer(&EVENTS, &["error"], errors.load(Ordering::Relaxed));
    }
}

impl<S: Subscriber> Layer<S> for RecentErrors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let (level, counter) = match *metadata.level() {
            Level::ERROR => ("ERROR", &self.shared.errors),
            Level::WARN => ("WARN", &self.shared.warnings),
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut texts = Texts::default();
        event.record(&mut texts);
        let event = RecentError {
            unix_seconds: unix_seconds(),
            level,
            target: metadata.target(),
            message: texts.message.0,
            fields: texts.fields.0,
        };
        let mut events = self.shared.events.lock();
        if events.len() >= MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// The texts of an event on their way in.
#[derive(Default)]
struct Texts {
    message: Short,
    fields: Short,
}

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A text that is full takes nothing more.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if self.fields.0.is_empty() => write!(self.fields, "{name}={value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// A text of bounded length; says an error once it is full, so that no more is formatted.
#[derive(Default)]
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_TEXT_BYTES - self.0.len();
        let fitting = text.floor_char_boundary(room);
        self.0.push_str(text.get(..fitting).unwrap_or_default());
        if fitting < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
