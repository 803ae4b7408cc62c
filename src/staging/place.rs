//! Making the directories and files of a tree, by several threads at once. All of it is blocking.
//!
//! Every thread takes the latest task of one stack, so a tree is made branch by branch and few
//! directories are open at a time, whatever its shape.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use super::pinning::Pins;
use super::plan::{Node, Plan, invalid, join};
use super::site::{Grounds, Site, failed};
use super::writable::Writable;
use super::{LinkMode, Progress, StageError, StageOptions};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::store::filesystem::{LinkOutcome, PinnedFile};
use crate::trees::directory::FileEntry;
use crate::trees::on_disk::Folder;

/// Files of one directory that one task makes.
const CHUNK_FILES: usize = 512;
/// Inodes that may fill up one after the other while one link is made.
const MAX_RENEWALS: usize = 8;
/// Directories of which the tree says nothing, before the umask.
const DIRECTORY_MODE: u32 = 0o777;
/// What the tree may choose of a mode: the rest would let a file run as its owner.
pub(super) const CHOSEN_MODE: u32 = 0o1777;

/// A tree that is being made.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) site: Site,
    pub(super) plan: Plan,
    pub(super) pins: Arc<Pins>,
    pub(super) options: StageOptions,
    pub(super) writable: Writable,
    pub(super) progress: Arc<Progress>,
    pub(super) runtime: Handle,
    /// Whether directories do not get the mode that they are made with.
    pub(super) is_masked: bool,
    /// Whether the store is on another file system.
    crosses: AtomicBool,
    /// Whether there was no room for a fresh inode.
    has_no_room: AtomicBool,
    pub(super) copied: AtomicU64,
    stack: Mutex<Stack>,
    changed: Condvar,
    outcome: Mutex<Outcome>,
}

#[derive(Debug, Default)]
struct Stack {
    tasks: Vec<Task>,
    /// Threads that may put more on it.
    busy: usize,
}

#[derive(Debug, Default)]
struct Outcome {
    error: Option<StageError>,
    left: BTreeSet<Digest>,
}

#[derive(Debug)]
enum Task {
    /// A directory of the tree, by the number of its entry.
    Directory(Arc<Place>, usize),
    /// Some files of a directory that has many.
    Files(Arc<Place>, Range<usize>),
}

/// A directory that is made and not complete.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: Folder,
    node: usize,
    /// Where it is, and by which entry.
    parent: Option<(Arc<Place>, usize)>,
    /// Tasks that must end before it is complete.
    open: AtomicUsize,
}

/// A thread that is at a task.
struct Busy<'a>(&'a Work);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut stack = self.0.stack.lock();
        stack.busy -= 1;
        if stack.busy == 0 {
            self.0.changed.notify_all();
        }
    }
}

/// What is made with.
pub(super) struct Tools {
    pub(super) plan: Plan,
    pub(super) pins: Pins,
    /// Whether the store is on the same file system, as far as that can be seen.
    pub(super) may_link: bool,
    pub(super) options: StageOptions,
    pub(super) writable: Writable,
    pub(super) progress: Arc<Progress>,
    pub(super) runtime: Handle,
}

impl Work {
    /// Begins to make a tree at what is to become `target` in `parent`.
    pub(super) fn begin(tools: Tools, grounds: Grounds, target: &str) -> Result<Self, StageError> {
        let Tools { plan, pins, may_link, options, writable, progress, runtime } = tools;
        let mode = DIRECTORY_MODE & !options.umask;
        let (site, root) = Site::begin(grounds, target, mode)?;
        let own = root.metadata().map_err(failed("look at the directory beside", target))?;
        let is_masked = own.mode & 0o777 != mode;
        let work = Self {
            site,
            plan,
            pins: Arc::new(pins),
            options,
            writable,
            progress,
            runtime,
            is_masked,
            crosses: AtomicBool::new(!may_link),
            has_no_room: AtomicBool::new(false),
            copied: AtomicU64::new(0),
            stack: Mutex::default(),
            changed: Condvar::new(),
            outcome: Mutex::default(),
        };
        work.adorn(&root).map_err(failed("make a directory for", target))?;
        work.writable.make_all(&root, |folder, name| work.make_folder(folder, name))?;
        work.fill(root, 0, None)?;
        Ok(work)
    }

