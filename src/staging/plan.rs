//! What a tree is made of, known whole before anything is made of it.
//!
//! The shape of a tree is a client's choice: a few messages can stand for more paths than there are
//! atoms. So each distinct directory is read once, level by level, and what the tree would be is
//! computed from these. Nothing here recurses.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::jobs::some_time;
use super::{StageError, Stager, Totals, TreeRoot};
use crate::digest::Digest;
use crate::store::StoreError;
use crate::trees::directory::{Allowance, Directory, FileEntry, InvalidDirectory};
use crate::trees::tree::Tree;

/// Levels of directories.
pub(super) const MAX_DEPTH: usize = 512;
/// Files, directories and symbolic links.
const MAX_PATHS: u64 = 1_000_000;
/// The largest `Directory` message.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// The largest `Tree` message, and the most that all `Directory` messages of one tree take.
const MAX_MESSAGES_BYTES: u64 = 128 << 20;
/// Messages that are read at once.
const READS: usize = 32;
/// What an entry costs of what may be done where it is, as if it were so many bytes to decode.
const ENTRY_BYTES: usize = 64;
/// Entries that take too long for an asynchronous thread, if only to give back their memory.
pub(super) const MANY: usize = 10_000;

/// A distinct directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) directory: Arc<Directory>,
    /// The nodes of its directories, in their order.
    pub(super) children: Vec<usize>,
    /// Where the file of each of its files is in [`Plan::files`]; `None` for the empty blob.
    pub(super) files: Vec<Option<usize>>,
    /// Through which entry of which node it is reached, by the longest way that is known.
    parent: Option<(usize, usize)>,
}

/// A file that some entries of a tree want.
pub(super) type WantedFile = (Digest, bool);

/// A whole tree.
#[derive(Debug)]
pub(super) struct Plan {
    /// The distinct directories, the root first.
    pub(super) nodes: Vec<Node>,
    /// The distinct files, executable or not.
    pub(super) files: Vec<WantedFile>,
    /// All paths together.
    pub(super) totals: Totals,
    /// Directories that are absent, each once.
    pub(super) missing: Vec<Digest>,
    /// The messages that it was read from, each once.
    pub(super) messages: Vec<Digest>,
}

impl Drop for Plan {
    fn drop(&mut self) {
        let entries: usize = self.nodes.iter().map(|node| node.directory.entries()).sum();
        if entries > MANY {
            let parts = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.files));
            some_time(move || drop(parts));
        }
    }
}

/// A directory that is wanted by the first entry that named it.
type Frontier = Vec<(Digest, Option<(usize, usize)>)>;

/// A plan in the making.
struct Planner {
    nodes: Vec<Node>,
    /// The node of each digest; `None` while it is being read, or is absent.
    known: HashMap<Digest, Option<usize>>,
    missing: Vec<Digest>,
    messages: Vec<Digest>,
    /// Those of them that were not read now, but decoded some time ago.
    remembered: Vec<Digest>,
    message_bytes: u64,
    entries: usize,
    allowance: Arc<Allowance>,
}

/// A tree that is refused, for what is wrong at a path.
pub(super) fn invalid(path: String, problem: impl Into<String>) -> StageError {
    StageError::Invalid { path, problem: problem.into() }
}

/// The path of something in a directory.
pub(super) fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}/{name}"),
    }
}

impl Stager {
    /// Reads all directories of a tree and looks at what they are together.
    pub(super) async fn plan(&self, root: TreeRoot) -> Result<Plan, StageError> {
        let mut planner = Planner {
            nodes: Vec::new(),
            known: HashMap::new(),
            missing: Vec::new(),
            messages: Vec::new(),
            remembered: Vec::new(),
            message_bytes: 0,
            entries: 0,
            allowance: Arc::new(Allowance::new(MAX_PATHS)),
        };
        match root {
            TreeRoot::Directory(digest) => planner.read_levels(self, digest).await?,
            TreeRoot::Tree(digest) => planner = planner.read_tree(self, digest).await?,
        }
        // I16: what is remembered says nothing of what is stored.
        let absent = self.find_absent(&planner.remembered).await?;
        planner.missing.extend(absent);
        let bytes = planner.entries.saturating_mul(ENTRY_BYTES);
        self.jobs.run_sized(bytes, move || planner.finish()).await?
    }

