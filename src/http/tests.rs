//! The probes follow the readiness that the other listener shares; the stores' counters are whole.

use std::path::Path;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tower::ServiceExt as _;

use super::{router, store_metrics};
use crate::shutdown::Readiness;
use crate::store::filesystem::StoreStats;
use crate::telemetry::metrics::{Samples, Value};

async fn status_of(readiness: &Readiness, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).unwrap();
    router(readiness.clone()).oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn readyz_turns_503_while_draining_and_livez_does_not() {
    let readiness = Readiness::new();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::OK);
    readiness.start_draining();
    assert_eq!(status_of(&readiness, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(&readiness, "/livez").await, StatusCode::OK);
    assert_eq!(status_of(&readiness, "/cas/x").await, StatusCode::NOT_FOUND);
}

/// Taken apart without a rest, so that a new field does not compile until it is here.
#[rustfmt::skip]
fn every_field(stats: &mut StoreStats) -> Vec<&mut u64> {
    let StoreStats {
        max_bytes, limit_bytes, resident_bytes, reserved_bytes, dying_bytes, held_bytes,
        overhead_bytes, unread_bytes, leased_bytes, entries, variants, suspects, unread_shards,
        waiting_uploads, writes, oldest_age_seconds, evictions, expirations, count_evictions,
        purged_entries, replacements, evict_unlink_failures, leases_broken, lease_refusals,
        reserve_timeouts, full_disks, index_file_missing, corrupt_blobs, lost_publications,
        orphaned_variants, stray_variants, renewals, purges, purge_cancelled_writes,
        sync_failures, scrubbed_bytes, evictor_pokes, evictor_passes, foreign_files,
        settle_excess, ledger_errors,
    } = stats;
    vec![
        max_bytes, limit_bytes, resident_bytes, reserved_bytes, dying_bytes, held_bytes,
        overhead_bytes, unread_bytes, leased_bytes, entries, variants, suspects, unread_shards,
        waiting_uploads, writes, evictions, expirations, count_evictions, purged_entries,
        replacements, evict_unlink_failures, leases_broken, lease_refusals, reserve_timeouts,
        full_disks, index_file_missing, corrupt_blobs, lost_publications, orphaned_variants,
        stray_variants, renewals, purges, purge_cancelled_writes, sync_failures, scrubbed_bytes,
        evictor_pokes, evictor_passes, foreign_files, settle_excess, ledger_errors,
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
    assert_eq!(samples.groups().len(), store_metrics::families().len());
}

#[test]
fn stores_are_called_after_their_directories() {
    let names = |roots: &[&str]| store_metrics::names(roots.iter().map(Path::new));
    assert_eq!(names(&["/srv/cas", "/srv/ac"]), ["cas", "ac"]);
    assert_eq!(names(&["/a/cas", "/b/cas", "/"]), ["cas_0", "cas_1", "_2"]);
}
