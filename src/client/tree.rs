//! Trees of a server, as they are on the wire and as they are walked.
//!
//! Owns their bounds: a tree of few messages may stand for more paths than any disk has.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::origin::{Origin, read_whole};
use super::{Client, ClientError};
use crate::digest::Digest;
use crate::trees::directory::{Directory, FileEntry, SymlinkEntry};
use crate::trees::tree::Tree;

/// How many levels of directories a tree may have: as many as are staged.
pub(super) const MAX_LEVELS: usize = 512;
/// How many paths it may have.
pub(super) const MAX_PATHS: u64 = 2_000_000;
/// The most that is read of one tree.
const MAX_TREE_BYTES: u64 = 512 << 20;
/// Messages that are asked for at once.
const FETCH_CONCURRENCY: usize = 64;

/// How a tree is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeKind {
    /// As `Directory` messages that name each other.
    Directories,
    /// As one `Tree` message.
    Tree,
}

/// A tree whose every directory is there and checked.
#[derive(Debug)]
pub struct LoadedTree {
    root: Digest,
    directories: HashMap<Digest, Arc<Directory>>,
}

/// An entry of a tree.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'t> {
    /// A directory and its digest.
    Directory(Digest),
    /// A file.
    File(&'t FileEntry),
    /// A symbolic link.
    Symlink(&'t SymlinkEntry),
}

impl Client {
    /// Reads one directory, without those in it.
    pub async fn load_directory(&self, root: Digest) -> Result<LoadedTree, ClientError> {
        let directory = directory(self, root).await?.ok_or(ClientError::Absent(root))?;
        Ok(LoadedTree { root, directories: HashMap::from([(root, Arc::new(directory))]) })
    }

    /// Reads all directories of a tree.
    pub async fn load_tree(
        self: &Arc<Self>,
        kind: TreeKind,
        root: Digest,
    ) -> Result<LoadedTree, ClientError> {
        load(&(Arc::clone(self) as Arc<dyn Origin>), kind, root, MAX_TREE_BYTES).await
    }
}

/// Reads all directories of a tree whose messages have no more than `limit_bytes`.
pub(super) async fn load(
    origin: &Arc<dyn Origin>,
    kind: TreeKind,
    root: Digest,
    limit_bytes: u64,
) -> Result<LoadedTree, ClientError> {
    let tree = match kind {
        TreeKind::Directories => load_directories(origin, root, limit_bytes).await?,
        TreeKind::Tree => {
            let bytes = read_whole(&**origin, root, limit_bytes).await?;
            LoadedTree::decode(root, &bytes)?
        }
    };
    let paths = tree.check()?;
    if paths > MAX_PATHS {
        let problem = format!("has {paths} paths, more than {MAX_PATHS}");
        return Err(ClientError::invalid(root.to_string(), problem));
    }
    Ok(tree)
}

/// Level by level: what is absent is known all at once.
async fn load_directories(
    origin: &Arc<dyn Origin>,
    root: Digest,
    limit_bytes: u64,
) -> Result<LoadedTree, ClientError> {
    let mut directories = HashMap::new();
    let mut missing = Vec::new();
    let mut read_bytes = 0_u64;
    let mut level = vec![root];
    let mut depth = 0;
    while !level.is_empty() {
        if depth >= MAX_LEVELS {
            return Err(too_deep(root));
        }
        depth += 1;
        read_bytes = level.iter().fold(read_bytes, |sum, it| sum.saturating_add(it.size_bytes));
        if read_bytes > limit_bytes || directories.len() as u64 > MAX_PATHS {
            return Err(ClientError::invalid(root.to_string(), "has too many directories"));
        }
        let fetches: Vec<_> = std::mem::take(&mut level)
            .into_iter()
            .map(|digest| {
                let origin = Arc::clone(origin);
                async move { directory(&*origin, digest).await.map(|it| (digest, it)) }
            })
            .collect();
        let mut answers = stream::iter(fetches).buffer_unordered(FETCH_CONCURRENCY);
        let mut wanted = HashSet::new();
        while let Some((digest, directory)) = answers.try_next().await? {
            let Some(directory) = directory else {
                missing.push(digest);
                continue;
            };
            wanted.extend(directory.directories.iter().map(|entry| entry.digest));
            directories.insert(digest, Arc::new(directory));
        }
        wanted.retain(|it| !directories.contains_key(it));
        level = wanted.into_iter().collect();
    }
    if missing.is_empty() {
        return Ok(LoadedTree { root, directories });
    }
    missing.sort_unstable();
    Err(ClientError::Missing(missing))
}

async fn directory(origin: &dyn Origin, digest: Digest) -> Result<Option<Directory>, ClientError> {
    match read_whole(origin, digest, MAX_TREE_BYTES).await {
        Ok(bytes) => decode(digest, &bytes).map(Some),
        Err(ClientError::Absent(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode(digest: Digest, bytes: &[u8]) -> Result<Directory, ClientError> {
    Directory::decode(digest.function, bytes)
        .map_err(|problem| ClientError::invalid(format!("directory {digest}"), problem))
}

fn too_deep(root: Digest) -> ClientError {
    ClientError::invalid(root.to_string(), format!("is deeper than {MAX_LEVELS} levels"))
}

/// What is below a directory, itself counted.
#[derive(Clone, Copy)]
struct Extent {
    paths: u64,
    depth: usize,
}

impl LoadedTree {
    /// Takes a `Tree` message apart. Its root goes by the digest of the tree, which no directory
    /// in it can name.
    fn decode(root: Digest, bytes: &[u8]) -> Result<Self, ClientError> {
        let tree = Tree::decode(root.function, bytes);
        let tree = tree.map_err(|it| ClientError::invalid(format!("tree {root}"), it))?;
        let mut directories = tree.children;
        directories.insert(root, tree.root);
        Ok(Self { root, directories })
    }

    /// What its root is found under.
    pub(super) fn root(&self) -> Digest {
        self.root
    }

    /// A directory of it.
    pub(super) fn directory(&self, digest: &Digest) -> Result<Arc<Directory>, ClientError> {
        // A `Tree` message need not hold the empty one.
        let empty = || digest.is_empty().then(Arc::<Directory>::default);
        let found = self.directories.get(digest).cloned().or_else(empty);
        found.ok_or(ClientError::Absent(*digest))
    }

    /// Goes through what is in it, or in its root alone, in the order of names.
    pub fn list(
        &self,
        is_recursive: bool,
        mut each: impl FnMut(&str, Listing<'_>),
    ) -> Result<(), ClientError> {
        let mut open = vec![(String::new(), self.root)];
        while let Some((path, digest)) = open.pop() {
            if !path.is_empty() {
                each(&path, Listing::Directory(digest));
                if !is_recursive {
                    continue;
                }
            }
            // Files and links of a directory come before the directories in it.
            let directory = self.directory(&digest)?;
            let mut entries: Vec<(&str, Listing<'_>)> = Vec::new();
            entries.extend(directory.files.iter().map(|it| (it.name.as_str(), Listing::File(it))));
            let symlinks = directory.symlinks.iter();
            entries.extend(symlinks.map(|it| (it.name.as_str(), Listing::Symlink(it))));
            entries.sort_unstable_by_key(|(name, _)| *name);
            for (name, entry) in entries {
                each(&joined(&path, name), entry);
            }
            let mut folders: Vec<_> = directory.directories.iter().collect();
            folders.sort_unstable_by_key(|it| std::cmp::Reverse(it.name.as_str()));
            let below = folders.into_iter();
            open.extend(below.map(|it| (joined(&path, it.name.as_str()), it.digest)));
        }
        Ok(())
    }

    /// The blobs of all its files, each once.
    pub(super) fn file_digests(&self) -> Vec<Digest> {
        let files = self.directories.values().flat_map(|it| &it.files);
        let digests: HashSet<Digest> = files.map(|it| it.digest).collect();
        digests.into_iter().filter(|it| !it.is_empty()).collect()
    }

    /// Its directories, each once.
    pub(super) fn directory_digests(&self) -> impl Iterator<Item = Digest> {
        self.directories.keys().copied()
    }

    /// The number of paths it stands for. Refuses what is deeper than any path may be, and
    /// directories that are not there.
    fn check(&self) -> Result<u64, ClientError> {
        let mut known: HashMap<Digest, Extent> = HashMap::new();
        let mut open = vec![self.root];
        while let Some(digest) = open.last().copied() {
            // Each is looked into once: a digest cannot be below itself.
            if known.contains_key(&digest) {
                open.pop();
                continue;
            }
            let directory = self.directory(&digest)?;
            let before = open.len();
            let below = directory.directories.iter().map(|it| it.digest);
            open.extend(below.filter(|it| !known.contains_key(it)));
            if open.len() > before {
                continue;
            }
            open.pop();
            let own = directory.files.len().saturating_add(directory.symlinks.len()) as u64;
            let mut extent = Extent { paths: own.saturating_add(1), depth: 0 };
            for entry in &directory.directories {
                if let Some(below) = known.get(&entry.digest) {
                    extent.paths = extent.paths.saturating_add(below.paths);
                    extent.depth = extent.depth.max(below.depth + 1);
                }
            }
            if extent.depth >= MAX_LEVELS {
                return Err(too_deep(self.root));
            }
            known.insert(digest, extent);
        }
        Ok(known.get(&self.root).map_or(0, |it| it.paths))
    }
}

/// The path of something in a directory.
pub(super) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}
