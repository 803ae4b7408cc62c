//! What a metric is: a family declared once, and what it says at one moment.
//!
//! The text of Prometheus, the messages of OTLP and the page in the documentation are all made from
//! this, so they cannot disagree.

/// A family of metrics: one name, one meaning, a point for each combination of labels.
#[derive(Debug)]
pub struct Family {
    /// The whole name, as a query has it: `castellan_` first, the unit and `_total` last.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// How its values may change.
    pub kind: Kind,
    /// What it counts in.
    pub unit: Unit,
    /// The names of its labels, whose values come from closed or bounded sets.
    pub labels: &'static [&'static str],
}

/// How the values of a family may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Counters of what fell into each range.
    Histogram,
}

/// Base units only: queries never convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// The value of a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(u64),
    /// Any number.
    Real(f64),
    /// What a histogram holds.
    Distribution(Distribution),
}

/// What a histogram holds at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The upper ends of the ranges but the last, ascending.
    pub bounds: &'static [f64],
    /// How many fell into each range; one more than there are bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Distribution {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The value of a family for one combination of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The values of the family's labels, in their order.
    pub labels: Vec<String>,
    /// What it is.
    pub value: Value,
}

/// Everything that a family says.
#[derive(Debug)]
pub struct Group {
    /// The family.
    pub family: &'static Family,
    /// One for each combination of labels; at least one.
    pub points: Vec<Point>,
}

/// What the families say at one moment.
#[derive(Debug, Default)]
pub struct Samples {
    groups: Vec<Group>,
}

impl Samples {
    /// Adds a point; `labels` are the values of the family's labels.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], value: Value) {
        debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let point = Point { labels, value };
        match self.groups.iter_mut().find(|group| std::ptr::eq(group.family, family)) {
            Some(group) => group.points.push(point),
            None => self.groups.push(Group { family, points: vec![point] }),
        }
    }

    /// Adds a whole number.
    pub fn integer(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.add(family, labels, Value::Integer(value));
    }

    /// What there is, a group for each family that has a point.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}
