//! Settings as the specification names them, and samples as messages.

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;

use super::export::{Times, messages};
use super::*;
use crate::telemetry::metrics::{Distribution, Family, Kind, Samples, Unit, Value};

fn read(endpoint: &str, env: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpError> {
    let env = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    OtlpSettings::read(endpoint, &env)
}

#[test]
fn an_endpoint_turns_it_on_and_the_environment_says_the_rest() {
    assert!(read("", &[]).unwrap().is_none());
    let settings = read("http://collector:4317", &[("OTEL_SERVICE_NAME", "")]).unwrap().unwrap();
    assert_eq!(settings.endpoint.uri(), "http://collector:4317/");
    assert_eq!((settings.interval.as_secs(), &*settings.service_name), (30, "castellan"));
    let env = [("OTEL_METRIC_EXPORT_INTERVAL", "1500"), ("OTEL_SERVICE_NAME", "cache-7")];
    let settings = read("http://[::1]:4317", &env).unwrap().unwrap();
    assert_eq!((settings.interval.as_millis(), &*settings.service_name), (1500, "cache-7"));
}

#[test]
fn what_is_wrong_is_said() {
    for wrong in ["collector:4317", "4317", "grpc://collector:4317", "http://", "a b"] {
        assert_eq!(read(wrong, &[]).unwrap_err(), OtlpError::Address(wrong.to_owned()));
    }
    assert_eq!(read("https://collector:4317", &[]).unwrap_err(), OtlpError::Tls);
    for wrong in ["0", "-5", "30s"] {
        let outcome = read("http://collector:4317", &[("OTEL_METRIC_EXPORT_INTERVAL", wrong)]);
        assert_eq!(outcome.unwrap_err(), OtlpError::Interval(wrong.to_owned()));
    }
}

static COUNTER: Family = family("castellan_x_bytes_total", Kind::Counter, Unit::Bytes);
static GAUGE: Family = family("castellan_y", Kind::Gauge, Unit::None);
static HISTOGRAM: Family = family("castellan_z_seconds", Kind::Histogram, Unit::Seconds);

const fn family(name: &'static str, kind: Kind, unit: Unit) -> Family {
    Family { name, help: "Help.", kind, unit, labels: &["label"] }
}

#[test]
fn samples_keep_their_meaning() {
    let mut samples = Samples::default();
    samples.integer(&COUNTER, &["a"], 7);
    samples.add(&GAUGE, &["b"], Value::Real(0.5));
    let distribution = Distribution { bounds: &[0.1, 1.0], counts: vec![1, 2, 3], sum: 9.5 };
    samples.add(&HISTOGRAM, &["c"], Value::Distribution(distribution));
    let metrics = messages(&samples, Times { start_nanos: 5, now_nanos: 6 });
    let names: Vec<_> = metrics.iter().map(|it| (&*it.name, &*it.unit)).collect();
    let expected =
        [("castellan_x_bytes_total", "By"), ("castellan_y", "1"), ("castellan_z_seconds", "s")];
    assert_eq!(names, expected);
    let [Some(Data::Sum(sum)), Some(Data::Gauge(gauge)), Some(Data::Histogram(histogram))] =
        [0, 1, 2].map(|at: usize| metrics[at].data.clone())
    else {
        panic!("{metrics:?}");
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality, histogram.aggregation_temporality);
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (5, 6));
    assert_eq!(point.value, Some(Number::AsInt(7)));
    assert_eq!(point.attributes[0].key, "label");
    assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(0.5)));
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum), (6, Some(9.5)));
    assert_eq!((&*point.bucket_counts, &*point.explicit_bounds), (&[1, 2, 3][..], &[0.1, 1.0][..]));
}
