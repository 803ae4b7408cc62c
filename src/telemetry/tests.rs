//! Hits, names and the last errors: bounded, whatever comes. Spans: only for who wants them.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry;

use super::clients::{TopNames, printable};
use super::hits::{HitSnapshot, Hits};
use super::otlp::{Otlp, OtlpSettings};
use super::recent_errors::RecentErrors;
use super::{parse_filter, spans, subscriber};

#[test]
fn each_instance_counts_for_itself() {
    let hits = Hits::default();
    hits.of_instance("a").count_action_result(true);
    hits.of_instance("a").count_action_result(false);
    hits.of_instance("").count_read(true);
    hits.of_instance("").count_read(false);
    hits.of_instance("").count_presence(5, 3);
    let unnamed = HitSnapshot {
        cas_hits: 1,
        cas_misses: 1,
        cas_present: 5,
        cas_absent: 3,
        ..HitSnapshot::default()
    };
    let named =
        HitSnapshot { action_cache_hits: 1, action_cache_misses: 1, ..HitSnapshot::default() };
    assert_eq!(hits.snapshot(), [(String::new(), unnamed), ("a".to_owned(), named)]);
}

#[test]
fn i22_instances_beyond_the_bound_share_their_counters() {
    let hits = Hits::default();
    for name in 0..1000 {
        hits.of_instance(&name.to_string()).count_read(true);
    }
    let snapshot = hits.snapshot();
    assert_eq!(snapshot.len(), 65);
    let of = |name: &str| snapshot.iter().find(|it| it.0 == name).unwrap().1.cas_hits;
    assert_eq!((of("7"), of("63"), of("_other")), (1, 1, 936));
}

#[test]
fn frequent_names_stay_whatever_else_comes() {
    let top = TopNames::default();
    for round in 0..1000 {
        top.note("bazel");
        if round % 2 == 0 {
            top.note("buck2");
        }
        top.note(&format!("one-off {round}"));
    }
    let names = top.top(1000);
    assert_eq!(names.len(), 64);
    assert_eq!(names[..2], [("bazel".to_owned(), 1000), ("buck2".to_owned(), 500)]);
    assert!(names.is_sorted_by(|one, other| one.1 >= other.1), "{names:?}");
    assert_eq!(top.top(1).len(), 1);
}

#[test]
fn names_are_short_and_printable() {
    assert_eq!(printable("goma/client 2"), "goma/client 2");
    assert_eq!(printable("a\nb\u{e9}"), "a?b??");
    assert_eq!(printable(&"x".repeat(65)).len(), 64);
}

#[test]
fn the_last_warnings_and_errors_are_kept_and_nothing_else() {
    let recent = RecentErrors::default();
    let layer = recent.clone().with_filter(LevelFilter::WARN);
    tracing::subscriber::with_default(registry().with(layer), || {
        tracing::warn!(root = "/x", "first");
        tracing::info!("not kept");
        for number in 0..31 {
            tracing::error!(number, kind = %"disk", "{}", "\u{e9}".repeat(600));
        }
    });
    let list = recent.list();
    assert_eq!(list.len(), 32);
    assert_eq!((list[0].level, &*list[0].message), ("WARN", "first"));
    assert_eq!(list[0].fields, "root=\"/x\"");
    assert_eq!(list[31].fields, "number=30 kind=disk");
    assert_eq!((list[31].level, list[31].message.len()), ("ERROR", 512));
    tracing::subscriber::with_default(registry().with(recent.clone()), || {
        tracing::error!("one more");
    });
    assert_eq!(recent.list().len(), 32);
    assert_eq!(recent.list()[31].message, "one more");
}

#[test]
fn requests_have_spans_only_for_a_debug_log_or_a_collector() {
    let wants_spans = |filter: &str, otlp: Option<&Otlp>| {
        let filter = parse_filter(filter).unwrap();
        let subscriber = subscriber(filter, &RecentErrors::default(), otlp);
        tracing::subscriber::with_default(
            subscriber,
            || tracing::enabled!(target: spans::TARGET, tracing::Level::DEBUG),
        )
    };
    assert!(!wants_spans("info", None));
    assert!(!wants_spans("off", None));
    assert!(wants_spans("debug", None));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let settings = OtlpSettings::read("http://127.0.0.1:1", &|_| None).unwrap().unwrap();
    let otlp = Otlp::connect(settings).unwrap();
    drop(entered);
    assert!(wants_spans("info", Some(&otlp)));
    assert!(wants_spans("off", Some(&otlp)));
    otlp.shutdown(&runtime);
}
