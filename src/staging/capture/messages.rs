//! From what a walk has found and what is known about files to `Directory` and `Tree` messages.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::contents::Content;
use super::inventory::{FoundFolder, Inventory, refuse};
use crate::digest::{Digest, DigestFunction};
use crate::staging::StageError;
use crate::trees::directory::{Directory, DirectoryEntry, FileEntry, Properties, SymlinkEntry};
use crate::trees::encode;

/// All messages of one capture; of a larger tree no action cache could tell whether it is whole.
const MAX_MESSAGE_BYTES: u64 = 256 << 20;

/// What a directory is, with everything in it.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// Of its message.
    digest: Digest,
    files: u64,
    bytes: u64,
}

/// The messages of all directories of an inventory.
#[derive(Debug)]
pub(super) struct Messages {
    function: DigestFunction,
    /// By the numbers of the directories; `None` for those that are only on the way to others.
    summaries: Vec<Option<Summary>>,
    encoded: HashMap<Digest, Bytes>,
    bytes_left: u64,
}

/// A tree whose message is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeSummary {
    pub(super) tree_digest: Digest,
    pub(super) root_digest: Digest,
    /// Files and the sum of their sizes, each path counted.
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Messages {
    /// Makes the messages of all directories, the deepest first. Blocking.
    pub(super) fn make(
        inventory: &Inventory,
        contents: &[Content],
        function: DigestFunction,
    ) -> Result<Self, StageError> {
        let mut messages = Self {
            function,
            summaries: vec![None; inventory.folders.len()],
            encoded: HashMap::new(),
            bytes_left: MAX_MESSAGE_BYTES,
        };
        // The numbers of directories are higher than those of what they are in.
        for (at, folder) in inventory.folders.iter().enumerate().rev() {
            if !folder.is_captured {
                continue;
            }
            let summary = messages.add(inventory, contents, folder)?;
            if let Some(place) = messages.summaries.get_mut(at) {
                *place = Some(summary);
            }
        }
        Ok(messages)
    }

    /// Every directory's message, each once.
    pub(super) fn directories(&self) -> Vec<(Digest, Bytes)> {
        self.encoded.iter().map(|(digest, encoded)| (*digest, encoded.clone())).collect()
    }

    fn add(
        &mut self,
        inventory: &Inventory,
        contents: &[Content],
        folder: &FoundFolder,
    ) -> Result<Summary, StageError> {
        let (mut files, mut bytes) = (0, 0);
        let mut directory = Directory::default();
        let contents = contents.get(folder.files.clone()).unwrap_or_default();
        for (file, content) in inventory.files_in(folder).iter().zip(contents) {
            files += 1;
            bytes += content.digest.size_bytes;
            directory.files.push(FileEntry {
                name: file.name.clone(),
                digest: content.digest,
                is_executable: content.is_executable,
                properties: Properties::default(),
            });
        }
        for child in &folder.folders {
            let summary = self.summaries.get(*child).copied().flatten();
            let (Some(summary), Some(name)) = (summary, inventory.name_of(*child)) else {
                continue;
            };
            files += summary.files;
            bytes += summary.bytes;
            let name = name.clone();
            directory.directories.push(DirectoryEntry { name, digest: summary.digest });
        }
        for symlink in inventory.symlinks_in(folder) {
            directory.symlinks.push(SymlinkEntry {
                name: symlink.name.clone(),
                target: symlink.target.clone(),
                properties: Properties::default(),
            });
        }
        let encoded = directory.encode();
        let digest = Digest::of(self.function, &encoded);
        if !self.encoded.contains_key(&digest) {
            self.spend(encoded.len())?;
            self.encoded.insert(digest, encoded.into());
        }
        Ok(Summary { digest, files, bytes })
    }

    fn spend(&mut self, bytes: usize) -> Result<(), StageError> {
        let left = self.bytes_left.checked_sub(bytes as u64);
        self.bytes_left = left.ok_or_else(|| {
            let problem = format!("needs messages of more than {MAX_MESSAGE_BYTES} bytes");
            refuse(String::new(), problem)
        })?;
        Ok(())
    }

    /// Makes the message of one whole tree: its root, then every other directory once, by levels.
    /// Blocking.
    pub(super) fn make_tree(
        &mut self,
        inventory: &Inventory,
        root: usize,
    ) -> Result<Option<(TreeSummary, Bytes)>, StageError> {
        let Some(summary) = self.summaries.get(root).copied().flatten() else { return Ok(None) };
        let mut seen = HashSet::from([summary.digest]);
        let mut children = Vec::new();
        let mut queue = VecDeque::from([root]);
        while let Some(folder) = queue.pop_front().and_then(|at| inventory.folders.get(at)) {
            for child in &folder.folders {
                let Some(child_summary) = self.summaries.get(*child).copied().flatten() else {
                    continue;
                };
                if seen.insert(child_summary.digest) {
                    let encoded = self.encoded.get(&child_summary.digest).cloned();
                    children.push(encoded.unwrap_or_default());
                    queue.push_back(*child);
                }
            }
        }
        let root = self.encoded.get(&summary.digest).cloned().unwrap_or_default();
        self.spend(children.iter().map(Bytes::len).sum::<usize>() + root.len())?;
        let encoded: Bytes = encode::tree(root, children).into();
        let tree = TreeSummary {
            tree_digest: Digest::of(self.function, &encoded),
            root_digest: summary.digest,
            files: summary.files,
            bytes: summary.bytes,
        };
        Ok(Some((tree, encoded)))
    }
}
