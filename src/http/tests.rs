//! The probes follow the readiness that the other listener shares; every error has its status; the
//! counters are whole.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, BodyDataStream, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{get, put};
use futures_util::StreamExt as _;
use futures_util::stream::repeat_with;
use tower::ServiceExt as _;

use super::metrics::Exposition;
use super::status::Refusal;
use super::{Front, HttpOptions, observed, router, store_metrics};
use crate::action_cache::ActionCacheError;
use crate::digest::{Digest, DigestFunction};
use crate::instance::Instances;
use crate::shutdown::Readiness;
use crate::store::StoreError;
use crate::store::filesystem::StoreStats;
use crate::telemetry::metrics::{Metrics, Samples, Value};
use crate::telemetry::recent_errors::RecentErrors;

async fn status_of(readiness: &Readiness, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let front = Front {
        instances: Arc::new(Instances::named(HashMap::new())),
        values: None,
        readiness: readiness.clone(),
        options: HttpOptions::default(),
    };
    router(front).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn readyz_turns_503_while_draining_and_livez_does_not() {
    let readiness = Readiness::new();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::OK);
    readiness.start_draining();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(&readiness, "/livez").await, StatusCode::OK);
    assert_eq!(status_of(&readiness, "/nothing").await, StatusCode::NOT_FOUND);
}

#[test]
fn reapi_h9_every_error_has_its_status() {
    let digest = Digest::of(DigestFunction::Sha256, b"x");
    let io = |error: i32| StoreError::Io {
        operation: "open",
        source: std::io::Error::from_raw_os_error(error),
    };
    let errors = [
        (StoreError::HashMismatch { expected: digest, actual: String::new() }, 400, false),
        (StoreError::SizeMismatch { digest, expected_bytes: 1, received_bytes: 2 }, 400, false),
        (StoreError::TooLarge { size_bytes: 2, limit_bytes: 1 }, 413, false),
        (StoreError::NoSpace { size_bytes: 1, reason: "" }, 507, true),
        (StoreError::Corrupt { key: String::new() }, 500, false),
        (StoreError::Purged, 503, true),
        (StoreError::TooManyPurges, 503, true),
        (StoreError::ShuttingDown, 503, true),
        // Out of descriptors, then a failing disk.
        (io(24), 503, true),
        (io(5), 500, false),
    ];
    for (error, status, is_temporary) in errors {
        let what = error.to_string();
        let response = Refusal::from(ActionCacheError::Store(error)).into_response();
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert_eq!(response.headers().contains_key("retry-after"), is_temporary, "{what}");
    }
}

/// Taken apart without a rest, so that a new field does not compile until it is here.
#[rustfmt::skip]
fn every_field(stats: &mut StoreStats) -> Vec<&mut u64> {
    let StoreStats {
        max_bytes, limit_bytes, resident_bytes, reserved_bytes, dying_bytes, held_bytes,
        overhead_bytes, unread_bytes, leased_bytes, pinned_bytes, entries, variants, suspects,
        unread_shards,
        waiting_uploads, writes, oldest_age_seconds, evictions, expirations, count_evictions,
        purged_entries, replacements, evict_unlink_failures, leases_broken, lease_refusals,
        reserve_timeouts, full_disks, index_file_missing, corrupt_blobs, tampered_blobs,
        lost_publications,
        orphaned_variants, stray_variants, renewals, purges, purge_cancelled_writes,
        sync_failures, scrubbed_bytes, evictor_pokes, evictor_passes, foreign_files,
        former_directories, former_taken_over, former_dropped, former_duplicates, former_left,
        settle_excess, ledger_errors,
    } = stats;
    vec![
        max_bytes, limit_bytes, resident_bytes, reserved_bytes, dying_bytes, held_bytes,
        overhead_bytes, unread_bytes, leased_bytes, pinned_bytes, entries, variants, suspects,
        unread_shards,
        waiting_uploads, writes, evictions, expirations, count_evictions, purged_entries,
        replacements, evict_unlink_failures, leases_broken, lease_refusals, reserve_timeouts,
        full_disks, index_file_missing, corrupt_blobs, tampered_blobs, lost_publications,
        orphaned_variants,
        stray_variants, renewals, purges, purge_cancelled_writes, sync_failures, scrubbed_bytes,
        evictor_pokes, evictor_passes, foreign_files, former_directories, former_taken_over,
        former_dropped, former_duplicates, former_left, settle_excess, ledger_errors,
        oldest_age_seconds.get_or_insert_default(),
    ]
}