    async fn read_message(
        &self,
        digest: Digest,
        limit_bytes: u64,
    ) -> Result<Option<bytes::Bytes>, StoreError> {
        match self.cas.read_all(digest, limit_bytes).await {
            // It has been removed, and heals by the next upload.
            Err(StoreError::Corrupt { .. }) => Ok(None),
            read => read,
        }
    }
}

impl Planner {
    async fn read_levels(&mut self, stager: &Stager, root: Digest) -> Result<(), StageError> {
        self.known.insert(root, None);
        let mut level: Frontier = vec![(root, None)];
        for _ in 0..MAX_DEPTH {
            if level.is_empty() {
                return Ok(());
            }
            self.pay_for(&level)?;
            let read = self.read_level(stager, &level).await?;
            let mut next = Frontier::new();
            let mut begun = self.entries;
            for ((digest, parent), directory) in level.into_iter().zip(read) {
                match directory {
                    None => self.missing.push(digest),
                    Some(directory) => {
                        let node = self.add(directory, parent)?;
                        if !digest.is_empty() {
                            self.messages.push(digest);
                        }
                        self.known.insert(digest, Some(node));
                        self.find_unknown(node, &mut next);
                    }
                }
                if self.entries - begun > MANY {
                    begun = self.entries;
                    tokio::task::yield_now().await;
                }
            }
            level = next;
        }
        match level.first() {
            None => Ok(()),
            Some((_, parent)) => Err(self.too_deep(*parent)),
        }
    }

    fn too_deep(&self, parent: Option<(usize, usize)>) -> StageError {
        let problem = format!("the tree has more than {MAX_DEPTH} levels");
        invalid(self.path_of(parent), problem)
    }

    /// Refuses messages that are too large before they are read.
    fn pay_for(&mut self, level: &Frontier) -> Result<(), StageError> {
        for (digest, parent) in level {
            self.message_bytes = self.message_bytes.saturating_add(digest.size_bytes);
            let (is_large, limit_bytes) = if digest.size_bytes > MAX_DIRECTORY_BYTES {
                (true, MAX_DIRECTORY_BYTES)
            } else {
                (self.message_bytes > MAX_MESSAGES_BYTES, MAX_MESSAGES_BYTES)
            };
            if is_large {
                let problem = format!("its messages have more than {limit_bytes} bytes");
                return Err(invalid(self.path_of(*parent), problem));
            }
        }
        Ok(())
    }

    /// Reads the directories of one level, in their order.
    async fn read_level(
        &mut self,
        stager: &Stager,
        level: &Frontier,
    ) -> Result<Vec<Option<Arc<Directory>>>, StageError> {
        let digests: Vec<Digest> = level.iter().map(|(digest, _)| *digest).collect();
        let mut read = stager.directories.get_all(&digests);
        let mut unread = Vec::new();
        for (at, (digest, directory)) in digests.iter().zip(&read).enumerate() {
            if directory.is_none() {
                unread.push(at);
            } else if !digest.is_empty() {
                self.remembered.push(*digest);
            }
        }
        let planner = &*self;
        let mut reads = stream::iter(unread)
            .map(|at| planner.read_one(stager, level, at))
            .buffer_unordered(READS);
        while let Some((at, directory)) = reads.try_next().await? {
            if let Some(place) = read.get_mut(at) {
                *place = directory;
            }
        }
        Ok(read)
    }

