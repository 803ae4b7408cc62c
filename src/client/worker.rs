//! Asking the store on this machine, as a worker does.

use std::time::Duration;

use castellan_proto::worker::stage_tree_response::Event;
use castellan_proto::worker::worker_client::WorkerClient;
use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse,
    Digest as WireDigest, FetchTreeRequest, GetDiskUsageRequest, GetDiskUsageResponse,
    ReleaseTreeRequest, StageProgress, StageTreeRequest, StageTreeResponse, StagedTree,
};
use futures_util::stream::{Stream, StreamExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::wire_digest;
use crate::digest::Digest;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest message that a server sends.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Why a worker's call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No address of a server.
    #[error("{address}: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody is there, or not for this user.
    #[error("no server answers on {address}: {problem}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        problem: String,
    },
    /// Blobs are absent; each once.
    #[error("{} blobs of the tree are missing", .0.len())]
    Missing(Vec<String>),
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or the stream ended before its end.
    #[error("the server went away before it was done")]
    Interrupted,
    /// A server answers, and has never heard of workers.
    #[error(
        "there is no worker API at this address; the server's --worker-listen says where it is"
    )]
    NotServed,
}

impl From<Status> for WorkerError {
    fn from(status: Status) -> Self {
        let failure = status.get_details_precondition_failure();
        let violations = failure.map(|it| it.violations).unwrap_or_default();
        let missing = violations.into_iter().filter(|it| it.r#type == "MISSING");
        let missing: Vec<String> =
            missing.map(|it| it.subject.trim_start_matches("blobs/").to_owned()).collect();
        if missing.is_empty() {
            // The transport makes a status of what it meets.
            if std::error::Error::source(&status).is_some() {
                return Self::Interrupted;
            }
            if status.code() == Code::Unimplemented && status.message().is_empty() {
                return Self::NotServed;
            }
            return Self::Refused(format!("{:?}: {}", status.code(), status.message()));
        }
        Self::Missing(missing)
    }
}

/// A connection to the worker API.
#[derive(Debug)]
pub struct Worker {
    client: WorkerClient<Channel>,
}

/// A tree that has been staged.
#[derive(Debug)]
pub struct Staged {
    /// What it is made of, and its lease.
    pub tree: StagedTree,
    stream: Streaming<StageTreeResponse>,
}

impl Staged {
    /// Waits until the server ends the stream, which is when a lease by the stream ends.
    pub async fn ended(&mut self) {
        while let Ok(Some(_)) = self.stream.message().await {}
    }
}

impl Worker {
    /// Connects to `unix:PATH` or `HOST:PORT`.
    pub async fn connect(address: &str) -> Result<Self, WorkerError> {
        let is_socket = address.starts_with("unix:");
        let uri = if is_socket { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(uri).map_err(|error| WorkerError::Address {
            address: address.to_owned(),
            problem: error.to_string(),
        })?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await;
        let channel = channel.map_err(|error| WorkerError::Unreachable {
            address: address.to_owned(),
            problem: with_source(&error),
        })?;
        let client = WorkerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { client })
    }

    /// Stages a tree; `on_progress` is told how far it is.
    pub async fn stage(
        &mut self,
        request: StageTreeRequest,
        mut on_progress: impl FnMut(&StageProgress),
    ) -> Result<Staged, WorkerError> {
        let mut stream = self.client.stage_tree(request).await?.into_inner();
        let staged = follow(&mut stream, |message| match message.event {
            Some(Event::Progress(progress)) => {
                on_progress(&progress);
                (message.missing, None)
            }
            Some(Event::Staged(tree)) => (message.missing, Some(tree)),
            None => (message.missing, None),
        });
        let tree = staged.await?;
        Ok(Staged { tree, stream })
    }

    /// Makes everything of a tree local; `on_progress` is told how far it is.
    pub async fn fetch(
        &mut self,
        request: FetchTreeRequest,
        mut on_progress: impl FnMut(&StageProgress),
    ) -> Result<(), WorkerError> {
        let mut stream = self.client.fetch_tree(request).await?.into_inner();
        let fetched = follow(&mut stream, |message| {
            message.progress.iter().for_each(&mut on_progress);
            (message.missing, message.is_done.then_some(()))
        });
        fetched.await
    }

    /// What the store of an instance takes.
    pub async fn disk_usage(
        &mut self,
        instance_name: String,
    ) -> Result<GetDiskUsageResponse, WorkerError> {
        let request = GetDiskUsageRequest { instance_name };
        Ok(self.client.get_disk_usage(request).await?.into_inner())
    }

    /// Ends a lease; says whether the directory was removed.
    pub async fn release(&mut self, lease_id: String, remove: bool) -> Result<bool, WorkerError> {
        let released = self.client.release_tree(ReleaseTreeRequest { lease_id, remove }).await?;
        Ok(released.into_inner().is_removed)
    }

    /// Stores files and symbolic links.
    pub async fn capture_files(
        &mut self,
        request: CaptureFilesRequest,
    ) -> Result<CaptureFilesResponse, WorkerError> {
        Ok(self.client.capture_files(request).await?.into_inner())
    }

    /// Stores directories.
    pub async fn capture_tree(
        &mut self,
        request: CaptureTreeRequest,
    ) -> Result<CaptureTreeResponse, WorkerError> {
        Ok(self.client.capture_tree(request).await?.into_inner())
    }
}

/// A digest as the worker API has it.
pub fn worker_digest(digest: &Digest) -> WireDigest {
    let castellan_proto::v2::Digest { hash, size_bytes } = wire_digest(digest);
    WireDigest { hash, size_bytes }
}

/// Follows a stream to what it is about; `read` says which blobs a message calls missing, and
/// whether it is the one.
async fn follow<M, T>(
    mut stream: impl Stream<Item = Result<M, Status>> + Unpin,
    mut read: impl FnMut(M) -> (Vec<WireDigest>, Option<T>),
) -> Result<T, WorkerError> {
    let mut missing = Vec::new();
    loop {
        let message = match stream.next().await.ok_or(WorkerError::Interrupted)? {
            Ok(message) => message,
            // A status has no room for many; these came before it. With any other they are not
            // all.
            Err(status) if status.code() == Code::FailedPrecondition && !missing.is_empty() => {
                return Err(WorkerError::Missing(missing));
            }
            Err(status) => return Err(status.into()),
        };
        let (absent, done) = read(message);
        missing.extend(absent.iter().map(|it| format!("{}/{}", it.hash, it.size_bytes)));
        if let Some(done) = done {
            return Ok(done);
        }
    }
}

/// The transport says what happened in the source of its errors.
fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn missing_blobs_are_listed_only_when_all_are_named() {
        let named = |hash: &str| WireDigest { hash: hash.to_owned(), size_bytes: 1 };
        let follow_to = async |status| {
            let messages = [Ok(vec![named("a")]), Ok(vec![named("b")]), Err(status)];
            follow(stream::iter(messages), |missing| (missing, None::<()>)).await.unwrap_err()
        };
        let all = follow_to(Status::failed_precondition("2 blobs are missing")).await;
        assert!(matches!(&all, WorkerError::Missing(them) if them.as_slice() == ["a/1", "b/1"]));
        let cut_short = follow_to(Status::deadline_exceeded("too slow")).await;
        assert!(matches!(cut_short, WorkerError::Refused(_)), "{cut_short:?}");
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let broken = follow_to(Status::from_error(Box::new(broken))).await;
        assert!(matches!(broken, WorkerError::Interrupted), "{broken:?}");
    }
}
