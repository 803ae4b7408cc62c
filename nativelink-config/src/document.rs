//! JSON5 text to a tree in which every key and every value knows its line and column.
//!
//! The grammar is `jsonc-parser`'s. What it leaves open is closed here: nesting and size have
//! bounds, a text ends on the line it starts on, and an object has each key once. Nothing else in
//! the crate sees the parser.

mod position;
mod syntax;
#[cfg(test)]
mod tests;

use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::path::{Path, Segment};
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use position::Cursor;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use position::Position;

/// The largest configuration text that is read: far beyond any real one, small enough that a
/// mistaken file name cannot exhaust memory.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// How deep arrays and objects nest at most. Every reader may recurse this deep.
const MAX_NESTING: usize = 100;

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it starts.
    pub(crate) at: Position,
    /// What it is.
    pub(crate) value: Value,
}

/// A JSON5 value. Numbers keep their spelling: whether `1e9` is welcome is for the reader to say.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key of an object and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The key, unescaped.
    pub(crate) key: String,
    /// Where the key starts.
    pub(crate) at: Position,
    /// The value.
    pub(crate) node: Node,
}

/// A tree, and the problems that did not prevent it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) problems: Diagnostics,
}

/// Reads a text. The error is the first problem after which nothing can be understood.
pub(crate) fn read(file: &Arc<str>, text: &str) -> Result<Document, Diagnostic> {
    let fail = |offset: usize, message: String| {
        let at = position::locate(text, offset);
        let place =
            Place { file: Arc::clone(file), line: at.line, column: at.column, path: String::new() };
        Err(place.problem(message))
    };
    if text.len() > MAX_FILE_BYTES {
        let message = format!(
            "the file has {} bytes; a configuration has at most {MAX_FILE_BYTES}",
            text.len()
        );
        return fail(0, message);
    }
    // Editors on some systems start a file with an invisible mark.
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let skipped = text.len() - body.len();
    if let Err(error) = syntax::check_tokens(body, MAX_NESTING) {
        return fail(skipped + error.offset, error.message);
    }
    let parsed = match parse_to_ast(body, &CollectOptions::default(), &options()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let message = syntax::explain(&error, body);
            return fail(skipped + error.range().start, message);
        }
    };
    let Some(value) = parsed.value else {
        return fail(
            text.len(),
            "the file is empty; expected an object: { stores: [...], servers: [...] }".to_owned(),
        );
    };
    let mut builder = Builder {
        file,
        cursor: Cursor::new(body),
        path: Path::default(),
        problems: Diagnostics::default(),
    };
    let root = builder.node(value);
    Ok(Document { root, problems: builder.problems })
}

/// What JSON5 allows; a missing comma is the parser's own invention.
fn options() -> ParseOptions {
    ParseOptions { allow_missing_commas: false, ..ParseOptions::default() }
}

/// Turns the parser's tree, which knows byte offsets, into ours.
struct Builder<'t> {
    file: &'t Arc<str>,
    cursor: Cursor<'t>,
    path: Path,
    problems: Diagnostics,
}

impl Builder<'_> {
    fn node(&mut self, value: ast::Value<'_>) -> Node {
        // Offsets are asked for in the order of the text: the cursor never goes back.
        let at = self.cursor.position(value.range().start);
        let value = match value {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
            ast::Value::NumberLit(literal) => Value::Number(literal.value.to_owned()),
            ast::Value::StringLit(literal) => Value::Text(literal.value.into_owned()),
            ast::Value::Array(array) => Value::List(self.list(array)),
            ast::Value::Object(object) => Value::Object(self.object(object)),
        };
        Node { at, value }
    }

    fn list(&mut self, array: ast::Array<'_>) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(array.elements.len());
        for (index, element) in array.elements.into_iter().enumerate() {
            let mark = self.path.push(Segment::Index(index));
            nodes.push(self.node(element));
            self.path.pop(mark);
        }
        nodes
    }

    fn object(&mut self, object: ast::Object<'_>) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(object.properties.len());
        let mut first_given: HashMap<String, Position> = HashMap::new();
        for property in object.properties {
            let at = self.cursor.position(property.name.range().start);
            let key = property.name.into_string();
            let mark = self.path.push(Segment::Key(&key));
            let node = self.node(property.value);
            if let Some(first) = first_given.get(&key) {
                let message = format!("duplicate key; line {} has it already", first.line);
                self.report(at, message);
            } else {
                first_given.insert(key.clone(), at);
                entries.push(Entry { key, at, node });
            }
            self.path.pop(mark);
        }
        entries
    }

    fn report(&mut self, at: Position, message: String) {
        let place = Place {
            file: Arc::clone(self.file),
            line: at.line,
            column: at.column,
            path: self.path.as_str().to_owned(),
        };
        self.problems.push(place.problem(message));
    }
}
