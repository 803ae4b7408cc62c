//! Each call from its first header to its last trailer: counted, and in a span.
//!
//! When nobody wants its span, nothing is formatted, and of what the client says about itself
//! only its name is read. It must never fail a call, whatever its metadata says (reapi 97).

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as RequestBody;
use bytes::Buf as _;
use castellan_proto::v2::RequestMetadata;
use http::header::HeaderName;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use prost::Message as _;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};
use tracing::Span;
use tracing::field::Empty;

use super::tool;
use crate::telemetry::metrics::{InFlight, Method, Metrics, Outcome};
use crate::telemetry::spans;

pub(super) const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Writes what a call is about into its span.
pub(super) fn record_call(instance_name: &str, digest: Option<&dyn Display>) {
    if !tracing::enabled!(target: spans::TARGET, tracing::Level::DEBUG) {
        return;
    }
    let span = Span::current();
    span.record("instance", spans::bounded(instance_name));
    if let Some(digest) = digest {
        span.record("digest", tracing::field::display(digest));
    }
}

/// Wraps a service so that each of its calls is counted and runs in a span.
#[derive(Clone, Debug)]
pub(super) struct CallLayer {
    /// Holds a token for each call until its response has been sent, so that a drain can wait for
    /// calls instead of connections.
    pub(super) calls: TaskTracker,
    pub(super) metrics: Arc<Metrics>,
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner, calls: self.calls.clone(), metrics: Arc::clone(&self.metrics) }
    }
}

/// See [`CallLayer`].
#[derive(Clone, Debug)]
pub(super) struct CallService<S> {
    inner: S,
    calls: TaskTracker,
    metrics: Arc<Metrics>,
}

impl<S, ResponseBody> Service<Request<RequestBody>> for CallService<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>, Error = Infallible>,
{
    type Response = Response<CallBody<ResponseBody>>;
    type Error = Infallible;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        // A health watch never ends by itself and must not be waited for.
        let token = (request.uri().path() != HEALTH_WATCH).then(|| self.calls.token());
        let counted = self.metrics.requests.begin(Method::of_grpc(request.uri().path()));
        tool::note(request.headers(), &self.metrics.tools);
        let span = if tracing::enabled!(target: spans::TARGET, tracing::Level::DEBUG) {
            call_span(&request)
        } else {
            Span::none()
        };
        let request = request.map(|body| RequestBody::new(counted.receive(body)));
        let inner = span.in_scope(|| self.inner.call(request));
        CallFuture { inner, call: Some(Call { span, counted }), token }
    }
}

pin_project! {
    /// A call that has not answered yet. Dropped before, it counts as cancelled.
    #[derive(Debug)]
    pub(super) struct CallFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
        token: Option<TaskTrackerToken>,
    }
}

impl<F, B> Future for CallFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<CallBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = {
            let _entered = this.call.as_ref().map(|call| call.span.enter());
            std::task::ready!(this.inner.poll(context))?
        };
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            call.take_outcome(response.headers());
        }
        let token = this.token.take();
        Poll::Ready(Ok(response.map(|inner| CallBody { inner, call, token })))
    }
}

fn call_span<B>(request: &Request<B>) -> Span {
    let span = tracing::debug_span!(
        target: spans::TARGET,
        "rpc",
        otel.kind = "server",
        method = spans::bounded(request.uri().path()),
        instance = Empty,
        digest = Empty,
        peer = Empty,
        tool_name = Empty,
        tool_version = Empty,
        invocation_id = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    spans::continue_trace(&span, request.headers());
    if let Some(peer) = peer_address(request) {
        span.record("peer", tracing::field::display(peer));
    }
    if let Some(metadata) = request_metadata(request.headers()) {
        if let Some(tool) = &metadata.tool_details {
            span.record("tool_name", spans::bounded(&tool.tool_name));
            span.record("tool_version", spans::bounded(&tool.tool_version));
        }
        span.record("invocation_id", spans::bounded(&metadata.tool_invocation_id));
    }
    span
}

/// The peer, from whatever the listener left in the request.
fn peer_address<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    extensions
        .get::<TcpConnectInfo>()
        .and_then(TcpConnectInfo::remote_addr)
        .or_else(|| extensions.get::<SocketAddr>().copied())
}

/// What the client says about itself; `None` when it says nothing or something unreadable.
fn request_metadata(headers: &HeaderMap) -> Option<RequestMetadata> {
    let value = headers.get(REQUEST_METADATA)?;
    let mut only = HeaderMap::with_capacity(1);
    only.insert(HeaderName::from_static(REQUEST_METADATA), value.clone());
    // Takes padded and unpadded base64 alike.
    let encoded = MetadataMap::from_headers(only).get_bin(REQUEST_METADATA)?.to_bytes().ok()?;
    RequestMetadata::decode(encoded).ok()
}

/// A call in flight. Dropping it counts and logs how the call ended.
#[derive(Debug)]
struct Call {
    span: Span,
    counted: InFlight,
}

impl Call {
    fn take_outcome(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get(GRPC_STATUS) {
            self.counted.set_outcome(Outcome::of_grpc_status(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        spans::end(&self.span, &self.counted);
    }
}

/// A response body that keeps its call open until it ends.
#[derive(Debug)]
pub(super) struct CallBody<B> {
    inner: B,
    call: Option<Call>,
    #[expect(dead_code, reason = "counts the call until it is dropped")]
    token: Option<TaskTrackerToken>,
}

impl<B: Body + Unpin> Body for CallBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let Some(call) = &mut this.call else {
            return Pin::new(&mut this.inner).poll_frame(context);
        };
        let polled = call.span.in_scope(|| Pin::new(&mut this.inner).poll_frame(context));
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                call.counted.add_sent(data.remaining());
            } else if let Some(trailers) = frame.trailers_ref() {
                call.take_outcome(trailers);
            }
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
