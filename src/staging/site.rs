//! Where a tree is built: a directory in the workshop, or beside its target where there is none
//! or it is on another mount. It takes the target's name at the end or goes with everything in it.

use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::StageError;
use super::workshop::Workshop;
use crate::trees::on_disk::{Folder, Identity, Kind};

/// Begins the names of trees that are not finished. A process that is killed leaves them where
/// there is no workshop.
const PREFIX: &str = ".castellan-staging-";
/// What its owner needs to change a directory.
const OWNER_ALL: u32 = 0o700;
/// Names that others may have taken.
const MAX_TRIES: usize = 1_000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The directory that a tree goes to, and where it is built before.
#[derive(Debug)]
pub(super) struct Grounds {
    pub(super) parent: Folder,
    pub(super) workshop: Option<Arc<Workshop>>,
}

/// A directory that is removed with everything in it when this is dropped before it is kept. All
/// of it is blocking.
#[derive(Debug)]
pub(super) struct Site {
    grounds: Grounds,
    target: String,
    /// What is built.
    root: Folder,
    identity: Identity,
    state: Mutex<State>,
    is_abandoned: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// Under a name of its own, in the workshop or not.
    Building {
        name: String,
        is_in_workshop: bool,
    },
    /// Under the target's name; an empty directory with this mode has gone for it.
    InPlace(Option<u32>),
    Kept,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, target = self.target, "a half-made tree was not removed");
        }
    }
}

/// What failed at a target.
pub(super) fn failed(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> StageError {
    let path = path.into();
    move |source| StageError::Target { operation, path, source }
}

impl Grounds {
    /// Whether what is built in the workshop can be moved to where it goes.
    fn has_workshop(&self) -> bool {
        self.workshop.as_ref().is_some_and(|it| it.leads_to(&self.parent))
    }

    fn give_up(&self, error: &io::Error) {
        self.workshop.iter().for_each(|it| it.give_up(error));
    }

    /// Where it is built.
    fn place(&self, is_in_workshop: bool) -> &Folder {
        let workshop = self.workshop.as_ref().filter(|_| is_in_workshop);
        workshop.map_or(&self.parent, |it| it.folder())
    }
}

impl Site {
    /// Makes a directory for what shall become `target` in `parent`, and opens it.
    pub(super) fn begin(
        grounds: Grounds,
        target: &str,
        mode: u32,
    ) -> Result<(Self, Folder), StageError> {
        check_vacant(&grounds.parent, target)?;
        let failed = |error| failed("make a directory for", target)(error);
        let mut is_in_workshop = grounds.has_workshop();
        for _ in 0..MAX_TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", process::id());
            match grounds.place(is_in_workshop).make_folder(&name, mode) {
                Ok(root) => {
                    let state = State::Building { name: name.clone(), is_in_workshop };
                    let known = root.try_clone().and_then(|it| Ok((it, root.identity()?)));
                    let (own, identity) = known.map_err(|error| {
                        drop(grounds.place(is_in_workshop).remove_folder(&name));
                        failed(error)
                    })?;
                    let site = Self {
                        grounds,
                        target: target.to_owned(),
                        root: own,
                        identity,
                        state: Mutex::new(state),
                        is_abandoned: AtomicBool::new(false),
                    };
                    return Ok((site, root));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // A worker has removed the workshop.
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_in_workshop => {
                    grounds.give_up(&error);
                    is_in_workshop = false;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Which directory it is, whatever its name.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Release);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::Acquire)
    }

    /// Gives it its name.
    pub(super) fn put_in_place(&self) -> Result<(), StageError> {
        let replaced = check_vacant(&self.grounds.parent, &self.target)?;
        let mut state = self.state.lock();
        if let State::Building { name, is_in_workshop } = &*state {
            let renamed = self.rename(name, *is_in_workshop);
            renamed.map_err(failed("give its name to", &self.target))?;
            *state = State::InPlace(replaced);
        }
        Ok(())
    }

    fn rename(&self, name: &str, is_in_workshop: bool) -> io::Result<()> {
        let Grounds { parent, .. } = &self.grounds;
        let place = self.grounds.place(is_in_workshop);
        match place.rename(name, parent, &self.target) {
            // A directory that gets another parent is changed itself, and the tree may say that
            // this one cannot be.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_in_workshop => {
                let mode = self.root.metadata()?.mode;
                self.root.set_mode(mode | OWNER_ALL)?;
                place.rename(name, parent, &self.target)?;
                self.root.set_mode(mode)
            }
            // On one mount all the same: two projects with quotas, for example.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices && is_in_workshop => {
                self.grounds.give_up(&error);
                Err(error)
            }
            renamed => renamed,
        }
    }

    /// It stays.
    pub(super) fn keep(&self) {
        *self.state.lock() = State::Kept;
    }

    /// Removes it, unless it is kept.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let Grounds { parent, .. } = &self.grounds;
        match &*state {
            State::Building { name, is_in_workshop } => {
                self.grounds.place(*is_in_workshop).remove_this(name, &self.identity)?;
            }
            State::InPlace(replaced) => {
                let is_removed = parent.remove_this(&self.target, &self.identity)?;
                if let Some(mode) = replaced.filter(|_| is_removed) {
                    parent.make_folder(&self.target, 0o700)?.set_mode(mode)?;
                }
            }
            State::Kept => {}
        }
        *state = State::Kept;
        Ok(())
    }
}

/// Refuses a target that is there, unless it is an empty directory; says which mode that has.
fn check_vacant(parent: &Folder, target: &str) -> Result<Option<u32>, StageError> {
    let metadata = match parent.metadata_of(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at", target)(error)),
    };
    let looked = match metadata.kind {
        Kind::Folder => parent.open_folder(target).and_then(|folder| folder.is_empty()),
        _ => Ok(false),
    };
    if looked.map_err(failed("look at", target))? {
        return Ok(Some(metadata.mode));
    }
    let error = io::Error::new(io::ErrorKind::AlreadyExists, "is there and no empty directory");
    Err(failed("make", target)(error))
}
