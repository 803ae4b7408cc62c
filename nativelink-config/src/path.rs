//! The keys and indexes that lead to a value, as diagnostics show them.

use crate::excerpt::shorten;
use std::fmt::Write as _;

/// One step from a value to a value inside it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment<'k> {
    /// Into an object.
    Key(&'k str),
    /// Into an array.
    Index(usize),
}

/// A stack of segments, kept as the text that diagnostics show.
#[derive(Debug, Default)]
pub(crate) struct Path {
    text: String,
}

/// How long a path was before a segment was put on it.
#[derive(Debug, Clone, Copy)]
#[must_use = "the segment has to be taken off again"]
pub(crate) struct Mark(usize);

impl Path {
    /// Steps into a value.
    pub(crate) fn push(&mut self, segment: Segment<'_>) -> Mark {
        let mark = Mark(self.text.len());
        append(&mut self.text, segment);
        mark
    }

    /// Steps back to where the path was.
    pub(crate) fn pop(&mut self, mark: Mark) {
        self.text.truncate(mark.0);
    }

    /// The path as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The path of a value inside this one.
    pub(crate) fn joined(&self, segment: Segment<'_>) -> String {
        let mut text = self.text.clone();
        append(&mut text, segment);
        text
    }
}

fn append(text: &mut String, segment: Segment<'_>) {
    match segment {
        Segment::Key(key) if is_plain(key) => {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&shorten(key));
        }
        // Writing to a string has no error to handle.
        Segment::Key(key) => drop(write!(text, "[{:?}]", shorten(key))),
        Segment::Index(index) => drop(write!(text, "[{index}]")),
    }
}

/// Keys with other characters, control characters above all, are shown quoted and escaped.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
