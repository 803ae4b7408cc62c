//! The whole file: its typed form and the order in which it is read and checked.

pub(crate) mod address;
pub(crate) mod endpoint;
mod facts;
pub(crate) mod global;
mod graph;
pub(crate) mod listener;
pub(crate) mod retry;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use crate::diagnostic::Diagnostics;
use crate::document::{self, Node};
use crate::reader::{Findings, Reader};
use facts::Facts;
use global::GlobalConfig;
use graph::Graph;
use server::Server;
use std::sync::Arc;
use store::Store;

/// A configuration without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct CasConfig {
    /// The stores, in the order of the file. Their names are distinct.
    pub stores: Vec<Store>,
    /// The servers, at least one. Every store they name is in `stores`.
    pub servers: Vec<Server>,
    /// What concerns the process as a whole.
    pub global: GlobalConfig,
    /// What works but should be written differently, for the log.
    pub warnings: Diagnostics,
    /// What is part of the format but does not run, with what to do instead: whoever serves this
    /// file refuses it unless this is empty.
    pub unsupported: Diagnostics,
}

const NO_SCHEDULERS: &str = "Castellan is the storage side; run it beside NativeLink's schedulers \
                             and workers, whose stores are then `grpc` stores of this server";
const NO_ORIGIN_EVENTS: &str =
    "remove it, and have the spans of requests sent with `--otlp-endpoint`";

/// Reads the text of a configuration file.
///
/// `file_name` is only shown in diagnostics; `env` gives the values of environment variables. The
/// error holds every problem of the text, parts that do not run included, except that a text that
/// is no JSON5 has one.
pub fn parse(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<CasConfig, Diagnostics> {
    let file: Arc<str> = file_name.into();
    let document = document::read(&file, text)?;
    let mut reader = Reader::new(file, env, document.problems);
    let mut facts = Facts::default();
    let config = read_config(&mut reader, &document.root, &mut facts);
    let Findings { mut problems, warnings, unsupported } = reader.finish();
    match config {
        Some(config) if problems.is_empty() => Ok(CasConfig { warnings, unsupported, ..config }),
        _ => {
            problems.append(unsupported);
            problems.sort();
            Err(problems)
        }
    }
}

fn read_config(reader: &mut Reader<'_>, root: &Node, facts: &mut Facts) -> Option<CasConfig> {
    let mut stores = None;
    let config = reader.object(root, |table| {
        stores = table.required("stores", |reader, node| store::read_all(reader, node, facts));
        let servers =
            table.required("servers", |reader, node| server::read_all(reader, node, facts));
        let global = table.optional("global", global::read);
        table.unsupported("schedulers", NO_SCHEDULERS, |_, _| Some(()));
        table.unsupported("workers", NO_SCHEDULERS, |_, _| Some(()));
        table.unsupported("experimental_origin_events", NO_ORIGIN_EVENTS, |_, _| Some(()));
        Some(CasConfig {
            stores: Vec::new(),
            servers: servers?,
            global: global.unwrap_or_default(),
            warnings: Diagnostics::default(),
            unsupported: Diagnostics::default(),
        })
    });
    facts.check(reader, &Graph::new(stores.as_deref().unwrap_or_default()));
    Some(CasConfig { stores: stores?, ..config? })
}
