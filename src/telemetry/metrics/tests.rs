//! What is counted, and the text that says so.

use std::collections::HashSet;
use std::time::Duration;

use super::calls::{Method, Outcome, Transport};
use super::histogram::Histogram;
use super::model::{Family, Kind, Samples, Unit, Value};
use super::{Metrics, families, text};
use crate::telemetry::recent_errors::RecentErrors;

static FAMILY: Family = Family {
    name: "castellan_x_seconds",
    help: "Back\\slash\nand line.",
    kind: Kind::Histogram,
    unit: Unit::Seconds,
    labels: &["name"],
};

#[test]
fn the_text_escapes_and_adds_up() {
    let histogram = Histogram::default();
    assert_eq!(histogram.distribution(), None);
    for micros in [50, 100, 101, 120_000_000] {
        histogram.record(Duration::from_micros(micros));
    }
    let mut samples = Samples::default();
    let distribution = histogram.distribution().unwrap();
    samples.add(&FAMILY, &["a\"b\\c\nd"], Value::Distribution(distribution));
    let text = text::encode(&samples);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "# HELP castellan_x_seconds Back\\\\slash\\nand line.");
    assert_eq!(lines[1], "# TYPE castellan_x_seconds histogram");
    let label = r#"name="a\"b\\c\nd""#;
    assert_eq!(lines[2], format!("castellan_x_seconds_bucket{{{label},le=\"0.0001\"}} 2"));
    assert_eq!(lines[3], format!("castellan_x_seconds_bucket{{{label},le=\"0.00025\"}} 3"));
    assert_eq!(lines[18], format!("castellan_x_seconds_bucket{{{label},le=\"60\"}} 3"));
    assert_eq!(lines[19], format!("castellan_x_seconds_bucket{{{label},le=\"+Inf\"}} 4"));
    assert_eq!(lines[20], format!("castellan_x_seconds_sum{{{label}}} 120.000251"));
    assert_eq!(lines[21], format!("castellan_x_seconds_count{{{label}}} 4"));
    assert_eq!(lines.len(), 22);
}

#[test]
fn every_name_follows_the_conventions() {
    let mut names = HashSet::new();
    for family in families() {
        let name = family.name;
        assert!(names.insert(name), "{name} is declared twice");
        assert!(name.starts_with("castellan_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        let base = name.strip_suffix("_total").unwrap_or(name);
        let unit = match family.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
        };
        assert!(base.ends_with(unit), "{name}");
        assert!(family.help.ends_with('.'), "{name}");
    }
}

#[test]
fn methods_and_outcomes_are_closed_sets() {
    let of_grpc = |path| Method::of_grpc(path).name();
    assert_eq!(of_grpc("/google.bytestream.ByteStream/Read"), "Read");
    assert_eq!(of_grpc("/google.bytestream.ByteStream/Reed"), "other");
    assert_eq!(of_grpc(""), "other");
    let of_http = |verb, path| Method::of_http(verb, path).name();
    assert_eq!(of_http("GET", "/cas/00ff"), "cas_get");
    assert_eq!(of_http("PUT", "/any/instance/ac/00ff"), "ac_put");
    assert_eq!(of_http("GET", "/metrics"), "metrics");
    assert_eq!(of_http("PUT", "/ccache/ac/00ff"), "values_put");
    assert_eq!(of_http("GET", "/webdav/a/b/c/abc"), "values_get");
    assert_eq!(of_http("DELETE", "/gradle/00ff"), "values_delete");
    assert_eq!(of_http("PROPFIND", "/webdav/"), "other");
    assert_eq!(of_http("GET", "/values/00ff"), "other");
    assert_eq!(of_http("GET", "/cas/00ff/more"), "other");
    assert_eq!(of_http("BREW", "/cas/00ff"), "other");
    assert_eq!(of_http("GET", "/"), "other");
    assert_eq!(Method::of_http("GET", "/").transport(), Transport::Http);
    let of_status = |value: &[u8]| Outcome::of_grpc_status(value).name(Transport::Grpc);
    assert_eq!((of_status(b"0"), of_status(b"16")), ("OK", "UNAUTHENTICATED"));
    for unknown in [&b"17"[..], b"", b"-1", b"4711", b"\xff"] {
        assert_eq!(of_status(unknown), "UNKNOWN");
    }
    let of_status = |status| Outcome::of_http_status(status).name(Transport::Http);
    assert_eq!((of_status(200), of_status(507)), ("200", "507"));
    assert_eq!((of_status(0), of_status(1), of_status(418)), ("other", "other", "other"));
    let fails = |value: &[u8]| Outcome::of_grpc_status(value).is_failure(Transport::Grpc);
    assert!(fails(b"13") && fails(b"14") && fails(b"15") && !fails(b"0") && !fails(b"5"));
    let fails = |status| Outcome::of_http_status(status).is_failure(Transport::Http);
    assert!(fails(500) && fails(507) && !fails(404) && !fails(200));
    assert_eq!(Outcome::unfinished(Transport::Http).name(Transport::Http), "aborted");
    assert_eq!(Outcome::unfinished(Transport::Grpc).name(Transport::Grpc), "CANCELLED");
}

#[test]
fn a_request_counts_when_it_ends() {
    let metrics = Metrics::new(RecentErrors::default());
    let mut request = metrics.requests.begin(Method::of_http("GET", "/cas/1"));
    let abandoned = metrics.requests.begin(Method::of_grpc("/google.bytestream.ByteStream/Read"));
    request.add_sent(7);
    let shown = || {
        let mut samples = Samples::default();
        metrics.collect(&mut samples);
        text::encode(&samples)
    };
    let before = shown();
    assert!(before.contains("castellan_requests_in_flight{transport=\"http\"} 1\n"), "{before}");
    assert!(!before.contains("castellan_requests_total"), "{before}");
    request.set_outcome(Outcome::of_http_status(200));
    drop(request);
    drop(abandoned);
    let after = shown();
    for line in [
        "castellan_requests_in_flight{transport=\"http\"} 0",
        "castellan_requests_total{transport=\"http\",method=\"cas_get\",outcome=\"200\"} 1",
        "castellan_requests_total{transport=\"grpc\",method=\"Read\",outcome=\"CANCELLED\"} 1",
        "castellan_request_sent_bytes_total{transport=\"http\",method=\"cas_get\"} 7",
    ] {
        assert!(after.lines().any(|it| it == line), "{line} is not in {after}");
    }
}

#[test]
fn the_process_says_what_it_takes() {
    let metrics = Metrics::new(RecentErrors::default());
    let mut samples = Samples::default();
    metrics.collect(&mut samples);
    let number = |name: &str| {
        let group = samples.groups().iter().find(|group| group.family.name == name).unwrap();
        match group.points[0].value {
            Value::Integer(number) => number as f64,
            Value::Real(number) => number,
            Value::Distribution(_) => panic!("{name}"),
        }
    };
    assert!(number("castellan_process_resident_memory_bytes") > 1e6);
    assert!(number("castellan_process_threads") >= 1.0);
    assert!(number("castellan_process_open_descriptors") >= 3.0);
    assert!(number("castellan_process_max_descriptors") >= 3.0);
    assert!(number("castellan_process_cpu_seconds_total") >= 0.0);
    assert!(number("castellan_process_start_time_seconds") > 1.7e9);
    assert!(number("castellan_process_uptime_seconds") >= 0.0);
}
