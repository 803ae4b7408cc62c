//! OTLP: spans of requests, and every metric, pushed to a collector over gRPC.
//!
//! Only there when an endpoint is set; otherwise no thread, no task and no layer exists. A
//! collector that is slow or away costs nothing but what it would have been told: queues are
//! bounded, nobody waits for them, and the end waits two seconds at most.

mod export;
#[cfg(test)]
mod tests;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
pub use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::registry::LookupSpan;

use self::export::Exporter;
use super::metrics::Samples;
use super::spans::TARGET;
use crate::shutdown;

/// Between two exports of all metrics.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
/// A call to the collector ends after this, whatever it does.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the last export may take, of metrics and of spans each.
const LAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to push, and how often; by the names of the OpenTelemetry specification.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    endpoint: Endpoint,
    interval: Duration,
    service_name: String,
}

/// Why there is nothing to push to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// Not the address of a collector.
    #[error("{0:?} is no address as http://localhost:4317")]
    Address(String),
    /// Known, and not spoken.
    #[error("https is not spoken here; let a collector on this machine speak it")]
    Tls,
    /// Not a time.
    #[error("OTEL_METRIC_EXPORT_INTERVAL: {0:?} is no number of milliseconds above 0")]
    Interval(String),
}

impl OtlpSettings {
    /// The settings for an endpoint; `None` where it is empty, which means none.
    pub fn read(
        endpoint: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpError> {
        if endpoint.is_empty() {
            return Ok(None);
        }
        let no_address = || OtlpError::Address(endpoint.to_owned());
        let parsed = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| no_address())?;
        match parsed.uri().scheme_str() {
            Some("http") => {}
            Some("https") => return Err(OtlpError::Tls),
            _ => return Err(no_address()),
        }
        let set = |name| env(name).filter(|value| !value.is_empty());
        let interval = match set("OTEL_METRIC_EXPORT_INTERVAL") {
            None => DEFAULT_INTERVAL,
            Some(text) => match text.parse() {
                Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
                _ => return Err(OtlpError::Interval(text)),
            },
        };
        let service_name = set("OTEL_SERVICE_NAME").unwrap_or_else(|| "castellan".to_owned());
        let endpoint = parsed.timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        Ok(Some(Self { endpoint, interval, service_name }))
    }
}

/// A collector that is told what happens here.
#[derive(Debug)]
pub struct Otlp {
    channel: Channel,
    interval: Duration,
    resource: Resource,
    spans: SdkTracerProvider,
    /// Ends the export of metrics, once that has begun.
    metrics: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Otlp {
    /// Prepares to push; connects when there is something. Must be called within a runtime.
    pub fn connect(settings: OtlpSettings) -> Result<Self, ExporterBuildError> {
        let channel = settings.endpoint.connect_lazy();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(settings.service_name);
        let resource = resource.with_attribute(version).build();
        let exporter =
            SpanExporter::builder().with_tonic().with_channel(channel.clone()).build()?;
        // Its queue is bounded, and what does not fit is dropped.
        let spans = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self { channel, interval: settings.interval, resource, spans, metrics: None })
    }

    /// Turns the spans of requests into spans of OpenTelemetry. Wants no others: those of the
    /// connection to the collector would never end.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let requests = FilterFn::new(|metadata| metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.spans.tracer("castellan"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(requests.with_max_level_hint(LevelFilter::DEBUG))
    }

    /// Begins to push what `collect` gives, now and then. Must be called within a runtime.
    pub fn export_metrics(&mut self, collect: impl Fn() -> Samples + Send + 'static) {
        let stop = CancellationToken::new();
        let exporter = Exporter::new(self.channel.clone(), &self.resource, Box::new(collect));
        let exporting = exporter.run(self.interval, stop.clone());
        self.metrics = Some((stop, shutdown::spawn("metrics export", exporting)));
    }

    /// Pushes what is left, for two seconds at most. Blocks, so not within the runtime.
    pub fn shutdown(self, runtime: &Runtime) {
        if let Some((stop, exporting)) = self.metrics {
            stop.cancel();
            if runtime.block_on(exporting).is_err() {
                tracing::warn!("export of metrics ended badly");
            }
        }
        if let Err(error) = self.spans.shutdown_with_timeout(LAST_EXPORT_TIMEOUT) {
            tracing::debug!(%error, "last spans not exported");
        }
    }
}
