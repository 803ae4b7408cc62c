//! Every HTTP request is counted, from its first header to the last byte of its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, USER_AGENT};
use axum::http::{HeaderMap, Method as Verb};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tracing::{Instrument as _, Span};

use super::metrics::{self, Exposition};
use crate::telemetry::metrics::{InFlight, Method, Metrics, Outcome};
use crate::telemetry::spans;

/// Counts every request to `router`, and serves the counters beside it.
pub fn observed(router: Router, exposition: Arc<Exposition>) -> Router {
    let metrics = Arc::clone(exposition.metrics());
    router.merge(metrics::routes(exposition)).layer(from_fn_with_state(metrics, observe))
}

async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    if let Some(tool) = product(request.headers()) {
        metrics.tools.note(tool);
    }
    let verb = request.method().clone();
    let counted = metrics.requests.begin(Method::of_http(verb.as_str(), request.uri().path()));
    let mut observed = Observed { counted, span: request_span(&request) };
    let request = request.map(|body| Body::new(observed.counted.receive(body)));
    let response = next.run(request).instrument(observed.span.clone()).await;
    let outcome = Outcome::of_http_status(response.status().as_u16());
    // The answer to HEAD ends with its headers, whatever they announce.
    let left = length(&response).filter(|_| verb != Verb::HEAD);
    if verb == Verb::HEAD || response.body().is_end_stream() {
        observed.counted.set_outcome(outcome);
    }
    response.map(|inner| Body::new(SentBody { inner, observed, outcome, left }))
}

/// How long an answer is: what its head says, behind which the transport asks for no end.
fn length(response: &Response) -> Option<u64> {
    let announced = response.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
    announced.and_then(|it| it.parse().ok()).or_else(|| response.body().size_hint().exact())
}

/// None when nobody wants it.
fn request_span(request: &Request) -> Span {
    if !tracing::enabled!(target: spans::TARGET, tracing::Level::DEBUG) {
        return Span::none();
    }
    let method = spans::bounded(request.method().as_str());
    let path = spans::bounded(request.uri().path());
    let span =
        tracing::debug_span!(target: spans::TARGET, "http", otel.kind = "server", method, path);
    spans::continue_trace(&span, request.headers());
    span
}

/// The tool that a client says it is: `bazel` of `bazel/8.1.0 (linux)`.
fn product(headers: &HeaderMap) -> Option<&str> {
    let agent = headers.get(USER_AGENT)?.to_str().ok()?;
    agent.split(['/', ' ']).next().filter(|name| !name.is_empty())
}

/// A request under way. Dropping it counts it and ends its span.
#[derive(Debug)]
struct Observed {
    counted: InFlight,
    span: Span,
}

impl Drop for Observed {
    fn drop(&mut self) {
        spans::end(&self.span, &self.counted);
    }
}

/// The body of an answer. Dropped before its end, its client went away.
#[derive(Debug)]
struct SentBody {
    inner: Body,
    observed: Observed,
    outcome: Outcome,
    /// What is still to come, where that is known: nobody asks for the end of such a body.
    left: Option<u64>,
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        let polled = this.observed.span.in_scope(|| inner.poll_frame(context));
        let is_whole = match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.observed.counted.add_sent(bytes);
                this.left = this.left.map(|left| left.saturating_sub(bytes as u64));
                this.left == Some(0) || this.inner.is_end_stream()
            }
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if is_whole {
            this.observed.counted.set_outcome(this.outcome);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
