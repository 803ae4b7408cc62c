//! Uploads that wait for their client give way to those who are here, and to nobody else.

use std::time::Duration;

use bytes::Bytes;
use castellan_proto::messages::{
    BatchUpdateBlob, BatchUpdateBlobsRequest, UpdateActionResultRequest,
};
use castellan_proto::v2::ActionResult;
use prost::Message as _;

use super::support::{INSTANCE, TestServer, pattern, sha256, unfinished, wire, write_name};
use crate::grpc::GrpcOptions;
use crate::grpc::room::{Need, Room};
use crate::store::StoreError;

/// A server whose store is full of an upload that waits for its client.
async fn full() -> TestServer {
    let server = TestServer::with(GrpcOptions::default(), 1 << 20).await;
    let data = pattern(1, 890_000);
    let name = write_name("gone", sha256(&data));
    server.write(unfinished(&name, &data[..10_000], 0, 10_000)).await.unwrap();
    assert_eq!(server.handle.sessions.counts(), (0, 1, 890_000));
    server
}

#[tokio::test]
async fn waiting_uploads_make_room_for_a_batch() {
    let server = full().await;
    let data = Bytes::from(pattern(2, 200_000));
    let blob = BatchUpdateBlob { digest: Some(wire(sha256(&data))), data, compressor: 0 };
    let request = BatchUpdateBlobsRequest {
        instance_name: INSTANCE.to_owned(),
        requests: vec![blob],
        digest_function: 0,
    };
    let reply = server.cas().batch_update_blobs(request).await.unwrap().into_inner();
    assert_eq!(reply.responses[0].status.clone().unwrap().code, 0);
    assert_eq!(server.handle.sessions.counts(), (0, 0, 0));
}

#[tokio::test]
async fn waiting_uploads_make_room_for_an_action_result() {
    let server = full().await;
    let result = ActionResult { stdout_raw: pattern(3, 200_000), ..ActionResult::default() };
    let request = UpdateActionResultRequest {
        instance_name: INSTANCE.to_owned(),
        action_digest: Some(wire(sha256(b"action"))),
        action_result: Some(result.encode_to_vec().into()),
        digest_function: 0,
    };
    server.action_cache().update_action_result(request).await.unwrap();
    assert_eq!(server.handle.sessions.counts(), (0, 0, 0));
}

#[tokio::test]
async fn a_slow_store_costs_no_waiting_upload() {
    let server = full().await;
    tokio::time::pause();
    let room = Room::new(std::sync::Arc::clone(&server.handle.sessions));
    let need = Need { bytes: 1, replaces: None };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, StoreError>(())
    };
    room.with(need, || false, slow).await.unwrap();
    assert_eq!(server.handle.sessions.counts().1, 1);
    room.with(need, || true, slow).await.unwrap();
    assert_eq!(server.handle.sessions.counts().1, 0);
}
