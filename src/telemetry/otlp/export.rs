//! All metrics, pushed at an interval: the same samples that `/metrics` shows.
//!
//! The SDK's own instruments would be a second place for every counter, and it has no histogram
//! that is read when somebody asks; so the messages are made here.

use std::fmt;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::LAST_EXPORT_TIMEOUT;
use crate::telemetry::metrics::{Distribution, Family, Group, Kind, Point, Samples, Unit, Value};
use crate::telemetry::unix_seconds;

type Client = metrics_service_client::MetricsServiceClient<Channel>;

/// Pushes metrics.
pub(super) struct Exporter {
    client: Client,
    resource: Resource,
    collect: Box<dyn Fn() -> Samples + Send>,
    times: Times,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// What a value is about: all since the start, up to now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) start_nanos: u64,
    pub(super) now_nanos: u64,
}

impl Exporter {
    pub(super) fn new(
        channel: Channel,
        resource: &opentelemetry_sdk::Resource,
        collect: Box<dyn Fn() -> Samples + Send>,
    ) -> Self {
        let now_nanos = unix_nanos();
        Self {
            client: Client::new(channel),
            resource: resource.into(),
            collect,
            times: Times { start_nanos: now_nanos, now_nanos },
        }
    }

    /// Pushes at every interval and once more at the end. A collector that is away is said once.
    pub(super) async fn run(mut self, interval: Duration, stop: CancellationToken) {
        let mut is_away = false;
        while timeout(interval, stop.cancelled()).await.is_err() {
            let Some(outcome) = stop.run_until_cancelled(self.push()).await else { break };
            match &outcome {
                Err(error) if !is_away => tracing::warn!(%error, "metrics not exported"),
                Ok(()) if is_away => tracing::info!("metrics exported again"),
                _ => {}
            }
            is_away = outcome.is_err();
        }
        if !matches!(timeout(LAST_EXPORT_TIMEOUT, self.push()).await, Ok(Ok(()))) {
            tracing::debug!("last metrics not exported");
        }
    }

    async fn push(&mut self) -> Result<(), tonic::Status> {
        self.times.now_nanos = unix_nanos();
        let metrics = messages(&(self.collect)(), self.times);
        let name = "castellan".to_owned();
        let scope = Some(InstrumentationScope { name, ..InstrumentationScope::default() });
        let scope_metrics = vec![ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let of_resource = ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() };
        let request = ExportMetricsServiceRequest { resource_metrics: vec![of_resource] };
        self.client.export(request).await.map(drop)
    }
}

fn unix_nanos() -> u64 {
    unix_seconds().saturating_mul(1_000_000_000)
}

/// The samples as messages.
pub(super) fn messages(samples: &Samples, times: Times) -> Vec<Metric> {
    samples.groups().iter().map(|group| message(group, times)).collect()
}

fn message(group: &Group, times: Times) -> Metric {
    let Family { name, help, kind, unit, labels } = group.family;
    let numbers = || {
        let numbers = group.points.iter().filter_map(|point| number(labels, point, times));
        numbers.collect::<Vec<_>>()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match kind {
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Counter => metric::Data::Sum(Sum {
            data_points: numbers(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Kind::Histogram => {
            let points = group.points.iter();
            let data_points = points.filter_map(|point| histogram(labels, point, times)).collect();
            metric::Data::Histogram(Histogram { data_points, aggregation_temporality: cumulative })
        }
    };
    let unit = match unit {
        Unit::None => "1",
        Unit::Seconds => "s",
        Unit::Bytes => "By",
    };
    Metric {
        name: (*name).to_owned(),
        description: (*help).to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn number(labels: &[&str], point: &Point, times: Times) -> Option<NumberDataPoint> {
    let value = match point.value {
        Value::Integer(number) => {
            number_data_point::Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX))
        }
        Value::Real(number) => number_data_point::Value::AsDouble(number),
        Value::Distribution(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(labels, point),
        start_time_unix_nano: times.start_nanos,
        time_unix_nano: times.now_nanos,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(labels: &[&str], point: &Point, times: Times) -> Option<HistogramDataPoint> {
    let Value::Distribution(values) = &point.value else { return None };
    let Distribution { bounds, counts, sum } = values;
    Some(HistogramDataPoint {
        attributes: attributes(labels, point),
        start_time_unix_nano: times.start_nanos,
        time_unix_nano: times.now_nanos,
        count: values.count(),
        sum: Some(*sum),
        bucket_counts: counts.clone(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    })
}

fn attributes(labels: &[&str], point: &Point) -> Vec<KeyValue> {
    let attribute = |(name, value): (&&str, &String)| KeyValue {
        key: (*name).to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue(value.clone())) }),
        ..KeyValue::default()
    };
    labels.iter().zip(&point.labels).map(attribute).collect()
}
