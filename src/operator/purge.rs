//! Purges that an operator asks for, as JSON, looked at before or carried out.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{NamedStore, NamedTree, OperatorError};
use crate::digest::check_instance_name;
use crate::store::filesystem::Wanted;
use crate::store::{Namespace, PurgeScope, Purged, Selection};

const ALL: &str = "all";
const INSTANCE: &str = "instance";
const OLDER_THAN: &str = "action_results_older_than_seconds";
const DIGEST: &str = "digest";
const DRY_RUN: &str = "dry_run";
/// Nothing in a request is unknown: a misspelt `dry_run` would be a purge.
const NAMES: [&str; 5] = [ALL, INSTANCE, OLDER_THAN, DIGEST, DRY_RUN];

/// What to purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeRequest {
    selection: Selection,
    is_dry_run: bool,
}

impl PurgeRequest {
    /// Reads `{"all": true}`, `{"instance": NAME}`, `{"digest": DIGEST}` or
    /// `{"action_results_older_than_seconds": N}`, the last with an `instance` where one is meant;
    /// `"dry_run": true` only counts.
    pub fn parse(json: &Value) -> Result<Self, String> {
        let Value::Object(fields) = json else { return Err("not a JSON object".to_owned()) };
        if let Some(name) = fields.keys().find(|name| !NAMES.contains(&name.as_str())) {
            let name = crate::digest::shorten(name);
            return Err(format!("{name:?} is none of {}", NAMES.join(", ")));
        }
        let is_dry_run = flag(fields, DRY_RUN)?;
        let is_all = flag(fields, ALL)?;
        let namespace = text(fields, INSTANCE)?.map(namespace).transpose()?;
        let age = number(fields, OLDER_THAN)?.map(Duration::from_secs);
        let hash = text(fields, DIGEST)?.map(hash).transpose()?;
        let selection = match (is_all, namespace, age, hash) {
            (true, None, None, None) => Selection::Scope(PurgeScope::All),
            (false, Some(namespace), None, None) => {
                Selection::Scope(PurgeScope::Namespace(namespace))
            }
            (false, namespace, Some(age), None) => Selection::ResultsOlderThan { namespace, age },
            (false, None, None, Some(hash)) => Selection::Hash(hash),
            _ => return Err(format!("say one of {ALL}, {INSTANCE}, {OLDER_THAN}, {DIGEST}")),
        };
        Ok(Self { selection, is_dry_run })
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match fields.get(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(format!("{name} is neither true nor false")),
    }
}

fn text<'v>(fields: &'v Map<String, Value>, name: &str) -> Result<Option<&'v str>, String> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} is no text")),
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    value.as_u64().map(Some).ok_or_else(|| format!("{name} is no whole number"))
}

fn namespace(instance_name: &str) -> Result<Namespace, String> {
    check_instance_name(instance_name).map_err(|error| format!("{INSTANCE}: {error}"))?;
    Ok(Namespace::of_instance(instance_name))
}

fn hash(digest: &str) -> Result<[u8; crate::digest::HASH_BYTES], String> {
    let wanted = Wanted::parse(digest.trim()).map_err(|error| format!("{DIGEST}: {error}"))?;
    Ok(wanted.hash())
}

/// Goes through all stores, also those that serve no such instance: what a former configuration
/// has left goes too.
pub(super) async fn run(
    stores: &[NamedStore],
    trees: &[NamedTree],
    request: &PurgeRequest,
) -> Result<Value, OperatorError> {
    let selection = request.selection;
    let is_about_results = matches!(selection, Selection::ResultsOlderThan { .. });
    let is_meant = |holds_values: bool| !is_about_results || !holds_values;
    let failed = |name: &String| {
        let name = name.clone();
        move |source| OperatorError::Store { name, source }
    };
    if request.is_dry_run {
        let (mut entries, mut charged_bytes) = (0, 0);
        for NamedStore { name, store, .. } in stores.iter().filter(|it| is_meant(it.holds_values)) {
            let selected = store.select(selection).await.map_err(failed(name))?;
            entries += selected.entries;
            charged_bytes += selected.charged_bytes;
        }
        return Ok(json!({ DRY_RUN: true, "entries": entries, "charged_bytes": charged_bytes }));
    }
    let mut outcomes = Vec::new();
    for NamedTree { name, store, .. } in trees.iter().filter(|it| is_meant(it.holds_values)) {
        outcomes.push(store.purge_selected(selection).await.map_err(failed(name)));
    }
    let Purged { removed, is_drained } = Purged::sum(outcomes)?;
    Ok(json!({ DRY_RUN: false, "removed": removed, "is_drained": is_drained }))
}
