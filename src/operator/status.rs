//! The status of a server as one JSON object. `docs/status.md` says what the names mean; they are
//! only added to.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{key_json, put};
use super::history::Sample;
use super::{NamedStore, Numbers, Operator};
use crate::store::Kind;
use crate::store::filesystem::{AGE_LIMITS, Share, StoreStats, Survey};
use crate::telemetry::hits::HitSnapshot;
use crate::telemetry::unix_seconds;

/// Names that are shown of each table.
const SHOWN: usize = 10;
/// Spans of which hits are summed up, in seconds; the status has the sum since the start too.
const SPANS: [(&str, u64); 4] = [
    ("last_10_minutes", 600),
    ("last_hour", 3600),
    ("last_day", 86_400),
    ("last_7_days", 7 * 86_400),
];

pub(super) fn document(operator: &Operator, surveys: &Arc<Vec<Survey>>) -> Value {
    let now = operator.sample();
    let state = if operator.readiness.is_ready() { "serving" } else { "draining" };
    let stores = operator.stores.iter().zip(surveys.iter());
    let errors = operator.metrics.recent_errors.list().into_iter().rev().map(|error| {
        json!({
            "at": error.unix_seconds,
            "level": error.level,
            "target": error.target,
            "message": error.message,
            "fields": error.fields,
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "state": state,
        "now": unix_seconds(),
        "started_at": operator.started_at,
        "uptime_seconds": now.at_seconds,
        "stores": stores.map(|(named, survey)| store(named, survey)).collect::<Value>(),
        "other_stores": operator.others.iter().map(other_store).collect::<Value>(),
        "hits": hits(operator, &now),
        "tools": names(operator.metrics.tools.top(SHOWN)),
        "instances": names(operator.metrics.instances.top(SHOWN)),
        "errors": errors.collect::<Value>(),
    })
}

fn hits(operator: &Operator, now: &Sample) -> Value {
    let mut hits = json!({});
    let history = operator.history.lock();
    for (name, seconds) in SPANS {
        put(&mut hits, name, hits_json(&history.hits_of_last(seconds, now)));
    }
    put(&mut hits, "since_start", hits_json(&now.hits));
    hits
}

fn hits_json(hits: &HitSnapshot) -> Value {
    json!({
        "action_cache": pair(hits.action_cache_hits, hits.action_cache_misses),
        "blob_reads": pair(hits.cas_hits, hits.cas_misses),
        "presence": pair(hits.cas_present, hits.cas_absent),
    })
}

/// The ratio of nothing is not known.
fn pair(hits: u64, misses: u64) -> Value {
    let all = hits + misses;
    json!({ "hits": hits, "misses": misses, "ratio": (all > 0).then(|| part(hits, all)) })
}

/// To four digits: more would say that they mean something.
fn part(some: u64, all: u64) -> f64 {
    rounded(some as f64 / all as f64)
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 10_000.0).round() / 10_000.0
}

fn names(top: Vec<(String, u64)>) -> Value {
    let top = top.into_iter();
    top.map(|(name, requests)| json!({ "name": name, "requests": requests })).collect()
}

fn store(named: &NamedStore, survey: &Survey) -> Value {
    let stats = named.store.stats();
    let used_bytes = stats.charged_bytes();
    let largest = survey.largest.iter().map(|(key, charged_bytes)| {
        let mut json = key_json(key);
        if named.holds_values && key.kind == Kind::ActionResult {
            put(&mut json, "kind", json!("value"));
        }
        put(&mut json, "charged_bytes", json!(charged_bytes));
        json
    });
    let nothing = Share::default();
    let (action_results, values) = if named.holds_values {
        (&nothing, &survey.action_results)
    } else {
        (&survey.action_results, &nothing)
    };
    let mut json = json!({
        "name": named.name,
        "max_bytes": stats.max_bytes,
        "limit_bytes": stats.limit_bytes,
        "used_bytes": used_bytes,
        "fill_ratio": part(used_bytes, stats.max_bytes.max(1)),
        "live_bytes": stats.resident_bytes,
        "reserved_bytes": stats.reserved_bytes,
        "dying_bytes": stats.dying_bytes,
        "held_bytes": stats.held_bytes,
        "overhead_bytes": stats.overhead_bytes,
        "unread_bytes": stats.unread_bytes,
        "leased_bytes": stats.leased_bytes,
        "entries": stats.entries,
        "oldest_unused_seconds": stats.oldest_age_seconds,
        "blobs": share(&survey.blobs),
        "variants": share(&survey.variants),
        "action_results": share(action_results),
        "values": share(values),
        "by_age": by_age(survey),
        "largest": largest.collect::<Value>(),
        "removals": removals(&stats),
        "predicted_hit_ratios": predictions(named, stats.max_bytes),
    });
    put(&mut json, "unread_shards", json!(stats.unread_shards));
    put(&mut json, "waiting_uploads", json!(stats.waiting_uploads));
    put(&mut json, "writes", json!(stats.writes));
    put(&mut json, "trouble", trouble(&stats));
    json
}

fn other_store((name, store): &(String, Arc<dyn Numbers>)) -> Value {
    let mut numbers = json!({});
    for (name, number) in store.numbers() {
        put(&mut numbers, name, json!(number));
    }
    json!({ "name": name, "kind": store.kind(), "numbers": numbers })
}

fn share(share: &Share) -> Value {
    json!({ "entries": share.entries, "charged_bytes": share.charged_bytes })
}

fn by_age(survey: &Survey) -> Value {
    let limits = AGE_LIMITS.into_iter().map(Some).chain([None]);
    let classes = limits.zip(&survey.by_age).map(|(limit, class)| {
        let mut json = json!({ "under_seconds": limit });
        put(&mut json, "entries", json!(class.entries));
        put(&mut json, "charged_bytes", json!(class.charged_bytes));
        json
    });
    classes.collect()
}

/// Entries that left since the start, by reason.
fn removals(stats: &StoreStats) -> Value {
    json!({
        "evicted": stats.evictions,
        "expired": stats.expirations,
        "over_count": stats.count_evictions,
        "purged": stats.purged_entries,
        "replaced": stats.replacements,
        "corrupt": stats.corrupt_blobs,
        "missing": stats.index_file_missing,
    })
}

/// What should not happen often; all of it since the start.
fn trouble(stats: &StoreStats) -> Value {
    json!({
        "leases_broken": stats.leases_broken,
        "lease_refusals": stats.lease_refusals,
        "reserve_timeouts": stats.reserve_timeouts,
        "full_disks": stats.full_disks,
        "sync_failures": stats.sync_failures,
        "unlink_failures": stats.evict_unlink_failures,
        "foreign_files": stats.foreign_files,
        "former_files_dropped": stats.former_dropped,
        "former_files_left": stats.former_left,
        "ledger_errors": stats.ledger_errors,
    })
}

/// The hit ratio that caches of other sizes would have had; none while too little is known.
fn predictions(named: &NamedStore, max_bytes: u64) -> Value {
    let Some(predicted) = named.store.predicted_hit_ratios() else { return Value::Null };
    let points = predicted.into_iter().map(|(factor, ratio)| {
        json!({ "factor": factor, "bytes": scaled(max_bytes, factor), "ratio": rounded(ratio) })
    });
    points.collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
fn scaled(bytes: u64, factor: f64) -> u64 {
    (bytes as f64 * factor) as u64
}
