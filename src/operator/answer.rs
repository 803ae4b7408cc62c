//! What is said about a digest, with a running server and without: one JSON object.

use serde_json::{Value, json};

use super::{NamedStore, OperatorError};
use crate::calendar::{DAY_SECONDS, date};
use crate::store::filesystem::{Explanation, Removal, ValueFile, Wanted};
use crate::store::{Key, Kind};

/// Asks all stores about a digest.
pub(super) async fn explain(
    stores: &[NamedStore],
    wanted: &Wanted,
) -> Result<Value, OperatorError> {
    let mut explanations = Vec::new();
    for NamedStore { name, store, .. } in stores {
        let failed = |source| OperatorError::Store { name: name.clone(), source };
        let explained = store.explain(wanted.clone()).await.map_err(failed)?;
        explanations.push((Some(name.as_str()), explained));
    }
    Ok(explanation_json(wanted, &explanations))
}

/// What stores know about a digest, each with its name where there is a server to name it.
///
/// `status` is `present`, `empty` for the blob of no bytes, `removed` or `unknown`.
pub fn explanation_json(wanted: &Wanted, explanations: &[(Option<&str>, Explanation)]) -> Value {
    let mut files = Vec::new();
    let mut removals = Vec::new();
    let mut remembered = 0;
    for (store, explanation) in explanations {
        files.extend(explanation.files.iter().map(|it| file_json(it, *store)));
        let looked_at = explanation.looked_at;
        let removed = explanation.removals.iter();
        removals.extend(removed.map(|it| (it.removed_at, removal_json(it, looked_at, *store))));
        remembered += explanation.remembered;
    }
    // The latest first, whichever store it was.
    removals.sort_by_key(|(removed_at, _)| std::cmp::Reverse(*removed_at));
    let removals: Vec<Value> = removals.into_iter().map(|(_, removal)| removal).collect();
    let status = if !files.is_empty() {
        "present"
    } else if wanted.is_empty_blob() {
        "empty"
    } else if !removals.is_empty() {
        "removed"
    } else {
        "unknown"
    };
    json!({ "status": status, "files": files, "removals": removals, "remembered": remembered })
}

fn file_json(file: &ValueFile, store: Option<&str>) -> Value {
    let ValueFile { generation, is_variant, path, expected_bytes, actual_bytes, last_use, .. } =
        file;
    let mut json = key_json(&file.key);
    put(&mut json, "generation", json!(generation));
    put(&mut json, "is_variant", json!(is_variant));
    put(&mut json, "path", json!(path));
    put(&mut json, "expected_bytes", json!(expected_bytes));
    put(&mut json, "actual_bytes", json!(actual_bytes));
    put(&mut json, "unused_seconds", json!(last_use.map(|it| it.unused_seconds)));
    put(&mut json, "is_leased", json!(last_use.map(|it| it.is_leased)));
    put(&mut json, "is_pinned", json!(last_use.map(|it| it.is_pinned)));
    put_store(&mut json, store);
    json
}

fn removal_json(removal: &Removal, looked_at: u64, store: Option<&str>) -> Value {
    let Removal { key, removed_at, reason, unused_seconds, age_seconds } = removal;
    let mut json = key_json(key);
    put(&mut json, "removed_at", json!(removed_at));
    put(&mut json, "removed_at_utc", json!(utc(*removed_at)));
    put(&mut json, "seconds_ago", json!(looked_at.saturating_sub(*removed_at)));
    put(&mut json, "reason", json!(reason));
    put(&mut json, "unused_seconds", json!(unused_seconds));
    put(&mut json, "age_seconds", json!(age_seconds));
    put_store(&mut json, store);
    json
}

/// Which value something is about.
pub(super) fn key_json(key: &Key) -> Value {
    let kind = match key.kind {
        Kind::Blob => "blob",
        Kind::ActionResult => "action_result",
    };
    json!({
        "kind": kind,
        "function": key.digest.function.name(),
        "hash": key.digest.hash_hex().as_str(),
        // Nobody says the size of an action, or of what a value is called.
        "size_bytes": (key.kind == Kind::Blob).then_some(key.digest.size_bytes),
    })
}

pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn put_store(object: &mut Value, store: Option<&str>) {
    if let Some(store) = store {
        put(object, "store", json!(store));
    }
}

/// Seconds since 1970 as a date and a time.
pub fn utc(seconds: u64) -> String {
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(seconds.cast_signed().div_euclid(DAY_SECONDS));
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}
