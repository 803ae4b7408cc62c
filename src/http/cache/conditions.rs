//! `ETag` and the conditions that name one.

use axum::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

/// What becomes of a request whose answer would have a certain tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It is answered.
    Holds,
    /// The client has it: 304.
    NotModified,
    /// The client wants another one: 412.
    Failed,
}

/// The tag of bytes with this hash, exactly as they are.
pub(super) fn etag(hash: &str) -> String {
    format!("\"{hash}\"")
}

/// The tag of the same in another form, which may differ between two servers.
pub(super) fn weak_etag(hash: &str, form: &str) -> String {
    format!("W/\"{hash}.{form}\"")
}

/// Checks the conditions of a request to read.
pub(super) fn check(headers: &HeaderMap, etag: &str) -> Condition {
    let tags_match = |name, is_match: &dyn Fn(&str) -> bool| tags(headers, name).any(is_match);
    // A weak tag never matches where it must be the very bytes.
    let is_same = |tag: &str| tag == "*" || (tag == etag && !tag.starts_with("W/"));
    if headers.contains_key(IF_MATCH) && !tags_match(IF_MATCH, &is_same) {
        return Condition::Failed;
    }
    let is_like = |tag: &str| tag == "*" || opaque(tag) == opaque(etag);
    if tags_match(IF_NONE_MATCH, &is_like) { Condition::NotModified } else { Condition::Holds }
}

/// A tag without its mark of weakness.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The tags of a list. None of ours has a comma in it, so whatever else is torn does not matter.
fn tags(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(',')).map(str::trim)
}