    /// Takes tasks until there are none and nobody is at one that could make some.
    pub(super) fn run(&self) {
        while let Some(task) = self.next() {
            let _busy = Busy(self);
            if let Err(error) = self.perform(task) {
                self.fail(error);
            }
        }
        if self.site.is_abandoned() {
            // Each has a descriptor, and who removes what was made needs some.
            self.stack.lock().tasks.clear();
        }
    }

    /// What came of it, when all threads have ended: how many files were copied.
    pub(super) fn outcome(&self) -> Result<u64, StageError> {
        let mut outcome = self.outcome.lock();
        if let Some(error) = outcome.error.take() {
            return Err(error);
        }
        if !outcome.left.is_empty() {
            return Err(super::pinning::missing(std::mem::take(&mut outcome.left)));
        }
        Ok(self.copied.load(Ordering::Relaxed))
    }

    fn fail(&self, error: StageError) {
        self.site.abandon();
        self.outcome.lock().error.get_or_insert(error);
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Task> {
        let mut stack = self.stack.lock();
        loop {
            if self.site.is_abandoned() {
                return None;
            }
            if let Some(task) = stack.tasks.pop() {
                stack.busy += 1;
                return Some(task);
            }
            if stack.busy == 0 {
                return None;
            }
            // Whoever is busy is running, and wakes everybody at its end.
            self.changed.wait(&mut stack);
        }
    }

    fn push(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut tasks = tasks.into_iter().peekable();
        if tasks.peek().is_some() {
            self.stack.lock().tasks.extend(tasks);
            self.changed.notify_all();
        }
    }

    fn perform(&self, task: Task) -> Result<(), StageError> {
        match task {
            Task::Directory(parent, entry) => self.make_directory(&parent, entry),
            Task::Files(place, range) => {
                self.make_files(&place, range)?;
                self.complete(&place)
            }
        }
    }

    fn node(&self, place: &Place) -> Result<&Node, StageError> {
        let broken = || invalid(String::new(), "the plan of the tree has a hole");
        self.plan.nodes.get(place.node).ok_or_else(broken)
    }

    /// The path of something in a directory, relative to the root.
    fn path_of(&self, place: &Place, name: &str) -> String {
        let mut names = Vec::from([name]);
        let mut at = place;
        while let Some((parent, entry)) = &at.parent {
            let node = self.plan.nodes.get(parent.node);
            names.extend(
                node.and_then(|node| node.directory.directories.get(*entry))
                    .map(|entry| entry.name.as_str()),
            );
            at = parent;
        }
        names.iter().rev().fold(String::new(), |path, name| join(&path, name))
    }

    /// Says what a failure at a target means.
    pub(super) fn explain(
        &self,
        operation: &'static str,
        (place, name): (&Place, &str),
    ) -> impl FnOnce(io::Error) -> StageError {
        move |source| {
            let path = self.path_of(place, name);
            match source.kind() {
                // The tree has no name twice, so this file system takes two names for one.
                io::ErrorKind::AlreadyExists => {
                    invalid(path, "is the name of another entry or of a writable directory there")
                }
                _ => failed(operation, path)(source),
            }
        }
    }

    /// Makes a directory and gives it what those have of which the tree says nothing.
    fn make_folder(&self, parent: &Folder, name: &str) -> io::Result<Folder> {
        let folder = parent.make_folder(name, DIRECTORY_MODE & !self.options.umask)?;
        self.adorn(&folder)?;
        Ok(folder)
    }

    fn adorn(&self, folder: &Folder) -> io::Result<()> {
        if self.options.uid.is_some() || self.options.gid.is_some() {
            folder.set_owner(self.options.uid, self.options.gid)?;
        }
        if self.is_masked {
            folder.set_mode(DIRECTORY_MODE & !self.options.umask)?;
        }
        Ok(())
    }

    fn make_directory(&self, parent: &Arc<Place>, at: usize) -> Result<(), StageError> {
        let node = self.node(parent)?;
        let (Some(entry), Some(child)) =
            (node.directory.directories.get(at), node.children.get(at))
        else {
            return Ok(());
        };
        let name = entry.name.as_str();
        let is_made =
            !self.writable.is_empty() && self.writable.is_made(&self.path_of(parent, name));
        let made = if is_made {
            parent.folder.open_folder(name)
        } else {
            self.make_folder(&parent.folder, name)
        };
        let folder = made.map_err(self.explain("make", (parent, name)))?;
        self.fill(folder, *child, Some((Arc::clone(parent), at)))
    }

    /// Makes what is in a directory, or tasks of it.
    fn fill(
        &self,
        folder: Folder,
        node: usize,
        parent: Option<(Arc<Place>, usize)>,
    ) -> Result<(), StageError> {
        let place = Arc::new(Place { folder, node, parent, open: AtomicUsize::new(1) });
        let directory = &self.node(&place)?.directory;
        let (files, directories) = (directory.files.len(), directory.directories.len());
        let chunks = (CHUNK_FILES..files).step_by(CHUNK_FILES);
        place.open.fetch_add(chunks.len() + directories, Ordering::Relaxed);
        let chunks = chunks
            .map(|first| Task::Files(Arc::clone(&place), first..files.min(first + CHUNK_FILES)));
        self.push(chunks);
        self.push((0..directories).rev().map(|at| Task::Directory(Arc::clone(&place), at)));
        self.make_files(&place, 0..files.min(CHUNK_FILES))?;
        for link in &directory.symlinks {
            let name = link.name.as_str();
            self.make_symlink(&place, name, link)
                .map_err(self.explain("make the symbolic link", (&place, name)))?;
        }
        self.complete(&place)
    }

    fn make_symlink(
        &self,
        place: &Place,
        name: &str,
        link: &crate::trees::directory::SymlinkEntry,
    ) -> io::Result<()> {
        place.folder.symlink(name, &link.target)?;
        if self.options.uid.is_some() || self.options.gid.is_some() {
            place.folder.set_owner_of(name, self.options.uid, self.options.gid)?;
        }
        // It has no mode of its own.
        link.properties.mtime.map_or(Ok(()), |mtime| place.folder.set_mtime_of(name, mtime))
    }

    /// Notes that a task of a directory has ended; after the last, and those of all that are below
    /// it, the directory gets what would not have lasted.
    fn complete(&self, place: &Arc<Place>) -> Result<(), StageError> {
        let mut at = place;
        while at.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            let properties = self.node(at)?.directory.properties;
            if let Some(mode) = properties.unix_mode
                && !self.writable.is_wanted(&self.path_of(at, ""))
            {
                let mode = mode & CHOSEN_MODE & !self.options.umask;
                at.folder.set_mode(mode).map_err(self.explain("set the mode of", (at, "")))?;
            }
            if let Some(mtime) = properties.mtime {
                at.folder.set_mtime(mtime).map_err(self.explain("set the time of", (at, "")))?;
            }
            let Some((parent, _)) = &at.parent else { break };
            at = parent;
        }
        Ok(())
    }

