//! What every key of a file comes to: what it says, and the defaults of what it does not say.

use super::{Absent, Field, INSTANCE_NAME, Kind, Literal, ROOT, Shape};
use crate::diagnostic::Place;
use crate::document::{Entry, Node, Position, Value};
use crate::path::{Path, Segment};
use crate::reader::Trace;
use crate::reader::trace::Effective;
use crate::secret::{MASK, masked};
use crate::units::{parse_duration, parse_size};
use std::sync::Arc;
use std::time::Duration;

/// A key and what it comes to. Passwords and other secrets are not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The keys that lead to it, such as `stores[0].filesystem.content_path`.
    pub path: String,
    /// Its value, after units and variables.
    pub value: Effective,
    /// Where that comes from.
    pub source: Source,
}

/// Where the value of a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file says it here.
    File(Place),
    /// The file says it here, with variables of the environment.
    Environment(Place),
    /// The file does not say it.
    Default,
}

/// Lists the settings of a file that was read without mistakes, in the order of the schema.
pub(crate) fn list(file: Arc<str>, root: &Node, trace: &Trace) -> Vec<Setting> {
    let mut lister = Lister { file, trace, path: Path::default(), settings: Vec::new() };
    lister.object(entries(root), ROOT.all());
    lister.settings
}

/// The keys of an object, none of anything else.
fn entries(node: &Node) -> &[Entry] {
    match &node.value {
        Value::Object(entries) => entries,
        _ => &[],
    }
}

fn find<'n>(entries: &'n [Entry], name: &str) -> Option<&'n Entry> {
    let is_given = |entry: &&Entry| entry.key == name && !matches!(entry.node.value, Value::Null);
    entries.iter().find(is_given)
}

struct Lister<'t> {
    file: Arc<str>,
    trace: &'t Trace,
    path: Path,
    settings: Vec<Setting>,
}

