//! What a client accepts, as lists of names with qualities.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING};

/// How a client values something, in thousandths; 0 is a refusal.
type Quality = u16;

/// Whether the client asks for zstd by name, and does not prefer what needs no decoding.
pub(super) fn wants_zstd(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING);
    let offers: Vec<_> = values.iter().filter_map(|it| it.to_str().ok()).collect();
    let zstd = quality(&offers, "zstd").unwrap_or(0);
    zstd > 0 && zstd >= quality(&offers, "identity").unwrap_or(0)
}

/// Whether the client asks for JSON by name, and does not prefer bytes.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT);
    let offers: Vec<_> = values.iter().filter_map(|it| it.to_str().ok()).collect();
    let json = quality(&offers, "application/json").unwrap_or(0);
    json > 0 && json >= quality(&offers, "application/octet-stream").unwrap_or(0)
}

/// The quality of a name; `None` when it is not listed. What is malformed is not listed.
fn quality(offers: &[&str], name: &str) -> Option<Quality> {
    let items = offers.iter().flat_map(|offer| offer.split(','));
    items.filter_map(|item| quality_of(item, name)).max()
}

fn quality_of(item: &str, name: &str) -> Option<Quality> {
    let mut parts = item.split(';');
    if !parts.next()?.trim().eq_ignore_ascii_case(name) {
        return None;
    }
    for parameter in parts {
        if let Some((key, value)) = parameter.split_once('=')
            && key.trim().eq_ignore_ascii_case("q")
        {
            return thousandths(value.trim());
        }
    }
    Some(1000)
}

/// Reads `0`, `0.5`, `1.000`: at most three digits behind the point, at most one.
fn thousandths(text: &str) -> Option<Quality> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || !part.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let part: Quality = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}
