//! Directories that a worker wants besides those of the tree, as for outputs.

use std::collections::HashMap;
use std::io;

use super::plan::{MAX_DEPTH, invalid};
use super::site::failed;
use super::{StageError, StageOptions};
use crate::trees::name::Name;
use crate::trees::on_disk::Folder;

/// Directories that can be asked for, those on the way to them counted.
const MAX_DIRECTORIES: usize = 10_000;
/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 4_096;
/// All of them together, and those on the way to them. Each level of a path is a path of its own.
const MAX_BYTES: usize = 4 << 20;

/// The paths of such directories and of those that they are in, relative to the root.
#[derive(Debug, Default)]
pub(super) struct Writable {
    /// Whether it was asked for itself.
    paths: HashMap<String, bool>,
}

/// Refuses what is no path that leads downwards.
fn check(wanted: &str) -> Result<(), StageError> {
    if wanted.len() > MAX_PATH_BYTES {
        let problem = format!("a writable directory has more than {MAX_PATH_BYTES} bytes");
        return Err(invalid(crate::digest::shorten(wanted), problem));
    }
    let mut levels = 0;
    for name in wanted.split('/') {
        Name::new(name).map_err(|problem| invalid(wanted.to_owned(), problem.to_string()))?;
        levels += 1;
    }
    if levels > MAX_DEPTH {
        let problem = format!("a writable directory has more than {MAX_DEPTH} levels");
        return Err(invalid(crate::digest::shorten(wanted), problem));
    }
    Ok(())
}

impl Writable {
    /// Checks what was asked for.
    pub(super) fn new(options: &StageOptions) -> Result<Self, StageError> {
        let mut paths: HashMap<String, bool> = HashMap::new();
        let mut bytes = 0_usize;
        for wanted in &options.writable_directories {
            check(wanted)?;
            // Upwards, as far as another one does not lead there already.
            let mut path = Some(wanted.as_str());
            while let Some(at) = path.filter(|at| !paths.contains_key(*at)) {
                bytes = bytes.saturating_add(at.len());
                if paths.len() == MAX_DIRECTORIES || bytes > MAX_BYTES {
                    let problem = format!(
                        "more than {MAX_DIRECTORIES} writable directories, those that they are in \
                         among them, or more than {MAX_BYTES} bytes of paths",
                    );
                    return Err(invalid(wanted.clone(), problem));
                }
                paths.insert(at.to_owned(), false);
                path = at.rsplit_once('/').map(|(above, _)| above);
            }
            paths.insert(wanted.clone(), true);
        }
        Ok(Self { paths })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether the directory was made before the tree.
    pub(super) fn is_made(&self, path: &str) -> bool {
        self.paths.contains_key(path)
    }

    /// Whether the directory must be writable, whatever the tree says of it.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        self.paths.get(path).is_some_and(|is_wanted| *is_wanted)
    }

    /// Makes all of them; `make` makes one.
    pub(super) fn make_all(
        &self,
        root: &Folder,
        make: impl Fn(&Folder, &str) -> io::Result<Folder>,
    ) -> Result<(), StageError> {
        let mut paths: Vec<&str> = self.paths.keys().map(String::as_str).collect();
        // So that each comes behind those that it is in.
        paths.sort_unstable();
        for path in paths {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let outcome = root.open_beneath(above).and_then(|above| make(&above, name));
            drop(outcome.map_err(failed("make the writable directory", path))?);
        }
        Ok(())
    }
}