impl Lister<'_> {
    fn object(&mut self, entries: &[Entry], fields: impl Iterator<Item = &'static Field>) {
        for field in fields {
            let old = field.old_name.and_then(|name| find(entries, name));
            match find(entries, field.name).or(old) {
                Some(entry) => self.within(Segment::Key(&entry.key), |lister| {
                    lister.value(&entry.node, &field.kind, field.is_secret);
                }),
                None if field.is_old => {}
                None if field.unless.is_some_and(|old| find(entries, old).is_some()) => {}
                None => self.within(Segment::Key(field.name), |lister| lister.absent(field)),
            }
        }
    }

    /// The shape's own keys, and of its kinds the one that is there.
    fn shaped(&mut self, node: &Node, shape: &'static Shape) {
        let entries = entries(node);
        let kinds = shape.kinds.iter().filter(|kind| find(entries, kind.name).is_some());
        self.object(entries, shape.fields.iter().chain(shape.shared).chain(kinds));
    }

    fn absent(&mut self, field: &'static Field) {
        match field.absent {
            // Another key makes up for it: the file was read without mistakes.
            Absent::Mistake => {}
            Absent::Is(literal) | Absent::Usually(literal) => {
                self.push(default_value(&field.kind, literal), Source::Default);
            }
            Absent::Words(words) => self.push(Effective::Words(words), Source::Default),
            Absent::Empty => {
                if let Kind::Object(shape) = field.kind {
                    self.object(&[], shape.all());
                }
            }
        }
    }

    fn value(&mut self, node: &Node, kind: &'static Kind, is_secret: bool) {
        match (kind, &node.value) {
            (Kind::List(inner), Value::List(nodes)) => {
                self.list(node, nodes, |lister, node| lister.value(node, inner, is_secret));
            }
            (Kind::Map(inner), Value::Object(entries)) => {
                self.map(node, entries, |lister, node| lister.value(node, inner, is_secret));
            }
            (Kind::Instances(shape) | Kind::InstancesOr(shape, _), Value::List(nodes)) => {
                let shape: &'static Shape = shape;
                self.list(node, nodes, |lister, node| {
                    let fields = std::iter::once(&INSTANCE_NAME).chain(shape.all());
                    lister.object(entries(node), fields);
                });
            }
            (Kind::Instances(shape), Value::Object(entries)) => {
                self.map(node, entries, |lister, node| lister.shaped(node, shape));
            }
            (
                Kind::Object(shape) | Kind::ChoiceOr(_, shape) | Kind::InstancesOr(_, shape),
                Value::Object(_),
            ) => self.shaped(node, shape),
            (Kind::Tagged(tag, shapes), Value::Object(entries)) => {
                if let Some(shape) = tagged(entries, tag, shapes) {
                    self.shaped(node, shape);
                }
            }
            _ => self.scalar(node, is_secret),
        }
    }

    fn scalar(&mut self, node: &Node, is_secret: bool) {
        let Some(given) = self.trace.values.get(&node.at) else { return };
        let value = match &given.value {
            _ if is_secret => Effective::Text(MASK.to_owned()),
            Effective::Text(text) => Effective::Text(masked(text).into_owned()),
            value => value.clone(),
        };
        let place = self.place(node.at);
        let source =
            if given.from_environment { Source::Environment(place) } else { Source::File(place) };
        self.push(value, source);
    }

    fn list(&mut self, node: &Node, nodes: &[Node], mut item: impl FnMut(&mut Self, &Node)) {
        if nodes.is_empty() {
            self.push(Effective::Words("[]"), Source::File(self.place(node.at)));
        }
        for (index, node) in nodes.iter().enumerate() {
            self.within(Segment::Index(index), |lister| item(lister, node));
        }
    }

    fn map(&mut self, node: &Node, entries: &[Entry], mut item: impl FnMut(&mut Self, &Node)) {
        if entries.is_empty() {
            self.push(Effective::Words("{}"), Source::File(self.place(node.at)));
        }
        for entry in entries {
            self.within(Segment::Key(&entry.key), |lister| item(lister, &entry.node));
        }
    }

    fn push(&mut self, value: Effective, source: Source) {
        let path = self.path.as_str().to_owned();
        self.settings.push(Setting { path, value, source });
    }

    fn place(&self, at: Position) -> Place {
        let path = self.path.as_str().to_owned();
        Place { file: Arc::clone(&self.file), line: at.line, column: at.column, path }
    }

    fn within(&mut self, segment: Segment<'_>, read: impl FnOnce(&mut Self)) {
        let mark = self.path.push(segment);
        read(self);
        self.path.pop(mark);
    }
}

/// The shape that the tag of an object asks for.
pub(super) fn tagged(
    entries: &[Entry],
    tag: &str,
    shapes: &[(&str, &'static Shape)],
) -> Option<&'static Shape> {
    let Value::Text(given) = &find(entries, tag)?.node.value else { return None };
    shapes.iter().find(|(name, _)| name == given).map(|(_, shape)| *shape)
}

/// A default as the readers would have it.
pub(super) fn default_value(kind: &Kind, literal: Literal) -> Effective {
    match (kind, literal) {
        (Kind::Size, Literal::Text(text)) => parse_size(text).map(Effective::Bytes).ok(),
        (
            Kind::Seconds | Kind::DecimalSeconds | Kind::Milliseconds | Kind::SecondsOrNever,
            Literal::Text(text),
        ) => parse_duration(text).map(Effective::Duration).ok(),
        (Kind::DecimalSeconds, Literal::Number(seconds)) => {
            Some(Effective::Duration(Duration::from_secs(seconds)))
        }
        _ => None,
    }
    .unwrap_or_else(|| match literal {
        Literal::Text(text) => Effective::Text(text.to_owned()),
        Literal::Number(number) => Effective::Count(number),
        Literal::Flag(flag) => Effective::Flag(flag),
    })
}
