//! Looking at what a worker has left, before anything of it is read or stored.
//!
//! Only open directories and single names are used, so nothing leads out of the base, whatever
//! the worker does meanwhile. What no tree can hold is refused by name.

use std::io::ErrorKind;
use std::vec::IntoIter;

use super::caller::Stop;
use super::inventory::{
    BASE, FoundFile, FoundFolder, FoundSymlink, Inventory, changed, failed, refuse, shown,
};
use crate::staging::StageError;
use crate::trees::name::Name;
use crate::trees::on_disk::{Folder, Kind, Listed};

/// Directories below each other, the base not counted.
const MAX_DEPTH: usize = 512;
/// Entries of all that is captured at once.
const MAX_ENTRIES: usize = 1_000_000;
/// Bytes of all their names and targets.
const MAX_TEXT_BYTES: usize = 128 << 20;

/// What is at a path that is captured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Number of a file.
    File(usize),
    /// Number of a symbolic link.
    Symlink(usize),
}

/// A directory whose entries are known.
struct Level {
    folder: Folder,
    /// Its number.
    at: usize,
    /// The directories in it that were not looked into yet.
    pending: IntoIter<Name>,
}

struct Walker {
    inventory: Inventory,
    /// Directories from the base down to where it stands.
    open: Vec<(Name, usize, Folder)>,
    entries_left: usize,
    text_left: usize,
    stop: Stop,
}

/// Looks at whole directories; gives the number of each in order, `None` of those that are not
/// there. Blocking.
pub(super) fn folders(
    base: Folder,
    paths: &[String],
    stop: Stop,
) -> Result<(Inventory, Vec<Option<usize>>), StageError> {
    let mut walker = Walker::new(base, stop);
    let mut found = vec![None; paths.len()];
    // In this order what is inside of another comes right after it, and has been seen then.
    let mut captured: Option<(Vec<Name>, usize)> = None;
    for (names, place) in walker.in_order(paths)? {
        let inside = captured.as_ref().and_then(|(outer, at)| {
            let rest = names.strip_prefix(outer.as_slice())?;
            Some(walker.look_up(*at, rest))
        });
        let folder = if let Some(folder) = inside {
            folder?
        } else {
            let folder = walker.capture(&names)?;
            captured = folder.map(|at| (names, at));
            folder
        };
        if let Some(found) = found.get_mut(place) {
            *found = folder;
        }
    }
    Ok((walker.inventory, found))
}

/// Looks at single files and symbolic links; `None` for those that are not there. Blocking.
pub(super) fn files(
    base: Folder,
    paths: &[String],
    stop: Stop,
) -> Result<(Inventory, Vec<Option<Found>>), StageError> {
    let mut walker = Walker::new(base, stop);
    let mut found = vec![None; paths.len()];
    let mut last: Option<(Vec<Name>, Option<Found>)> = None;
    for (names, place) in walker.in_order(paths)? {
        let seen = last.as_ref().filter(|(it, _)| *it == names).map(|(_, seen)| *seen);
        let seen = match seen {
            Some(seen) => seen,
            None => walker.capture_one(&names)?,
        };
        if let Some(found) = found.get_mut(place) {
            *found = seen;
        }
        last = Some((names, seen));
    }
    Ok((walker.inventory, found))
}

/// The parts of a path, none of the base's own.
fn parse(path: &str) -> Result<Vec<Name>, StageError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    if path.starts_with('/') {
        return Err(refuse(shown(path.to_owned()), "is an absolute path"));
    }
    let names = path.split('/').take(MAX_DEPTH + 1).map(Name::new);
    let names: Result<Vec<Name>, _> = names.collect();
    let names = names.map_err(|problem| refuse(shown(path.to_owned()), problem.to_string()))?;
    if names.len() > MAX_DEPTH { Err(too_deep(path.to_owned())) } else { Ok(names) }
}

fn too_deep(path: String) -> StageError {
    refuse(shown(path), format!("is more than {MAX_DEPTH} directories deep"))
}

fn too_many(path: String) -> StageError {
    let problem = format!(
        "is too much: no more than {MAX_ENTRIES} entries, with {MAX_TEXT_BYTES} bytes of names \
         and targets, are captured at once"
    );
    refuse(path, problem)
}

/// Says why something that should be a directory is none.
fn no_directory(kind: Kind) -> &'static str {
    match kind {
        Kind::Symlink => "is a symbolic link, which is not followed",
        Kind::File | Kind::Folder => "is no directory",
        Kind::Other => SPECIAL,
    }
}

const SPECIAL: &str = "is a pipe, a socket or a device";

