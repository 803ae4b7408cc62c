//! Blobs and trees of a server that become files of a user.
//!
//! A file is written under another name and gets its own when it is whole and right. What is right
//! already is left as it is, so that a download that ended early goes on.

mod file;
mod parts;
mod results;

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

pub(super) use self::file::{Look, Part, Place};
pub(super) use self::results::check_path as check_output_path;
use super::tree::joined;
use super::{Client, ClientError, LoadedTree, Progress};
use crate::digest::Digest;
use crate::trees::directory::{Directory, FileEntry, SymlinkEntry};
use crate::trees::name::Name;
use crate::trees::on_disk::{Folder, Kind};

/// Files that are written at once; small ones travel together.
const FILE_CONCURRENCY: usize = 64;

/// What is said of them where a file or a link belongs.
const NOT_REPLACED: &str = "is a pipe, a socket or a device, which is not replaced";

/// What a download came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// Files, written or not.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sum of the sizes of all files.
    pub bytes: u64,
    /// Those of them that were right already.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
}

/// A directory that is to be made or gone on with.
struct Visit {
    parent: Arc<Folder>,
    /// `None` for `parent` itself.
    name: Option<Name>,
    digest: Digest,
    path: String,
    /// Whether there was something before.
    may_have: bool,
}

/// One download.
struct Download {
    client: Arc<Client>,
    progress: Arc<Progress>,
}

impl Client {
    /// Writes a blob to a file; what is there already goes.
    pub async fn download_blob(
        self: &Arc<Self>,
        digest: Digest,
        to: &Path,
        progress: &Arc<Progress>,
    ) -> Result<Downloaded, ClientError> {
        let target = to.to_owned();
        let job = move || {
            // One that a link leads to is meant as well.
            if target.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir()) {
                return Err(ClientError::unfit(&target, NOT_REPLACED));
            }
            let (folder, name) = parent_of(&target)?;
            parts::sweep(&folder);
            Ok((folder, name))
        };
        let (folder, name) = self.jobs.run(job).await?;
        progress.expect(1, digest.size_bytes);
        progress.expect_no_more();
        let place = Place::new(Arc::new(folder), name, to.display().to_string());
        let is_kept = self.download(progress).file(place, digest, None, true).await?;
        Ok(Downloaded::of_file(digest, is_kept))
    }

    /// Writes a tree to a directory, which is made or gone on with. Nothing else in it is touched.
    pub async fn download_tree(
        self: &Arc<Self>,
        tree: &LoadedTree,
        to: &Path,
        progress: &Arc<Progress>,
    ) -> Result<Downloaded, ClientError> {
        let (folder, may_have) = self.target_folder(to).await?;
        tree.list(true, |_, entry| {
            if let super::Listing::File(file) = entry {
                progress.expect(1, file.digest.size_bytes);
            }
        })?;
        progress.expect_no_more();
        let root = Visit {
            parent: Arc::new(folder),
            name: None,
            digest: tree.root(),
            path: String::new(),
            may_have,
        };
        match self.download(progress).tree(tree, root).await {
            Err(error) => Err(self.all_absent(error, &tree.file_digests()).await),
            done => done,
        }
    }

    /// Where a blob was absent, an error that tells of all others too that are.
    async fn all_absent(&self, error: ClientError, digests: &[Digest]) -> ClientError {
        if !error.is_absence() {
            return error;
        }
        match self.absent(digests).await {
            Ok(absent) if absent.len() > 1 => ClientError::Missing(absent),
            _ => error,
        }
    }

    fn download(self: &Arc<Self>, progress: &Arc<Progress>) -> Arc<Download> {
        Arc::new(Download { client: Arc::clone(self), progress: Arc::clone(progress) })
    }

    /// The directory that a user names, and whether it was there.
    async fn target_folder(&self, to: &Path) -> Result<(Folder, bool), ClientError> {
        let target = to.to_owned();
        let job = move || match Folder::open_root(&target) {
            Ok(folder) => {
                parts::sweep(&folder);
                Ok((folder, true))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (parent, name) = parent_of(&target)?;
                let made = parent.make_folder(&name, 0o777);
                let made = made.map_err(|it| ClientError::file("make", &target, it))?;
                Ok((made, false))
            }
            Err(error) => Err(ClientError::file("open", &target, error)),
        };
        self.jobs.run(job).await
    }
}

/// The directory that a path lies in, and its name there.
pub(super) fn parent_of(path: &Path) -> Result<(Folder, std::ffi::OsString), ClientError> {
    let Some(name) = path.file_name() else {
        return Err(ClientError::unfit(path, "names no file"));
    };
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let folder = Folder::open_root(parent);
    let folder = folder.map_err(|error| ClientError::file("open", parent, error))?;
    Ok((folder, name.to_owned()))
}

impl Downloaded {
    fn of_file(digest: Digest, is_kept: bool) -> Self {
        let bytes = digest.size_bytes;
        let mut done = Self { files: 1, bytes, ..Self::default() };
        if is_kept {
            (done.kept_files, done.kept_bytes) = (1, bytes);
        }
        done
    }

