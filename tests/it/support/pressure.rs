//! Stores so small that a few writes turn their contents over, or one upload fills them.

use std::time::Duration;

use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::messages::WriteRequest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::server::write_requests;
use super::wait::stats_reach;
use super::{Blob, TestServer};

/// The cap of a small store; its directories take up to a quarter of it.
const SMALL_CAP_BYTES: u64 = 4 << 20;
const FILLER_BYTES: usize = 64 << 10;

/// A server on a small store.
pub(crate) async fn start_small() -> TestServer {
    TestServer::start_on_files_with(SMALL_CAP_BYTES, GrpcOptions::default()).await
}

/// A server on a small store that soon gives up to wait for room.
pub(crate) async fn start_tight() -> TestServer {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FilesystemOptions::new(directory.path(), Cap::Bytes(SMALL_CAP_BYTES));
    store.reserve_timeout = Duration::from_millis(50);
    start_store(directory, store).await
}

/// A server of any instance name on a store with options of its own.
pub(crate) async fn start_store(
    directory: tempfile::TempDir,
    store: FilesystemOptions,
) -> TestServer {
    let settings = InstanceSettings::new(0, 0);
    let instances = Instances::Any(settings);
    TestServer::start_settings(directory, store, instances, GrpcOptions::default()).await
}

/// Writes twice what a small store holds and calls `touch` after each blob: what it touches is
/// still there at the end, and nothing else that was there at the start.
pub(crate) async fn turn_over(server: &TestServer, mut touch: impl AsyncFnMut()) {
    let fillers = 2 * usize::try_from(SMALL_CAP_BYTES).unwrap() / FILLER_BYTES;
    for number in 0..fillers {
        let filler = Blob::random(0xf111 + number as u64, FILLER_BYTES);
        server.put(&[&filler]).await;
        touch().await;
    }
}

/// An upload that has its space and has not ended.
pub(crate) struct HeldSpace {
    messages: mpsc::Sender<WriteRequest>,
    rest: Vec<WriteRequest>,
    reply: JoinHandle<Result<i64, Status>>,
}

/// Begins to upload a blob of `len` bytes and returns when its space is reserved.
#[expect(clippy::disallowed_methods, reason = "the task ends with the upload")]
pub(crate) async fn hold_space(server: &TestServer, len: usize) -> HeldSpace {
    let blob = Blob::random(0x401d, len);
    let mut rest = write_requests(&blob.write_name(), &blob.data, 256 << 10);
    let (messages, receiver) = mpsc::channel(1);
    let mut client = server.byte_stream();
    let reply = tokio::spawn(async move {
        let reply = client.write(ReceiverStream::new(receiver)).await?;
        Ok(reply.into_inner().committed_size)
    });
    messages.send(rest.remove(0)).await.unwrap();
    stats_reach(server, "the space is reserved", |it| it.reserved_bytes >= len as u64).await;
    HeldSpace { messages, rest, reply }
}

impl HeldSpace {
    /// Ends the upload.
    pub(crate) async fn finish(self) {
        for message in self.rest {
            self.messages.send(message).await.unwrap();
        }
        drop(self.messages);
        assert!(self.reply.await.unwrap().is_ok());
    }
}