impl Walker {
    fn new(base: Folder, stop: Stop) -> Self {
        Self {
            inventory: Inventory::new(base),
            open: Vec::new(),
            entries_left: MAX_ENTRIES,
            text_left: MAX_TEXT_BYTES,
            stop,
        }
    }

    /// The paths, sorted, each with its place in the request.
    fn in_order(&mut self, paths: &[String]) -> Result<Vec<(Vec<Name>, usize)>, StageError> {
        let mut order = Vec::new();
        for (place, path) in paths.iter().enumerate() {
            self.spend(BASE, path, path.len())?;
            order.push((parse(path)?, place));
        }
        order.sort();
        Ok(order)
    }

    /// Where it stands.
    fn here(&self) -> (usize, &Folder) {
        self.open.last().map_or((BASE, &self.inventory.base), |(_, at, folder)| (*at, folder))
    }

    /// Goes to a directory that is not captured itself; false when it is not there.
    fn go_to(&mut self, names: &[Name]) -> Result<bool, StageError> {
        let common = self.open.iter().zip(names).take_while(|((open, ..), name)| open == *name);
        let common = common.count();
        self.open.truncate(common);
        for name in names.iter().skip(common) {
            let (at, folder) = self.here();
            let Some(folder) = self.enter(at, folder, name)? else { return Ok(false) };
            let at = self.add_folder(at, name.clone())?;
            self.open.push((name.clone(), at, folder));
        }
        Ok(true)
    }

    /// Opens a directory on the way to something; `None` when it is not there.
    fn enter(&self, at: usize, folder: &Folder, name: &Name) -> Result<Option<Folder>, StageError> {
        match self.kind_of(at, folder, name)? {
            None => Ok(None),
            Some(Kind::Folder) => self.open_listed(at, folder, name).map(Some),
            Some(kind) => Err(refuse(self.inventory.path(at, name.as_str()), no_directory(kind))),
        }
    }

