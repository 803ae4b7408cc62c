//! `Range`: one part of a blob. Several at once are answered with the whole, as is what cannot be
//! read.

use axum::http::header::{HeaderMap, IF_RANGE, RANGE};

/// What a client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Part {
    /// Everything.
    Whole,
    /// These bytes; at least one.
    Bytes {
        /// The first.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Which part of a blob of `size_bytes` the client wants. `etag` is that of the blob as it is.
pub(in crate::http) fn wanted(headers: &HeaderMap, size_bytes: u64, etag: &str) -> Part {
    let mut ranges = headers.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Part::Whole };
    // The empty blob has no part.
    if size_bytes == 0 || headers.get(IF_RANGE).is_some_and(|it| it.as_bytes() != etag.as_bytes()) {
        return Part::Whole;
    }
    range.to_str().ok().and_then(|range| parse(range, size_bytes)).unwrap_or(Part::Whole)
}

/// `None` when it is not one range of bytes.
fn parse(range: &str, size_bytes: u64) -> Option<Part> {
    let (unit, set) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size_bytes);
        let offset = size_bytes - length;
        return Some(if length == 0 {
            Part::Unsatisfiable
        } else {
            Part::Bytes { offset, length }
        });
    }
    let offset = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < offset {
        return None;
    }
    if offset >= size_bytes {
        return Some(Part::Unsatisfiable);
    }
    let length = (last - offset).saturating_add(1).min(size_bytes - offset);
    Some(Part::Bytes { offset, length })
}

/// Digits only; more than fit are as good as the most that do.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}
