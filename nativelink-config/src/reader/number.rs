//! Lengths of time that are not given in seconds, and numbers that may be words.

use super::Reader;
use super::trace::{Effective, Scalar};
use crate::document::{Node, Value};
use crate::units::parse_duration;
use std::time::Duration;

/// How often something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// Again after this time.
    Every(Duration),
    /// Not at all.
    Never,
}

impl Reader<'_> {
    /// A length of time; a plain number is milliseconds, as a number or as a text.
    pub(crate) fn milliseconds(&mut self, node: &Node) -> Option<Duration> {
        let duration = match &node.value {
            Value::Number(spelling) => Duration::from_millis(self.whole_number(node, spelling)?),
            Value::Text(text) => {
                let text = self.expanded(node, text)?;
                match text.trim().parse() {
                    Ok(milliseconds) => Duration::from_millis(milliseconds),
                    Err(_) => self.unless_error(node, parse_duration(&text))?,
                }
            }
            _ => {
                let expected = "a number of milliseconds or a duration such as \"500ms\"";
                return self.wrong(node, expected);
            }
        };
        self.note(node, Scalar::Milliseconds, || Effective::Duration(duration));
        Some(duration)
    }

    /// A length of time in seconds; -1 is never.
    pub(crate) fn seconds_or_never(&mut self, node: &Node) -> Option<Interval> {
        let is_never = match &node.value {
            Value::Number(spelling) => spelling == "-1",
            Value::Text(text) => text.trim() == "-1",
            _ => false,
        };
        let interval =
            if is_never { Interval::Never } else { Interval::Every(self.seconds(node)?) };
        self.note(node, Scalar::SecondsOrNever, || match interval {
            Interval::Every(duration) => Effective::Duration(duration),
            Interval::Never => Effective::Words("never"),
        });
        Some(interval)
    }

    /// A word or a number, as a text.
    pub(crate) fn word(&mut self, node: &Node) -> Option<String> {
        let word = match &node.value {
            Value::Number(spelling) => self.whole_number(node, spelling)?.to_string(),
            Value::Text(text) => self.expanded(node, text)?.into_owned(),
            _ => return self.wrong(node, "a word or a number"),
        };
        self.note(node, Scalar::Word, || Effective::Text(word.clone()));
        Some(word)
    }
}
