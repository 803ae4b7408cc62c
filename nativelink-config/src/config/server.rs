//! The `servers` of a file.

use super::facts::Facts;
use super::listener::{self, Listener};
use super::service::{self, Services};
use crate::diagnostic::Place;
use crate::document::{Node, Value};
use crate::reader::Reader;

const NO_IDENTITY_HEADER: &str =
    "let a proxy check it, or ask clients for certificates with `tls.client_ca_file`";

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
        table.unsupported("experimental_identity_header", NO_IDENTITY_HEADER, |_, _| Some(()));
        Some(Server { place, name, listener: listener?, services: services? })
    })
}
