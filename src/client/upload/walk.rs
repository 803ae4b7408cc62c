//! Going through a directory: names, hashes, and the messages that they make.

use std::collections::HashSet;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::ClientError;
use super::super::tree::{MAX_LEVELS, joined};
use super::{Counts, Item, Job, Source};
use crate::digest::{Digest, DigestFunction, Hasher};
use crate::store::StoreError;
use crate::trees::directory::{Directory, DirectoryEntry, FileEntry, Properties, SymlinkEntry};
use crate::trees::name::Name;
use crate::trees::on_disk::{File, Folder, Kind, Listed};

/// The most entries of one directory.
const MAX_ENTRIES: usize = 2_000_000;
/// Files that one job hashes: few, for they may be large.
const FILES_PER_JOB: usize = 8;
/// What is hashed at once.
const BUFFER_BYTES: usize = 256 << 10;

/// One way through everything.
pub(super) struct Walk {
    job: Arc<Job>,
    items: mpsc::Sender<Item>,
    /// The directories below the root, where a `Tree` is wanted.
    children: Option<Mutex<Children>>,
}

#[derive(Default)]
struct Children {
    known: HashSet<Digest>,
    messages: Vec<Bytes>,
}

/// What is in a directory, by kind.
#[derive(Default)]
struct Sorted {
    files: Vec<Name>,
    folders: Vec<Name>,
    symlinks: Vec<SymlinkEntry>,
}

impl Walk {
    pub(super) fn new(job: Arc<Job>, items: mpsc::Sender<Item>, wants_tree: bool) -> Self {
        Self { job, items, children: wants_tree.then(Mutex::default) }
    }

    /// The directories below the root, each once.
    pub(super) fn take_children(&self) -> Option<Vec<Bytes>> {
        let children = self.children.as_ref()?;
        Some(std::mem::take(&mut children.lock().messages))
    }

    /// Hands a blob on to be asked for.
    pub(super) async fn offer(&self, item: Item) -> Result<(), ClientError> {
        Counts::add(&self.job.counts.all_bytes, item.digest.size_bytes);
        if item.digest.is_empty() {
            return Ok(());
        }
        // Whoever takes them has failed, and says so.
        self.items.send(item).await.map_err(|_| StoreError::ShuttingDown.into())
    }

    /// Hashes the one file that was named.
    pub(super) async fn file(self: &Arc<Self>, name: String) -> Result<Digest, ClientError> {
        let walk = Arc::clone(self);
        let path = name.clone();
        let hash = move || walk.hash_file(&walk.job.root, &name, &name);
        let (digest, _) = self.job.client.jobs.run(hash).await?;
        self.offer_file(digest, path).await?;
        Ok(digest)
    }

    async fn offer_file(&self, digest: Digest, path: String) -> Result<(), ClientError> {
        let job = &self.job;
        Counts::add(&job.counts.files, 1);
        Counts::add(&job.counts.bytes, digest.size_bytes);
        job.progress.expect(1, digest.size_bytes);
        if digest.is_empty() {
            job.progress.finish_files(1);
        }
        self.offer(Item { digest, source: Source::File { path } }).await
    }

