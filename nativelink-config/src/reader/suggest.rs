//! The name somebody most likely meant.

/// Longer names than this are no misspelling of anything.
const MAX_NAME_BYTES: usize = 64;
/// Names chosen by users can be many: the search stays short in a file nobody wrote by hand.
const MAX_CANDIDATES: usize = 500;

/// The known name nearest to a given one, if one is near: the same but for case and separators, or
/// at most a third of the letters away.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    if given.len() > MAX_NAME_BYTES {
        return None;
    }
    let given = normalized(given);
    known
        .iter()
        .filter(|name| name.len() <= MAX_NAME_BYTES)
        .take(MAX_CANDIDATES)
        .map(|name| (strsim::osa_distance(&given, &normalized(name)), *name))
        .filter(|(distance, name)| *distance <= given.len().max(name.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn normalized(name: &str) -> String {
    name.chars().filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect()
}
