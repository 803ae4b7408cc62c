//! Where a tree is built: a directory beside its target, which takes the target's name at the end
//! or goes with everything in it.

use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::StageError;
use crate::trees::on_disk::{Folder, Kind};

/// Begins the names of trees that are not finished. A process that is killed leaves them.
const PREFIX: &str = ".castellan-staging-";
/// Names that others may have taken.
const MAX_TRIES: usize = 1_000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A directory that is removed with everything in it when this is dropped before it is kept. All
/// of it is blocking.
#[derive(Debug)]
pub(super) struct Site {
    parent: Folder,
    target: String,
    state: Mutex<State>,
    is_abandoned: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// Under a name of its own.
    Building(String),
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

impl Site {
    /// Makes a directory for what shall become `target` in `parent`, and opens it.
    pub(super) fn begin(
        parent: Folder,
        target: &str,
        mode: u32,
    ) -> Result<(Self, Folder), StageError> {
        check_vacant(&parent, target)?;
        for _ in 0..MAX_TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", process::id());
            match parent.make_folder(&name, mode) {
                Ok(folder) => {
                    let state = Mutex::new(State::Building(name));
                    let is_abandoned = AtomicBool::new(false);
                    return Ok((
                        Self { parent, target: target.to_owned(), state, is_abandoned },
                        folder,
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make a directory beside", target)(error)),
            }
        }
        let error = io::ErrorKind::AlreadyExists.into();
        Err(failed("make a directory beside", target)(error))
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
        let replaced = check_vacant(&self.parent, &self.target)?;
        let mut state = self.state.lock();
        if let State::Building(name) = &*state {
            let renamed = self.parent.rename(name, &self.parent, &self.target);
            renamed.map_err(failed("give its name to", &self.target))?;
            *state = State::InPlace(replaced);
        }
        Ok(())
    }

    /// It stays.
    pub(super) fn keep(&self) {
        *self.state.lock() = State::Kept;
    }

    /// Removes it, unless it is kept.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        match &*state {
            State::Building(name) => self.parent.remove_all(name)?,
            State::InPlace(replaced) => {
                self.parent.remove_all(&self.target)?;
                if let Some(mode) = replaced {
                    self.parent.make_folder(&self.target, 0o700)?.set_mode(*mode)?;
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
