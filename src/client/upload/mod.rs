//! Files of a user that become blobs and trees of a server.
//!
//! Owns what is in memory meanwhile: the files are hashed first, without being kept, and read once
//! more when the server lacks them. One that is another one by then is an error.

mod send;
mod walk;

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::walk::Walk;
use super::sending::InFlight;
use super::{Client, ClientError, Progress};
use crate::digest::Digest;
use crate::trees::encode;
use crate::trees::on_disk::{File, Folder, Kind};

/// What waits to be asked for.
const QUEUED_ITEMS: usize = 4096;

/// What an upload came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The file, or the `Directory` message of the directory.
    pub digest: Digest,
    /// What is only said of directories.
    pub tree: Option<UploadedTree>,
    /// Files.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// Blobs that the server did not have.
    pub sent_blobs: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Bytes of blobs that it had, each path counted.
    pub skipped_bytes: u64,
}

/// What is only said of directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadedTree {
    /// The same as a `Tree` message, where one was asked for.
    pub tree: Option<Digest>,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
}

/// A blob that the server may lack.
#[derive(Clone, Debug)]
struct Item {
    digest: Digest,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// A file below the root.
    File { path: String },
    /// A message.
    Bytes(Bytes),
}

/// One upload.
#[derive(Debug)]
struct Job {
    client: Arc<Client>,
    root: Folder,
    /// For messages.
    root_path: PathBuf,
    progress: Arc<Progress>,
    /// Digests that were asked for lately.
    asked: Mutex<HashSet<Digest>>,
    in_flight: InFlight,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    files: AtomicU64,
    bytes: AtomicU64,
    /// Of files and messages.
    all_bytes: AtomicU64,
    directories: AtomicU64,
    symlinks: AtomicU64,
    sent_blobs: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

impl Client {
    /// Stores a file, or a directory with everything in it; of a directory also its `Tree` message
    /// if that is wanted. Only what the server lacks is sent. In the end all of it is there, or it
    /// is an error; of more than two million blobs only the last are looked for again.
    pub async fn upload(
        self: &Arc<Self>,
        path: &Path,
        wants_tree: bool,
        progress: &Arc<Progress>,
    ) -> Result<Uploaded, ClientError> {
        let named = path.to_owned();
        let (root, name) = self.jobs.run(move || open(&named)).await?;
        progress.expect_more();
        let root_path = if name.is_none() {
            path.to_owned()
        } else {
            path.parent().unwrap_or(Path::new("")).to_owned()
        };
        let job = Arc::new(Job {
            client: Arc::clone(self),
            root,
            root_path,
            progress: Arc::clone(progress),
            asked: Mutex::default(),
            in_flight: InFlight::default(),
            counts: Counts::default(),
        });
        let (items, queue) = mpsc::channel(QUEUED_ITEMS);
        let walking = async {
            let root = job.walk(name, wants_tree, items).await?;
            progress.expect_no_more();
            Ok(root)
        };
        let ((digest, tree), ()) = tokio::try_join!(walking, job.send_all(queue))?;
        // What came last may have taken the place of what came first.
        let asked: Vec<Digest> = job.asked.lock().iter().copied().collect();
        let lost = self.absent(&asked).await?;
        if lost.is_empty() { Ok(job.uploaded(digest, tree)) } else { Err(ClientError::Lost(lost)) }
    }
}

/// A directory, or the one that a file lies in and its name there. Symbolic links to either are
/// followed: it is the user who names them.
fn open(path: &Path) -> Result<(Folder, Option<String>), ClientError> {
    let failed = |error| ClientError::file("open", path, error);
    match Folder::open_root(path) {
        Ok(folder) => return Ok((folder, None)),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
        Err(error) => return Err(failed(error)),
    }
    let actual = path.canonicalize().map_err(failed)?;
    let (Some(parent), Some(name)) = (actual.parent(), actual.file_name()) else {
        return Err(failed(std::io::ErrorKind::NotFound.into()));
    };
    let folder = Folder::open_root(parent).map_err(failed)?;
    if folder.metadata_of(name).map_err(failed)?.kind != Kind::File {
        return Err(ClientError::unfit(path, "is no file and no directory"));
    }
    let Some(name) = name.to_str() else {
        return Err(ClientError::unfit(path, "has a name that is no UTF-8"));
    };
    Ok((folder, Some(name.to_owned())))
}

/// A file that a user names.
pub(super) fn open_file(path: &Path) -> Result<File, ClientError> {
    let failed = |error| ClientError::file("read", path, error);
    let (folder, name) = open(path)?;
    let name = name.ok_or_else(|| failed(std::io::ErrorKind::IsADirectory.into()))?;
    folder.open_file(&name).map_err(failed)
}

/// The bytes of a file; `-` is standard input.
pub(super) fn read_file(path: &Path, limit_bytes: u64) -> Result<Bytes, ClientError> {
    let failed = |error| ClientError::file("read", path, error);
    let mut data = Vec::new();
    let at_most = limit_bytes.saturating_add(1);
    if path == Path::new("-") {
        std::io::stdin().take(at_most).read_to_end(&mut data).map_err(failed)?;
    } else {
        let file = open_file(path)?;
        file.take(at_most).read_to_end(&mut data).map_err(failed)?;
    }
    if data.len() as u64 > limit_bytes {
        let problem = format!("has more than {limit_bytes} bytes");
        return Err(ClientError::unfit(path, problem));
    }
    Ok(data.into())
}

impl Job {
    /// Hashes everything and puts it into the queue.
    async fn walk(
        self: &Arc<Self>,
        name: Option<String>,
        wants_tree: bool,
        items: mpsc::Sender<Item>,
    ) -> Result<(Digest, Option<UploadedTree>), ClientError> {
        let walk = Arc::new(Walk::new(Arc::clone(self), items, wants_tree));
        if let Some(name) = name {
            return Ok((walk.file(name).await?, None));
        }
        let (digest, root) = walk.directory(String::new(), 0).await?;
        let mut tree = None;
        if let Some(children) = walk.take_children() {
            let message = Bytes::from(encode::tree(root, children));
            let digest = self.client.digest_of(message.clone()).await?;
            walk.offer(Item { digest, source: Source::Bytes(message) }).await?;
            tree = Some(digest);
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (directories, symlinks) = (get(&self.counts.directories), get(&self.counts.symlinks));
        Ok((digest, Some(UploadedTree { tree, directories, symlinks })))
    }

    fn uploaded(&self, digest: Digest, tree: Option<UploadedTree>) -> Uploaded {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sent_bytes = get(&self.counts.sent_bytes);
        Uploaded {
            digest,
            tree,
            files: get(&self.counts.files),
            bytes: get(&self.counts.bytes),
            sent_blobs: get(&self.counts.sent_blobs),
            sent_bytes,
            skipped_bytes: get(&self.counts.all_bytes).saturating_sub(sent_bytes),
        }
    }

    /// What a path below the root is called in messages.
    fn shown(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root_path.clone() } else { self.root_path.join(path) }
    }
}

impl Client {
    /// The digest of a message, which may be large.
    async fn digest_of(&self, message: Bytes) -> Result<Digest, ClientError> {
        let function = self.function;
        self.jobs.run(move || Ok(Digest::of(function, &message))).await
    }
}
