//! What the options are set to, and where each is said: flags before the environment, or a file
//! alone.

use std::collections::BTreeMap;
use std::path::Path;

use nativelink_config::Place as FilePlace;

use super::command_line::CompatFlags;
use super::option::{CompatOption, Fate, Value};
use super::{file, options};
use crate::cli::problems::{Problem, Problems};

/// The options that are said.
#[derive(Debug, Default)]
pub(super) struct Values {
    said: BTreeMap<&'static str, Said>,
    /// The file that says them.
    file: Option<String>,
    /// What works and is worth to know.
    pub(super) notes: Vec<String>,
}

#[derive(Debug)]
struct Said {
    value: Value,
    origin: Origin,
}

/// Who says something.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Flag(&'static str),
    Variable(String, &'static str),
    File(FilePlace),
}

impl Origin {
    pub(super) fn problem(&self, message: &str) -> Problem {
        match self {
            Self::Flag(name) => format!("--{name}: {message}").into(),
            Self::Variable(variable, name) => format!("{variable} (--{name}): {message}").into(),
            Self::File(place) => place.problem(message).into(),
        }
    }
}

impl Values {
    /// From flags and variables, or from the file that they name.
    pub(super) fn of(
        flags: &CompatFlags,
        env: &dyn Fn(&str) -> Option<String>,
        problems: &mut Problems,
    ) -> Self {
        flags.problems.iter().for_each(|problem| problems.add(problem.as_str()));
        let mut texts = Vec::new();
        for option in options::all() {
            let flag = flags.given.iter().rev().find(|(name, _)| *name == option.name);
            let flag = flag.map(|(name, text)| (Origin::Flag(name), text.clone()));
            let said = flag.or_else(|| variable(option, env));
            texts.extend(said.map(|(origin, text)| (option, origin, text)));
        }
        let file = texts.iter().find(|(option, _, text)| is_file(option) && !text.is_empty());
        if let Some((_, _, path)) = file {
            let mut values = Self::of_file(Path::new(path), problems);
            let others = texts.iter().filter(|(option, _, _)| !is_file(option));
            values.notes.extend(others.map(|(_, origin, _)| {
                origin.problem("is ignored beside --config_file").to_string()
            }));
            return values;
        }
        let mut values = Self::default();
        for (option, origin, text) in texts {
            values.say(option, origin, &text, problems);
        }
        values
    }

    /// From a file.
    pub(super) fn of_file(path: &Path, problems: &mut Problems) -> Self {
        let mut values = Self { file: Some(path.display().to_string()), ..Self::default() };
        for entry in file::read(path, problems) {
            // A block without options is one that is not there.
            if entry.is_nothing() {
                continue;
            }
            let Some(option) = options::in_file(&entry.place.path) else {
                problems.add(entry.place.problem("bazel-remote has no such option"));
                continue;
            };
            let text = entry.text_for(option.kind);
            values.say(option, Origin::File(entry.place), &text, problems);
        }
        values
    }

    /// Notes something about an option.
    pub(super) fn note(&mut self, name: &'static str, text: &str) {
        let note = self.problem(name, text).to_string();
        self.notes.push(note);
    }

    /// Empty text says nothing.
    fn say(
        &mut self,
        option: &'static CompatOption,
        origin: Origin,
        text: &str,
        problems: &mut Problems,
    ) {
        const SERVICE: [&str; 3] = ["tcp://", "udp://", "sctp://"];
        let is_service = SERVICE.iter().any(|scheme| text.starts_with(scheme));
        if matches!(origin, Origin::Variable(..)) && is_service {
            let note = "is ignored: Kubernetes sets it for a service called bazel-remote";
            return self.notes.push(origin.problem(note).to_string());
        }
        if text.is_empty() {
            return;
        }
        match option.read(text) {
            Ok(value) => drop(self.said.insert(option.name, Said { value, origin })),
            Err(problem) => problems.add(origin.problem(&problem)),
        }
    }

    /// Whether a file says them: some defaults are others there.
    pub(super) fn is_of_file(&self) -> bool {
        self.file.is_some()
    }

    /// A problem with an option, or with its absence.
    pub(super) fn problem(&self, name: &'static str, message: &str) -> Problem {
        match (self.said.get(name), &self.file) {
            (Some(said), _) => said.origin.problem(message),
            (None, Some(file)) => format!("{file}: {name}: {message}").into(),
            (None, None) => Origin::Flag(name).problem(message),
        }
    }

    /// Whether it is said.
    pub(super) fn has(&self, name: &str) -> bool {
        self.said.contains_key(name)
    }

    /// What an option is set to, whether that is said or not.
    fn value(&self, name: &str) -> Option<Value> {
        let said = self.said.get(name).map(|said| said.value.clone());
        said.or_else(|| Some(options::named(name)?.default_value()))
    }

    pub(super) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        }
    }

    pub(super) fn integer(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Integer(number)) => number,
            _ => 0,
        }
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Switch(true))
    }

    /// Notes what of them has no effect, and refuses what must not be without one.
    pub(super) fn judge(&mut self, problems: &mut Problems) {
        let mut notes = Vec::new();
        for (name, said) in &self.said {
            let Some(option) = options::named(name) else { continue };
            if said.value == option.default_value() {
                continue;
            }
            let problem = |text: &str| said.origin.problem(text);
            match option.fate {
                Fate::Accepted(why) => {
                    notes.push(problem(&format!("has no effect: {why}")).to_string());
                }
                Fate::Refused(why) => {
                    problems.add(problem(&format!("is not supported: {why}")));
                }
                // In a file the whole block is there for it.
                Fate::With(other) if self.has(other) || self.is_of_file() => {
                    problems.add(problem(&format!("is not supported, as {other} is not")));
                }
                Fate::Honored(_) | Fate::With(_) => {}
            }
        }
        self.notes.extend(notes);
    }
}

fn is_file(option: &CompatOption) -> bool {
    option.name == "config_file"
}

/// What the environment says of an option. A variable that is empty says nothing, and lets the
/// next one say it.
fn variable(
    option: &CompatOption,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<(Origin, String)> {
    option.environment_names().into_iter().find_map(|variable| {
        let text = env(&variable).filter(|text| !text.is_empty())?;
        Some((Origin::Variable(variable, option.name), text))
    })
}