    async fn read_one(
        &self,
        stager: &Stager,
        level: &Frontier,
        at: usize,
    ) -> Result<(usize, Option<Arc<Directory>>), StageError> {
        let Some((digest, parent)) = level.get(at) else { return Ok((at, None)) };
        let Some(encoded) = stager.read_message(*digest, MAX_DIRECTORY_BYTES).await? else {
            return Ok((at, None));
        };
        let (function, bytes) = (digest.function, encoded.len());
        let allowance = Arc::clone(&self.allowance);
        let decode = move || Directory::decode_within(function, &encoded, &allowance);
        let decoded = stager.jobs.run_sized(bytes, decode).await?;
        let directory = Arc::new(decoded.map_err(|error| self.refuse(*parent, error))?);
        stager.directories.insert(*digest, &directory);
        Ok((at, Some(directory)))
    }

    fn refuse(&self, parent: Option<(usize, usize)>, error: InvalidDirectory) -> StageError {
        invalid(join(&self.path_of(parent), &error.entry), error.problem)
    }

    /// Takes all directories from one message.
    async fn read_tree(mut self, stager: &Stager, digest: Digest) -> Result<Self, StageError> {
        if digest.size_bytes > MAX_MESSAGES_BYTES {
            let problem = format!("its message has more than {MAX_MESSAGES_BYTES} bytes");
            return Err(invalid(String::new(), problem));
        }
        let Some(encoded) = stager.read_message(digest, MAX_MESSAGES_BYTES).await? else {
            self.missing.push(digest);
            return Ok(self);
        };
        self.messages.push(digest);
        let (function, bytes) = (digest.function, encoded.len());
        let decode = move || {
            let tree = Tree::decode_within(function, &encoded, &self.allowance);
            let tree = tree.map_err(|error| self.refuse(None, error))?;
            self.take_tree(&tree)?;
            Ok(self)
        };
        stager.jobs.run_sized(bytes, decode).await?
    }

    fn take_tree(&mut self, tree: &Tree) -> Result<(), StageError> {
        let root = self.add(Arc::clone(&tree.root), None)?;
        let mut next = Frontier::new();
        self.find_unknown(root, &mut next);
        while let Some((digest, parent)) = next.pop() {
            let empty = || digest.is_empty().then(Arc::<Directory>::default);
            let Some(directory) = tree.children.get(&digest).cloned().or_else(empty) else {
                let problem = format!("the Tree message lacks its directory {digest}");
                return Err(invalid(self.path_of(parent), problem));
            };
            let node = self.add(directory, parent)?;
            self.known.insert(digest, Some(node));
            self.find_unknown(node, &mut next);
        }
        Ok(())
    }

    fn add(
        &mut self,
        directory: Arc<Directory>,
        parent: Option<(usize, usize)>,
    ) -> Result<usize, StageError> {
        // Each of them is in the tree at least once.
        self.entries = self.entries.saturating_add(directory.entries());
        if self.entries as u64 > MAX_PATHS {
            return Err(too_many_paths());
        }
        self.nodes.push(Node { directory, children: Vec::new(), files: Vec::new(), parent });
        Ok(self.nodes.len() - 1)
    }

    /// Notes the directories of a node that were not met before.
    fn find_unknown(&mut self, node: usize, next: &mut Frontier) {
        let Some(found) = self.nodes.get(node) else { return };
        for (entry, child) in found.directory.directories.iter().enumerate() {
            if let Entry::Vacant(place) = self.known.entry(child.digest) {
                place.insert(None);
                next.push((child.digest, Some((node, entry))));
            }
        }
    }

    /// The path of an entry of a node, relative to the root.
    fn path_of(&self, mut entry: Option<(usize, usize)>) -> String {
        let mut names = Vec::new();
        while let Some((node, at)) = entry {
            let Some(node) = self.nodes.get(node) else { break };
            names.extend(node.directory.directories.get(at).map(|it| it.name.as_str()));
            entry = node.parent;
            // Longer ways are refused before they are known.
            if names.len() > MAX_DEPTH + 1 {
                break;
            }
        }
        names.reverse();
        names.join("/")
    }

