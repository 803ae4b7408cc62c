//! Directories that a worker wants besides those of the tree, as for outputs.

use std::collections::HashMap;
use std::io;

use super::plan::{invalid, join};
use super::site::failed;
use super::{StageError, StageOptions};
use crate::trees::name::Name;
use crate::trees::on_disk::Folder;

/// Directories that can be asked for, those on the way to them counted.
const MAX_DIRECTORIES: usize = 10_000;
/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 4_096;

/// The paths of such directories and of those that they are in, relative to the root.
#[derive(Debug, Default)]
pub(super) struct Writable {
    /// Whether it was asked for itself.
    paths: HashMap<String, bool>,
}

impl Writable {
    /// Checks what was asked for.
    pub(super) fn new(options: &StageOptions) -> Result<Self, StageError> {
        let mut paths: HashMap<String, bool> = HashMap::new();
        for wanted in &options.writable_directories {
            if wanted.len() > MAX_PATH_BYTES {
                let problem = format!("a writable directory has more than {MAX_PATH_BYTES} bytes");
                return Err(invalid(crate::digest::shorten(wanted), problem));
            }
            let mut path = String::new();
            for name in wanted.split('/') {
                let checked = Name::new(name);
                checked.map_err(|problem| invalid(wanted.clone(), problem.to_string()))?;
                path = join(&path, name);
                paths.entry(path.clone()).or_default();
            }
            paths.insert(path, true);
            if paths.len() > MAX_DIRECTORIES {
                let problem = format!("more than {MAX_DIRECTORIES} writable directories");
                return Err(invalid(wanted.clone(), problem));
            }
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
