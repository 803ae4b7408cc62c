//! Whether everything that a result names is present now (reapi 81), refreshing it on the way.
//!
//! What is looked up: output files, the streams, every `Tree` with every file in it, and below a
//! `root_directory_digest` every `Directory` blob with every file in it. The directories of a
//! `Tree` are inside its blob and need none of their own.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;

use super::tree_memory::{self, MAX_TREE_BYTES};
use crate::cas::Cas;
use crate::digest::{Digest, DigestFunction, InvalidDigest};
use crate::encoded::view::{DirectoryNodes, Node, OutputDirectory, OutputFile, RawDigest, Streams};
use crate::encoded::view::{TreeNodes, tag};
use crate::encoded::wire::{Fields, WireError};
use crate::store::StoreError;

/// Digests of one lookup, and entries read between two: a store holds its index lock for the one,
/// and the runtime does not get its thread back during the other.
const BATCH: usize = 8192;

/// References followed for one result; the largest tree holds fewer.
const MAX_REFERENCES: usize = 4 << 20;

/// Distinct directories below the `root_directory_digest`s of one result: what the walk must
/// remember.
pub(super) const MAX_DIRECTORIES: usize = 256 << 10;

/// Why a result is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// A blob is absent.
    Missing(Digest),
    /// The result, a tree or a directory does not decode or names a digest that is none.
    Malformed,
    /// A tree over the limit, or no memory for it became free in time.
    Unread(Digest),
    /// More references than one request may follow.
    TooMany,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(digest) => write!(f, "{digest} is missing"),
            Self::Malformed => f.write_str("a message is malformed"),
            Self::Unread(digest) => {
                write!(f, "{digest} is over {MAX_TREE_BYTES} bytes or memory is short")
            }
            Self::TooMany => f.write_str("too many references"),
        }
    }
}

/// What ends a check early.
enum Stop {
    Incomplete(Incomplete),
    Failed(StoreError),
}

impl From<WireError> for Stop {
    fn from(_: WireError) -> Self {
        Self::Incomplete(Incomplete::Malformed)
    }
}