#[test]
fn every_counter_of_a_store_is_shown_once() {
    let mut stats = StoreStats::default();
    let mut expected = Vec::new();
    for (number, field) in (1..).zip(every_field(&mut stats)) {
        *field = number;
        expected.push(number);
    }
    let mut samples = Samples::default();
    store_metrics::collect("cas", &stats, &mut samples);
    let points = samples.groups().iter().flat_map(|group| &group.points);
    let mut shown: Vec<u64> = points
        .map(|point| match point.value {
            Value::Integer(number) if point.labels[0] == "cas" => number,
            _ => panic!("{point:?}"),
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, expected);
    store_metrics::collect_predictions("cas", &[(0.25, 0.5), (4.0, 0.75)], &mut samples);
    assert_eq!(samples.groups().len(), store_metrics::families().len());
    let predictions = samples.groups().last().unwrap();
    let factors: Vec<&str> = predictions.points.iter().map(|it| it.labels[1].as_str()).collect();
    assert_eq!(factors, ["0.25", "4"]);
}

#[test]
fn stores_are_called_after_their_directories() {
    let names = |roots: &[&str]| store_metrics::names(roots.iter().map(Path::new));
    assert_eq!(names(&["/srv/cas", "/srv/ac"]), ["cas", "ac"]);
    assert_eq!(names(&["/a/cas", "/b/cas", "/"]), ["cas_0", "cas_1", "_2"]);
    assert_eq!(names(&["/a/a", "/b/a", "/c/a_0"]), ["a_0", "a_1", "a_0_"]);
}

/// A router that is counted, and what it has counted.
struct Counted {
    router: Router,
    exposition: Arc<Exposition>,
}

impl Counted {
    fn new() -> Self {
        let whole = get(|| async { "seven.." });
        let stream =
            get(|| async { Body::from_stream(repeat_with(|| Ok::<_, io::Error>("more"))) });
        let announced = get(|| async {
            let four = Body::from_stream(repeat_with(|| Ok::<_, io::Error>("four")).take(1));
            ([("content-length", "4")], four)
        });
        let echo = put(|body: String| async { body });
        let router = Router::new().route("/cas/1", whole).route("/cas/2", stream);
        let router = router.route("/cas/3", echo).route("/cas/4", announced);
        let exposition = Exposition::new(Metrics::new(RecentErrors::default()), &[], Vec::new());
        Self { router: observed(router, Arc::clone(&exposition)), exposition }
    }

    async fn call(&self, method: &str, path: &str) -> Body {
        let request = Request::builder().method(method).uri(path).header("user-agent", "curl/8 x");
        let request = request.body(Body::from("sent")).unwrap();
        self.router.clone().oneshot(request).await.unwrap().into_body()
    }

    async fn stream(&self, path: &str) -> BodyDataStream {
        self.call("GET", path).await.into_data_stream()
    }

    #[track_caller]
    fn assert_shown(&self, name: &str, labels: &[&str], expected: u64) {
        let samples = self.exposition.collect();
        let family = samples.groups().iter().find(|group| group.family.name == name).unwrap();
        let point = family.points.iter().find(|point| point.labels == labels);
        assert_eq!(point.map(|it| &it.value), Some(&Value::Integer(expected)), "{labels:?}");
    }
}

#[tokio::test]
async fn an_answer_counts_when_its_last_byte_is_sent() {
    let counted = Counted::new();
    let body = counted.call("GET", "/cas/1").await;
    counted.assert_shown("castellan_requests_in_flight", &["http"], 1);
    to_bytes(body, usize::MAX).await.unwrap();
    counted.assert_shown("castellan_requests_in_flight", &["http"], 0);
    counted.assert_shown("castellan_requests_total", &["http", "cas_get", "200"], 1);
    counted.assert_shown("castellan_request_sent_bytes_total", &["http", "cas_get"], 7);
    to_bytes(counted.call("PUT", "/cas/3").await, usize::MAX).await.unwrap();
    counted.assert_shown("castellan_request_received_bytes_total", &["http", "cas_put"], 4);
    to_bytes(counted.call("GET", "/nothing").await, usize::MAX).await.unwrap();
    counted.assert_shown("castellan_requests_total", &["http", "other", "404"], 1);
    assert_eq!(counted.exposition.metrics().tools.top(9), [("curl".to_owned(), 3)]);
}

#[tokio::test]
async fn the_length_or_head_ends_an_answer_that_nobody_reads_to_its_end() {
    let counted = Counted::new();
    let mut whole = counted.stream("/cas/1").await;
    assert_eq!(whole.next().await.unwrap().unwrap(), "seven..");
    drop(whole);
    counted.assert_shown("castellan_requests_total", &["http", "cas_get", "200"], 1);
    // Behind the announced length the transport asks for nothing.
    let mut announced = counted.stream("/cas/4").await;
    assert_eq!(announced.next().await.unwrap().unwrap(), "four");
    drop(announced);
    counted.assert_shown("castellan_requests_total", &["http", "cas_get", "200"], 2);
    drop(counted.call("HEAD", "/cas/2").await);
    counted.assert_shown("castellan_requests_total", &["http", "cas_head", "200"], 1);
}

#[tokio::test]
async fn an_answer_whose_client_goes_away_is_aborted() {
    let counted = Counted::new();
    let mut stream = counted.stream("/cas/2").await;
    assert_eq!(stream.next().await.unwrap().unwrap(), "more");
    drop(stream);
    drop(counted.call("GET", "/cas/1").await);
    counted.assert_shown("castellan_requests_total", &["http", "cas_get", "aborted"], 2);
}
