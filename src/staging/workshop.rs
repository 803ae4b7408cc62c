//! Where trees are made before they have their names: one directory below a worker root, so that
//! what a killed process has left there is found and removed by the next one.
//!
//! Every process has a directory of its own in it, which it holds a lock on for as long as it
//! lives: several may share a worker root, and none removes what another still works on.

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::jobs::{Jobs, some_time};
use crate::trees::on_disk::Folder;

/// The directory for all of them, below the worker root.
pub const WORKSHOP: &str = ".castellan-staging";
/// Nobody else looks into a tree that is not finished.
const MODE: u32 = 0o700;
/// Directories of processes that may be there at once.
const MAX_PROCESSES: usize = 10_000;
/// Names that others may have taken.
const MAX_TRIES: usize = 1_000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The directory of one process. It goes with this, and what is left in it.
#[derive(Debug)]
pub struct Workshop {
    root: Folder,
    all: Folder,
    own: Folder,
    name: String,
    is_given_up: AtomicBool,
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = self.all.remove_all(&self.name) {
            tracing::warn!(%error, name = self.name, "a place for unfinished trees stays");
        }
        // Others may still have theirs in it.
        drop(self.root.remove_folder(WORKSHOP));
    }
}

impl Workshop {
    /// Takes a directory below a worker root. Those of processes that are gone are removed beside
    /// what comes next: nobody waits for it.
    pub async fn open(root: &Folder) -> io::Result<Arc<Self>> {
        let root = root.try_clone()?;
        let taken = Jobs::default().run(move || Self::take(root)).await;
        let workshop = taken.map_err(io::Error::other)??;
        let (all, own_name) = (workshop.all.try_clone()?, workshop.name.clone());
        some_time(move || sweep(&all, &own_name));
        Ok(Arc::new(workshop))
    }

    fn take(root: Folder) -> io::Result<Self> {
        for _ in 0..MAX_TRIES {
            let all = match root.make_folder(WORKSHOP, MODE) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    root.open_folder(WORKSHOP)
                }
                made => made,
            };
            let taken = all.and_then(|all| {
                let name = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                let own = all.make_folder(&name, MODE)?;
                if !lock(&own) || all.identity_of(&name)? != Some(own.identity()?) {
                    // Another process has swept it before it was locked.
                    return Err(io::ErrorKind::NotFound.into());
                }
                Ok((all, own, name))
            });
            match taken {
                Ok((all, own, name)) => {
                    let is_given_up = AtomicBool::new(false);
                    return Ok(Self { root, all, own, name, is_given_up });
                }
                // It is removed with the last process, at any time.
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists]
                        .contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many places for unfinished trees"))
    }

    /// It is of no use any more: trees are made beside their targets from now on.
    pub(super) fn give_up(&self, error: &io::Error) {
        if !self.is_given_up.swap(true, Ordering::Relaxed) {
            let name = &self.name;
            tracing::warn!(%error, name, "unfinished trees are beside their targets from now on");
        }
    }

    /// Where to make trees.
    pub(super) fn folder(&self) -> &Folder {
        &self.own
    }

    /// Whether they can be moved from here to there.
    pub(super) fn leads_to(&self, parent: &Folder) -> bool {
        !self.is_given_up.load(Ordering::Relaxed)
            && self.own.is_on_mount_of(parent).is_ok_and(|it| it)
    }
}

/// Whether the lock is this process's. Where the file system has none, nobody sweeps.
fn lock(own: &Folder) -> bool {
    own.try_lock().unwrap_or(true)
}

/// Removes what processes that are gone have left. Whatever cannot be removed stays, for it is in
/// nobody's way.
fn sweep(all: &Folder, own_name: &str) {
    let listed = all.list(MAX_PROCESSES).unwrap_or_else(|error| {
        tracing::warn!(%error, "unfinished trees of former processes stay");
        Vec::new()
    });
    for entry in listed.into_iter().filter(|it| *it.name != *own_name) {
        match sweep_one(all, &entry.name) {
            Ok(true) => tracing::info!(name = ?entry.name, "removed unfinished trees"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, name = ?entry.name, "unfinished trees stay"),
        }
    }
}

/// Removes what a process that is gone has left; false when it is not gone.
fn sweep_one(all: &Folder, name: &OsStr) -> io::Result<bool> {
    let left = all.open_folder(name)?;
    let is_over = left.try_lock()?;
    // Locked all the while, or a process that has just made it would lose it.
    if is_over { all.remove_this(name, &left.identity()?) } else { Ok(false) }
}
