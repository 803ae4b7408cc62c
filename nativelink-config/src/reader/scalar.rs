//! Texts, numbers, sizes, durations and switches.

use super::trace::{Effective, Scalar};
use super::{Reader, nearest};
use crate::document::{Node, Value};
use crate::excerpt::shorten;
use crate::expand::{Environment, ExpandError, expand, expand_path};
use crate::secret::masked;
use crate::units::{parse_duration, parse_size};
use std::borrow::Cow;
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

impl Reader<'_> {
    /// A text as it stands. Names are not expanded: they are compared with each other.
    pub(crate) fn name(&mut self, node: &Node) -> Option<String> {
        let name = match &node.value {
            Value::Text(text) => text.clone(),
            _ => return self.wrong(node, "a text"),
        };
        self.note(node, Scalar::Name, || Effective::Text(name.clone()));
        Some(name)
    }

    /// A name that is not empty.
    pub(crate) fn full_name(&mut self, node: &Node) -> Option<String> {
        let name = self.name(node)?;
        if name.is_empty() {
            self.report(node.at, "a name must not be empty");
            return None;
        }
        Some(name)
    }

    /// A text with environment variables.
    pub(crate) fn text(&mut self, node: &Node) -> Option<String> {
        let text = match &node.value {
            Value::Text(text) => self.expanded(node, text)?.into_owned(),
            _ => return self.wrong(node, "a text"),
        };
        self.note(node, Scalar::Text, || Effective::Text(text.clone()));
        Some(text)
    }

    /// The path of a file or directory, with environment variables and `~`.
    pub(crate) fn file_path(&mut self, node: &Node) -> Option<String> {
        let Value::Text(text) = &node.value else {
            return self.wrong(node, "a path");
        };
        let expanded = self.expanded_by(node, text, expand_path)?;
        if expanded.is_empty() {
            self.report(node.at, "a path must not be empty");
            return None;
        }
        if expanded.contains('\0') {
            self.report(node.at, "a path must not contain a NUL character");
            return None;
        }
        self.note(node, Scalar::Path, || Effective::Text(expanded.clone().into_owned()));
        Some(expanded.into_owned())
    }

    /// A number of bytes.
    pub(crate) fn size(&mut self, node: &Node) -> Option<u64> {
        let bytes = match &node.value {
            Value::Number(spelling) => self.whole_number(node, spelling)?,
            Value::Text(text) => {
                let text = self.expanded(node, text)?;
                self.unless_error(node, parse_size(&text))?
            }
            _ => return self.wrong(node, "a size such as 1048576 or \"1MiB\""),
        };
        self.note(node, Scalar::Size, || Effective::Bytes(bytes));
        Some(bytes)
    }

    /// A length of time; a plain number is seconds.
    pub(crate) fn seconds(&mut self, node: &Node) -> Option<Duration> {
        let duration = match &node.value {
            Value::Number(spelling) => Duration::from_secs(self.whole_number(node, spelling)?),
            Value::Text(text) => {
                let text = self.expanded(node, text)?;
                self.unless_error(node, parse_duration(&text))?
            }
            _ => return self.wrong(node, "a number of seconds or a duration such as \"1h30m\""),
        };
        self.note(node, Scalar::Seconds, || Effective::Duration(duration));
        Some(duration)
    }

    /// A whole number from 0.
    pub(crate) fn count(&mut self, node: &Node) -> Option<u64> {
        let count = match &node.value {
            Value::Number(spelling) => self.whole_number(node, spelling)?,
            Value::Text(text) => {
                let text = self.expanded(node, text)?;
                self.whole_number(node, text.trim())?
            }
            _ => return self.wrong(node, "a whole number"),
        };
        self.note(node, Scalar::Count, || Effective::Count(count));
        Some(count)
    }

    /// Like [`Self::size`]; 0 says no more than an absent key.
    pub(crate) fn nonzero_size(&mut self, node: &Node) -> Option<u64> {
        self.size(node).filter(|size| *size != 0)
    }

    /// Like [`Self::count`]; 0 says no more than an absent key.
    pub(crate) fn nonzero_count(&mut self, node: &Node) -> Option<u64> {
        self.count(node).filter(|count| *count != 0)
    }

    /// Like [`Self::seconds`]; 0 says no more than an absent key.
    pub(crate) fn nonzero_seconds(&mut self, node: &Node) -> Option<Duration> {
        self.seconds(node).filter(|duration| !duration.is_zero())
    }

    /// A whole number of 32 bits.
    pub(crate) fn small_count(&mut self, node: &Node) -> Option<u32> {
        let count = self.count(node)?;
        u32::try_from(count)
            .map_err(|_| self.mismatch(node, "a whole number below 4294967296"))
            .ok()
    }

    /// A value within bounds; `expected` says which, with what they are bounds of.
    pub(crate) fn within_range<T: PartialOrd>(
        &mut self,
        node: &Node,
        range: &RangeInclusive<T>,
        expected: &str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        let value = read(self, node)?;
        if range.contains(&value) {
            return Some(value);
        }
        self.wrong(node, expected)
    }

    /// A number from 0 with a fraction.
    pub(crate) fn decimal(&mut self, node: &Node) -> Option<f64> {
        let spelling: Cow<'_, str> = match &node.value {
            Value::Number(spelling) => Cow::Borrowed(spelling),
            Value::Text(text) => self.expanded(node, text)?,
            _ => return self.wrong(node, "a number"),
        };
        match spelling.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && number.is_sign_positive() => {
                self.note(node, Scalar::Decimal, || Effective::Decimal(number));
                Some(number)
            }
            _ => self.wrong(node, "a number from 0 such as 0.5"),
        }
    }

    /// A length of time; a plain number is seconds and may have a fraction.
    pub(crate) fn decimal_seconds(&mut self, node: &Node) -> Option<Duration> {
        let duration = if matches!(node.value, Value::Text(_)) {
            self.seconds(node)?
        } else {
            let seconds = self.decimal(node)?;
            let duration = Duration::try_from_secs_f64(seconds);
            duration.map_err(|_| self.mismatch(node, "a shorter time")).ok()?
        };
        self.note(node, Scalar::DecimalSeconds, || Effective::Duration(duration));
        Some(duration)
    }

    /// A switch.
    pub(crate) fn flag(&mut self, node: &Node) -> Option<bool> {
        let flag = match &node.value {
            Value::Bool(value) => *value,
            Value::Text(text) => match self.expanded(node, text)?.trim() {
                "true" => true,
                "false" => false,
                _ => return self.wrong(node, "true or false"),
            },
            _ => return self.wrong(node, "true or false"),
        };
        self.note(node, Scalar::Flag, || Effective::Flag(flag));
        Some(flag)
    }

    /// One of a fixed set of words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<&'static str> = choices.iter().map(|(word, _)| *word).collect();
        let expected = format!("one of {}", quoted(&words));
        let Value::Text(text) = &node.value else {
            return self.wrong(node, &expected);
        };
        if let Some((word, value)) = choices.iter().find(|(word, _)| word == text) {
            let effective = || Effective::Text((*word).to_owned());
            self.note(node, Scalar::Choice(words), effective);
            return Some(*value);
        }
        let advice = match nearest(text, &words) {
            Some(word) => format!("; did you mean {word:?}?"),
            None => String::new(),
        };
        self.report(node.at, format!("{:?} is not {expected}{advice}", shorten(&masked(text))));
        None
    }

    pub(super) fn whole_number(&mut self, node: &Node, spelling: &str) -> Option<u64> {
        match parse_whole_number(spelling) {
            Ok(number) => Some(number),
            Err(problem) => {
                self.report(node.at, format!("{:?} {problem}", shorten(spelling)));
                None
            }
        }
    }

    pub(super) fn expanded<'t>(&mut self, node: &Node, text: &'t str) -> Option<Cow<'t, str>> {
        self.expanded_by(node, text, expand)
    }

    fn expanded_by<'t>(
        &mut self,
        node: &Node,
        text: &'t str,
        expand: impl FnOnce(&'t str, &Environment<'_>) -> Result<Cow<'t, str>, ExpandError>,
    ) -> Option<Cow<'t, str>> {
        let is_asked = Cell::new(false);
        let env = self.env;
        let expanded = expand(text, &|name| {
            is_asked.set(true);
            env(name)
        });
        self.note_environment(is_asked.get());
        self.unless_error(node, expanded)
    }

    pub(super) fn unless_error<T>(
        &mut self,
        node: &Node,
        result: Result<T, impl std::error::Error>,
    ) -> Option<T> {
        result.map_err(|error| self.report(node.at, error.to_string())).ok()
    }

    pub(super) fn wrong<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        self.mismatch(node, expected);
        None
    }
}

fn parse_whole_number(spelling: &str) -> Result<u64, &'static str> {
    if spelling.starts_with('-') {
        return Err("is negative; expected a whole number from 0");
    }
    let unsigned = spelling.strip_prefix('+').unwrap_or(spelling);
    let hexadecimal = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((unsigned, 10), |digits| (digits, 16));
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("is not a whole number");
    }
    u64::from_str_radix(digits, radix).map_err(|_| "is too large")
}

/// A value in words, short.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(spelling) => shorten(spelling).into_owned(),
        Value::Text(text) => format!("{:?}", shorten(&masked(text))),
        Value::List(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
