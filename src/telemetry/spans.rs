//! The span of a request, over any wire: where it belongs in a trace, and how it ended.

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::Status;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::metrics::InFlight;

/// The target of these spans and of no others, so that a trace can have them without the log.
pub const TARGET: &str = "castellan::request";

/// Where texts that clients choose are cut: spans wait in a queue.
const MAX_TEXT_BYTES: usize = 256;

const TRACE_PARENT: &str = "traceparent";

/// Continues the trace of the client, if it has one (W3C trace context).
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    if !headers.contains_key(TRACE_PARENT) {
        return;
    }
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // Without a collector there is no trace to continue, and that is all that can go wrong.
    drop(span.set_parent(parent));
}

/// Says in the span how the request ended.
pub fn end(span: &Span, request: &InFlight) {
    if span.is_none() {
        return;
    }
    let outcome = request.outcome();
    span.set_attribute("status", outcome);
    if request.is_failure() {
        span.set_status(Status::error(outcome));
    }
    tracing::debug!(parent: span, status = outcome, "call ended");
}

/// The beginning of a text that a client chose.
pub fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default()
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
