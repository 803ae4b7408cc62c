//! Reads whose clients take their time, or for ever.

use std::sync::Arc;

use castellan_proto::byte_stream::byte_stream_server::ByteStream as _;
use castellan_proto::messages::{ReadRequest, ReadResponse};
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::{Code, Request, Status};

use super::support::{TestServer, assert_code, pattern};
use crate::digest::Digest;
use crate::grpc::GrpcOptions;
use crate::grpc::bytestream::ByteStreamService;

/// A stream as the transport has it, which polls it only when the client wants more.
async fn open(
    server: &TestServer,
    digest: Digest,
) -> BoxStream<'static, Result<ReadResponse, Status>> {
    let sessions = Arc::clone(&server.handle.sessions);
    let service = ByteStreamService::new(server.shared(), sessions);
    let resource_name = format!("blobs/{digest}");
    let request = ReadRequest { resource_name, ..ReadRequest::default() };
    service.read(Request::new(request)).await.unwrap().into_inner()
}

/// The blobs that this process has open.
fn open_files(server: &TestServer) -> usize {
    let blobs = server.store.root().join("blobs");
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_blob = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path())
            .is_ok_and(|path| path.starts_with(&blobs) && path.is_file())
    };
    entries.filter(is_blob).count()
}

#[tokio::test]
async fn i23_a_client_that_takes_nothing_loses_its_read() {
    let server = TestServer::start().await;
    let digest = server.put(&pattern(1, 300_000)).await;
    tokio::time::pause();
    let timeout = GrpcOptions::default().read_idle_timeout;
    let mut begun = open(&server, digest).await;
    begun.next().await.unwrap().unwrap();
    let mut untouched = open(&server, digest).await;
    assert_eq!(open_files(&server), 2);
    tokio::time::sleep(timeout / 10 * 9).await;
    assert_eq!(open_files(&server), 2);
    tokio::time::sleep(timeout / 5).await;
    assert_eq!(open_files(&server), 0);
    for read in [&mut begun, &mut untouched] {
        assert_code(read.next().await.unwrap(), Code::DeadlineExceeded);
        assert!(read.next().await.is_none());
    }
}

#[tokio::test]
async fn a_slow_client_gets_all_and_the_last_chunk_needs_no_file() {
    let server = TestServer::start().await;
    let data = pattern(2, 300_000);
    let digest = server.put(&data).await;
    let small = pattern(3, 1000);
    let small_digest = server.put(&small).await;
    tokio::time::pause();
    let pause = GrpcOptions::default().read_idle_timeout / 10 * 9;
    let mut read = open(&server, digest).await;
    let mut received = Vec::new();
    while let Some(chunk) = read.next().await {
        received.extend_from_slice(&chunk.unwrap().data);
        let is_last = received.len() == data.len();
        assert_eq!(open_files(&server), usize::from(!is_last));
        tokio::time::sleep(pause).await;
    }
    assert_eq!(received, data);
    let mut read = open(&server, small_digest).await;
    assert_eq!(open_files(&server), 0);
    tokio::time::sleep(pause * 3).await;
    assert_eq!(read.next().await.unwrap().unwrap().data, small);
    assert!(read.next().await.is_none());
}
