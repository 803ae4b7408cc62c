//! Problems of a configuration file, each with its place, all of them at once.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A generated file can be wrong in every line; beyond this many problems only a count is kept.
const MAX_LISTED: usize = 1000;

/// Where something stands in a configuration file. Displays as `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as the caller gave it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The keys that lead to the value, such as `stores[0].filesystem.content_path`; empty for the
    /// file as a whole.
    pub path: String,
}

impl Place {
    /// A problem at this place.
    pub fn problem(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic { place: self.clone(), message: message.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and where it stands, for those values whose errors only show when they are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where the file says it.
    pub place: Place,
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One problem. Displays as `file:line:column: path: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub place: Place,
    /// What is wrong, and where possible what to write instead.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.place.path.is_empty() {
            write!(f, "{}: ", self.place.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Every problem of a file, in the order of the file. Displays as one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    listed: Vec<Diagnostic>,
    unlisted: usize,
}

impl Diagnostics {
    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.unlisted += 1;
        } else {
            self.listed.push(diagnostic);
        }
    }

    /// Whether no problem was found.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// How many problems were found, including those that are only counted.
    pub fn len(&self) -> usize {
        self.listed.len() + self.unlisted
    }

    /// The problems that are listed.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.listed.iter()
    }

    /// Whether further problems are only counted: then finding good words for them is wasted work.
    pub(crate) fn is_full(&self) -> bool {
        self.listed.len() >= MAX_LISTED
    }

    /// Adds the problems of another list.
    pub(crate) fn append(&mut self, others: Self) {
        self.unlisted += others.unlisted;
        others.listed.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Puts the problems in the order in which a reader meets them in the file.
    pub(crate) fn sort(&mut self) {
        self.listed.sort_by_key(|problem| (problem.place.line, problem.place.column));
    }
}

impl<'d> IntoIterator for &'d Diagnostics {
    type Item = &'d Diagnostic;
    type IntoIter = std::slice::Iter<'d, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { listed: vec![diagnostic], unlisted: 0 }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.listed.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more problems", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
