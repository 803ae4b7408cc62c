//! Passwords in texts that people get to see.

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// What stands where a secret was.
pub(crate) const MASK: &str = "***";

/// A text without the password of a URL: `redis://ada:***@host`. Where it is not clear where the
/// password ends, rather more is hidden.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Cow::Borrowed(text) };
    let Some((credentials, host)) = rest.rsplit_once('@') else { return Cow::Borrowed(text) };
    let Some((user, _)) = credentials.split_once(':') else { return Cow::Borrowed(text) };
    Cow::Owned(format!("{scheme}://{user}:{MASK}@{host}"))
}
