//! What a walk has found, and the way back to it.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::staging::StageError;
use crate::trees::name::Name;
use crate::trees::on_disk::{File, Folder};

/// The longest path in an error, in characters; of a longer one the end is named.
const MAX_PATH_CHARS: usize = 1000;
/// Of what is not any more what the walk has found.
const CHANGED: &str = "has changed while it was captured";

/// The number of the base in [`Inventory::folders`].
pub(super) const BASE: usize = 0;

/// A directory. Its number is higher than its parent's.
#[derive(Debug, Default)]
pub(super) struct FoundFolder {
    /// The directory that it is in and its name there; `None` for the base.
    pub(super) place: Option<(usize, Name)>,
    /// Directories between the base and it, itself included.
    pub(super) depth: usize,
    /// Whether what is in it is captured, rather than something in something in it.
    pub(super) is_captured: bool,
    /// The directories in it, in order.
    pub(super) folders: Vec<usize>,
    /// The files in it, in order.
    pub(super) files: Range<usize>,
    /// The symbolic links in it, in order.
    pub(super) symlinks: Range<usize>,
}

/// A regular file.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) folder: usize,
    pub(super) name: Name,
}

/// A symbolic link.
#[derive(Debug)]
pub(super) struct FoundSymlink {
    pub(super) name: Name,
    pub(super) target: Box<str>,
}

/// Everything that a walk has found.
#[derive(Debug)]
pub(super) struct Inventory {
    pub(super) base: Folder,
    pub(super) folders: Vec<FoundFolder>,
    pub(super) files: Vec<FoundFile>,
    pub(super) symlinks: Vec<FoundSymlink>,
}

/// An entry that is refused.
pub(super) fn refuse(path: String, problem: impl Into<String>) -> StageError {
    StageError::Invalid { path, problem: problem.into() }
}

/// An entry that is not what it was.
pub(super) fn changed(path: String) -> StageError {
    refuse(path, CHANGED)
}

/// The file system refuses.
pub(super) fn failed(operation: &'static str, path: String, source: io::Error) -> StageError {
    StageError::Target { operation, path: PathBuf::from(path), source }
}

/// Names an entry for people.
pub(super) fn shown(path: String) -> String {
    let chars = path.chars().count();
    if chars <= MAX_PATH_CHARS {
        return path;
    }
    "...".chars().chain(path.chars().skip(chars - MAX_PATH_CHARS)).collect()
}

impl Inventory {
    /// The base alone.
    pub(super) fn new(base: Folder) -> Self {
        let folders = vec![FoundFolder::default()];
        Self { base, folders, files: Vec::new(), symlinks: Vec::new() }
    }

    /// Where something in a directory is, relative to the base; the directory's own place with "".
    pub(super) fn path(&self, folder: usize, name: &str) -> String {
        let mut names = vec![name];
        let mut at = folder;
        while let Some((parent, name)) = self.folders.get(at).and_then(|it| it.place.as_ref()) {
            names.push(name.as_str());
            at = *parent;
        }
        names.retain(|name| !name.is_empty());
        names.reverse();
        shown(names.join("/"))
    }

    /// Where a file is.
    pub(super) fn path_of_file(&self, file: usize) -> String {
        let found = self.files.get(file);
        found.map(|it| self.path(it.folder, it.name.as_str())).unwrap_or_default()
    }

    /// The files in a directory.
    pub(super) fn files_in(&self, folder: &FoundFolder) -> &[FoundFile] {
        self.files.get(folder.files.clone()).unwrap_or_default()
    }

    /// The symbolic links in a directory.
    pub(super) fn symlinks_in(&self, folder: &FoundFolder) -> &[FoundSymlink] {
        self.symlinks.get(folder.symlinks.clone()).unwrap_or_default()
    }

    /// What a directory is called where it is.
    pub(super) fn name_of(&self, folder: usize) -> Option<&Name> {
        self.folders.get(folder)?.place.as_ref().map(|(_, name)| name)
    }

    /// Where a symbolic link leads. Blocking.
    pub(super) fn read_link(
        &self,
        at: usize,
        folder: &Folder,
        name: &Name,
    ) -> Result<Box<str>, StageError> {
        let path = || self.path(at, name.as_str());
        let target = folder.read_link(name).map_err(|error| {
            let is_same = ![ErrorKind::NotFound, ErrorKind::InvalidInput].contains(&error.kind());
            if is_same { failed("read", path(), error) } else { changed(path()) }
        })?;
        let target = target.into_string();
        target.map(Into::into).map_err(|_| refuse(path(), "leads to a name that is not UTF-8"))
    }

    /// The directories from below the base down to one.
    fn way_to(&self, folder: usize) -> Vec<usize> {
        let mut way = Vec::new();
        let mut at = folder;
        while let Some((parent, _)) = self.folders.get(at).and_then(|it| it.place.as_ref()) {
            way.push(at);
            at = *parent;
        }
        way.reverse();
        way
    }
}

/// Opens what an inventory names, one directory at a time from the base on: a directory that has
/// become a symbolic link since the walk is refused. Cheap when asked in the inventory's order.
#[derive(Debug)]
pub(super) struct Cursor {
    inventory: Arc<Inventory>,
    /// The way to where it stands.
    open: Vec<(usize, Folder)>,
}

impl Cursor {
    /// Stands at the base.
    pub(super) fn new(inventory: &Arc<Inventory>) -> Self {
        Self { inventory: Arc::clone(inventory), open: Vec::new() }
    }

    /// A directory. Blocking.
    pub(super) fn folder(&mut self, folder: usize) -> Result<&Folder, StageError> {
        if self.open.last().is_none_or(|(at, _)| *at != folder) {
            let way = self.inventory.way_to(folder);
            let is_common = |((at, _), wanted): &(&(usize, Folder), &usize)| at == *wanted;
            let common = self.open.iter().zip(&way).take_while(is_common).count();
            self.open.truncate(common);
            for next in way.into_iter().skip(common) {
                let opened = self.open_next(next)?;
                self.open.push((next, opened));
            }
        }
        Ok(self.open.last().map_or(&self.inventory.base, |(_, folder)| folder))
    }

    fn open_next(&self, next: usize) -> Result<Folder, StageError> {
        let parent = self.open.last().map_or(&self.inventory.base, |(_, folder)| folder);
        let path = || self.inventory.path(next, "");
        let name = self.inventory.name_of(next).ok_or_else(|| changed(path()))?;
        let opened = parent.find_beneath(name.as_str());
        opened.map_err(|error| failed("open", path(), error))?.ok_or_else(|| changed(path()))
    }

    /// A file, for reading. Blocking.
    pub(super) fn file(&mut self, file: usize) -> Result<File, StageError> {
        let inventory = Arc::clone(&self.inventory);
        let path = || inventory.path_of_file(file);
        let found = inventory.files.get(file).ok_or_else(|| changed(path()))?;
        let folder = self.folder(found.folder)?;
        let opened = folder.find_file(&found.name);
        opened.map_err(|error| failed("open", path(), error))?.ok_or_else(|| changed(path()))
    }
}