    fn make_files(&self, place: &Place, range: Range<usize>) -> Result<(), StageError> {
        let node = self.node(place)?;
        let entries = node.directory.files.get(range.clone()).unwrap_or_default();
        let wanted = node.files.get(range).unwrap_or_default();
        let mut bytes = 0_u64;
        for (entry, wanted) in entries.iter().zip(wanted) {
            if self.site.is_abandoned() {
                return Ok(());
            }
            let is_there = self.make_file(place, entry, *wanted)?;
            if !is_there {
                self.outcome.lock().left.insert(entry.digest);
            }
            bytes = bytes.saturating_add(entry.digest.size_bytes);
        }
        self.progress.advance(entries.len() as u64, bytes);
        Ok(())
    }

    /// Makes a file; false when its blob has left the store.
    fn make_file(
        &self,
        place: &Place,
        entry: &FileEntry,
        wanted: Option<usize>,
    ) -> Result<bool, StageError> {
        let Some(at) = wanted else { return self.copy_file(place, entry, None) };
        let Some(pinned) = self.pins.get(at) else { return Ok(false) };
        let has_links = match self.options.link_mode {
            LinkMode::HardLink => true,
            LinkMode::Auto => {
                let is_variant_missing = entry.is_executable && self.pins.has_no_variants;
                !is_variant_missing && !self.crosses.load(Ordering::Relaxed)
            }
            LinkMode::Reflink | LinkMode::Copy => false,
        };
        if !has_links || !entry.properties.is_empty() {
            return self.copy_file(place, entry, Some(pinned));
        }
        match self.link(place, entry, pinned)? {
            LinkOutcome::Linked => Ok(true),
            LinkOutcome::Left => Ok(false),
            LinkOutcome::OutOfLinks => self.link_renewed(place, entry, (at, pinned)),
            LinkOutcome::CrossDevice => self.copy_across(place, entry, pinned),
        }
    }

