//! Every key of the format as data: what it means, what it takes and what it is when it is absent.
//!
//! The readers do not use this: they say what is wrong in words of their own. The JSON schema and
//! the list of effective settings come from here, and tests compare it with the readers key by key
//! in both directions.

mod json;
mod root;
mod schedulers;
mod servers;
mod services;
pub(crate) mod settings;
mod store_kinds;
mod stores;
#[cfg(test)]
mod tests;
mod unsupported_stores;
mod workers;

pub use json::schema;
pub(crate) use root::ROOT;

/// An object with fixed keys.
#[derive(Debug)]
pub(crate) struct Shape {
    /// What the JSON schema calls it.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) fields: &'static [Field],
    /// Further keys, which other shapes have too.
    pub(crate) shared: &'static [Field],
    /// Of these keys the object has exactly one.
    pub(crate) kinds: &'static [Field],
}

impl Shape {
    /// Every key that the object may have.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Field> + use<> {
        self.fields.iter().chain(self.shared).chain(self.kinds)
    }
}

/// A shape without keys, to begin with.
pub(crate) const SHAPE: Shape = Shape { name: "", about: "", fields: &[], shared: &[], kinds: &[] };

/// One key of an object.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
    pub(crate) absent: Absent,
    /// Another name from earlier releases.
    pub(crate) old_name: Option<&'static str>,
    /// A key of its own from earlier releases that says the same in another unit.
    pub(crate) unless: Option<&'static str>,
    /// Whether it has no effect any more, or another key is to be used.
    pub(crate) is_old: bool,
    /// Whether nobody may see its value.
    pub(crate) is_secret: bool,
    /// Whether it is a key of this server that the format does not have.
    pub(crate) is_own: bool,
}

/// What it means that a key is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Absent {
    /// A mistake.
    Mistake,
    /// The same as this value.
    Is(Literal),
    /// This value, unless a flag says something else.
    Usually(Literal),
    /// The same as an object without keys.
    Empty,
    /// Something that the format has no value for, in words.
    Words(&'static str),
}

/// A value as the file would have it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Literal {
    Text(&'static str),
    Number(u64),
    Flag(bool),
}

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    Name,
    Text,
    Path,
    Size,
    Seconds,
    /// Seconds, with parts of them after a point.
    DecimalSeconds,
    Milliseconds,
    SecondsOrNever,
    Count,
    Decimal,
    Flag,
    /// A number or a word.
    Word,
    Choice(&'static [&'static str]),
    List(&'static Kind),
    /// An object whose keys the user chooses.
    Map(&'static Kind),
    Object(&'static Shape),
    /// A list of objects with an `instance_name`, or the old map by instance name.
    Instances(&'static Shape),
    /// An object whose other keys depend on the value of this one.
    Tagged(&'static str, &'static [(&'static str, &'static Shape)]),
    /// A word, or an object.
    ChoiceOr(&'static [&'static str], &'static Shape),
    /// A list, or an object of earlier releases.
    InstancesOr(&'static Shape, &'static Shape),
}

/// The key of every entry of a service.
pub(crate) static INSTANCE_NAME: Field =
    key("instance_name", Kind::Name, "The instance that the entry is for.").or(Literal::Text(""));

/// A key that need not be there.
pub(crate) const fn key(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field {
        name,
        kind,
        about,
        absent: Absent::Words("none"),
        old_name: None,
        unless: None,
        is_old: false,
        is_secret: false,
        is_own: false,
    }
}

/// A key that has to be there.
pub(crate) const fn needed(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { absent: Absent::Mistake, ..key(name, kind, about) }
}

/// A switch that is off unless it is said to be on.
pub(crate) const fn switch(name: &'static str, about: &'static str) -> Field {
    key(name, Kind::Flag, about).or(Literal::Flag(false))
}

/// A number of bytes.
pub(crate) const fn size(name: &'static str, default: &'static str, about: &'static str) -> Field {
    key(name, Kind::Size, about).or(Literal::Text(default))
}

/// A length of time.
pub(crate) const fn time(name: &'static str, default: &'static str, about: &'static str) -> Field {
    key(name, Kind::Seconds, about).or(Literal::Text(default))
}

/// A whole number.
pub(crate) const fn count(name: &'static str, default: u64, about: &'static str) -> Field {
    key(name, Kind::Count, about).or(Literal::Number(default))
}

/// An object that is the same without keys as when it is absent.
pub(crate) const fn part(name: &'static str, shape: &'static Shape, about: &'static str) -> Field {
    Field { absent: Absent::Empty, ..key(name, Kind::Object(shape), about) }
}

impl Field {
    /// The value that stands for no value.
    pub(crate) const fn or(self, value: Literal) -> Self {
        Self { absent: Absent::Is(value), ..self }
    }

    /// The value where no flag says another one.
    pub(crate) const fn usually(self, value: Literal) -> Self {
        Self { absent: Absent::Usually(value), ..self }
    }

    /// What it means that it is absent, in words.
    pub(crate) const fn else_words(self, words: &'static str) -> Self {
        Self { absent: Absent::Words(words), ..self }
    }

    /// The name of earlier releases.
    pub(crate) const fn once(self, old_name: &'static str) -> Self {
        Self { old_name: Some(old_name), ..self }
    }

    /// The key of earlier releases that says the same in another unit.
    pub(crate) const fn unless(self, old_key: &'static str) -> Self {
        Self { unless: Some(old_key), ..self }
    }

    /// Nobody should write it any more.
    pub(crate) const fn old(self) -> Self {
        Self { is_old: true, ..self }
    }

    /// Nobody may see its value.
    pub(crate) const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// A key of this server that the format does not have.
    pub(crate) const fn own(self) -> Self {
        Self { is_own: true, ..self }
    }
}
