//! A server that workers reach over a socket, and a worker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use castellan::grpc::worker::WorkerOptions;
use castellan::server::{InstanceSettings, Instances, StoreKind, WorkerSettings};
use castellan::socket::ListenAddress;
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::v2;
use castellan_proto::worker::stage_tree_request::Root;
use castellan_proto::worker::stage_tree_response::Event;
use castellan_proto::worker::worker_client::WorkerClient;
use castellan_proto::worker::{
    Digest, GetDiskUsageRequest, GetDiskUsageResponse, StageTreeRequest, StageTreeResponse,
    StagedTree,
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

use super::{Blob, TestServer};

/// A server and a worker on its machine.
pub(crate) struct Worker {
    pub(crate) server: TestServer,
    pub(crate) client: WorkerClient<Channel>,
}

/// A store of files in a directory of its own.
pub(crate) fn files(directory: &Path, name: &str) -> StoreKind {
    let options = FilesystemOptions::new(directory.join(name), Cap::Bytes(256 << 20));
    StoreKind::Filesystem(options)
}

impl Worker {
    /// A worker of a server with one store of files.
    pub(crate) async fn start() -> Self {
        Self::start_with(WorkerOptions::default()).await
    }

    /// The same with other bounds.
    pub(crate) async fn start_with(options: WorkerOptions) -> Self {
        let any = Instances::Any(InstanceSettings::new(0, 0));
        Self::start_on(|directory| vec![files(directory, "data")], any, options).await
    }

    /// The same with other stores, in the directory of the server.
    pub(crate) async fn start_on(
        stores: impl FnOnce(&Path) -> Vec<StoreKind>,
        instances: Instances,
        options: WorkerOptions,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Made by the server.
        let root = directory.path().join("work");
        let addresses = vec![
            ListenAddress::Unix(directory.path().join("worker.sock")),
            ListenAddress::Tcp(super::listeners::LOOPBACK.into()),
        ];
        let stores = stores(directory.path());
        let worker = WorkerSettings::new(addresses, root, options);
        let server = TestServer::start_for_workers(directory, stores, instances, worker).await;
        let client = WorkerClient::new(connect(&server.directory.path().join("worker.sock")).await);
        Self { server, client }
    }

    /// The directory below which those of requests are.
    pub(crate) fn root(&self) -> PathBuf {
        self.server.directory.path().join("work")
    }

    /// What is in the worker root, sorted, without what the server has there for itself.
    pub(crate) fn listing(&self) -> Vec<String> {
        listing(&self.root())
    }

    /// Begins to stage.
    pub(crate) async fn open(
        &self,
        request: StageTreeRequest,
    ) -> Result<Streaming<StageTreeResponse>, Status> {
        Ok(self.client.clone().stage_tree(request).await?.into_inner())
    }

    /// Stages; gives what was staged, and the stream that may hold its lease.
    pub(crate) async fn stage(
        &self,
        request: StageTreeRequest,
    ) -> Result<(StagedTree, Streaming<StageTreeResponse>), Status> {
        let mut stream = self.open(request).await?;
        loop {
            let message = stream.message().await?.expect("a stream ends behind what was staged");
            match message.event {
                Some(Event::Staged(staged)) => return Ok((staged, stream)),
                Some(Event::Progress(_)) => {}
                None => assert!(!message.missing.is_empty()),
            }
        }
    }

    /// Stages in vain; gives all digests that are said to be missing, and the status.
    pub(crate) async fn stage_missing(&self, request: StageTreeRequest) -> (Vec<Digest>, Status) {
        let mut stream = self.open(request).await.unwrap();
        let mut missing = Vec::new();
        loop {
            match stream.message().await {
                Ok(message) => missing.extend(message.unwrap().missing),
                Err(status) => return (missing, status),
            }
        }
    }

    /// What the store takes.
    pub(crate) async fn usage(&self) -> GetDiskUsageResponse {
        let request = GetDiskUsageRequest::default();
        self.client.clone().get_disk_usage(request).await.unwrap().into_inner()
    }

    /// Ends the server.
    pub(crate) async fn stop(self) {
        drop(self.client);
        drop(self.server.stop().await);
    }
}

/// What is in a worker root, sorted, without what the server has there for itself.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".castellan-staging").collect();
    names.sort();
    names
}

/// A connection to a socket.
pub(crate) async fn connect(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://unix.invalid").connect_with_connector(connector).await.unwrap()
}

/// A digest as workers have it.
pub(crate) fn digest(blob: &Blob) -> Digest {
    let v2::Digest { hash, size_bytes } = blob.v2();
    Digest { hash, size_bytes }
}

/// A request for the directory `path` of this tree.
pub(crate) fn request(root: &Blob, path: &str) -> StageTreeRequest {
    StageTreeRequest {
        root: Some(Root::InputRootDigest(digest(root))),
        path: path.to_owned(),
        ..StageTreeRequest::default()
    }
}

/// A tree of every kind of entry, its root first.
pub(crate) fn small_tree() -> Vec<Blob> {
    let (text, tool) = (Blob::random(1, 300_000), Blob::new("#!/bin/sh\necho tool\n"));
    let node = |name: &str, blob: &Blob, is_executable| v2::FileNode {
        name: name.to_owned(),
        digest: Some(blob.v2()),
        is_executable,
        ..v2::FileNode::default()
    };
    let subtree = |name: &str, blob: &Blob| v2::DirectoryNode {
        name: name.to_owned(),
        digest: Some(blob.v2()),
    };
    let encoded = |directory: v2::Directory| Blob::new(directory.encode_to_vec());
    let empty = encoded(v2::Directory::default());
    let link = v2::SymlinkNode {
        name: "link".to_owned(),
        target: "../text".to_owned(),
        ..v2::SymlinkNode::default()
    };
    let bin = encoded(v2::Directory {
        files: vec![node("nothing", &Blob::new(""), false), node("tool", &tool, true)],
        symlinks: vec![link],
        ..v2::Directory::default()
    });
    let root = encoded(v2::Directory {
        files: vec![node("text", &text, false)],
        directories: vec![subtree("bin", &bin), subtree("empty", &empty)],
        ..v2::Directory::default()
    });
    vec![root, bin, text, tool]
}

/// Stores a tree.
pub(crate) async fn put(server: &TestServer, blobs: &[Blob]) {
    server.put(&blobs.iter().collect::<Vec<_>>()).await;
}

/// Longer than anything takes that does not hang.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