    fn add(&mut self, other: Self) {
        let Self { files, directories, symlinks, bytes, kept_files, kept_bytes } = other;
        self.files += files;
        self.directories += directories;
        self.symlinks += symlinks;
        self.bytes += bytes;
        self.kept_files += kept_files;
        self.kept_bytes += kept_bytes;
    }
}

impl Download {
    async fn tree(
        self: &Arc<Self>,
        tree: &LoadedTree,
        root: Visit,
    ) -> Result<Downloaded, ClientError> {
        let mut done = Downloaded::default();
        let mut running = FuturesUnordered::new();
        let mut visits = vec![root];
        while let Some(visit) = visits.pop() {
            let directory = tree.directory(&visit.digest)?;
            let path = visit.path.clone();
            let entering = self.enter(visit, Arc::clone(&directory));
            tokio::pin!(entering);
            // Files that are under way hold the threads that a directory waits for.
            let (folder, may_have) = loop {
                tokio::select! {
                    entered = &mut entering => break entered?,
                    Some(ended) = running.next(), if !running.is_empty() => done.add(ended?),
                }
            };
            done.directories += 1;
            done.symlinks += directory.symlinks.len() as u64;
            for entry in &directory.files {
                if running.len() >= FILE_CONCURRENCY
                    && let Some(ended) = running.next().await
                {
                    done.add(ended?);
                }
                let path = joined(&path, entry.name.as_str());
                let place = Place::new(Arc::clone(&folder), entry.name.as_str().into(), path);
                running.push(Arc::clone(self).entry(place, entry.clone(), may_have));
            }
            visits.extend(directory.directories.iter().map(|entry| Visit {
                parent: Arc::clone(&folder),
                name: Some(entry.name.clone()),
                digest: entry.digest,
                path: joined(&path, entry.name.as_str()),
                may_have,
            }));
        }
        while let Some(ended) = running.next().await {
            done.add(ended?);
        }
        Ok(done)
    }

    async fn entry(
        self: Arc<Self>,
        place: Place,
        entry: FileEntry,
        may_have: bool,
    ) -> Result<Downloaded, ClientError> {
        let is_kept = self.file(place, entry.digest, Some(&entry), may_have).await?;
        Ok(Downloaded::of_file(entry.digest, is_kept))
    }

    /// Opens or makes a directory, with the symbolic links in it.
    async fn enter(
        &self,
        visit: Visit,
        directory: Arc<Directory>,
    ) -> Result<(Arc<Folder>, bool), ClientError> {
        let job = move || {
            let (folder, may_have) = open_or_make(&visit)?;
            for symlink in &directory.symlinks {
                put_symlink(&folder, symlink, &visit.path)?;
            }
            Ok((folder, may_have))
        };
        self.client.jobs.run(job).await
    }
}

fn open_or_make(visit: &Visit) -> Result<(Arc<Folder>, bool), ClientError> {
    let Visit { parent, name: Some(name), path, may_have, .. } = visit else {
        return Ok((Arc::clone(&visit.parent), visit.may_have));
    };
    let made = match parent.make_folder(name, 0o777) {
        Ok(folder) => return Ok((Arc::new(folder), false)),
        Err(error) if *may_have && error.kind() == std::io::ErrorKind::AlreadyExists => {
            parent.open_folder(name)
        }
        Err(error) => Err(error),
    };
    let folder = made.map_err(|error| ClientError::file("make", path, error))?;
    parts::sweep(&folder);
    Ok((Arc::new(folder), true))
}

/// Makes a symbolic link, or one that leads elsewhere lead there.
fn put_symlink(folder: &Folder, entry: &SymlinkEntry, path: &str) -> Result<(), ClientError> {
    let name = &entry.name;
    let path = joined(path, name.as_str());
    let failed = |error| ClientError::file("link", &path, error);
    let make = |name: &str| {
        folder.symlink(name, &entry.target)?;
        // It has no mode of its own.
        entry.properties.mtime.map_or(Ok(()), |mtime| folder.set_mtime_of(name, mtime))
    };
    match make(name.as_str()) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        outcome => return outcome.map_err(failed),
    }
    let kind = folder.metadata_of(name).map_err(failed)?.kind;
    if kind == Kind::Other {
        return Err(ClientError::unfit(Path::new(&path), NOT_REPLACED));
    }
    let is_right = kind == Kind::Symlink
        && entry.properties.mtime.is_none()
        && folder.read_link(name).map_err(failed)?.to_str() == Some(&*entry.target);
    if is_right {
        return Ok(());
    }
    let other = parts::name();
    let placed = make(&other).and_then(|()| folder.rename(&other, folder, name));
    placed.map_err(|error| {
        // A directory is in the way, and nothing is to be left beside it.
        drop(folder.remove_file(&other));
        failed(error)
    })
}
