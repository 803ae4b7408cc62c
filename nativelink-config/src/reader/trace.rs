//! What was read, for those who ask: the keys that each object may have, and what each value comes
//! to. Kept by place, because a place has one value and a path may be shortened.

use super::Reader;
use crate::document::{Node, Position};
use crate::units::{show_duration, show_size};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// The notes of one reading.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The known keys of the object that starts here.
    pub(crate) objects: HashMap<Position, Vec<&'static str>>,
    /// The value that starts here.
    pub(crate) values: HashMap<Position, Given>,
    asked_environment: bool,
}

/// A value that the file gives.
#[derive(Debug)]
pub(crate) struct Given {
    /// How it was read.
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the schema"))]
    pub(crate) scalar: Scalar,
    /// What it comes to.
    pub(crate) value: Effective,
    /// Whether variables of the environment are in it.
    pub(crate) from_environment: bool,
}

/// How a value is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scalar {
    Name,
    Text,
    Path,
    Size,
    Seconds,
    Milliseconds,
    SecondsOrNever,
    Count,
    Decimal,
    DecimalSeconds,
    Flag,
    Word,
    Choice(Vec<&'static str>),
}

/// What a key comes to once units and variables are gone. Displays as the file would say it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effective {
    /// A text, a path or a word.
    Text(String),
    /// A number of bytes.
    Bytes(u64),
    /// A length of time.
    Duration(Duration),
    /// A number.
    Count(u64),
    /// A number that need not be whole.
    Decimal(f64),
    /// A switch.
    Flag(bool),
    /// A default in words, such as `no limit`.
    Words(&'static str),
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => f.write_str(&show_size(*bytes)),
            Self::Duration(duration) => f.write_str(&show_duration(*duration)),
            Self::Count(count) => write!(f, "{count}"),
            Self::Decimal(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl Reader<'_> {
    /// Notes what a value comes to.
    pub(super) fn note(&mut self, node: &Node, scalar: Scalar, value: impl FnOnce() -> Effective) {
        if let Some(trace) = &mut self.trace {
            // A reader that is made of others notes the same value again, as its own kind.
            let from_environment = std::mem::take(&mut trace.asked_environment)
                || trace.values.get(&node.at).is_some_and(|given| given.from_environment);
            trace.values.insert(node.at, Given { scalar, value: value(), from_environment });
        }
    }

    /// Notes whether the value that is being read has variables in it.
    pub(super) fn note_environment(&mut self, is_asked: bool) {
        if let Some(trace) = &mut self.trace {
            trace.asked_environment = is_asked;
        }
    }

    /// Notes the keys that an object may have.
    pub(super) fn note_object(&mut self, at: Position, keys: impl FnOnce() -> Vec<&'static str>) {
        if let Some(trace) = &mut self.trace {
            trace.objects.insert(at, keys());
        }
    }
}
