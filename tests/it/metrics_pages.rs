//! The page and the dashboard about metrics say what the server says.
//!
//! `CASTELLAN_WRITE_DOCS=1 cargo test --test it metrics_pages` writes the page anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use castellan::http::metrics::families;
use castellan::telemetry::metrics::Kind;
use serde_json::Value;

use crate::support::{Blob, FullResult, Scrape, TestServer};

const PAGE: &str = "docs/metrics.md";
const DASHBOARD: &str = "deployment/grafana/castellan.json";

const INTRODUCTION: &str = "\
# Metrics

`GET /metrics` on the HTTP listener, as Prometheus reads it.
This page is made from the declarations in the program:
`CASTELLAN_WRITE_DOCS=1 cargo test --test it metrics_pages` writes it.
[deployment/grafana/castellan.json](../deployment/grafana/castellan.json) is a dashboard over it.
With `--otlp-endpoint` the same metrics are pushed to an OpenTelemetry collector.

Counters start at 0 with the process. A method or an instance that was never asked for has no line.

- `transport`: `grpc` or `http`.
- `method`: a method of a gRPC service; or what an HTTP path is about and the verb, as `cas_get`;
  else `other`.
- `outcome`: a gRPC code, as `NOT_FOUND`, or an HTTP status; `CANCELLED` and `aborted` when the
  client went away.
- `instance_name`: the first 64 names that are asked for, then `_other`; `-` is the empty name.
- `result`: `hit` or `miss`, `present` or `absent`.
- `store`: the name of the store's directory.

The hit ratio of the action cache over five minutes:

```
sum by (instance_name) (rate(castellan_action_cache_lookups_total{result=\"hit\"}[5m]))
  / sum by (instance_name) (rate(castellan_action_cache_lookups_total[5m]))
```

How full a store is: `castellan_store_resident_bytes / castellan_store_limit_bytes`.

| metric | kind | labels | meaning |
|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for family in families() {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|it| format!("`{it}`")).collect();
        let labels = labels.join(", ");
        writeln!(page, "| `{}` | {kind} | {labels} | {} |", family.name, family.help).unwrap();
    }
    page
}

fn repository_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn the_page_is_what_the_declarations_say() {
    let path = repository_file(PAGE);
    if std::env::var_os("CASTELLAN_WRITE_DOCS").is_some() {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, page().as_bytes()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page(), "{PAGE} is stale; CASTELLAN_WRITE_DOCS=1 writes it anew");
}

/// A server that has seen a bit of everything.
async fn busy_server() -> TestServer {
    let server = TestServer::start_on_every_kind().await;
    let full = FullResult::new("busy");
    server.put(&full.blobs()).await;
    server.update_result(&full.action, prost::Message::encode_to_vec(&full.result)).await.unwrap();
    server.get_result(&full.action).await.unwrap();
    server.read(&full.blobs()[0].read_name()).await.unwrap();
    server.put(&[&Blob::new("under no lease")]).await;
    // So that the next one finds a request over HTTP that has ended.
    Scrape::of(&server).await;
    server
}

#[tokio::test]
async fn everything_that_is_shown_is_declared() {
    let scrape = Scrape::of(&busy_server().await).await;
    for (name, kind) in &scrape.kinds {
        let family = families().into_iter().find(|family| family.name == name).unwrap();
        assert_eq!(format!("{:?}", family.kind).to_lowercase(), *kind, "{name}");
        for (sample, labels) in scrape.samples.iter().filter(|(it, _)| it.starts_with(name)) {
            for (labels, _) in labels {
                let mut expected: BTreeSet<_> = family.labels.iter().copied().collect();
                expected.extend(sample.ends_with("_bucket").then_some("le"));
                let shown: BTreeSet<_> = labels.keys().map(String::as_str).collect();
                assert_eq!(shown, expected, "{sample}");
            }
        }
    }
    let mut declared: BTreeSet<_> = families().iter().map(|family| family.name).collect();
    // Too little is known yet.
    assert!(declared.remove("castellan_store_predicted_hit_ratio"));
    let shown: BTreeSet<_> = scrape.kinds.keys().map(String::as_str).collect();
    assert_eq!(shown, declared);
}

/// Every query in a dashboard, with where it stands.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            let name = variable["name"].as_str().unwrap();
            queries.push((name.to_owned(), variable["definition"].as_str().unwrap().to_owned()));
        }
    }
    queries
}

/// The selectors in a query: a name, and what stands between braces behind it.
fn selectors(query: &str) -> Vec<(&str, &str)> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let starts = query.match_indices("castellan_").map(|(start, _)| &query[start..]);
    starts
        .map(|rest| {
            let (name, behind) = rest.split_at(rest.find(|it| !is_part(it)).unwrap_or(rest.len()));
            let matchers = behind.strip_prefix('{').and_then(|it| it.split_once('}'));
            (name, matchers.map_or("", |(matchers, _)| matchers))
        })
        .collect()
}

/// The labels that a query groups by.
fn grouping(query: &str) -> Vec<&str> {
    let clauses = ["by (", "without ("].into_iter().flat_map(|word| query.split(word).skip(1));
    let lists = clauses.map(|rest| rest.split_once(')').unwrap().0);
    lists.flat_map(|list| list.split(',').map(str::trim)).collect()
}

fn check_query(query: &str, scrape: &Scrape) -> Result<(), String> {
    let mut known = BTreeSet::new();
    let selectors = selectors(query);
    if selectors.is_empty() {
        return Err("names no metric".to_owned());
    }
    for (name, matchers) in selectors {
        let samples = scrape.samples.get(name).ok_or_else(|| format!("no sample of {name}"))?;
        let labels: BTreeSet<&str> =
            samples.iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect();
        for matcher in matchers.split(',').filter(|it| !it.is_empty()) {
            let (label, value) = matcher.split_once('=').unwrap();
            let label = label.trim_end_matches('!');
            if !labels.contains(label) {
                return Err(format!("{name} has no label {label}"));
            }
            // A pattern may match nothing; a plain value must exist.
            let Some(value) = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else {
                continue;
            };
            let exists = samples.iter().any(|(labels, _)| labels[label] == value);
            if !exists && !value.starts_with('$') {
                return Err(format!("no sample of {name} has {matcher}"));
            }
        }
        known.extend(labels);
    }
    match grouping(query).into_iter().find(|label| !known.contains(label)) {
        Some(label) => Err(format!("no metric in it has the label {label}")),
        None => Ok(()),
    }
}

#[tokio::test]
async fn every_query_of_the_dashboard_finds_something() {
    let text = std::fs::read_to_string(repository_file(DASHBOARD)).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let scrape = Scrape::of(&busy_server().await).await;
    let queries = queries(&dashboard);
    assert!(queries.len() > 20, "{queries:?}");
    for (place, query) in &queries {
        assert_eq!(check_query(query, &scrape), Ok(()), "{place}: {query}");
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        assert!(panel["type"] == "row" || panel["description"].is_string(), "{panel}");
    }
}

#[tokio::test]
async fn a_wrong_query_is_noticed() {
    let scrape = Scrape::of(&busy_server().await).await;
    for wrong in [
        "up",
        "castellan_store_residentbytes",
        "sum by (le, outcome) (castellan_requests_total)",
        "castellan_store_max_bytes{shop=\"x\"}",
        "rate(castellan_cas_reads_total{result=\"hot\"}[5m])",
    ] {
        assert!(check_query(wrong, &scrape).is_err(), "{wrong}");
    }
}
