//! One span for each call, from its first header to its last trailer.
//!
//! Costs one level check when nobody listens at debug: nothing is parsed, formatted or allocated
//! then. It must never fail a call, whatever its metadata says (reapi 97).

use std::convert::Infallible;
use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use castellan_proto::v2::RequestMetadata;
use futures_util::future::{BoxFuture, Either};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use prost::Message as _;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Writes what a call is about into its span.
pub(super) fn record_call(instance_name: &str, digest: Option<&dyn Display>) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let span = Span::current();
    span.record("instance", instance_name);
    if let Some(digest) = digest {
        span.record("digest", tracing::field::display(digest));
    }
}

/// Wraps a service so that each of its calls runs in a span.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallTraceLayer;

impl<S> Layer<S> for CallTraceLayer {
    type Service = CallTrace<S>;

    fn layer(&self, inner: S) -> CallTrace<S> {
        CallTrace { inner }
    }
}

/// See [`CallTraceLayer`].
#[derive(Clone, Debug)]
pub(super) struct CallTrace<S> {
    inner: S,
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for CallTrace<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>, Error = Infallible>,
    S::Future: Send + 'static,
    ResponseBody: Send + 'static,
{
    type Response = Response<TracedBody<ResponseBody>>;
    type Error = Infallible;
    type Future = Either<
        futures_util::future::MapOk<
            S::Future,
            fn(Response<ResponseBody>) -> Response<TracedBody<ResponseBody>>,
        >,
        BoxFuture<'static, Result<Self::Response, Infallible>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        use futures_util::TryFutureExt as _;
        if !tracing::enabled!(tracing::Level::DEBUG) {
            let untraced: fn(Response<ResponseBody>) -> _ =
                |response| response.map(|inner| TracedBody { inner, call: None });
            return Either::Left(self.inner.call(request).map_ok(untraced));
        }
        let span = call_span(&request);
        let response = span.in_scope(|| self.inner.call(request));
        let call = Call { span: span.clone(), outcome: None };
        Either::Right(Box::pin(
            async move {
                // Moved in here so that a call which is dropped before it answers is logged too.
                let mut call = call;
                let response = response.await?;
                call.outcome = response.headers().get(GRPC_STATUS).cloned();
                Ok(response.map(|inner| TracedBody { inner, call: Some(call) }))
            }
            .instrument(span),
        ))
    }
}

fn call_span<B>(request: &Request<B>) -> Span {
    let span = tracing::debug_span!(
        "rpc",
        method = request.uri().path(),
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
    if let Some(peer) = peer_address(request) {
        span.record("peer", tracing::field::display(peer));
    }
    if let Some(metadata) = request_metadata(request.headers()) {
        if let Some(tool) = &metadata.tool_details {
            span.record("tool_name", &tool.tool_name);
            span.record("tool_version", &tool.tool_version);
        }
        span.record("invocation_id", &metadata.tool_invocation_id);
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

/// A call in flight. Dropping it logs how the call ended.
#[derive(Debug)]
struct Call {
    span: Span,
    outcome: Option<HeaderValue>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let status = self.outcome.as_ref().and_then(|value| value.to_str().ok());
        let status = status.unwrap_or("cancelled");
        tracing::debug!(parent: &self.span, status, "call ended");
    }
}

/// A response body that keeps its call's span open until it ends.
#[derive(Debug)]
pub(super) struct TracedBody<B> {
    inner: B,
    call: Option<Call>,
}

impl<B: Body + Unpin> Body for TracedBody<B> {
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
        let _entered = call.span.enter();
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            call.outcome = trailers.get(GRPC_STATUS).cloned();
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