    /// Makes the copy of a file of which no link can be had there.
    fn copy_across(
        &self,
        place: &Place,
        entry: &FileEntry,
        pinned: &PinnedFile,
    ) -> Result<bool, StageError> {
        if self.options.link_mode == LinkMode::Auto {
            self.crosses.store(true, Ordering::Relaxed);
            return self.copy_file(place, entry, Some(pinned));
        }
        let error = io::ErrorKind::CrossesDevices.into();
        Err(self.explain("make a hard link", (place, entry.name.as_str()))(error))
    }

    fn link(
        &self,
        place: &Place,
        entry: &FileEntry,
        pinned: &PinnedFile,
    ) -> Result<LinkOutcome, StageError> {
        let name = entry.name.as_str();
        let linked = pinned.link_at(place.folder.as_fd(), name);
        linked.map_err(|error| self.explain_store("make a hard link", (place, name), error))
    }

    /// Tells failures at the target from those of the store.
    pub(super) fn explain_store(
        &self,
        operation: &'static str,
        at: (&Place, &str),
        error: StoreError,
    ) -> StageError {
        match error {
            StoreError::Io { source, .. } => self.explain(operation, at)(source),
            error => error.into(),
        }
    }

    /// Links to a fresh inode of a blob whose former one has no links left.
    fn link_renewed(
        &self,
        place: &Place,
        entry: &FileEntry,
        (at, first): (usize, &PinnedFile),
    ) -> Result<bool, StageError> {
        let mut pinned = self.pins.newest(at);
        for _ in 0..MAX_RENEWALS {
            if let Some(pinned) = &pinned {
                match self.link(place, entry, pinned)? {
                    LinkOutcome::Linked => return Ok(true),
                    LinkOutcome::OutOfLinks => {}
                    LinkOutcome::Left => return Ok(false),
                    LinkOutcome::CrossDevice => return self.copy_across(place, entry, pinned),
                }
            }
            // Each would wait for room.
            if self.has_no_room.load(Ordering::Relaxed) {
                return self.copy_file(place, entry, Some(first));
            }
            match self.pins.renew(&self.runtime, at, pinned.as_ref()) {
                Ok(Some(fresh)) => pinned = Some(fresh),
                Ok(None) => return Ok(false),
                Err(StoreError::NoSpace { .. }) if self.options.link_mode == LinkMode::Auto => {
                    self.has_no_room.store(true, Ordering::Relaxed);
                    return self.copy_file(place, entry, Some(first));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let error = io::Error::other("inodes fill up too fast");
        Err(self.explain("make a hard link", (place, entry.name.as_str()))(error))
    }
}