    fn kind_of(&self, at: usize, folder: &Folder, name: &Name) -> Result<Option<Kind>, StageError> {
        match folder.metadata_of(name) {
            Ok(metadata) => Ok(Some(metadata.kind)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", self.inventory.path(at, name.as_str()), error)),
        }
    }

    /// Opens what was a directory a moment ago.
    fn open_listed(&self, at: usize, folder: &Folder, name: &Name) -> Result<Folder, StageError> {
        let path = || self.inventory.path(at, name.as_str());
        match folder.find_beneath(name.as_str()) {
            Ok(Some(folder)) => Ok(folder),
            Ok(None) => Err(changed(path())),
            Err(error) => Err(failed("open", path(), error)),
        }
    }

    fn add_folder(&mut self, parent: usize, name: Name) -> Result<usize, StageError> {
        let depth = self.inventory.folders.get(parent).map_or(0, |it| it.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(too_deep(self.inventory.path(parent, name.as_str())));
        }
        let at = self.inventory.folders.len();
        let place = Some((parent, name));
        self.inventory.folders.push(FoundFolder { place, depth, ..FoundFolder::default() });
        Ok(at)
    }

    /// Captures a directory with everything in it; `None` when it is not there.
    fn capture(&mut self, names: &[Name]) -> Result<Option<usize>, StageError> {
        let Some((name, parents)) = names.split_last() else {
            let base = self.inventory.base.try_clone();
            let base = base.map_err(|error| failed("open", String::new(), error))?;
            self.walk(BASE, base)?;
            return Ok(Some(BASE));
        };
        if !self.go_to(parents)? {
            return Ok(None);
        }
        let (at, folder) = self.here();
        let Some(folder) = self.enter(at, folder, name)? else { return Ok(None) };
        let at = self.add_folder(at, name.clone())?;
        self.walk(at, folder)?;
        Ok(Some(at))
    }

    /// Looks for a directory in one that is captured.
    fn look_up(&self, outer: usize, names: &[Name]) -> Result<Option<usize>, StageError> {
        let mut at = outer;
        for name in names {
            let Some(folder) = self.inventory.folders.get(at) else { return Ok(None) };
            let name_of = |child: &usize| self.inventory.name_of(*child);
            if let Ok(place) = folder.folders.binary_search_by(|it| name_of(it).cmp(&Some(name))) {
                at = folder.folders.get(place).copied().unwrap_or(at);
                continue;
            }
            let path = || self.inventory.path(at, name.as_str());
            // In order, as they were listed.
            let files = self.inventory.files_in(folder);
            let symlinks = self.inventory.symlinks_in(folder);
            if files.binary_search_by(|it| it.name.cmp(name)).is_ok() {
                return Err(refuse(path(), no_directory(Kind::File)));
            }
            if symlinks.binary_search_by(|it| it.name.cmp(name)).is_ok() {
                return Err(refuse(path(), no_directory(Kind::Symlink)));
            }
            return Ok(None);
        }
        Ok(Some(at))
    }

    /// Captures a file or a symbolic link; `None` when it is not there, or a directory: who asks
    /// may not know which it will be.
    fn capture_one(&mut self, names: &[Name]) -> Result<Option<Found>, StageError> {
        let Some((name, parents)) = names.split_last() else { return Ok(None) };
        if !self.go_to(parents)? {
            return Ok(None);
        }
        let (at, folder) = self.here();
        let path = || self.inventory.path(at, name.as_str());
        match self.kind_of(at, folder, name)? {
            None | Some(Kind::Folder) => Ok(None),
            Some(Kind::File) => {
                self.inventory.files.push(FoundFile { folder: at, name: name.clone() });
                Ok(Some(Found::File(self.inventory.files.len() - 1)))
            }
            Some(Kind::Symlink) => {
                let target = self.inventory.read_link(at, folder, name)?;
                self.spend(at, name.as_str(), target.len())?;
                self.inventory.symlinks.push(FoundSymlink { name: name.clone(), target });
                Ok(Some(Found::Symlink(self.inventory.symlinks.len() - 1)))
            }
            Some(Kind::Other) => Err(refuse(path(), SPECIAL)),
        }
    }

    /// Looks at everything in a directory, the deepest after those above it.
    fn walk(&mut self, at: usize, folder: Folder) -> Result<(), StageError> {
        let pending = self.list(at, &folder)?.into_iter();
        let mut levels = vec![Level { folder, at, pending }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.pending.next() else {
                levels.pop();
                continue;
            };
            let folder = self.open_listed(level.at, &level.folder, &name)?;
            let at = self.add_folder(level.at, name)?;
            if let Some(parent) = self.inventory.folders.get_mut(level.at) {
                parent.folders.push(at);
            }
            let pending = self.list(at, &folder)?.into_iter();
            levels.push(Level { folder, at, pending });
        }
        Ok(())
    }

    /// Notes what is in a directory and gives the names of the directories there, in order.
    fn list(&mut self, at: usize, folder: &Folder) -> Result<Vec<Name>, StageError> {
        self.stop.check()?;
        let listed = folder.list(self.entries_left).map_err(|error| {
            let path = self.inventory.path(at, "");
            match error.kind() {
                ErrorKind::FileTooLarge => too_many(path),
                _ => failed("list", path, error),
            }
        });
        let mut listed = listed?;
        // By bytes, as the names in a message are.
        listed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let (first_file, first_symlink) =
            (self.inventory.files.len(), self.inventory.symlinks.len());
        let mut folders = Vec::new();
        for entry in listed {
            self.note(at, folder, entry, &mut folders)?;
        }
        let files = first_file..self.inventory.files.len();
        let symlinks = first_symlink..self.inventory.symlinks.len();
        if let Some(noted) = self.inventory.folders.get_mut(at) {
            (noted.files, noted.symlinks, noted.is_captured) = (files, symlinks, true);
        }
        Ok(folders)
    }

    fn note(
        &mut self,
        at: usize,
        folder: &Folder,
        entry: Listed,
        folders: &mut Vec<Name>,
    ) -> Result<(), StageError> {
        let name = entry.name.into_string().map_err(|name| {
            let path = self.inventory.path(at, &name.to_string_lossy());
            refuse(path, "has a name that is not UTF-8")
        })?;
        let path = || self.inventory.path(at, &name);
        let parsed = Name::new(&name).map_err(|problem| refuse(path(), problem.to_string()))?;
        let mut text_bytes = name.len();
        match entry.kind {
            Kind::Folder => folders.push(parsed),
            Kind::File => self.inventory.files.push(FoundFile { folder: at, name: parsed }),
            Kind::Symlink => {
                let target = self.inventory.read_link(at, folder, &parsed)?;
                text_bytes += target.len();
                self.inventory.symlinks.push(FoundSymlink { name: parsed, target });
            }
            Kind::Other => return Err(refuse(path(), SPECIAL)),
        }
        self.spend(at, &name, text_bytes)
    }

    /// Counts an entry.
    fn spend(&mut self, at: usize, name: &str, text_bytes: usize) -> Result<(), StageError> {
        let entries = self.entries_left.checked_sub(1);
        let text = self.text_left.checked_sub(text_bytes);
        let (Some(entries), Some(text)) = (entries, text) else {
            return Err(too_many(self.inventory.path(at, name)));
        };
        (self.entries_left, self.text_left) = (entries, text);
        Ok(())
    }
}
