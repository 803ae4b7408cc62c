//! What is wrong with flags and configuration, all of it at once.

use std::fmt;

/// A list of problems, a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, problem: impl fmt::Display) {
        self.0.push(problem.to_string());
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

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "error: {problem}"))
    }
}
