//! The `servers` of a file.

use super::facts::Facts;
use super::listener::{self, Listener};
use super::remote_execution::{IdentityHeader, read_identity_header};
use super::service::{self, Services};
use crate::diagnostic::Place;
use crate::document::{Node, Value};
use crate::reader::Reader;

/// One of the `servers`.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where the file has it.
    pub place: Place,
    /// A name for telemetry; may be empty.
    pub name: String,
    /// Where it listens.
    pub listener: Listener,
    /// What it serves there.
    pub services: Services,
    /// The header by which clients say who they are; warned of, because nobody reads it.
    pub experimental_identity_header: Option<IdentityHeader>,
}

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<Vec<Server>> {
    if matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
        reader.report(node.at, "there has to be at least one server");
    }
    reader.list(node, |reader, node| read_server(reader, node, facts))
}

fn read_server(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Server> {
    let place = reader.place(node.at);
    reader.object(node, |table| {
        let name = table.optional("name", Reader::text).unwrap_or_default();
        let listener =
            table.required("listener", |reader, node| listener::read(reader, node, facts));
        let services =
            table.required("services", |reader, node| service::read_all(reader, node, facts));
        let header = table.optional("experimental_identity_header", read_identity_header);
        Some(Server {
            place,
            name,
            listener: listener?,
            services: services?,
            experimental_identity_header: header,
        })
    })
}
