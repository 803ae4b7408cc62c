//! L2: input trees on a worker's machine: from a digest to a directory of hard links, and back.
//!
//! All of it works on a [`FilesystemStore`] on the same machine, whose inodes the links share.
//! [`plan`] decides what a tree is, [`pinning`] and [`fetch`] get what it needs, [`place`] makes it
//! at a [`site`], which is in a [`workshop`].

mod cache;
pub mod capture;
mod copies;
mod fetch;
mod jobs;
mod pinning;
mod place;
mod plan;
mod site;
mod stage;
#[cfg(test)]
mod tests;
mod writable;

pub mod leases;
pub mod workshop;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cas::Cas;
use crate::digest::Digest;
use crate::store::StoreError;
use crate::store::filesystem::FilesystemStore;

pub use stage::StagedTree;

use cache::DirectoryCache;
use fetch::Habit;
use jobs::Jobs;
use workshop::Workshop;

/// What decoded directories take that are kept for the next tree.
const CACHE_BYTES: usize = 64 << 20;

/// How a file gets into a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkMode {
    /// A hard link; where none can be made a reflink, else a copy.
    #[default]
    Auto,
    /// A hard link or an error.
    HardLink,
    /// A private file that shares the blocks of the store's, or an error.
    Reflink,
    /// A private copy, made by reflink where that is possible.
    Copy,
}

/// Whom what is made for a worker belongs to, and how.
#[derive(Clone, Debug)]
pub struct StageOptions {
    /// How files get there.
    pub link_mode: LinkMode,
    /// Directories to make besides those of the tree, relative to its root.
    pub writable_directories: Vec<String>,
    /// The owner of directories and private copies; `None` for the user of this process.
    pub uid: Option<u32>,
    /// Their group.
    pub gid: Option<u32>,
    /// Bits that their modes do not have. Without them a directory has 0777, a private copy what a
    /// link has (0444, or 0555 for an executable), unless the tree says otherwise. The tree cannot
    /// ask for a file that runs as its owner.
    pub umask: u32,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            link_mode: LinkMode::default(),
            writable_directories: Vec::new(),
            uid: None,
            gid: None,
            umask: 0o022,
        }
    }
}

/// What names a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeRoot {
    /// A `Directory` message.
    Directory(Digest),
    /// A `Tree` message.
    Tree(Digest),
}

/// How far some work is; totals grow while the tree is read.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
}

/// What a tree is made of, each path counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sum of the sizes of all files.
    pub bytes: u64,
    /// Files that are private copies.
    pub copied_files: u64,
}

/// Why a tree is not staged, fetched or captured.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Blobs are absent: all that the tree lacks, each once.
    #[error("{} blobs of the tree are missing, as {}", .0.len(), first(.0))]
    Missing(Vec<Digest>),
    /// The tree is one that no file system may see.
    #[error("{path:?}: {problem}")]
    Invalid {
        /// The entry, relative to the root.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system refuses.
    #[error("{operation} {path:?}: {source}")]
    Target {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One of those that are missing, as text.
fn first(missing: &[Digest]) -> String {
    missing.first().map(ToString::to_string).unwrap_or_default()
}

impl Progress {
    /// Files that are known to be in the tree.
    pub fn files_total(&self) -> u64 {
        self.files_total.load(Ordering::Relaxed)
    }

    /// Those of them that are done.
    pub fn files_done(&self) -> u64 {
        self.files_done.load(Ordering::Relaxed)
    }

    /// The sum of the sizes of all files.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Of those that are done.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// More is known to be done.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much more is done.
    pub fn advance(&self, files: u64, bytes: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Stages the trees of one instance from one store of files.
#[derive(Debug)]
pub struct Stager {
    /// Where directories, and files that are not local, come from.
    cas: Cas,
    /// What the links are made to.
    files: Arc<FilesystemStore>,
    directories: DirectoryCache,
    /// Where trees are made; `None` for beside their targets.
    workshop: Option<Arc<Workshop>>,
    jobs: Jobs,
    /// Of their own, so that no tree waits until large outputs are hashed.
    capture_jobs: Jobs,
    /// What comes of reading from `cas`.
    reads: Habit,
}

impl Stager {
    /// Stages trees of `cas` with links to the blobs of `files`, which stands behind it. Trees are
    /// made beside their targets; a process that is killed leaves them there.
    pub fn new(cas: Cas, files: Arc<FilesystemStore>) -> Arc<Self> {
        Self::with(cas, files, None)
    }

    /// The same, and trees are made in a workshop.
    pub fn with(
        cas: Cas,
        files: Arc<FilesystemStore>,
        workshop: Option<Arc<Workshop>>,
    ) -> Arc<Self> {
        let directories = DirectoryCache::new(CACHE_BYTES);
        Arc::new(Self {
            cas,
            files,
            directories,
            workshop,
            jobs: Jobs::default(),
            capture_jobs: Jobs::default(),
            reads: Habit::default(),
        })
    }

    /// Waits until nothing goes on any more of calls that were broken off. Cancel safe.
    pub async fn at_rest(&self) {
        self.jobs.at_rest().await;
        self.capture_jobs.at_rest().await;
    }
}
