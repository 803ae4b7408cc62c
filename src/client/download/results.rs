//! What an action made, as files.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use castellan_proto::v2::ActionResult;

use super::super::actions::read_digest;
use super::super::tree::{TreeKind, joined};
use super::super::{Client, ClientError, Listing, LoadedTree, Progress};
use super::file::Place;
use super::{Download, Downloaded, Visit, parts, put_symlink};
use crate::digest::Digest;
use crate::trees::directory::{FileEntry, Properties, SymlinkEntry};
use crate::trees::name::Name;
use crate::trees::on_disk::Folder;

/// Something that an action made.
enum Output {
    File(FileEntry),
    Symlink(SymlinkEntry),
    Directory(Name, LoadedTree),
    /// The working directory itself.
    Everything(LoadedTree),
}

impl Client {
    /// Writes the outputs of an action below a directory, which is made or gone on with.
    pub async fn download_outputs(
        self: &Arc<Self>,
        result: &ActionResult,
        to: &Path,
        progress: &Arc<Progress>,
    ) -> Result<Downloaded, ClientError> {
        let outputs = self.outputs(result).await?;
        let mut digests = Vec::new();
        for (_, output) in &outputs {
            match output {
                Output::File(file) => {
                    progress.expect(1, file.digest.size_bytes);
                    digests.push(file.digest);
                }
                Output::Symlink(_) => {}
                Output::Directory(_, tree) | Output::Everything(tree) => {
                    digests.extend(tree.file_digests());
                    tree.list(true, |_, entry| {
                        if let Listing::File(file) = entry {
                            progress.expect(1, file.digest.size_bytes);
                        }
                    })?;
                }
            }
        }
        progress.expect_no_more();
        let (root, _) = self.target_folder(to).await?;
        let root = Arc::new(root);
        let download = self.download(progress);
        let mut done = Downloaded::default();
        let mut parents = HashSet::new();
        for (parent, output) in outputs {
            let is_new = parents.insert(parent.clone());
            match download.output(&root, parent, output, is_new).await {
                Ok(more) => done.add(more),
                Err(error) => return Err(self.all_absent(error, &digests).await),
            }
        }
        Ok(done)
    }

    /// Checks every name before anything is written.
    #[expect(deprecated, reason = "older workers fill nothing else")]
    async fn outputs(
        self: &Arc<Self>,
        result: &ActionResult,
    ) -> Result<Vec<(String, Output)>, ClientError> {
        let mut outputs = Vec::new();
        for file in &result.output_files {
            let (parent, name) = split(&file.path)?;
            let digest = read_digest(self.function(), file.digest.as_ref(), &file.path)?;
            let is_executable = file.is_executable;
            let properties = Properties::default();
            let entry = FileEntry { name, digest, is_executable, properties };
            outputs.push((parent, Output::File(entry)));
        }
        let symlinks = result.output_symlinks.iter();
        let symlinks = symlinks.chain(&result.output_file_symlinks);
        for symlink in symlinks.chain(&result.output_directory_symlinks) {
            let (parent, name) = split(&symlink.path)?;
            if symlink.target.is_empty() || symlink.target.contains('\0') {
                return Err(ClientError::invalid(&symlink.path, "leads to no path"));
            }
            let target = symlink.target.as_str().into();
            let entry = SymlinkEntry { name, target, properties: Properties::default() };
            outputs.push((parent, Output::Symlink(entry)));
        }
        for directory in &result.output_directories {
            let (kind, digest) = match &directory.tree_digest {
                Some(digest) => (TreeKind::Tree, Some(digest)),
                None => (TreeKind::Directories, directory.root_directory_digest.as_ref()),
            };
            let digest: Digest = read_digest(self.function(), digest, &directory.path)?;
            let tree = self.load_tree(kind, digest).await.map_err(|it| it.at(&directory.path))?;
            outputs.push(if directory.path.is_empty() {
                (String::new(), Output::Everything(tree))
            } else {
                let (parent, name) = split(&directory.path)?;
                (parent, Output::Directory(name, tree))
            });
        }
        Ok(outputs)
    }
}

/// The directory of a path and the name in it, each component checked.
fn split(path: &str) -> Result<(String, Name), ClientError> {
    let mut name = None;
    let mut parent = String::new();
    for component in path.split('/') {
        if let Some(name) = name.take() {
            let name: Name = name;
            parent = joined(&parent, name.as_str());
        }
        let checked = Name::new(component);
        name = Some(checked.map_err(|it| ClientError::invalid(format!("output {path:?}"), it))?);
    }
    name.map(|name| (parent, name)).ok_or_else(|| ClientError::invalid(path, "is no path"))
}

/// Refuses the path of an output that is none or leads out.
pub(in super::super) fn check_path(path: &str) -> Result<(), ClientError> {
    split(path).map(drop)
}

impl Download {
    async fn output(
        self: &Arc<Self>,
        root: &Arc<Folder>,
        parent: String,
        output: Output,
        is_new: bool,
    ) -> Result<Downloaded, ClientError> {
        let (from, below) = (Arc::clone(root), parent.clone());
        let job = move || {
            let folder = make_path(&from, &below)?;
            if is_new {
                parts::sweep(&folder);
            }
            Ok(folder)
        };
        let folder = Arc::new(self.client.jobs.run(job).await?);
        let visit = |name: Option<Name>, tree: &LoadedTree| Visit {
            parent: Arc::clone(&folder),
            path: name.as_ref().map_or_else(String::new, |it| joined(&parent, it.as_str())),
            name,
            digest: tree.root(),
            may_have: true,
        };
        match output {
            Output::File(entry) => {
                let path = joined(&parent, entry.name.as_str());
                let place = Place::new(folder, entry.name.as_str().into(), path);
                Arc::clone(self).entry(place, entry, true).await
            }
            Output::Symlink(entry) => {
                let job = move || put_symlink(&folder, &entry, &parent);
                self.client.jobs.run(job).await?;
                Ok(Downloaded { symlinks: 1, ..Downloaded::default() })
            }
            Output::Directory(name, tree) => self.tree(&tree, visit(Some(name), &tree)).await,
            Output::Everything(tree) => self.tree(&tree, visit(None, &tree)).await,
        }
    }
}

/// Opens a directory below `root`, and makes what is not there of the way.
fn make_path(root: &Folder, path: &str) -> Result<Folder, ClientError> {
    let failed = |error| ClientError::file("make", path, error);
    let mut folder = root.try_clone().map_err(failed)?;
    for name in path.split('/').filter(|it| !it.is_empty()) {
        folder = match folder.make_folder(name, 0o777) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                folder.open_folder(name)
            }
            made => made,
        }
        .map_err(failed)?;
    }
    Ok(folder)
}
