//! Environment variables and the home directory in configuration texts.
//!
//! The environment is a function given by the caller: nothing here reads the process.

use crate::excerpt::shorten;
use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// A few characters of configuration can name a long variable many times: the result is bounded.
const MAX_EXPANDED_BYTES: usize = 64 * 1024;

/// Defaults inside defaults of defaults are somebody's experiment.
const MAX_NESTING: u32 = 16;

/// Where the values of environment variables come from.
pub type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// Why a text could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The variable is not set and the text gives no default.
    #[error("the environment variable {0} is not set; set it, or give a default: ${{{0}:-VALUE}}")]
    Unset(String),
    /// `~` without a home directory to stand for.
    #[error("\"~\" needs the environment variable HOME, which is not set")]
    NoHome,
    /// `~user`: other people's directories are not looked up.
    #[error("\"~\" is only followed by \"/\" here; for a name that starts with it write \"./~\"")]
    OtherHome,
    /// `${` without a closing brace.
    #[error("\"${{\" is not closed by \"}}\"; for a plain dollar sign write \"$$\"")]
    Unclosed,
    /// `${...}` around something that is no variable name.
    #[error("{0:?} is not the name of a variable; accepted are ${{NAME}} and ${{NAME:-default}}")]
    MalformedName(String),
    /// Defaults that have variables with defaults that have variables, and so on.
    #[error("defaults stand inside defaults deeper than {MAX_NESTING} levels")]
    TooDeep,
    /// The variables are far longer than anything a configuration holds.
    #[error("the text is longer than {MAX_EXPANDED_BYTES} bytes after its variables are put in")]
    TooLong,
}

/// Replaces `$VAR`, `${VAR}` and `${VAR:-default}`, and `$$` by a dollar sign.
///
/// A default stands in for a variable that is not set; one that is set and empty stays empty. What
/// it has of variables is expanded when it is used. A dollar sign before anything else is a plain
/// character. Values are not expanded again.
pub fn expand<'t>(text: &'t str, env: &Environment<'_>) -> Result<Cow<'t, str>, ExpandError> {
    expand_nested(text, env, 0)
}

fn expand_nested<'t>(
    text: &'t str,
    env: &Environment<'_>,
    nesting: u32,
) -> Result<Cow<'t, str>, ExpandError> {
    if !text.contains('$') {
        return Ok(Cow::Borrowed(text));
    }
    if nesting > MAX_NESTING {
        return Err(ExpandError::TooDeep);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let (value, remainder) = expand_one(after, env, nesting)?;
        expanded.push_str(&value);
        rest = remainder;
        if expanded.len() > MAX_EXPANDED_BYTES {
            return Err(ExpandError::TooLong);
        }
    }
    expanded.push_str(rest);
    Ok(Cow::Owned(expanded))
}

/// Like [`expand`], for the path of a file: a leading `~` is the home directory. A tilde that comes
/// out of a variable is not, as in a shell.
pub fn expand_path<'t>(text: &'t str, env: &Environment<'_>) -> Result<Cow<'t, str>, ExpandError> {
    let Some(below_home) = text.strip_prefix('~') else {
        return expand(text, env);
    };
    if !below_home.is_empty() && !below_home.starts_with('/') {
        return Err(ExpandError::OtherHome);
    }
    let home = env("HOME").filter(|home| !home.is_empty()).ok_or(ExpandError::NoHome)?;
    let below_home = expand(below_home, env)?;
    Ok(Cow::Owned(format!("{}{below_home}", home.trim_end_matches('/'))))
}

/// Expands what follows a dollar sign; gives the value and the text after it.
fn expand_one<'t>(
    after_dollar: &'t str,
    env: &Environment<'_>,
    nesting: u32,
) -> Result<(Cow<'t, str>, &'t str), ExpandError> {
    if let Some(rest) = after_dollar.strip_prefix('$') {
        return Ok((Cow::Borrowed("$"), rest));
    }
    if let Some(braced) = after_dollar.strip_prefix('{') {
        let end = closing_brace(braced).ok_or(ExpandError::Unclosed)?;
        let (inside, rest) = braced.split_at(end);
        let rest = rest.strip_prefix('}').unwrap_or(rest);
        return Ok((expand_braced(inside, env, nesting)?, rest));
    }
    let (name, rest) = after_dollar.split_at(name_length(after_dollar));
    if name.is_empty() {
        return Ok((Cow::Borrowed("$"), rest));
    }
    let value = env(name).ok_or_else(|| ExpandError::Unset(shorten(name).into_owned()))?;
    Ok((Cow::Owned(value), rest))
}

/// Where the brace that was opened before the text is closed: each `${` inside has one of its own.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open: usize = 1;
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '$' => {
                let next = characters.next_if(|(_, next)| "${".contains(*next));
                open += usize::from(next.is_some_and(|(_, next)| next == '{'));
            }
            '}' if open == 1 => return Some(index),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn expand_braced<'t>(
    inside: &'t str,
    env: &Environment<'_>,
    nesting: u32,
) -> Result<Cow<'t, str>, ExpandError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.is_empty() || name_length(name) != name.len() {
        return Err(ExpandError::MalformedName(shorten(name).into_owned()));
    }
    match (env(name), default) {
        (Some(value), _) => Ok(Cow::Owned(value)),
        (None, Some(default)) => expand_nested(default, env, nesting + 1),
        (None, None) => Err(ExpandError::Unset(shorten(name).into_owned())),
    }
}

/// The length of the variable name the text starts with: letters, digits and underscores, no digit
/// first.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}