    /// Goes through a directory; its digest and its message. Directories in it come one after the
    /// other, so that no more is open than it is deep.
    pub(super) fn directory(
        self: &Arc<Self>,
        path: String,
        depth: usize,
    ) -> BoxFuture<'static, Result<(Digest, Bytes), ClientError>> {
        let walk = Arc::clone(self);
        Box::pin(async move {
            if depth >= MAX_LEVELS {
                let problem = format!("is deeper than {MAX_LEVELS} levels");
                return Err(walk.refused(&path, problem));
            }
            let (folder, sorted) = walk.list(&path).await?;
            let mut directory = Directory { symlinks: sorted.symlinks, ..Directory::default() };
            Counts::add(&walk.job.counts.directories, 1);
            Counts::add(&walk.job.counts.symlinks, directory.symlinks.len() as u64);
            directory.files = walk.files(&folder, sorted.files, &path).await?;
            for name in sorted.folders {
                let below = joined(&path, name.as_str());
                let (digest, message) = walk.directory(below, depth + 1).await?;
                walk.keep(digest, message);
                directory.directories.push(DirectoryEntry { name, digest });
            }
            let message = Bytes::from(directory.encode());
            let digest = walk.job.client.digest_of(message.clone()).await?;
            walk.offer(Item { digest, source: Source::Bytes(message.clone()) }).await?;
            Ok((digest, message))
        })
    }

    fn refused(&self, path: &str, problem: impl std::fmt::Display) -> ClientError {
        ClientError::unfit(&self.job.shown(path), problem)
    }

    fn keep(&self, digest: Digest, message: Bytes) {
        let Some(children) = &self.children else { return };
        let mut children = children.lock();
        if children.known.insert(digest) {
            children.messages.push(message);
        }
    }

    async fn list(self: &Arc<Self>, path: &str) -> Result<(Arc<Folder>, Sorted), ClientError> {
        let (walk, path) = (Arc::clone(self), path.to_owned());
        let job = move || {
            let failed = |error| ClientError::file("list", walk.job.shown(&path), error);
            let folder = open_deep(&walk.job.root, &path).map_err(failed)?;
            let mut sorted = Sorted::default();
            for entry in folder.list(MAX_ENTRIES).map_err(failed)? {
                walk.sort(&folder, &entry, &path, &mut sorted)?;
            }
            Ok((Arc::new(folder), sorted))
        };
        self.job.client.jobs.run(job).await
    }

    /// Takes in an entry, or refuses what no tree can have.
    fn sort(
        &self,
        folder: &Folder,
        entry: &Listed,
        path: &str,
        into: &mut Sorted,
    ) -> Result<(), ClientError> {
        let Some(text) = entry.name.to_str() else {
            let place = self.job.shown(path).join(&entry.name);
            return Err(ClientError::unfit(&place, "has a name that is no UTF-8"));
        };
        let below = joined(path, text);
        let name = Name::new(text).map_err(|problem| self.refused(&below, problem))?;
        match entry.kind {
            Kind::File => into.files.push(name),
            Kind::Folder => into.folders.push(name),
            Kind::Symlink => {
                let target = folder.read_link(&name);
                let failed = |error| ClientError::file("read", self.job.shown(&below), error);
                let target = target.map_err(failed)?;
                let target =
                    target.to_str().ok_or_else(|| self.refused(&below, "leads to no UTF-8"))?;
                let (target, properties) = (target.into(), Properties::default());
                into.symlinks.push(SymlinkEntry { name, target, properties });
            }
            Kind::Other => return Err(self.refused(&below, "is a pipe, a socket or a device")),
        }
        Ok(())
    }

    /// Hashes files, several at once.
    async fn files(
        self: &Arc<Self>,
        folder: &Arc<Folder>,
        names: Vec<Name>,
        path: &str,
    ) -> Result<Vec<FileEntry>, ClientError> {
        let mut jobs = Vec::new();
        let mut names = names.into_iter().peekable();
        while names.peek().is_some() {
            let some: Vec<Name> = names.by_ref().take(FILES_PER_JOB).collect();
            let (walk, folder) = (Arc::clone(self), Arc::clone(folder));
            let path = path.to_owned();
            jobs.push(async move { walk.some_files(folder, some, path).await });
        }
        let count = self.job.client.jobs.count();
        let hashed: Vec<Vec<FileEntry>> = stream::iter(jobs).buffered(count).try_collect().await?;
        Ok(hashed.into_iter().flatten().collect())
    }

    async fn some_files(
        self: Arc<Self>,
        folder: Arc<Folder>,
        names: Vec<Name>,
        path: String,
    ) -> Result<Vec<FileEntry>, ClientError> {
        let (walk, below) = (Arc::clone(&self), path.clone());
        let hash = move || {
            let mut entries = Vec::with_capacity(names.len());
            for name in names {
                let path = joined(&below, name.as_str());
                let (digest, is_executable) = walk.hash_file(&folder, name.as_str(), &path)?;
                let properties = Properties::default();
                entries.push(FileEntry { name, digest, is_executable, properties });
            }
            Ok(entries)
        };
        let entries = self.job.client.jobs.run(hash).await?;
        for entry in &entries {
            self.offer_file(entry.digest, joined(&path, entry.name.as_str())).await?;
        }
        Ok(entries)
    }

    /// The digest of a file, and whether it can be run.
    fn hash_file(
        &self,
        folder: &Folder,
        name: &str,
        path: &str,
    ) -> Result<(Digest, bool), ClientError> {
        let failed = |error| ClientError::file("read", self.job.shown(path), error);
        let file = folder.open_file(name).map_err(failed)?;
        let is_executable = folder.metadata_of(name).map_err(failed)?.is_executable();
        let digest = hash(file, self.job.client.function).map_err(failed)?;
        Ok((digest, is_executable))
    }
}

fn hash(mut file: File, function: DigestFunction) -> std::io::Result<Digest> {
    let mut hasher = Hasher::new(function);
    let mut size_bytes = 0_u64;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = file.read(&mut buffer)?;
        match buffer.get(..length) {
            None | Some([]) => break,
            Some(data) => hasher.update(data),
        }
        size_bytes = size_bytes.saturating_add(length as u64);
    }
    Ok(Digest { function, hash: hasher.finish(), size_bytes })
}

/// Opens a directory below `root`. No system call takes a path of any length.
pub(super) fn open_deep(root: &Folder, path: &str) -> std::io::Result<Folder> {
    const STEP_BYTES: usize = 2048;
    let mut rest = path;
    let mut folder = None;
    while rest.len() > STEP_BYTES {
        let bytes = rest.as_bytes();
        // The last separator of the step, or else the first behind it.
        let at = bytes.iter().take(STEP_BYTES).rposition(|it| *it == b'/');
        let Some((step, behind)) = at.and_then(|at| rest.split_at_checked(at)) else { break };
        folder = Some(folder.as_ref().unwrap_or(root).open_beneath(step)?);
        rest = behind.trim_start_matches('/');
    }
    folder.as_ref().unwrap_or(root).open_beneath(rest)
}
