//! Errors, request metadata, health and the drain (reapi 95-101).

use std::sync::Arc;

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::messages::{BatchUpdateBlob, BatchUpdateBlobsRequest};
use castellan_proto::v2;
use prost::Message as _;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::support::{
    Blob, METHODS, Process, Subject, TestServer, assert_all_present, assert_code, directory,
    framed, hold_space, http_call, raw_call,
};

const REQUEST_METADATA: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// Every method still does its work.
async fn assert_works(server: &TestServer) {
    let blob = directory(&[("works", &Blob::new("works"))], &[]);
    let subject = Subject::of(&blob);
    assert_all_present(&subject.calls(server).await);
    assert_all_present(&[subject.capabilities(server).await]);
}

#[track_caller]
fn assert_retryable(status: &Status) {
    let retry = status.get_details_retry_info();
    assert!(retry.is_some_and(|it| it.retry_delay.is_some()), "{status:?}");
}

/// A store that stops is no fault of the client, and another server may take its place.
#[tokio::test]
async fn reapi_95_a_store_that_stops_is_unavailable_with_a_delay() {
    let server = TestServer::start_on_files().await;
    let [old, new] = ["old", "new"].map(Blob::new);
    server.put(&[&old]).await;
    server.store().shutdown(castellan::store::filesystem::Cleanup::Keep).await.unwrap();
    for chunk_bytes in [1, 3] {
        let requests = crate::support::write_requests(&new.write_name(), &new.data, chunk_bytes);
        let outcome = server.byte_stream().write(tokio_stream::iter(requests)).await;
        assert_retryable(&assert_code(outcome, Code::Unavailable));
    }
    let outcome = server.update_result(&old, Bytes::new()).await;
    assert_retryable(&assert_code(outcome, Code::Unavailable));
    let blob = BatchUpdateBlob { digest: Some(new.wire()), data: new.data.clone(), compressor: 0 };
    let requests = vec![blob];
    let request = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    let reply = server.cas().batch_update_blobs(request).await.unwrap().into_inner();
    let status = reply.responses[0].status.clone().unwrap();
    assert_eq!(status.code, i32::from(Code::Unavailable));
    assert!(status.details[0].type_url.ends_with("google.rpc.RetryInfo"), "{status:?}");
    // What is there can be read to the end.
    assert_eq!(server.read(&old.read_name()).await.unwrap(), old.data);
    assert_eq!(server.missing(&[&old, &new]).await.len(), 1);
}

#[tokio::test]
async fn reapi_95_too_many_uploads_are_resource_exhausted_with_a_delay() {
    let options = GrpcOptions { max_upload_sessions: 1, ..GrpcOptions::default() };
    let server = TestServer::start_on_files_with(64 << 20, options).await;
    let held = hold_space(&server, 1_000_000).await;
    let blob = Blob::random(95, 600_000);
    let outcome = server.write(&blob.write_name(), &blob.data).await;
    assert_retryable(&assert_code(outcome, Code::ResourceExhausted));
    held.finish().await;
    server.put(&[&blob]).await;
}

#[tokio::test]
async fn reapi_96_unknown_methods_are_unimplemented() {
    let server = TestServer::start().await;
    for method in [
        "/build.bazel.remote.execution.v2.ActionCache/Nothing",
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/findmissingblobs",
        "/build.bazel.remote.execution.v3.ActionCache/GetActionResult",
        "/build.bazel.remote.asset.v1.Fetch/FetchBlob",
        "/build.bazel.remote.execution.v2.Execution/WaitExecution",
        "/google.bytestream.ByteStream/",
        "/google.bytestream.ByteStream",
        "/no.such.Service/Method",
        "/",
        "/a/b/c/d",
    ] {
        let outcome = raw_call(&server.channel, method, vec![Bytes::new()]).await;
        assert!(outcome.is_err(), "{method}");
        assert_code(outcome, Code::Unimplemented);
    }
    assert_works(&server).await;
}

#[tokio::test]
async fn reapi_96_bytes_that_are_no_message_are_refused_by_every_method() {
    let server = TestServer::start().await;
    for method in METHODS {
        for garbage in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x0a",
            b"\x0a\x7f",
            b"\x0a\x02\xff\xfe",
            b"\x08\x01",
            b"\x02\x00",
        ] {
            let request = vec![Bytes::from_static(garbage)];
            let status = raw_call(&server.channel, method, request).await.unwrap_err();
            let is_refused = matches!(status.code(), Code::Internal | Code::InvalidArgument);
            assert!(is_refused && status.message().contains("decode"), "{method}: {status:?}");
        }
    }
    assert_works(&server).await;
}

/// The five bytes before a message can be wrong too, and the body can end anywhere.
#[tokio::test]
async fn reapi_96_frames_that_are_none_are_refused_by_every_method() {
    let server = TestServer::start().await;
    let whole = framed(0, b"\x0a\x01a");
    let bodies = [
        ("no message", Bytes::new()),
        ("half a head", whole.slice(..3)),
        ("half a message", whole.slice(..7)),
        ("4 GiB announced", Bytes::from_static(b"\x00\xff\xff\xff\xff\x0a\x01a")),
        ("over the limit", Bytes::from_static(b"\x00\x02\x00\x00\x00\x0a\x01a")),
        ("compressed with nothing", framed(1, b"\x0a\x01a")),
        ("an unknown flag", framed(7, b"\x0a\x01a")),
    ];
    for method in METHODS {
        for (problem, body) in &bodies {
            let code = http_call(&server.channel, method, &[], body.clone()).await;
            let is_refused = code.as_ref().is_ok_and(|code| *code != Code::Ok);
            assert!(is_refused, "{method} with {problem}: {code:?}");
        }
    }
    assert_works(&server).await;
}

