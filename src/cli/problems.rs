//! What is wrong with flags and configuration, all of it at once.

use std::fmt;

use nativelink_config::{Diagnostic, Place};

/// A list of problems, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Problems(Vec<Problem>);

/// One problem. Displays with its place, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where in a configuration file.
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<Problem>) {
        self.0.push(problem.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the value of a flag, or notes why it has none.
    pub(super) fn take<T, E: fmt::Display>(
        &mut self,
        flag: &str,
        outcome: Result<T, E>,
    ) -> Option<T> {
        outcome.map_err(|error| self.add(format_args!("{flag}: {error}"))).ok()
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl From<&Diagnostic> for Problem {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self { place: Some(diagnostic.place.clone()), message: diagnostic.message.clone() }
    }
}

impl From<Diagnostic> for Problem {
    fn from(Diagnostic { place, message }: Diagnostic) -> Self {
        Self { place: Some(place), message }
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { place: None, message }
    }
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<fmt::Arguments<'_>> for Problem {
    fn from(message: fmt::Arguments<'_>) -> Self {
        message.to_string().into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => place.problem(self.message.as_str()).fmt(f),
            None => f.write_str(&self.message),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "error: {problem}"))
    }
}
