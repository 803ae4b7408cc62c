//! A collector in this process hears of requests and metrics; one that is away changes nothing.

use std::future::Future;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use castellan_proto::v2::GetCapabilitiesRequest;
use castellan_proto::v2::capabilities_client::CapabilitiesClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span, status};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use crate::support::{Blob, Client, Process, get};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

/// Passes on what it is told.
#[derive(Clone)]
struct Collector<T>(Sender<T>);

#[tonic::async_trait]
impl TraceService for Collector<ExportTraceServiceRequest> {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        // The test may have heard enough.
        drop(self.0.send(request.into_inner()).await);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector<ExportMetricsServiceRequest> {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        // The test may have heard enough.
        drop(self.0.send(request.into_inner()).await);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// What the collector has heard.
struct Heard {
    address: String,
    traces: Receiver<ExportTraceServiceRequest>,
    metrics: Receiver<ExportMetricsServiceRequest>,
}

/// Starts a collector.
async fn collector() -> Heard {
    let (trace_sender, traces) = channel(64);
    let (metric_sender, metrics) = channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = Server::builder()
        .add_service(TraceServiceServer::new(Collector(trace_sender)))
        .add_service(MetricsServiceServer::new(Collector(metric_sender)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    castellan::shutdown::spawn("collector", async move { serving.await.unwrap() });
    Heard { address, traces, metrics }
}

async fn bounded<T>(what: &str, future: impl Future<Output = Option<T>>) -> T {
    let outcome = timeout(Duration::from_mins(1), future).await;
    outcome.ok().flatten().unwrap_or_else(|| panic!("never: {what}"))
}

impl Heard {
    /// The first span that is as wanted, and what it is a span of.
    async fn span(&mut self, is_wanted: fn(&Span) -> bool) -> (Span, Resource) {
        let finding = async {
            while let Some(request) = self.traces.recv().await {
                for of_resource in request.resource_spans {
                    let resource = of_resource.resource.unwrap();
                    let spans = of_resource.scope_spans.into_iter().flat_map(|it| it.spans);
                    if let Some(span) = spans.into_iter().find(&is_wanted) {
                        return Some((span, resource));
                    }
                }
            }
            None
        };
        bounded("the span arrives", finding).await
    }

    /// The first metric that is as wanted.
    async fn metric(&mut self, is_wanted: fn(&Metric) -> bool) -> Metric {
        let finding = async {
            while let Some(request) = self.metrics.recv().await {
                let scopes = request.resource_metrics.into_iter().flat_map(|it| it.scope_metrics);
                let mut metrics = scopes.flat_map(|it| it.metrics);
                if let Some(metric) = metrics.find(&is_wanted) {
                    return Some(metric);
                }
            }
            None
        };
        bounded("the metric arrives", finding).await
    }
}

fn command(directory: &Path, endpoint: &str) -> Command {
    let directory = directory.to_str().unwrap();
    let mut command = Process::command(&["serve", "--dir", directory, "--log", "warn"]);
    command.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    // Soon rather than seldom.
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "50").env("OTEL_BSP_SCHEDULE_DELAY", "50");
    command
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let value = attributes.iter().find(|it| it.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_continues_the_trace_of_its_client() {
    let mut heard = collector().await;
    let directory = tempfile::tempdir().unwrap();
    let process = Process::spawn(command(directory.path(), &heard.address));
    let channel = Channel::from_shared(format!("http://{}", process.grpc)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut request = Request::new(GetCapabilitiesRequest::default());
    let parent = format!("00-{TRACE_ID}-{PARENT_ID}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    request.metadata_mut().insert("tracestate", "vendor=1".parse().unwrap());
    CapabilitiesClient::new(channel).get_capabilities(request).await.unwrap();
    let (span, resource) = heard.span(|span| span.name == "rpc").await;
    assert_eq!(const_hex::encode(&span.trace_id), TRACE_ID);
    assert_eq!(const_hex::encode(&span.parent_span_id), PARENT_ID);
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(span.kind(), span::SpanKind::Server);
    assert!(text(&span.attributes, "method").unwrap().ends_with("/GetCapabilities"));
    assert_eq!(text(&span.attributes, "status"), Some("OK"));
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    assert_eq!(text(&resource.attributes, "service.name"), Some("castellan"));
    assert!(text(&resource.attributes, "service.version").is_some());

    // Without a trace of its own a call begins one; a miss is no failure of the server.
    let client = Client::connect(&process.grpc).await;
    client.read(&Blob::new("absent").read_name()).await.unwrap_err();
    let (span, _) = heard.span(|span| text(&span.attributes, "status") != Some("OK")).await;
    assert_eq!((&*const_hex::encode(&span.parent_span_id), span.trace_id.len()), ("", 16));
    assert_eq!(text(&span.attributes, "status"), Some("NOT_FOUND"));
    assert!(span.status.is_none_or(|it| it.code() == status::StatusCode::Unset));

    let http = process.http.clone();
    tokio::task::block_in_place(|| get(&http, "/livez"));
    let (span, _) = heard.span(|span| span.name == "http").await;
    assert_eq!(text(&span.attributes, "path"), Some("/livez"));
    assert_eq!(text(&span.attributes, "status"), Some("200"));
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn the_metrics_of_the_metrics_page_arrive() {
    let mut heard = collector().await;
    let directory = tempfile::tempdir().unwrap();
    let process = Process::spawn(command(directory.path(), &heard.address));
    let metric = heard.metric(|metric| metric.name == "castellan_store_max_bytes").await;
    assert_eq!(metric.unit, "By");
    let client = Client::connect(&process.grpc).await;
    client.put(&Blob::new("counted")).await.unwrap();
    let metric = heard.metric(|metric| metric.name == "castellan_request_duration_seconds").await;
    let Some(metric::Data::Histogram(histogram)) = metric.data else { panic!("{metric:?}") };
    let point = &histogram.data_points[0];
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(text(&point.attributes, "method").is_some());
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
}

/// One collector refuses connections, the other takes them and never says anything.
#[tokio::test]
async fn i23_a_collector_that_is_away_holds_nobody_up() {
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let gone = StdListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&silent, &gone].map(|it| format!("http://{}", it.local_addr().unwrap()));
    drop(gone);
    for address in addresses {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::spawn(command(directory.path(), &address));
        let client = Client::connect(&process.grpc).await;
        let blob = Blob::random(7, 1000);
        client.put(&blob).await.unwrap();
        // More spans than the queue holds.
        for _ in 0..2500 {
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
        drop(client);
        assert_eq!(process.stop().await.code(), Some(0), "{address}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path(), "collector:4317").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let problems = String::from_utf8(output.stderr).unwrap();
    assert!(problems.contains("--otlp-endpoint"), "{problems}");
    assert!(problems.contains("http://localhost:4317"), "{problems}");
}
