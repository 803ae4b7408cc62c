//! What a worker offers, and what it gives to actions.

use crate::document::{Node, Value};
use crate::reader::Reader;

/// Where the values of a property of a worker come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerProperty {
    /// `values`: from the file.
    Values(Vec<String>),
    /// `query_cmd`: the lines that a command prints.
    QueryCommand(String),
}

/// Where the value of a variable of an action comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentSource {
    /// `property`: the action's property of this name.
    Property(String),
    /// `value`: the file.
    Value(String),
    /// `timeout_millis`: how long the action may run.
    TimeoutMillis,
    /// `side_channel_file`: a file by which the action can say more than its exit code.
    SideChannelFile,
    /// `action_directory`: a directory that goes with the action.
    ActionDirectory,
}

const PROPERTY_KINDS: &[&str] = &["values", "query_cmd"];
const SOURCE_KINDS: &[&str] = &["property", "value"];

#[derive(Clone, Copy)]
enum Word {
    TimeoutMillis,
    SideChannelFile,
    ActionDirectory,
}

const WORDS: &[(&str, Word)] = &[
    ("timeout_millis", Word::TimeoutMillis),
    ("side_channel_file", Word::SideChannelFile),
    ("action_directory", Word::ActionDirectory),
];

pub(super) fn read_properties(
    reader: &mut Reader<'_>,
    node: &Node,
) -> Option<Vec<(String, WorkerProperty)>> {
    reader.entries(node, |reader, entry| {
        Some((entry.key.clone(), read_property(reader, &entry.node)?))
    })
}

fn read_property(reader: &mut Reader<'_>, node: &Node) -> Option<WorkerProperty> {
    reader.object(node, |table| {
        match table.only_key_of("source of the values", PROPERTY_KINDS, &[])? {
            "values" => table
                .required("values", |reader, node| reader.list(node, Reader::text))
                .map(WorkerProperty::Values),
            _ => table.required("query_cmd", Reader::name).map(WorkerProperty::QueryCommand),
        }
    })
}

pub(super) fn read_environment(
    reader: &mut Reader<'_>,
    node: &Node,
) -> Option<Vec<(String, EnvironmentSource)>> {
    reader
        .entries(node, |reader, entry| Some((entry.key.clone(), read_source(reader, &entry.node)?)))
}

fn read_source(reader: &mut Reader<'_>, node: &Node) -> Option<EnvironmentSource> {
    if matches!(node.value, Value::Text(_)) {
        return reader.choice(node, WORDS).map(|word| match word {
            Word::TimeoutMillis => EnvironmentSource::TimeoutMillis,
            Word::SideChannelFile => EnvironmentSource::SideChannelFile,
            Word::ActionDirectory => EnvironmentSource::ActionDirectory,
        });
    }
    reader.object(node, |table| {
        match table.only_key_of("source of the value", SOURCE_KINDS, &[])? {
            "property" => table.required("property", Reader::name).map(EnvironmentSource::Property),
            _ => table.required("value", Reader::text).map(EnvironmentSource::Value),
        }
    })
}
