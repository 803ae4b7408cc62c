//! Pieces of user text, short enough to be quoted in an error.

use std::borrow::Cow;

/// A hostile file must not make errors long: there can be one for each of its keys.
const MAX_CHARS: usize = 64;

/// The text, or its beginning and three dots.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_CHARS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.split_at(end).0)),
    }
}
