//! The whole file: its typed form and the order in which it is read and checked.

pub(crate) mod address;
pub(crate) mod cloud;
pub(crate) mod endpoint;
mod facts;
pub(crate) mod global;
mod graph;
pub(crate) mod listener;
pub(crate) mod mongo;
pub(crate) mod ontap;
pub(crate) mod redis;
pub(crate) mod remote_execution;
pub(crate) mod retry;
pub(crate) mod scheduler;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod store;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

use crate::diagnostic::Diagnostics;
use crate::document::{self, Document, Node};
use crate::reader::{Findings, Reader};
use crate::schema::settings::{self, Setting};
use facts::Facts;
use global::GlobalConfig;
use graph::Graph;
use remote_execution::{OriginEvents, SCHEDULER_INSTEAD};
use scheduler::Scheduler;
use server::Server;
use std::sync::Arc;
use store::Store;
use worker::Worker;

/// A configuration without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct CasConfig {
    /// The stores, in the order of the file. Their names are distinct.
    pub stores: Vec<Store>,
    /// The servers, at least one. Every store they name is in `stores`.
    pub servers: Vec<Server>,
    /// What concerns the process as a whole.
    pub global: GlobalConfig,
    /// Who runs actions; none of them runs here. Their names are distinct.
    pub schedulers: Vec<Scheduler>,
    /// Where actions run; none of them runs here.
    pub workers: Vec<Worker>,
    /// What the process tells of itself; it does not.
    pub experimental_origin_events: Option<OriginEvents>,
    /// What works but should be written differently, for the log.
    pub warnings: Diagnostics,
    /// What is part of the format but does not run, with what to do instead: whoever serves this
    /// file refuses it unless this is empty.
    pub unsupported: Diagnostics,
}

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
    let Document { root, problems } = document::read(&file, text)?;
    read(&mut Reader::new(file, env, problems), &root)
}

/// Like [`parse`], with what every key of the file comes to, those that it leaves out included.
pub fn parse_with_settings(
    file_name: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(CasConfig, Vec<Setting>), Diagnostics> {
    let file: Arc<str> = file_name.into();
    let Document { root, problems } = document::read(&file, text)?;
    let mut reader = Reader::new(Arc::clone(&file), env, problems);
    reader.trace();
    let config = read(&mut reader, &root)?;
    Ok((config, settings::list(file, &root, &reader.take_trace())))
}

pub(crate) fn read(reader: &mut Reader<'_>, root: &Node) -> Result<CasConfig, Diagnostics> {
    let mut facts = Facts::default();
    let config = read_config(reader, root, &mut facts);
    let Findings { mut problems, warnings, unsupported } = reader.take_findings();
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
        let schedulers = table.unsupported("schedulers", SCHEDULER_INSTEAD, |reader, node| {
            scheduler::read_all(reader, node, facts)
        });
        let workers = table.unsupported("workers", SCHEDULER_INSTEAD, |reader, node| {
            worker::read_all(reader, node, facts)
        });
        let events =
            table.unsupported("experimental_origin_events", NO_ORIGIN_EVENTS, |reader, node| {
                remote_execution::read_origin_events(reader, node, facts)
            });
        Some(CasConfig {
            stores: Vec::new(),
            servers: servers?,
            global: global.unwrap_or_default(),
            schedulers: schedulers.unwrap_or_default(),
            workers: workers.unwrap_or_default(),
            experimental_origin_events: events,
            warnings: Diagnostics::default(),
            unsupported: Diagnostics::default(),
        })
    });
    facts.check(reader, &Graph::new(stores.as_deref().unwrap_or_default()));
    Some(CasConfig { stores: stores?, ..config? })
}