    fn finish(mut self) -> Result<Plan, StageError> {
        self.link_nodes();
        let order = self.sort()?;
        let totals = self.count(&order);
        if totals.paths() > MAX_PATHS {
            return Err(too_many_paths());
        }
        let files = self.gather_files();
        Ok(Plan {
            nodes: self.nodes,
            files,
            totals,
            missing: self.missing,
            messages: self.messages,
        })
    }

    /// Replaces digests by nodes; those of absent directories lead nowhere, and such a plan is
    /// never carried out.
    fn link_nodes(&mut self) {
        let known = &self.known;
        for node in &mut self.nodes {
            let entries = node.directory.directories.iter();
            node.children =
                entries.filter_map(|it| known.get(&it.digest).copied().flatten()).collect();
        }
    }

    /// The nodes so that each comes behind all that have it in them. Refuses what is too deep by
    /// the longest way to it.
    fn sort(&mut self) -> Result<Vec<usize>, StageError> {
        let mut ways_in = vec![0_usize; self.nodes.len()];
        for child in self.nodes.iter().flat_map(|node| &node.children) {
            if let Some(count) = ways_in.get_mut(*child) {
                *count += 1;
            }
        }
        let mut depths = vec![1_usize; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut ready: Vec<usize> =
            ways_in.first().iter().filter(|it| ***it == 0).map(|_| 0).collect();
        while let Some(at) = ready.pop() {
            order.push(at);
            let depth = depths.get(at).map_or(1, |depth| depth + 1);
            let children = self.nodes.get(at).map(|it| it.children.clone()).unwrap_or_default();
            for (entry, child) in children.into_iter().enumerate() {
                if depth > MAX_DEPTH {
                    return Err(self.too_deep(Some((at, entry))));
                }
                if let (Some(known), Some(node)) =
                    (depths.get_mut(child), self.nodes.get_mut(child))
                    && *known < depth
                {
                    *known = depth;
                    node.parent = Some((at, entry));
                }
                if let Some(count) = ways_in.get_mut(child) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(child);
                    }
                }
            }
        }
        if order.len() < self.nodes.len() {
            return Err(invalid(String::new(), "a directory is below itself"));
        }
        Ok(order)
    }

    /// What the whole tree is made of, from the leaves up.
    fn count(&self, order: &[usize]) -> Totals {
        let mut totals = vec![Totals::default(); self.nodes.len()];
        for at in order.iter().rev() {
            let Some(node) = self.nodes.get(*at) else { continue };
            let mut total = Totals {
                files: node.directory.files.len() as u64,
                directories: 1,
                symlinks: node.directory.symlinks.len() as u64,
                bytes: 0,
                copied_files: 0,
            };
            for file in &node.directory.files {
                total.bytes = total.bytes.saturating_add(file.digest.size_bytes);
            }
            for child in &node.children {
                total.add(totals.get(*child).copied().unwrap_or_default());
            }
            if let Some(place) = totals.get_mut(*at) {
                *place = total;
            }
        }
        totals.first().copied().unwrap_or_default()
    }

    fn gather_files(&mut self) -> Vec<WantedFile> {
        let mut places = HashMap::new();
        let mut files = Vec::new();
        for node in &mut self.nodes {
            let place = |file: &FileEntry| {
                // A private copy needs no executable variant.
                let is_executable = file.is_executable && file.properties.is_empty();
                let wanted = (file.digest, is_executable);
                (!file.digest.is_empty()).then(|| {
                    *places.entry(wanted).or_insert_with(|| {
                        files.push(wanted);
                        files.len() - 1
                    })
                })
            };
            node.files = node.directory.files.iter().map(place).collect();
        }
        files
    }
}

fn too_many_paths() -> StageError {
    invalid(String::new(), format!("the tree has more than {MAX_PATHS} paths"))
}

impl Totals {
    fn paths(&self) -> u64 {
        self.files.saturating_add(self.directories).saturating_add(self.symlinks)
    }

    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.symlinks = self.symlinks.saturating_add(other.symlinks);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.copied_files = self.copied_files.saturating_add(other.copied_files);
    }
}