/// The standard form has padding or not; anything else says nothing and harms nothing.
///
/// The real program is asked, because the header is only read for a log that wants it, and the log
/// of a process is one.
#[tokio::test]
async fn reapi_97_request_metadata_is_read_if_it_can_be_and_never_fails_a_call() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let root = directory.path().join("store");
    let root = root.to_str().unwrap();
    let ports = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];
    let mut command = Process::command(&["serve", "--dir", root, "--log", "castellan=debug"]);
    command.args(ports).stderr(std::fs::File::create(&log).unwrap());
    let server = Process::spawn_logging(command);
    let address = format!("http://{}", server.grpc);
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut invocations = Vec::new();
    for len in 1..=3 {
        for padding in ["", "=="] {
            let invocation = format!("invocation {len}{padding}");
            let metadata = v2::RequestMetadata {
                tool_details: Some(v2::ToolDetails {
                    tool_name: "t".repeat(len),
                    tool_version: "9.9.9".to_owned(),
                }),
                tool_invocation_id: invocation.clone(),
                ..v2::RequestMetadata::default()
            };
            let value = BinaryMetadataValue::from_bytes(&metadata.encode_to_vec());
            let mut value = value.as_encoded_bytes().to_vec();
            assert!(!value.ends_with(b"="));
            let missing = value.len().next_multiple_of(4) - value.len();
            value.extend_from_slice(&padding.as_bytes()[..missing.min(padding.len())]);
            call_with_metadata(&channel, &[&value]).await;
            invocations.push(invocation);
        }
    }
    let oversize = "A".repeat(40_000);
    for garbage in [
        &[&b"!!!"[..]][..],
        &[b""],
        &[b"===="],
        &[b"Zm9v"],
        &[b"Zm9vYg"],
        &[b"CgU"],
        &[b"\xff\xfe"],
        &[oversize.as_bytes()],
        &[b"Zm9v", b"!!!", b"Zm9v"],
    ] {
        call_with_metadata(&channel, garbage).await;
    }
    drop(channel);
    assert!(server.stop().await.success());
    let log = std::fs::read_to_string(log).unwrap();
    for invocation in invocations {
        assert!(log.contains(&format!("invocation_id=\"{invocation}\"")), "{invocation}: {log}");
    }
    assert!(log.contains("9.9.9") && !log.contains("panicked"), "{log}");
}

async fn call_with_metadata(channel: &Channel, values: &[&[u8]]) {
    let mut headers = http::HeaderMap::new();
    for value in values {
        headers.append(REQUEST_METADATA, http::HeaderValue::from_bytes(value).unwrap());
    }
    let mut request = Request::new(v2::GetCapabilitiesRequest::default());
    *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
    let mut client = v2::capabilities_client::CapabilitiesClient::new(channel.clone());
    client.get_capabilities(request).await.unwrap();
    let mut request = Request::new(castellan_proto::messages::ReadRequest {
        resource_name: Blob::new("").read_name(),
        ..castellan_proto::messages::ReadRequest::default()
    });
    *request.metadata_mut() = MetadataMap::from_headers(headers);
    ByteStreamClient::new(channel.clone()).read(request).await.unwrap();
}

/// No compression is offered at this level: the answer says so and lets the client try without.
#[tokio::test]
async fn reapi_98_compressed_messages_are_unimplemented_and_identity_is_fine() {
    let server = TestServer::start().await;
    for method in METHODS {
        for encoding in ["gzip", "deflate", "zstd", "snappy", "nonsense"] {
            let headers = [("grpc-encoding", encoding)];
            let body = framed(1, b"\x1f\x8b\x08\x00");
            let code = http_call(&server.channel, method, &headers, body).await;
            assert_eq!(code, Ok(Code::Unimplemented), "{method} in {encoding}");
        }
    }
    let headers = [("grpc-encoding", "identity"), ("grpc-accept-encoding", "gzip, zstd, identity")];
    let code = http_call(&server.channel, METHODS[0], &headers, framed(0, b"")).await;
    assert_eq!(code, Ok(Code::Ok));
}

/// The drain lets what runs end, however long it has been waiting for its client.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task is awaited")]
async fn reapi_100_a_drain_lets_an_upload_end_and_takes_no_new_connection() {
    let server = TestServer::start_on_files().await;
    let address = server.server.grpc_address().unwrap();
    let channel = server.connect().await;
    let held = hold_space(&server, 1_000_000).await;
    let mut health = HealthClient::new(channel);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);

    let TestServer { server, channel, directory } = server;
    let store = Arc::clone(&server.stores()[0]);
    let drain = tokio::spawn(server.shutdown());
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
    drop((watch, health));
    held.finish().await;
    drop(channel);
    drain.await.unwrap().unwrap();
    assert_eq!(store.stats().entries, 1);
    let refused = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    assert!(refused.connect().await.is_err());
    drop(directory);
}

#[tokio::test]
async fn reapi_101_health_knows_every_service_and_no_other() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel.clone());
    for service in [
        "",
        "build.bazel.remote.execution.v2.Capabilities",
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
        "build.bazel.remote.execution.v2.ActionCache",
        "google.bytestream.ByteStream",
    ] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let reply = health.check(request).await.unwrap().into_inner();
        assert_eq!(reply.status, 1, "{service}");
    }
    for service in ["nobody", "build.bazel.remote.execution.v2.Execution", "\u{e9}"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_code(health.check(request).await, Code::NotFound);
    }
}
