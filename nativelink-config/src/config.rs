//! The whole file: its typed form and the order in which it is read and checked.

pub(crate) mod address;
mod facts;
pub(crate) mod global;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use crate::diagnostic::Diagnostics;
use crate::document::{self, Node};
use crate::reader::Reader;
use facts::Facts;
use global::GlobalConfig;
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
}

/// Reads the text of a configuration file.
///
/// `file_name` is only shown in diagnostics; `env` gives the values of environment variables. The
/// error holds every problem of the text, except that a text that is no JSON5 has one.
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
    facts.check(&mut reader);
    let (problems, warnings) = reader.finish();
    match config {
        Some(config) if problems.is_empty() => Ok(CasConfig { warnings, ..config }),
        _ => Err(problems),
    }
}

fn read_config(reader: &mut Reader<'_>, root: &Node, facts: &mut Facts) -> Option<CasConfig> {
    reader.object(root, |table| {
        let stores = table.required("stores", |reader, node| store::read_all(reader, node, facts));
        let servers =
            table.required("servers", |reader, node| server::read_all(reader, node, facts));
        let global = table.optional("global", global::read);
        table.unsupported_unless_empty(&["schedulers", "workers"]);
        table.unsupported(&["experimental_origin_events"]);
        Some(CasConfig {
            stores: stores?,
            servers: servers?,
            global: global.unwrap_or_default(),
            warnings: Diagnostics::default(),
        })
    })
}
