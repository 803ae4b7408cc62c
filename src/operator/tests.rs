//! What the operator is told: history, spans, surveys that are not made too often, purge requests.

use std::time::Duration;

use serde_json::{Value, json};

use super::history::{History, Sample};
use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::filesystem::{Cap, FilesystemOptions};
use crate::store::{BlobStoreExt as _, Key};
use crate::telemetry::hits::HitSnapshot;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;

async fn store(directory: &tempfile::TempDir) -> NamedStore {
    let options = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    let store = FilesystemStore::open(options).await.unwrap();
    NamedStore { name: "main".to_owned(), store, holds_values: false }
}

async fn put(store: &NamedStore, text: &'static str) -> Digest {
    let digest = Digest::of(DigestFunction::Sha256, text.as_bytes());
    crate::store::BlobStore::put(&*store.store, &Key::blob(digest), text.into()).await.unwrap();
    digest
}

fn of(stores: Vec<NamedStore>) -> Arc<Operator> {
    let trees = stores.iter().map(|it| NamedTree {
        name: it.name.clone(),
        store: Arc::<FilesystemStore>::clone(&it.store),
        holds_values: it.holds_values,
    });
    let trees = trees.collect();
    let stores = WatchedStores { files: stores, trees, others: Vec::new() };
    Operator::new(stores, Metrics::new(RecentErrors::default()), Readiness::new())
}

fn sample(at_seconds: u64, action_cache_hits: u64) -> Sample {
    let hits = HitSnapshot { action_cache_hits, ..HitSnapshot::default() };
    Sample { at_seconds, hits, ..Sample::default() }
}

fn numbers(document: &Value, path: &str) -> Vec<u64> {
    let column = document.pointer(path).and_then(Value::as_array).unwrap();
    column.iter().map(|it| it.as_u64().unwrap()).collect()
}

#[test]
fn a_span_is_what_was_counted_in_it() {
    let mut history = History::default();
    // One hit a second, for a day.
    (0..=86_400).step_by(10).for_each(|at| history.note(sample(at, at)));
    let now = sample(86_405, 86_405);
    for (seconds, hits) in [(600, 605), (3600, 86_405 - 82_800), (7 * 86_400, 86_405)] {
        assert_eq!(history.hits_of_last(seconds, &now).action_cache_hits, hits, "{seconds}");
    }
    let half_day = history.hits_of_last(43_200, &now).action_cache_hits;
    assert!((43_200..43_810).contains(&half_day), "to ten minutes: {half_day}");
    let young = History::default();
    assert_eq!(young.hits_of_last(600, &sample(5, 3)).action_cache_hits, 3);
}

#[test]
fn the_longest_spans_end_where_they_should_after_a_long_time() {
    let mut history = History::default();
    (0..=800_000).step_by(10).for_each(|at| history.note(sample(at, at)));
    for now in [800_003, 800_009] {
        let hits = |seconds| history.hits_of_last(seconds, &sample(now, now)).action_cache_hits;
        assert!((3600..3610).contains(&hits(3600)), "{}", hits(3600));
        let week = 7 * 86_400;
        assert!((week..week + 600).contains(&hits(week)), "{}", hits(week));
    }
}

#[test]
fn history_ends_now_and_stays_small() {
    let mut history = History::default();
    (0..=800_000).step_by(10).for_each(|at| history.note(sample(at, 2 * at)));
    let document = history.document(&sample(800_003, 1_600_007), 1_000_800_003);
    for (ring, most) in [("hour", 362), ("week", 1010)] {
        let at = numbers(&document, &format!("/{ring}/at"));
        assert!(at.len() == most && at.last() == Some(&1_000_800_003), "{ring} {}", at.len());
        let hits = numbers(&document, &format!("/{ring}/action_cache_hits"));
        assert_eq!(hits.len(), most);
        assert_eq!(hits[0], document[ring]["interval_seconds"].as_u64().unwrap() * 2);
    }
}

#[tokio::test]
async fn a_survey_is_made_once_and_shared() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let operator = of(vec![store.clone()]);
    put(&store, "one").await;
    let entries = |status: Value| status["stores"][0]["blobs"]["entries"].as_u64().unwrap();
    let (first, second) = tokio::join!(operator.status(), operator.status());
    assert_eq!((entries(first), entries(second)), (1, 1));
    put(&store, "two").await;
    let status = operator.status().await;
    assert_eq!(status["stores"][0]["entries"], 2, "the books are of this moment");
    assert_eq!(entries(status), 1, "the survey is not");
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(1)).await;
    tokio::time::resume();
    assert_eq!(entries(operator.status().await), 2);
}

#[tokio::test]
async fn a_digest_is_explained_with_its_last_use_and_its_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let operator = of(vec![store.clone()]);
    let digest = put(&store, "one").await;
    let wanted = Wanted::parse(digest.hash_hex().as_str()).unwrap();
    let present = operator.explain(&wanted).await.unwrap();
    assert_eq!(
        (&present["status"], &present["files"][0]["store"]),
        (&json!("present"), &json!("main"))
    );
    assert_eq!(present["files"][0]["is_leased"], json!(false));
    assert!(present["files"][0]["unused_seconds"].is_u64());
    assert!(store.store.contains(&Key::blob(digest)).await.unwrap());
    let leased = operator.explain(&wanted).await.unwrap();
    assert_eq!(leased["files"][0]["is_leased"], json!(true));
    let request = PurgeRequest::parse(&json!({ "digest": digest.to_string() })).unwrap();
    let purged = operator.purge(&request).await.unwrap();
    assert_eq!(purged, json!({ "dry_run": false, "removed": 1, "is_drained": true }));
    let gone = operator.explain(&wanted).await.unwrap();
    assert_eq!(
        (&gone["status"], &gone["removals"][0]["reason"]),
        (&json!("removed"), &json!("purged"))
    );
}

#[test]
fn a_purge_says_one_thing_and_nothing_unknown() {
    let hash = "0123456789abcdef".repeat(4);
    for good in [
        json!({ "all": true }),
        json!({ "instance": "" }),
        json!({ "instance": "main", "dry_run": true }),
        json!({ "action_results_older_than_seconds": 60 }),
        json!({ "action_results_older_than_seconds": 60, "instance": "main" }),
        json!({ "digest": hash }),
        json!({ "digest": format!("blake3/{hash}/12") }),
    ] {
        assert!(PurgeRequest::parse(&good).is_ok(), "{good}");
    }
    for bad in [
        json!([]),
        json!({}),
        json!({ "dry_run": true }),
        json!({ "all": false }),
        json!({ "all": "true" }),
        json!({ "all": true, "dryrun": true }),
        json!({ "all": true, "dry_run": "yes" }),
        json!({ "all": true, "instance": "main" }),
        json!({ "digest": hash, "instance": "main" }),
        json!({ "digest": "abc" }),
        json!({ "instance": "a//b" }),
        json!({ "instance": 1 }),
        json!({ "action_results_older_than_seconds": -1 }),
        json!({ "action_results_older_than_seconds": 60, "all": true }),
    ] {
        assert!(PurgeRequest::parse(&bad).is_err(), "{bad}");
    }
}

#[test]
fn times_are_for_people() {
    for (seconds, text) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_868_799, "2000-02-29 23:59:59 UTC"),
        (951_868_800, "2000-03-01 00:00:00 UTC"),
        (1_798_761_599, "2026-12-31 23:59:59 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] {
        assert_eq!(super::answer::utc(seconds), text);
    }
}
