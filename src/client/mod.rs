//! L2: a client of any server that speaks REAPI: what the command line does with blobs, trees and
//! actions.
//!
//! Owns transfers that outlive a broken connection, and what is on their other end: files of a
//! user. What a server sends is believed by nobody: blobs are hashed, trees are checked.

mod actions;
mod address;
mod archive;
mod closure;
mod download;
mod export;
mod import;
mod jobs;
mod lists;
mod origin;
mod pace;
mod patience;
mod progress;
mod reading;
mod reference;
mod sending;
mod tree;
mod upload;
pub mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use self::actions::{CreatedAction, NewAction, read_digest, wire_digest};
pub use self::address::{InvalidServer, ServerAddress};
pub use self::download::Downloaded;
pub use self::export::Exported;
pub use self::import::{
    DirectoryOptions, HttpCache, Import, ImportOptions, Imported, InvalidHttpCache, OnSkip, Reason,
    Skipped,
};
pub use self::progress::{Progress, Snapshot};
pub use self::reading::Reading;
pub use self::reference::{InvalidReference, Reference, ReferenceKind};
pub use self::tree::{Listing, LoadedTree, TreeKind};
pub use self::upload::{Uploaded, UploadedTree};

use self::jobs::Jobs;
use self::patience::persist;
use crate::digest::{Digest, DigestFunction};
use crate::store::remote::{Endpoint, RemoteError, RemoteKind, RemoteOptions, RemoteStore};
use crate::store::{BlobStore as _, Key, Namespace, StoreError};

/// What one upload keeps to send it again: more than is under way on a fast connection.
const KEPT_BYTES: u64 = 16 << 20;
/// What all of them keep.
const KEPT_IN_ALL_BYTES: u64 = 128 << 20;

/// The most digests in one question.
const DIGESTS_PER_QUESTION: usize = 2000;

/// Which server is asked, and how.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where it is, and which instance of it.
    pub server: ServerAddress,
    /// The function that digests are made with.
    pub function: DigestFunction,
    /// Metadata sent with every call.
    pub headers: Vec<(String, String)>,
}

/// A client of one instance of a server.
#[derive(Debug)]
pub struct Client {
    blobs: Arc<RemoteStore>,
    results: Arc<RemoteStore>,
    instance: Namespace,
    function: DigestFunction,
    jobs: Jobs,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be used as it is described.
    #[error(transparent)]
    Options(#[from] RemoteError),
    /// The server failed, refused or was not reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob is absent.
    #[error("{0} is not on the server")]
    Absent(Digest),
    /// What came under a digest is something else.
    #[error("{0}: the server has other bytes under this digest")]
    OtherBytes(Digest),
    /// Several blobs are absent, each named once.
    #[error("{} blobs are not on the server: {}", .0.len(), first_of(.0))]
    Missing(Vec<Digest>),
    /// Blobs that were sent or there already are not there any more.
    #[error("the server has not kept {} of the blobs: {}", .0.len(), first_of(.0))]
    Lost(Vec<Digest>),
    /// A tree, a message or a file is one that cannot be used.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file system refuses.
    #[error("{operation} {path:?}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file had other bytes when it was sent than when it was hashed.
    #[error("{0:?} has changed while it was uploaded")]
    Changed(PathBuf),
    /// What failed at one place of a tree.
    #[error("{path:?}: {source}")]
    At {
        /// The place, relative to the root.
        path: String,
        /// What failed.
        source: Box<ClientError>,
    },
}

impl ClientError {
    fn file(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { operation, path: path.into(), source }
    }

    fn invalid(what: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Invalid { what: what.into(), problem: problem.to_string() }
    }

    /// A file of the user that cannot be used.
    fn unfit(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::invalid(format!("{:?}", path.to_string_lossy()), problem)
    }

    /// Whether it is that a blob is absent.
    fn is_absence(&self) -> bool {
        match self {
            Self::Absent(_) => true,
            Self::At { source, .. } => source.is_absence(),
            _ => false,
        }
    }

    /// The same with the place it is about.
    fn at(self, path: &str) -> Self {
        Self::At { path: path.to_owned(), source: Box::new(self) }
    }
}

/// The first few of many.
fn first_of(digests: &[Digest]) -> String {
    const SHOWN: usize = 5;
    let mut text: Vec<String> = digests.iter().take(SHOWN).map(ToString::to_string).collect();
    if digests.len() > SHOWN {
        text.push("...".to_owned());
    }
    text.join(", ")
}

impl Client {
    /// Connects, and asks the server something to see that it is there. Must be called on a
    /// runtime.
    pub async fn connect(options: ClientOptions) -> Result<Arc<Self>, ClientError> {
        let ClientOptions { server, function, headers } = options;
        let open = |kind| {
            let endpoints = vec![Endpoint::new(server.endpoint())];
            let mut options = RemoteOptions::new(server.instance_name(), endpoints, kind);
            options.headers.clone_from(&headers);
            options.batching.kept_bytes = KEPT_BYTES;
            options.batching.max_queued_bytes = KEPT_IN_ALL_BYTES;
            RemoteStore::connect(options)
        };
        let client = Self {
            blobs: open(RemoteKind::Cas)?,
            results: open(RemoteKind::ActionCache)?,
            instance: Namespace::of_instance(server.instance_name()),
            function,
            jobs: Jobs::default(),
        };
        // Who is not there at the beginning is not waited for as who goes away later is.
        client.blobs.find_missing(&[Key::blob(Digest::of(function, b"castellan"))]).await?;
        Ok(Arc::new(client))
    }

    /// The function that digests are made with.
    pub fn function(&self) -> DigestFunction {
        self.function
    }

    /// Begins to read a blob.
    pub fn read(&self, digest: Digest) -> Reading {
        Reading::new(Arc::clone(&self.blobs), digest)
    }

    /// A blob of at most `limit_bytes`, whole.
    pub async fn read_all(&self, digest: Digest, limit_bytes: u64) -> Result<Bytes, ClientError> {
        let size_bytes = digest.size_bytes;
        if size_bytes > limit_bytes {
            return Err(StoreError::TooLarge { size_bytes, limit_bytes }.into());
        }
        self.read(digest).all().await
    }

    /// Says for each digest whether its blob is absent.
    pub async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<bool>, ClientError> {
        let keys: Vec<Key> = digests.iter().copied().map(Key::blob).collect();
        Ok(persist(|| self.blobs.find_missing(&keys)).await?)
    }

    /// Those of many blobs that are absent, each once.
    async fn absent(&self, digests: &[Digest]) -> Result<Vec<Digest>, ClientError> {
        let mut absent = Vec::new();
        for some in digests.chunks(DIGESTS_PER_QUESTION) {
            let missing = self.find_missing(some).await?;
            let pairs = some.iter().zip(missing);
            absent.extend(pairs.filter(|(_, is_missing)| *is_missing).map(|(digest, _)| *digest));
        }
        absent.sort_unstable();
        absent.dedup();
        Ok(absent)
    }

    /// The bytes of a file of the user; `-` is standard input.
    pub async fn read_file(&self, path: &Path, limit_bytes: u64) -> Result<Bytes, ClientError> {
        let path = path.to_owned();
        self.jobs.run(move || upload::read_file(&path, limit_bytes)).await
    }

    /// Stores a blob that is whole in memory.
    pub async fn put(&self, data: Bytes) -> Result<Digest, ClientError> {
        let digest = Digest::of(self.function, &data);
        if !digest.is_empty() {
            let key = Key::blob(digest);
            persist(|| self.blobs.put(&key, data.clone())).await?;
        }
        Ok(digest)
    }
}
