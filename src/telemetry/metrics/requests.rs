//! Requests by method and outcome: how many, how long, how many bytes.
//!
//! Every counter is there from the start, at a place known from the method: counting is an addition
//! or two, without a lock or an allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::calls::{Method, Outcome, Transport};
use super::histogram::Histogram;
use super::model::{Family, Kind, Samples, Unit, Value};

static IN_FLIGHT: Family = Family {
    name: "castellan_requests_in_flight",
    help: "Requests that have begun and not ended.",
    kind: Kind::Gauge,
    unit: Unit::None,
    labels: &["transport"],
};
static TOTAL: Family = Family {
    name: "castellan_requests_total",
    help: "Requests that have ended; the outcome is a gRPC code or an HTTP status, CANCELLED or \
           aborted when the client went away.",
    kind: Kind::Counter,
    unit: Unit::None,
    labels: &["transport", "method", "outcome"],
};
static DURATION: Family = Family {
    name: "castellan_request_duration_seconds",
    help: "From the first header of a request to the last byte of its answer.",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["transport", "method", "outcome"],
};
static RECEIVED: Family = Family {
    name: "castellan_request_received_bytes_total",
    help: "Bytes in the bodies of requests, with gRPC's framing.",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &["transport", "method"],
};
static SENT: Family = Family {
    name: "castellan_request_sent_bytes_total",
    help: "Bytes in the bodies of answers, with gRPC's framing.",
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &["transport", "method"],
};

pub(super) static FAMILIES: [&Family; 5] = [&IN_FLIGHT, &TOTAL, &DURATION, &RECEIVED, &SENT];

/// What one method has done.
#[derive(Debug, Default)]
struct OfMethod {
    outcomes: [Histogram; Outcome::COUNT],
    in_flight: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// The counters of every method.
#[derive(Debug)]
pub struct Requests {
    methods: Vec<OfMethod>,
}

impl Requests {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { methods: Method::all().map(|_| OfMethod::default()).collect() })
    }

    /// Begins to count a request.
    pub fn begin(self: &Arc<Self>, method: Method) -> InFlight {
        if let Some(of_method) = self.of(method) {
            of_method.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        let outcome = Outcome::unfinished(method.transport());
        InFlight { requests: Arc::clone(self), method, started: Instant::now(), outcome }
    }

    fn of(&self, method: Method) -> Option<&OfMethod> {
        self.methods.get(method.position())
    }

    pub(super) fn add_received(&self, method: Method, bytes: usize) {
        if let Some(of_method) = self.of(method) {
            of_method.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn collect(&self, samples: &mut Samples) {
        for transport in Transport::ALL {
            let of_wire = Method::all().filter(|method| method.transport() == transport);
            let in_flight = of_wire.filter_map(|method| self.of(method));
            let in_flight = in_flight.map(|it| it.in_flight.load(Ordering::Relaxed)).sum();
            samples.integer(&IN_FLIGHT, &[transport.name()], in_flight);
        }
        for method in Method::all() {
            let Some(of_method) = self.of(method) else { continue };
            let labels = [method.transport().name(), method.name()];
            let bytes = [(&RECEIVED, &of_method.received_bytes), (&SENT, &of_method.sent_bytes)];
            for (outcome, histogram) in Outcome::all().zip(&of_method.outcomes) {
                // What never happened has no line: most combinations never do.
                let Some(distribution) = histogram.distribution() else { continue };
                let labels = [labels[0], labels[1], outcome.name(method.transport())];
                samples.integer(&TOTAL, &labels, distribution.count());
                samples.add(&DURATION, &labels, Value::Distribution(distribution));
            }
            for (family, bytes) in bytes {
                let bytes = bytes.load(Ordering::Relaxed);
                if bytes > 0 {
                    samples.integer(family, &labels, bytes);
                }
            }
        }
    }
}

/// A request under way. Dropped without an outcome, its client went away.
#[derive(Debug)]
pub struct InFlight {
    requests: Arc<Requests>,
    method: Method,
    started: Instant,
    outcome: Outcome,
}

impl InFlight {
    /// Says how it ends.
    pub fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// How it ends, as far as is known.
    pub fn outcome(&self) -> &'static str {
        self.outcome.name(self.method.transport())
    }

    /// Whether it ends with a failure of the server, as far as is known.
    pub fn is_failure(&self) -> bool {
        self.outcome.is_failure(self.method.transport())
    }

    /// Counts bytes of its answer.
    pub fn add_sent(&self, bytes: usize) {
        if let Some(of_method) = self.requests.of(self.method) {
            of_method.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Wraps its body so that the bytes in it are counted.
    pub fn receive<B>(&self, inner: B) -> super::ReceivedBody<B> {
        super::ReceivedBody { inner, requests: Arc::clone(&self.requests), method: self.method }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(of_method) = self.requests.of(self.method) else { return };
        if let Some(histogram) = of_method.outcomes.get(self.outcome.position()) {
            histogram.record(self.started.elapsed());
        }
        of_method.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
