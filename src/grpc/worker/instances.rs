//! From an instance name to what stages its trees.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use crate::digest::{DigestFunction, check_instance_name, shorten};
use crate::instance::InstanceError;
use crate::staging::Stager;
use crate::store::filesystem::FilesystemStore;

/// What an instance has for workers.
#[derive(Clone, Debug)]
pub struct Local {
    /// Stages its trees, and captures.
    pub stager: Arc<Stager>,
    /// What the links are made to.
    pub files: Arc<FilesystemStore>,
}

/// The instances of a server, as workers see them.
#[derive(Debug)]
pub struct WorkerInstances {
    /// Those that have a name here; where it stages nothing, why.
    pub named: HashMap<String, Result<Local, &'static str>>,
    /// What any other name gets; `None` for nothing.
    pub any: Option<Result<Local, &'static str>>,
    /// The function of digests whose client names none.
    pub default_digest_function: DigestFunction,
}

impl WorkerInstances {
    /// Those of all instances.
    pub(super) fn stagers(&self) -> impl Iterator<Item = &Stager> {
        let all = self.named.values().chain(&self.any);
        all.filter_map(|it| it.as_ref().ok()).map(|local| &*local.stager)
    }

    /// What an instance has.
    pub(super) fn get(&self, name: &str) -> Result<Local, Status> {
        check_instance_name(name)?;
        let found = self.named.get(name).or(self.any.as_ref());
        let unknown = || InstanceError::Unknown { name: shorten(name) };
        found.ok_or_else(unknown)?.clone().map_err(|why| {
            let name = shorten(name);
            Status::unimplemented(format!("no trees are staged in instance_name {name:?}: {why}"))
        })
    }
}
