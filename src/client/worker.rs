//! Asking the store on this machine, as a worker does.

use std::time::Duration;

use castellan_proto::worker::stage_tree_response::Event;
use castellan_proto::worker::worker_client::WorkerClient;
use castellan_proto::worker::{
    CaptureFilesRequest, CaptureFilesResponse, CaptureTreeRequest, CaptureTreeResponse,
    ReleaseTreeRequest, StageProgress, StageTreeRequest, StageTreeResponse, StagedTree,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// The stream ended before the tree was there.
    #[error("the server went away before the tree was there")]
    Interrupted,
}

impl From<Status> for WorkerError {
    fn from(status: Status) -> Self {
        let failure = status.get_details_precondition_failure();
        let violations = failure.map(|it| it.violations).unwrap_or_default();
        let missing = violations.into_iter().filter(|it| it.r#type == "MISSING");
        let missing: Vec<String> =
            missing.map(|it| it.subject.trim_start_matches("blobs/").to_owned()).collect();
        if missing.is_empty() {
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
        Ok(Self { client: WorkerClient::new(channel) })
    }

    /// Stages a tree; `on_progress` is told how far it is.
    pub async fn stage(
        &mut self,
        request: StageTreeRequest,
        mut on_progress: impl FnMut(&StageProgress),
    ) -> Result<Staged, WorkerError> {
        let mut stream = self.client.stage_tree(request).await?.into_inner();
        let mut missing = Vec::new();
        loop {
            let message = match stream.message().await {
                Ok(message) => message.ok_or(WorkerError::Interrupted)?,
                // A status has no room for many; these came before it.
                Err(_) if !missing.is_empty() => return Err(WorkerError::Missing(missing)),
                Err(status) => return Err(status.into()),
            };
            missing
                .extend(message.missing.iter().map(|it| format!("{}/{}", it.hash, it.size_bytes)));
            match message.event {
                Some(Event::Progress(progress)) => on_progress(&progress),
                Some(Event::Staged(tree)) => return Ok(Staged { tree, stream }),
                None => {}
            }
        }
    }

    /// Ends a lease.
    pub async fn release(&mut self, lease_id: String, remove: bool) -> Result<(), WorkerError> {
        self.client.release_tree(ReleaseTreeRequest { lease_id, remove }).await?;
        Ok(())
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

/// The transport says what happened in the source of its errors.
fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