impl From<InvalidDigest> for Stop {
    fn from(_: InvalidDigest) -> Self {
        Self::Incomplete(Incomplete::Malformed)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Checks the result `encoded`, whose digests are of `function`; `None` when it is complete.
///
/// Every blob of a complete result has been moved to the young end of the eviction order. Cancel
/// safe.
pub(super) async fn check(
    cas: &Cas,
    function: DigestFunction,
    encoded: &[u8],
) -> Result<Option<Incomplete>, StoreError> {
    let mut walk = Walk { cas, function, references: 0, steps: 0, batch: Vec::new() };
    match walk.result(encoded).await {
        Ok(()) => Ok(None),
        Err(Stop::Incomplete(why)) => Ok(Some(why)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Walk<'c> {
    cas: &'c Cas,
    function: DigestFunction,
    references: usize,
    /// Entries of trees and directories read.
    steps: usize,
    /// To be looked up by the next [`Walk::flush`].
    batch: Vec<Digest>,
}

/// The messages that a result names, to be looked into.
#[derive(Default)]
struct Nested {
    trees: Vec<Digest>,
    directories: Vec<Digest>,
}

impl Walk<'_> {
    async fn result(&mut self, encoded: &[u8]) -> Result<(), Stop> {
        let mut nested = self.collect(encoded)?;
        // Most results end here: one lookup, and a miss is found before any tree is read.
        self.flush().await?;
        nested.trees.sort_unstable();
        nested.trees.dedup();
        for tree in nested.trees {
            self.tree(tree).await?;
        }
        self.directories(nested.directories).await?;
        self.flush().await
    }

    /// Batches what the result itself names.
    fn collect(&mut self, encoded: &[u8]) -> Result<Nested, Stop> {
        let mut nested = Nested::default();
        let mut streams = Streams::default();
        for field in Fields::new(encoded) {
            let field = field?;
            match field.tag {
                tag::OUTPUT_FILES => {
                    let file = OutputFile::decode(field.bytes()?)?;
                    self.add(file.digest.unwrap_or_default())?;
                }
                tag::OUTPUT_DIRECTORIES => {
                    let directory = OutputDirectory::decode(field.bytes()?)?;
                    if let Some(tree) = directory.tree_digest {
                        nested.trees.push(self.add(tree)?);
                    }
                    if let Some(root) = directory.root_directory_digest {
                        nested.directories.push(self.add(root)?);
                    }
                    if directory.tree_digest.or(directory.root_directory_digest).is_none() {
                        return Err(Stop::Incomplete(Incomplete::Malformed));
                    }
                }
                _ => streams.merge(&field)?,
            }
        }
        for stream in [streams.stdout, streams.stderr] {
            if let Some(digest) = stream.digest {
                self.add(digest)?;
            }
        }
        Ok(nested)
    }

    /// Batches every file of a `Tree`.
    async fn tree(&mut self, digest: Digest) -> Result<(), Stop> {
        let (encoded, _held) = self.read(digest).await?;
        for node in TreeNodes::new(&encoded) {
            match node? {
                Node::File(file) => {
                    self.add(file)?;
                }
                Node::Directory(child) => {
                    self.parse(child)?;
                }
                Node::Other => {}
            }
            self.pace().await?;
        }
        Ok(())
    }

    /// Walks the hierarchies below `level`, breadth first, each directory once however many parents
    /// it has. The directories of `level` have been looked up.
    async fn directories(&mut self, mut level: Vec<Digest>) -> Result<(), Stop> {
        let mut found: HashSet<Digest> = HashSet::new();
        level.retain(|digest| found.insert(*digest));
        while !level.is_empty() {
            let mut next = Vec::new();
            for directory in level {
                let (encoded, _held) = self.read(directory).await?;
                for node in DirectoryNodes::new(&encoded) {
                    match node? {
                        Node::File(file) => {
                            self.add(file)?;
                        }
                        Node::Directory(child) => {
                            let child = self.add(child)?;
                            next.extend(found.insert(child).then_some(child));
                        }
                        Node::Other => {}
                    }
                    if found.len() > MAX_DIRECTORIES {
                        return Err(Stop::Incomplete(Incomplete::TooMany));
                    }
                    self.pace().await?;
                }
            }
            // Before the next level is read: a missing directory is found without reading any.
            self.flush().await?;
            level = next;
        }
        Ok(())
    }

    /// Reads a tree or directory whole, with the right to hold it in memory.
    async fn read(&self, digest: Digest) -> Result<(Bytes, SemaphorePermit<'static>), Stop> {
        let held = tree_memory::hold(digest.size_bytes)
            .await
            .ok_or(Stop::Incomplete(Incomplete::Unread(digest)))?;
        match self.cas.read_all(digest, digest.size_bytes).await {
            Ok(Some(encoded)) => Ok((encoded, held)),
            // What is found corrupt has been removed: absent from now on.
            Ok(None) | Err(StoreError::Corrupt { .. }) => {
                Err(Stop::Incomplete(Incomplete::Missing(digest)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn parse(&mut self, digest: RawDigest<'_>) -> Result<Digest, Stop> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(Stop::Incomplete(Incomplete::TooMany));
        }
        Ok(digest.parse(self.function)?)
    }

    fn add(&mut self, digest: RawDigest<'_>) -> Result<Digest, Stop> {
        let digest = self.parse(digest)?;
        if !digest.is_empty() {
            self.batch.push(digest);
        }
        Ok(digest)
    }

    /// Called for every entry, looks up what is batched and yields now and then: a large tree must
    /// not keep a runtime thread from its other work.
    async fn pace(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps.is_multiple_of(BATCH) {
            self.flush().await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Looks up what is batched.
    ///
    /// Repetitions are dropped within the batch only: a lookup costs no more than remembering every
    /// digest of a tree would, and needs no memory.
    async fn flush(&mut self) -> Result<(), Stop> {
        self.batch.sort_unstable();
        self.batch.dedup();
        for chunk in self.batch.chunks(BATCH) {
            let missing = self.cas.find_missing(chunk).await?;
            for (digest, is_missing) in chunk.iter().zip(missing) {
                if is_missing {
                    return Err(Stop::Incomplete(Incomplete::Missing(*digest)));
                }
            }
        }
        self.batch.clear();
        Ok(())
    }
}
