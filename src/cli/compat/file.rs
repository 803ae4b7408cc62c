//! bazel-remote's YAML as a list of keys, values and places.
//!
//! Whoever wrote the file is a stranger: it is bounded in size and depth, and what only a program
//! would write (anchors, tags, keys that are no text) is refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use nativelink_config::Place;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::option::Kind;
use crate::cli::config_file::read_file;
use crate::cli::problems::{Problem, Problems};

/// An option is at most in one block.
const MAX_DEPTH: usize = 2;
/// There are not nearly as many options.
const MAX_KEYS: usize = 1000;
const MAX_KEY_BYTES: usize = 100;

/// A key of the file and what it is set to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the value stands; its path is that of the option.
    pub(super) place: Place,
    text: String,
    is_plain: bool,
}

impl Entry {
    /// Whether the key is there alone.
    pub(super) fn is_nothing(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The value as a flag would say it.
    pub(super) fn text_for(&self, kind: Kind) -> String {
        let text = match (kind, self.text.as_str()) {
            (Kind::Switch, "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON") => "true",
            (Kind::Switch, "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF") => "false",
            (_, text) => text,
        };
        text.to_owned()
    }
}

/// Reads a file; what is wrong with it is noted, and the rest of it given.
pub(super) fn read(path: &Path, problems: &mut Problems) -> Vec<Entry> {
    let name = path.display().to_string();
    let text = problems.take(&name, read_file(path));
    text.map_or_else(Vec::new, |text| entries(&name, &text, problems))
}

/// Reads the first document of a text, as bazel-remote does.
pub(super) fn entries(name: &str, text: &str, problems: &mut Problems) -> Vec<Entry> {
    let mut reader = Reader {
        file: name.into(),
        blocks: Vec::new(),
        key: None,
        list: None,
        keys: BTreeSet::new(),
        entries: Vec::new(),
    };
    let mut parser = Parser::new(StrInput::new(text));
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((Event::DocumentEnd | Event::StreamEnd, _)) => break,
            Ok((event, span)) => reader.take(event, span.start),
            Err(error) => Err(reader.place(*error.marker()).problem(error.info()).into()),
        };
        if let Err(problem) = outcome {
            problems.add(problem);
            break;
        }
    }
    reader.entries
}

type Outcome = Result<(), Problem>;

struct Reader {
    file: Arc<str>,
    /// The keys of the mappings that are open; the outermost has none.
    blocks: Vec<String>,
    /// The key whose value comes next.
    key: Option<String>,
    /// The items of the list that is open, and where it began.
    list: Option<(Place, Vec<String>)>,
    keys: BTreeSet<String>,
    entries: Vec<Entry>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, at: Marker) -> Outcome {
        match event {
            Event::Scalar(text, style, 0, None) => {
                self.scalar(text.into_owned(), style == ScalarStyle::Plain, at)
            }
            Event::MappingStart(0, None) if self.list.is_none() => self.begin_block(at),
            Event::MappingEnd => {
                self.blocks.pop();
                Ok(())
            }
            Event::SequenceStart(0, None) if self.list.is_none() && self.key.is_some() => {
                self.list = Some((self.place(at), Vec::new()));
                self.key = None;
                Ok(())
            }
            Event::SequenceEnd => {
                let list = self.list.take();
                self.entries.extend(list.map(|(place, items)| Entry {
                    place,
                    text: items.join(", "),
                    is_plain: false,
                }));
                Ok(())
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => Ok(()),
            _ => Err(self.place(at).problem("is more than a configuration needs").into()),
        }
    }

    fn begin_block(&mut self, at: Marker) -> Outcome {
        let is_nested = !self.blocks.is_empty();
        if is_nested && (self.key.is_none() || self.blocks.len() == MAX_DEPTH) {
            return Err(self.place(at).problem("no option is in here").into());
        }
        self.blocks.push(self.key.take().unwrap_or_default());
        Ok(())
    }

    fn scalar(&mut self, text: String, is_plain: bool, at: Marker) -> Outcome {
        if let Some((place, items)) = &mut self.list {
            items.push(text);
            let is_long = items.len() > MAX_KEYS;
            let problem = || place.problem("the list is too long").into();
            return if is_long { Err(problem()) } else { Ok(()) };
        }
        if self.blocks.is_empty() {
            let entry = Entry { place: self.place(at), text, is_plain };
            // An empty file is one without options.
            let problem = || entry.place.problem("is not a list of options").into();
            return if entry.is_nothing() { Ok(()) } else { Err(problem()) };
        }
        if self.key.is_some() {
            let place = self.place(at);
            self.key = None;
            self.entries.push(Entry { place, text, is_plain });
            return Ok(());
        }
        if text.len() > MAX_KEY_BYTES {
            return Err(self.place(at).problem("no option has so long a name").into());
        }
        self.key = Some(text);
        let place = self.place(at);
        if !self.keys.insert(place.path.clone()) {
            return Err(place.problem("is there twice").into());
        }
        if self.keys.len() > MAX_KEYS {
            return Err(place.problem("there are more keys than options").into());
        }
        Ok(())
    }

    /// Where something stands in the file, and under which keys.
    fn place(&self, at: Marker) -> Place {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let keys = self.blocks.iter().chain(&self.key).map(String::as_str);
        let path: Vec<&str> = keys.filter(|key| !key.is_empty()).collect();
        let column = number(at.col()).saturating_add(1);
        Place {
            file: Arc::clone(&self.file),
            line: number(at.line()),
            column,
            path: path.join("."),
        }
    }
}
