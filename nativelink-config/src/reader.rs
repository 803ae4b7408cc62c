//! Typed reading of a document: every function takes a node and gives a value, or reports what is
//! wrong with the node and gives nothing.
//!
//! Reading goes on after a problem, so that one run reports all of them. An object's keys are named
//! once, where they are read: whatever no one asked for is an unknown key.

pub(crate) mod number;
mod scalar;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use crate::diagnostic::{Diagnostics, Located, Place};
use crate::document::{Entry, Node, Position, Value};
use crate::expand::Environment;
use crate::path::{Path, Segment};
use std::sync::Arc;

pub(crate) use scalar::describe;
pub(crate) use suggest::nearest;
pub(crate) use table::Table;
pub(crate) use trace::Trace;

/// What all readers of one file share.
pub(crate) struct Reader<'e> {
    file: Arc<str>,
    env: &'e Environment<'e>,
    path: Path,
    found: Findings,
    /// What was read, if somebody asked for it.
    trace: Option<Trace>,
}

/// What the readers of a file found.
#[derive(Default)]
pub(crate) struct Findings {
    /// Mistakes.
    pub(crate) problems: Diagnostics,
    /// What works but is not what it seems.
    pub(crate) warnings: Diagnostics,
    /// Parts of the format that this version does not run.
    pub(crate) unsupported: Diagnostics,
}

impl<'e> Reader<'e> {
    /// Starts at the root of a file, with the problems that reading its text has found.
    pub(crate) fn new(file: Arc<str>, env: &'e Environment<'e>, problems: Diagnostics) -> Self {
        let found = Findings { problems, ..Findings::default() };
        Self { file, env, path: Path::default(), found, trace: None }
    }

    /// From here on, notes what each key and value comes to.
    pub(crate) fn trace(&mut self) {
        self.trace = Some(Trace::default());
    }

    /// The notes.
    pub(crate) fn take_trace(&mut self) -> Trace {
        self.trace.take().unwrap_or_default()
    }

    /// What was found, in the order of the file.
    pub(crate) fn take_findings(&mut self) -> Findings {
        let mut found = std::mem::take(&mut self.found);
        found.problems.sort();
        found.warnings.sort();
        found.unsupported.sort();
        found
    }

    /// The place of the value that is being read.
    pub(crate) fn place(&self, at: Position) -> Place {
        self.place_at_path(at, self.path.as_str().to_owned())
    }

    /// Reports a problem with the value that is being read.
    pub(crate) fn report(&mut self, at: Position, message: impl Into<String>) {
        self.found.problems.push(self.place(at).problem(message));
    }

    /// Reports a problem found after the reading.
    pub(crate) fn report_at(&mut self, place: &Place, message: impl Into<String>) {
        self.found.problems.push(place.problem(message));
    }

    /// Notes something that works but is not what it seems.
    pub(crate) fn warn(&mut self, at: Position, message: impl Into<String>) {
        self.found.warnings.push(self.place(at).problem(message));
    }

    /// Like [`Self::warn`], found after the reading.
    pub(crate) fn warn_at(&mut self, place: &Place, message: impl Into<String>) {
        self.found.warnings.push(place.problem(message));
    }

    /// Notes that the value that is being read asks for what this version does not do.
    pub(crate) fn note_unsupported(&mut self, at: Position, instead: &str) {
        let message = format!("not supported by this version; {instead}");
        let note = self.place(at).problem(message);
        self.found.unsupported.push(note);
    }

    /// Reads an object. Keys the closure does not ask for are reported.
    pub(crate) fn object<'n, T>(
        &mut self,
        node: &'n Node,
        read: impl FnOnce(&mut Table<'_, 'e, 'n>) -> Option<T>,
    ) -> Option<T> {
        let Value::Object(entries) = &node.value else {
            self.mismatch(node, "an object");
            return None;
        };
        let mut table = Table::new(self, node.at, entries);
        let value = read(&mut table);
        table.finish();
        value
    }

    /// Reads an array. An element that cannot be read is left out: it has been reported.
    pub(crate) fn list<T>(
        &mut self,
        node: &Node,
        mut read: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(nodes) = &node.value else {
            self.mismatch(node, "an array");
            return None;
        };
        let mut values = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let value = self.within(Segment::Index(index), |reader| read(reader, node));
            values.extend(value);
        }
        Some(values)
    }

    /// Reads an object whose keys are chosen by the user.
    pub(crate) fn map<T>(
        &mut self,
        entries: &[Entry],
        mut read: impl FnMut(&mut Self, &Entry) -> Option<T>,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for entry in entries {
            let value = self.within(Segment::Key(&entry.key), |reader| read(reader, entry));
            values.extend(value);
        }
        values
    }

    /// Reads an object whose keys are chosen by the user, from its node.
    pub(crate) fn entries<T>(
        &mut self,
        node: &Node,
        read: impl FnMut(&mut Self, &Entry) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Object(entries) = &node.value else {
            self.mismatch(node, "an object");
            return None;
        };
        Some(self.map(entries, read))
    }

    /// Reads a value together with its place.
    pub(crate) fn located<T>(
        &mut self,
        node: &Node,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<Located<T>> {
        let place = self.place(node.at);
        read(self, node).map(|value| Located { value, place })
    }

    /// Reports a value of the wrong kind.
    pub(crate) fn mismatch(&mut self, node: &Node, expected: &str) {
        self.report(node.at, format!("expected {expected}, found {}", describe(&node.value)));
    }

    fn within<T>(&mut self, segment: Segment<'_>, read: impl FnOnce(&mut Self) -> T) -> T {
        let mark = self.path.push(segment);
        let value = read(self);
        self.path.pop(mark);
        value
    }

    fn place_at_path(&self, at: Position, path: String) -> Place {
        Place { file: Arc::clone(&self.file), line: at.line, column: at.column, path }
    }
}
