//! Schedulers that change something and leave the rest to another one.

use super::{SchedulerSpec, read_inner};
use crate::config::facts::Facts;
use crate::diagnostic::Located;
use crate::document::Node;
use crate::reader::Reader;
use std::time::Duration;

/// The settings of a `cache_lookup` scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheLookupScheduler {
    /// The store of action results that is asked first.
    pub ac_store: Located<String>,
    /// Who runs what it does not have.
    pub scheduler: Box<SchedulerSpec>,
}

/// The settings of a `property_modifier` scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyModifierScheduler {
    /// The changes, in their order.
    pub modifications: Vec<PropertyModification>,
    /// Who runs the changed actions.
    pub scheduler: Box<SchedulerSpec>,
}

/// A change to the properties of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyModification {
    /// `add`: a property with a value.
    Add {
        /// The property.
        name: String,
        /// Its value.
        value: String,
    },
    /// `remove`: the property of this name.
    Remove(String),
    /// `replace`: one property by another.
    Replace(PropertyReplacement),
}

/// A property in place of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyReplacement {
    /// The property to replace.
    pub name: String,
    /// Only where it has this value; absent is any.
    pub value: Option<String>,
    /// The new property.
    pub new_name: String,
    /// Its value; absent is the old one.
    pub new_value: Option<String>,
}

/// The settings of a `historical_resource` scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoricalResourceScheduler {
    /// The file that says what actions took.
    pub hints_file: Located<String>,
    /// How often it is read again; zero is once.
    pub refresh_interval: Duration,
    /// The property that asks for processors.
    pub cpu_property_name: String,
    /// The property that asks for memory.
    pub memory_property_name: String,
    /// Who runs the changed actions.
    pub scheduler: Box<SchedulerSpec>,
}

pub(super) fn read_cache_lookup(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<CacheLookupScheduler> {
    reader.object(node, |table| {
        let ac_store =
            table.required("ac_store", |reader, node| reader.located(node, Reader::text));
        facts.use_store(ac_store.as_ref());
        let inner = table.required("scheduler", |reader, node| read_inner(reader, node, facts));
        Some(CacheLookupScheduler { ac_store: ac_store?, scheduler: Box::new(inner?) })
    })
}

pub(super) fn read_property_modifier(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<PropertyModifierScheduler> {
    reader.object(node, |table| {
        let modifications =
            table.required("modifications", |reader, node| reader.list(node, read_modification));
        let inner = table.required("scheduler", |reader, node| read_inner(reader, node, facts));
        Some(PropertyModifierScheduler {
            modifications: modifications?,
            scheduler: Box::new(inner?),
        })
    })
}

fn read_modification(reader: &mut Reader<'_>, node: &Node) -> Option<PropertyModification> {
    reader.object(node, |table| {
        let kind =
            table.only_key_of("kind of the modification", &["add", "remove", "replace"], &[])?;
        table.required(kind, |reader, node| match kind {
            "add" => read_addition(reader, node),
            "remove" => reader.full_name(node).map(PropertyModification::Remove),
            _ => read_replacement(reader, node).map(PropertyModification::Replace),
        })
    })
}

fn read_addition(reader: &mut Reader<'_>, node: &Node) -> Option<PropertyModification> {
    reader.object(node, |table| {
        let name = table.required("name", Reader::full_name);
        let value = table.required("value", Reader::name);
        Some(PropertyModification::Add { name: name?, value: value? })
    })
}

fn read_replacement(reader: &mut Reader<'_>, node: &Node) -> Option<PropertyReplacement> {
    reader.object(node, |table| {
        let name = table.required("name", Reader::full_name);
        let value = table.optional("value", Reader::name);
        let new_name = table.required("new_name", Reader::full_name);
        let new_value = table.optional("new_value", Reader::name);
        Some(PropertyReplacement { name: name?, value, new_name: new_name?, new_value })
    })
}

pub(super) fn read_historical_resource(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<HistoricalResourceScheduler> {
    reader.object(node, |table| {
        let hints_file =
            table.required("hints_file", |reader, node| reader.located(node, Reader::file_path));
        let inner = table.required("scheduler", |reader, node| read_inner(reader, node, facts));
        let refresh_interval = table.optional("refresh_interval_s", Reader::seconds);
        let mut property = |key, default: &str| {
            table.optional(key, Reader::full_name).unwrap_or_else(|| default.to_owned())
        };
        Some(HistoricalResourceScheduler {
            refresh_interval: refresh_interval.unwrap_or(Duration::from_secs(30)),
            cpu_property_name: property("cpu_property_name", "cpu_count"),
            memory_property_name: property("memory_property_name", "memory_kb"),
            hints_file: hints_file?,
            scheduler: Box::new(inner?),
        })
    })
}
