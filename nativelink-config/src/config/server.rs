//! The `servers` of a file: where they listen.

use super::address::{SocketAddress, parse_socket_address};
use super::facts::Facts;
use super::service::{self, Services};
use crate::diagnostic::{Located, Place};
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
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Listener {
    /// `http`: HTTP/2 over TCP.
    Http(HttpListener),
}

/// The settings of an `http` listener.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpListener {
    /// The address to listen on.
    pub socket_address: Located<SocketAddress>,
    /// Whether the address may be one the machine does not have yet.
    pub freebind: bool,
    /// The largest message a client may send, in bytes; absent or 0 is the server's choice.
    pub max_decoding_message_size: Option<u64>,
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
            table.required("listener", |reader, node| read_listener(reader, node, facts));
        let services =
            table.required("services", |reader, node| service::read_all(reader, node, facts));
        table.unsupported(&["experimental_identity_header"]);
        Some(Server { place, name, listener: listener?, services: services? })
    })
}

fn read_listener(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Listener> {
    reader.object(node, |table| {
        table.required("http", |reader, node| read_http(reader, node, facts)).map(Listener::Http)
    })
}

fn read_http(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<HttpListener> {
    reader.object(node, |table| {
        let socket_address = table
            .required("socket_address", |reader, node| reader.located(node, read_socket_address));
        if let Some(address) = &socket_address {
            facts.add_address(address);
        }
        let freebind = table.optional("freebind", Reader::flag).unwrap_or(false);
        let max_decoding_message_size =
            table.optional("max_decoding_message_size", Reader::size).filter(|size| *size != 0);
        table.unsupported(&["compression", "tls"]);
        table.unsupported_unless_empty(&["advanced_http"]);
        Some(HttpListener { socket_address: socket_address?, freebind, max_decoding_message_size })
    })
}

fn read_socket_address(reader: &mut Reader<'_>, node: &Node) -> Option<SocketAddress> {
    let text = reader.text(node)?;
    parse_socket_address(&text).map_err(|error| reader.report(node.at, error.to_string())).ok()
}
