//! Who asks most: a table of names that stays small whatever names come.

use std::borrow::Cow;

use parking_lot::Mutex;

/// Names that are kept.
const MAX_NAMES: usize = 64;
/// The longest name that is kept.
const MAX_NAME_BYTES: usize = 64;

/// The most frequent of many names, by the algorithm "space saving": a new name takes the place of
/// the rarest and inherits its count. So a count may be too high, by no more than the rarest has,
/// and a name that is frequent is never missing.
#[derive(Debug, Default)]
pub struct TopNames {
    /// The most frequent first, so that those that come often are found at once.
    entries: Mutex<Vec<(String, u64)>>,
}

impl TopNames {
    /// Counts a name.
    pub fn note(&self, name: &str) {
        let name = printable(name);
        let mut entries = self.entries.lock();
        let known = entries.iter().position(|(known, _)| *known == *name);
        let at = known.unwrap_or_else(|| {
            if entries.len() < MAX_NAMES {
                entries.push((name.into_owned(), 0));
            } else if let Some((rarest, _)) = entries.last_mut() {
                *rarest = name.into_owned();
            }
            entries.len() - 1
        });
        let Some((_, count)) = entries.get_mut(at) else { return };
        *count += 1;
        let count = *count;
        // Keeps the order: before all that are rarer now.
        let ahead = entries.iter().take(at).rposition(|(_, other)| *other >= count);
        let place = ahead.map_or(0, |it| it + 1);
        entries.swap(place, at);
    }

    /// The most frequent names with their counts, the most frequent first.
    pub fn top(&self, count: usize) -> Vec<(String, u64)> {
        self.entries.lock().iter().take(count).cloned().collect()
    }
}

/// A name from outside, shortened, with a `?` for each byte that is not printable ASCII.
pub(super) fn printable(name: &str) -> Cow<'_, str> {
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if name.len() <= MAX_NAME_BYTES && name.bytes().all(is_printable) {
        return Cow::Borrowed(name);
    }
    let bytes = name.bytes().take(MAX_NAME_BYTES);
    bytes.map(|byte| if is_printable(byte) { char::from(byte) } else { '?' }).collect()
}
