//! What an action result names, and what that reaches.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use castellan_proto::v2::{self, ActionResult};
use prost::Message;
use tokio::sync::Semaphore;

use super::ClientError;
use super::actions::{MAX_MESSAGE_BYTES, read_digest};
use super::download::check_output_path;
use super::origin::{Origin, read_whole};
use super::tree::{self, TreeKind};
use crate::digest::{Digest, DigestFunction};
use crate::store::StoreError;

/// The largest tree of a result: servers look into no larger ones.
const MAX_TREE_BYTES: u64 = 256 << 20;
/// What is held of trees at once, but for one that is larger alone.
const HELD_KIB: usize = 256 << 10;
/// What a tree takes in memory for each of its bytes.
const HELD_BYTES_PER_BYTE: u64 = 8;
/// One tree at a time for each result, so nobody waits with a tree in hand.
static HELD: Semaphore = Semaphore::const_new(HELD_KIB);

/// What a result names, by what it stands for.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Output files and what was written to the streams.
    files: Vec<Digest>,
    trees: Vec<Digest>,
    directories: Vec<Digest>,
}

impl Named {
    /// Reads the digests of a result.
    pub(super) fn of(function: DigestFunction, result: &ActionResult) -> Result<Self, ClientError> {
        let mut named = Self::default();
        let put = |into: &mut Vec<Digest>, digest: Option<&v2::Digest>, what: &str| {
            if digest.is_some() {
                into.push(read_digest(function, digest, what)?);
            }
            Ok::<(), ClientError>(())
        };
        put(&mut named.files, result.stdout_digest.as_ref(), "standard output")?;
        put(&mut named.files, result.stderr_digest.as_ref(), "standard error")?;
        for file in &result.output_files {
            put(&mut named.files, file.digest.as_ref(), &file.path)?;
        }
        for directory in &result.output_directories {
            put(&mut named.trees, directory.tree_digest.as_ref(), &directory.path)?;
            let root = directory.root_directory_digest.as_ref();
            put(&mut named.directories, root, &directory.path)?;
        }
        Ok(named)
    }

    /// All of them, some more than once.
    pub(super) fn all(&self) -> Vec<Digest> {
        [&*self.files, &*self.trees, &*self.directories].concat()
    }

    /// With everything in its trees: sorted, each once, without the empty blob.
    pub(super) async fn closure(
        self,
        origin: &Arc<dyn Origin>,
    ) -> Result<Vec<Digest>, ClientError> {
        let mut all: HashSet<Digest> = self.all().into_iter().collect();
        let trees = self.trees.into_iter().map(|it| (TreeKind::Tree, it));
        let directories = self.directories.into_iter().map(|it| (TreeKind::Directories, it));
        for (kind, digest) in trees.chain(directories) {
            extend_with_tree(&mut all, origin, kind, digest).await?;
        }
        Ok(sorted(all))
    }
}

async fn extend_with_tree(
    all: &mut HashSet<Digest>,
    origin: &Arc<dyn Origin>,
    kind: TreeKind,
    digest: Digest,
) -> Result<(), ClientError> {
    // I22: how large a hierarchy is shows when it has been read.
    let held_bytes = if kind == TreeKind::Tree { digest.size_bytes } else { MAX_TREE_BYTES };
    let held_kib = held_bytes.saturating_mul(HELD_BYTES_PER_BYTE) >> 10;
    let units = u32::try_from(held_kib.clamp(1, HELD_KIB as u64)).unwrap_or(u32::MAX);
    let _held = HELD.acquire_many(units).await.map_err(|_| StoreError::ShuttingDown)?;
    let tree = tree::load(origin, kind, digest, MAX_TREE_BYTES).await?;
    all.extend(tree.file_digests());
    if kind == TreeKind::Directories {
        all.extend(tree.directory_digests());
    }
    Ok(())
}

/// An input tree: its directories and the files in them.
async fn of_inputs(origin: &Arc<dyn Origin>, root: Digest) -> Result<Vec<Digest>, ClientError> {
    let mut all = HashSet::new();
    extend_with_tree(&mut all, origin, TreeKind::Directories, root).await?;
    Ok(sorted(all))
}

fn sorted(mut all: HashSet<Digest>) -> Vec<Digest> {
    all.retain(|it| !it.is_empty());
    let mut all: Vec<Digest> = all.into_iter().collect();
    all.sort_unstable();
    all
}

/// Refuses a result that no server takes: outputs without a digest, paths that lead out.
#[expect(deprecated, reason = "older workers fill nothing else")]
pub(super) fn check(function: DigestFunction, result: &ActionResult) -> Result<(), ClientError> {
    for file in &result.output_files {
        check_output_path(&file.path)?;
        read_digest(function, file.digest.as_ref(), &file.path)?;
    }
    for directory in &result.output_directories {
        if !directory.path.is_empty() {
            check_output_path(&directory.path)?;
        }
        let digest = directory.tree_digest.as_ref().or(directory.root_directory_digest.as_ref());
        read_digest(function, digest, &directory.path)?;
    }
    let symlinks = result.output_symlinks.iter().chain(&result.output_file_symlinks);
    for symlink in symlinks.chain(&result.output_directory_symlinks) {
        check_output_path(&symlink.path)?;
        if symlink.target.is_empty() || symlink.target.contains('\0') {
            return Err(ClientError::unfit(Path::new(&symlink.path), "leads to no path"));
        }
    }
    Ok(())
}

/// What is known of an action itself: its message, its command, and its input tree where that is
/// wanted. What is not there is left out: clients of HTTP never store it.
pub(super) async fn of_action(
    origin: &Arc<dyn Origin>,
    action: Digest,
    with_inputs: bool,
) -> Result<Vec<Digest>, ClientError> {
    let mut all = Vec::new();
    let Some(message) = message::<v2::Action>(origin, action).await? else { return Ok(all) };
    all.push(action);
    let named = |digest: Option<&v2::Digest>| read_digest(action.function, digest, "action").ok();
    if let Some(command) = named(message.command_digest.as_ref())
        && message_bytes(origin, command).await?.is_some()
    {
        all.push(command);
    }
    if with_inputs && let Some(root) = named(message.input_root_digest.as_ref()) {
        match of_inputs(origin, root).await {
            Ok(inputs) => all.extend(inputs),
            Err(ClientError::Absent(_) | ClientError::Missing(_) | ClientError::Invalid { .. }) => {
            }
            Err(error) => return Err(error),
        }
    }
    all.retain(|it| !it.is_empty());
    Ok(all)
}

async fn message_bytes(
    origin: &Arc<dyn Origin>,
    digest: Digest,
) -> Result<Option<Bytes>, ClientError> {
    // Of one whose size is not known nothing can be asked.
    if digest.is_empty() {
        return Ok(None);
    }
    match read_whole(&**origin, digest, MAX_MESSAGE_BYTES).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ClientError::Absent(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A message; `None` when it is not there, or something else has its digest.
async fn message<M: Message + Default>(
    origin: &Arc<dyn Origin>,
    digest: Digest,
) -> Result<Option<M>, ClientError> {
    Ok(message_bytes(origin, digest).await?.and_then(|bytes| M::decode(bytes).ok()))
}
