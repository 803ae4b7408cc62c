//! What there is to know of one option of bazel-remote: how it is called in each place, what it
//! takes, and what becomes of it here.

use std::time::Duration;

use super::go;

/// One option.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompatOption {
    /// The flag, without its dashes.
    pub(super) name: &'static str,
    /// Environment variables, of which the first that is set counts; empty for the regular one.
    environment: &'static [&'static str],
    pub(super) kind: Kind,
    /// What it is when nothing is said, as its flag would say it; empty for nothing.
    pub(super) default: &'static str,
    /// The places that it can be said in.
    pub(super) place: Place,
    pub(super) fate: Fate,
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Switch,
    Duration,
    List,
}

/// Where an option can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Anywhere,
    FlagsOnly,
    FileOnly,
}

/// What becomes of an option that is not its default. The text says how, or why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has the effect that it has there.
    Honored(&'static str),
    /// It is taken, and has no effect.
    Accepted(&'static str),
    /// Nothing is served with it.
    Refused(&'static str),
    /// Counts only beside this option, which is refused.
    With(&'static str),
}

/// What an option is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Switch(bool),
    Duration(Duration),
}

impl CompatOption {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        fate: Fate,
    ) -> Self {
        Self { name, environment: &[], kind, default, place: Place::Anywhere, fate }
    }

    /// With other variables than the regular one.
    pub(super) const fn environment(self, environment: &'static [&'static str]) -> Self {
        Self { environment, ..self }
    }

    pub(super) const fn only(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// The environment variables that say it, the first that is set counts.
    pub(super) fn environment_names(&self) -> Vec<String> {
        match (self.place, self.environment) {
            (Place::FileOnly, _) => Vec::new(),
            (_, []) => {
                let name = self.name.replace('.', "_").to_uppercase();
                vec![format!("BAZEL_REMOTE_{name}")]
            }
            (_, names) => names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    /// The keys that lead to it in a file; `None` when a file cannot say it.
    pub(super) fn file_path(&self) -> Option<String> {
        if self.place == Place::FlagsOnly {
            return None;
        }
        Some(match self.name.split_once('.') {
            Some((block @ ("s3" | "azblob"), key)) => format!("{block}_proxy.{key}"),
            _ => self.name.to_owned(),
        })
    }

    /// Reads what a flag, a variable or a file says.
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Text | Kind::List => Ok(Value::Text(text.to_owned())),
            Kind::Integer => go::integer(text).map(Value::Integer),
            Kind::Switch => go::switch(text).map(Value::Switch),
            Kind::Duration => go::duration(text).map(Value::Duration),
        }
    }

    /// What it is when nothing is said.
    pub(super) fn default_value(&self) -> Value {
        let unsaid = match self.kind {
            Kind::Text | Kind::List => Value::Text(String::new()),
            Kind::Integer => Value::Integer(0),
            Kind::Switch => Value::Switch(false),
            Kind::Duration => Value::Duration(Duration::ZERO),
        };
        if self.default.is_empty() { unsaid } else { self.read(self.default).unwrap_or(unsaid) }
    }
}
