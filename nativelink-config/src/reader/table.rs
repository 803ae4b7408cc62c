//! An object that is being read key by key.

use super::{Reader, nearest};
use crate::diagnostic::Place;
use crate::document::{Entry, Node, Position, Value};
use crate::path::Segment;

/// The reader of one object. Every key it is asked for becomes a known key; what is missing and
/// what is unknown is reported at the end, when it can be told whether one is the other misspelled.
pub(crate) struct Table<'r, 'e, 'n> {
    reader: &'r mut Reader<'e>,
    at: Position,
    entries: &'n [Entry],
    known: Vec<&'static str>,
    /// Keys of the format that are not accepted, now or any more.
    refused: Vec<&'static str>,
    /// Those of the refused ones that the format does not have any more.
    removed: Vec<&'static str>,
    missing: Vec<&'static str>,
    accepts_any_key: bool,
}

impl<'r, 'e, 'n> Table<'r, 'e, 'n> {
    pub(super) fn new(reader: &'r mut Reader<'e>, at: Position, entries: &'n [Entry]) -> Self {
        Self {
            reader,
            at,
            entries,
            known: Vec::new(),
            refused: Vec::new(),
            removed: Vec::new(),
            missing: Vec::new(),
            accepts_any_key: false,
        }
    }

    /// The reader, to report problems of the object as a whole.
    pub(crate) fn reader(&mut self) -> &mut Reader<'e> {
        self.reader
    }

    /// Reports a problem of the object as a whole.
    pub(crate) fn report(&mut self, message: impl Into<String>) {
        self.reader.report(self.at, message);
    }

    /// Whether a key is there, with whatever value but `null`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Something else is wrong, and which keys are right depends on it.
    pub(crate) fn accept_any_key(&mut self) {
        self.accepts_any_key = true;
    }

    /// Reads the value of a key; absent and `null` are the same.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'e>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let entry = self.take(key)?;
        self.reader.within(Segment::Key(key), |reader| read(reader, &entry.node))
    }

    /// Reads the value of a key that has to be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Reader<'e>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if self.take(key).is_none() {
            self.missing.push(key);
            return None;
        }
        self.optional(key, read)
    }

    /// Reads the value of a key that has an older name.
    pub(crate) fn aliased<T>(
        &mut self,
        key: &'static str,
        old_key: &'static str,
        read: impl FnOnce(&mut Reader<'e>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        match (self.take(key), self.take(old_key)) {
            (Some(_), Some(old)) => {
                self.report_key(
                    old.at,
                    old_key,
                    format!("`{key}` has the same meaning; write one"),
                );
                None
            }
            (None, Some(_)) => self.optional(old_key, read),
            _ => self.optional(key, read),
        }
    }

    /// Reads a switch that is off unless it is said to be on.
    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        self.optional(key, Reader::flag).unwrap_or(false)
    }

    /// Reads a part of the format that this version does not run: its mistakes are found all the
    /// same, and it is noted with what to do `instead`. An empty one asks for nothing.
    pub(crate) fn unsupported<T>(
        &mut self,
        key: &'static str,
        instead: &str,
        read: impl FnOnce(&mut Reader<'e>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let entry = self.refuse(key)?;
        let is_empty = match &entry.node.value {
            Value::List(nodes) => nodes.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        if !is_empty {
            self.note_unsupported(entry, instead);
        }
        self.reader.within(Segment::Key(key), |reader| read(reader, &entry.node))
    }

    /// Keys that earlier versions of the format had. Tells whether there was one.
    pub(crate) fn removed(&mut self, keys: &[&'static str]) -> bool {
        let mut found = false;
        self.removed.extend(keys);
        for key in keys {
            if let Some(entry) = self.refuse(key) {
                self.report_key(entry.at, key, "no longer part of the format; remove it");
                found = true;
            }
        }
        found
    }

    /// The one key of a family of which an object has exactly one, such as the kinds of stores.
    /// Those that are `unsupported` come with what to do instead, and are noted.
    pub(crate) fn only_key_of(
        &mut self,
        what: &str,
        supported: &[&'static str],
        unsupported: &[(&'static str, &str)],
    ) -> Option<&'static str> {
        let mut found: Vec<(&'static str, &Entry)> = Vec::new();
        for key in supported {
            found.extend(self.take(key).map(|entry| (*key, entry)));
        }
        for (key, instead) in unsupported {
            if let Some(entry) = self.refuse(key) {
                self.note_unsupported(entry, instead);
                found.push((key, entry));
            }
        }
        found.sort_by_key(|(_, entry)| (entry.at.line, entry.at.column));
        let Some(((first, _), others)) = found.split_first() else {
            self.report_missing_kind(what, supported);
            return None;
        };
        for (key, entry) in others {
            let message = format!("a second {what}; `{first}` is there already");
            self.report_key(entry.at, key, message);
        }
        Some(first)
    }

    fn report_missing_kind(&mut self, what: &str, supported: &[&str]) {
        // An unknown key is reported as such and is most likely the kind that is missing.
        if self.entries.iter().all(|entry| self.is_known(&entry.key)) {
            let names = listed(supported);
            self.reader.report(self.at, format!("the {what} is missing; supported: {names}"));
        }
    }

    /// Reports the keys nobody asked for and those that should be there.
    pub(super) fn finish(mut self) {
        self.reader.note_object(self.at, || {
            let keys = self.known.iter().chain(&self.refused).copied();
            keys.filter(|key| !self.removed.contains(key)).collect()
        });
        let names: Vec<&str> = self.known.iter().chain(&self.refused).copied().collect();
        let entries = if self.accepts_any_key { &[] } else { self.entries };
        for entry in entries.iter().filter(|entry| !names.contains(&entry.key.as_str())) {
            // Looking for the nearest name is the most expensive step: not for nothing.
            let nearest_name = if self.reader.found.problems.is_full() {
                None
            } else {
                nearest(&entry.key, &names)
            };
            let message = match nearest_name {
                Some(name) => format!("unknown key; did you mean `{name}`?"),
                None if self.known.is_empty() => "unknown key; there are none here".to_owned(),
                None => format!("unknown key; known here: {}", listed(&self.known)),
            };
            self.report_key(entry.at, &entry.key, message);
            self.missing.retain(|missing| nearest_name != Some(*missing));
        }
        for key in std::mem::take(&mut self.missing) {
            self.report_key(self.at, key, "this key is required");
        }
    }

    /// The entry of a key unless its value is `null`; from here on the key is known.
    fn take(&mut self, key: &'static str) -> Option<&'n Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.find(key)
    }

    /// Like [`Self::take`], for a key that is recognized only to be refused.
    fn refuse(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.refused.push(key);
        self.find(key)
    }

    fn find(&self, key: &str) -> Option<&'n Entry> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if matches!(entry.node.value, Value::Null) { None } else { Some(entry) }
    }

    fn is_known(&self, key: &str) -> bool {
        self.known.contains(&key) || self.refused.contains(&key)
    }

    fn note_unsupported(&mut self, entry: &Entry, instead: &str) {
        let message = format!("not supported by this version; {instead}");
        let note = self.key_place(entry.at, &entry.key).problem(message);
        self.reader.found.unsupported.push(note);
    }

    fn report_key(&mut self, at: Position, key: &str, message: impl Into<String>) {
        let place = self.key_place(at, key);
        self.reader.report_at(&place, message);
    }

    fn key_place(&self, at: Position, key: &str) -> Place {
        let path = self.reader.path.joined(Segment::Key(key));
        self.reader.place_at_path(at, path)
    }
}

fn listed(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
