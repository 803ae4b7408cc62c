//! L2: from what an action has left in directories to blobs and messages.
//!
//! First [`walk`] looks at everything, so that what cannot be captured is refused before anything
//! is stored; then [`contents`] hashes the files and [`storing`] stores those that are missing,
//! and [`messages`] makes the messages, which are stored last. A worker may change its directories
//! all the while: that ends the capture, or gives a tree of what was there before or after.
//!
//! Files that are given up keep their names until everything is stored: a capture that fails has
//! taken nothing away, and can be tried again.

mod caller;
mod contents;
mod inventory;
mod messages;
mod storing;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::jobs::Jobs;
use super::{StageError, Stager};
use crate::digest::{Digest, DigestFunction};
use crate::trees::on_disk::Folder;
use caller::{Caller, Stop};
use contents::{Content, Hashing};
use inventory::{Cursor, Inventory};
use messages::{Messages, TreeSummary};
use storing::{Adopted, FileStoring};
use walk::Found;

/// A directory that is stored with everything in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedDirectory {
    /// Where it was, as it was asked for.
    pub path: String,
    /// Its `Tree` message.
    pub tree_digest: Digest,
    /// Its `Directory` message.
    pub root_directory_digest: Digest,
    /// The files in the whole tree, each path counted.
    pub files: u64,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// A file that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFile {
    /// Where it was, as it was asked for.
    pub path: String,
    /// Its bytes.
    pub digest: Digest,
    /// Whether its owner could run it.
    pub is_executable: bool,
}

/// A symbolic link at a path that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedSymlink {
    /// Where it is, as it was asked for.
    pub path: String,
    /// Where it leads, as it says.
    pub target: String,
}

/// What was at single paths, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedFiles {
    /// The regular files.
    pub files: Vec<CapturedFile>,
    /// The symbolic links.
    pub symlinks: Vec<CapturedSymlink>,
}

impl Stager {
    /// Stores directories of a worker with everything in them. `paths` are relative to `base`, ""
    /// is `base` itself; what is not there is left out.
    ///
    /// With `give_up_files` files may go to the store as they are instead of being copied. They
    /// are gone then, but only when all is stored.
    ///
    /// Cancel safe: what has been stored until then stays, with nothing that refers to it.
    pub async fn capture_directories(
        self: &Arc<Self>,
        function: DigestFunction,
        base: &Folder,
        paths: &[String],
        give_up_files: bool,
    ) -> Result<Vec<CapturedDirectory>, StageError> {
        let caller = Caller::default();
        let (inventory, found) =
            walked(&self.capture_jobs, base, paths, caller.stop(), walk::folders).await?;
        let contents = self.hashed(&inventory, function, &caller.stop()).await?;
        let adopted = self.store_files(&inventory, &contents, give_up_files).await?;
        let messages = {
            let inventory = Arc::clone(&inventory);
            self.capture_jobs.run(move || Messages::make(&inventory, &contents, function)).await??
        };
        storing::store_messages(&self.cas, messages.directories()).await?;
        let trees = self.store_trees(&inventory, messages, &found).await?;
        storing::give_up(&self.capture_jobs, &inventory, adopted).await;
        let captured = paths.iter().zip(found).filter_map(|(path, root)| {
            let tree = trees.get(&root?)?;
            Some(CapturedDirectory {
                path: path.clone(),
                tree_digest: tree.tree_digest,
                root_directory_digest: tree.root_digest,
                files: tree.files,
                bytes: tree.bytes,
            })
        });
        Ok(captured.collect())
    }

    /// Stores single files of a worker, and says where symbolic links lead; directories are left
    /// out. Otherwise like [`Stager::capture_directories`].
    pub async fn capture_files(
        self: &Arc<Self>,
        function: DigestFunction,
        base: &Folder,
        paths: &[String],
        give_up_files: bool,
    ) -> Result<CapturedFiles, StageError> {
        let caller = Caller::default();
        let (inventory, found) =
            walked(&self.capture_jobs, base, paths, caller.stop(), walk::files).await?;
        let contents = self.hashed(&inventory, function, &caller.stop()).await?;
        let adopted = self.store_files(&inventory, &contents, give_up_files).await?;
        storing::give_up(&self.capture_jobs, &inventory, adopted).await;
        let mut captured = CapturedFiles::default();
        for (path, found) in paths.iter().cloned().zip(found) {
            match found {
                None => {}
                Some(Found::File(at)) => captured.files.extend(contents.get(at).map(|content| {
                    let Content { digest, is_executable } = *content;
                    CapturedFile { path, digest, is_executable }
                })),
                Some(Found::Symlink(at)) => {
                    captured.symlinks.extend(inventory.symlinks.get(at).map(|symlink| {
                        CapturedSymlink { path, target: symlink.target.to_string() }
                    }));
                }
            }
        }
        Ok(captured)
    }

    async fn hashed(
        &self,
        inventory: &Arc<Inventory>,
        function: DigestFunction,
        stop: &Stop,
    ) -> Result<Arc<[Content]>, StageError> {
        let hashing = Hashing { function, max_blob_bytes: self.cas.max_blob_bytes() };
        Ok(contents::hash(&self.capture_jobs, inventory, hashing, stop).await?.into())
    }

    async fn store_files(
        self: &Arc<Self>,
        inventory: &Arc<Inventory>,
        contents: &Arc<[Content]>,
        give_up_files: bool,
    ) -> Result<Vec<Adopted>, StageError> {
        let storing = FileStoring {
            stager: Arc::clone(self),
            gives_up_files: give_up_files,
            inventory: Arc::clone(inventory),
            contents: Arc::clone(contents),
            cursor: Mutex::new(Cursor::new(inventory)),
        };
        Arc::new(storing).store().await
    }

    /// Stores the messages of the trees, one after the other: each may be large.
    async fn store_trees(
        &self,
        inventory: &Arc<Inventory>,
        mut messages: Messages,
        roots: &[Option<usize>],
    ) -> Result<HashMap<usize, TreeSummary>, StageError> {
        let mut trees = HashMap::new();
        for root in roots.iter().copied().flatten() {
            if trees.contains_key(&root) {
                continue;
            }
            let inventory = Arc::clone(inventory);
            let job = move || {
                let made = messages.make_tree(&inventory, root);
                (messages, made)
            };
            let made;
            (messages, made) = self.capture_jobs.run(job).await?;
            if let Some((tree, encoded)) = made? {
                storing::store_messages(&self.cas, vec![(tree.tree_digest, encoded)]).await?;
                trees.insert(root, tree);
            }
        }
        Ok(trees)
    }
}

/// What looks at paths below a base.
type Walk<T> = fn(Folder, &[String], Stop) -> Result<(Inventory, Vec<Option<T>>), StageError>;

async fn walked<T: Send + 'static>(
    jobs: &Jobs,
    base: &Folder,
    paths: &[String],
    stop: Stop,
    walk: Walk<T>,
) -> Result<(Arc<Inventory>, Vec<Option<T>>), StageError> {
    let base = base.try_clone().map_err(|error| inventory::failed("open", String::new(), error))?;
    let paths = paths.to_vec();
    let (inventory, found) = jobs.run(move || walk(base, &paths, stop)).await??;
    Ok((Arc::new(inventory), found))
}
