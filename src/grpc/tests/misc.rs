//! Capabilities, the action cache, reads, names, metadata and health.

use bytes::Bytes;
use castellan_proto::messages::{GetActionResultRequest, RawMessage, UpdateActionResultRequest};
use castellan_proto::v2::{ActionResult, GetCapabilitiesRequest, ServerCapabilities};
use prost::Message as _;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::support::{INSTANCE, TestServer, assert_code, pattern, sha256, wire};
use crate::digest::{Digest, DigestFunction};

async fn capabilities(server: &TestServer, name: &str) -> Result<ServerCapabilities, Status> {
    let request = GetCapabilitiesRequest { instance_name: name.to_owned() };
    Ok(server.capabilities().get_capabilities(request).await?.into_inner())
}

async fn update(
    server: &TestServer,
    instance_name: &str,
    action: Option<Digest>,
    result: Option<&ActionResult>,
) -> Result<Bytes, Status> {
    let request = UpdateActionResultRequest {
        instance_name: instance_name.to_owned(),
        action_digest: action.map(wire),
        action_result: result.map(|result| result.encode_to_vec().into()),
        digest_function: 0,
    };
    Ok(server.action_cache().update_action_result(request).await?.into_inner().encoded)
}

async fn get(server: &TestServer, action: Digest) -> Result<RawMessage, Status> {
    let request = GetActionResultRequest {
        instance_name: INSTANCE.to_owned(),
        action_digest: Some(wire(action)),
        ..GetActionResultRequest::default()
    };
    Ok(server.action_cache().get_action_result(request).await?.into_inner())
}

#[tokio::test]
async fn reapi_90_capabilities_say_what_is_served() {
    let server = TestServer::start().await;
    let answer = capabilities(&server, INSTANCE).await.unwrap();
    let low = answer.low_api_version.unwrap();
    let high = answer.high_api_version.unwrap();
    assert_eq!((low.major, low.minor, high.major, high.minor), (2, 0, 2, 13));
    assert!(answer.execution_capabilities.is_none());
    let cache = answer.cache_capabilities.unwrap();
    assert_eq!(cache.digest_functions, [1, 9]);
    assert_eq!(cache.max_batch_total_size_bytes, (4 << 20) - (128 << 10));
    assert!(cache.max_cas_blob_size_bytes > 0);
    assert_eq!(cache.supported_compressors, [0; 0]);
    assert!(cache.action_cache_update_capabilities.unwrap().update_enabled);
    let read_only = capabilities(&server, "read-only").await.unwrap().cache_capabilities.unwrap();
    assert!(!read_only.action_cache_update_capabilities.unwrap().update_enabled);
}

#[tokio::test]
async fn reapi_12_an_unknown_instance_is_one_code_everywhere() {
    let server = TestServer::start().await;
    let blob = sha256(b"x");
    assert_code(capabilities(&server, "nobody").await, Code::InvalidArgument);
    assert_code(capabilities(&server, "a/blobs").await, Code::InvalidArgument);
    assert_code(
        server.read_name(&format!("nobody/blobs/{blob}"), 0, 0).await,
        Code::InvalidArgument,
    );
    assert_code(
        server.query(&format!("nobody/uploads/u/blobs/{blob}")).await,
        Code::InvalidArgument,
    );
    let result = ActionResult::default();
    let updated = update(&server, "nobody", Some(blob), Some(&result)).await;
    assert_code(updated, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_80_84_85_the_action_cache_keeps_the_bytes_it_was_sent() {
    let server = TestServer::start().await;
    let action = sha256(b"action");
    assert_code(get(&server, action).await, Code::NotFound);
    update(&server, INSTANCE, Some(action), Some(&ActionResult::default())).await.unwrap();
    assert_eq!(get(&server, action).await.unwrap().encoded, "");
    let failed = ActionResult { exit_code: 3, ..ActionResult::default() };
    let echoed = update(&server, INSTANCE, Some(action), Some(&failed)).await.unwrap();
    assert_eq!(echoed, failed.encode_to_vec());
    assert_eq!(get(&server, action).await.unwrap().encoded, failed.encode_to_vec());
    for (digest, result, field) in
        [(None, Some(&failed), "action_digest"), (Some(action), None, "action_result")]
    {
        let refused = update(&server, INSTANCE, digest, result).await;
        let status = assert_code(refused, Code::InvalidArgument);
        assert!(status.message().contains(field), "{status:?}");
    }
    let refused = update(&server, "read-only", Some(action), Some(&failed)).await;
    assert_code(refused, Code::PermissionDenied);
}

#[tokio::test]
async fn reapi_54_56_reads_give_what_was_asked_for() {
    let server = TestServer::start().await;
    let data = pattern(7, 3_000_000);
    let digest = server.put(&data).await;
    let size = data.len() as i64;
    assert_eq!(server.read(digest).await.unwrap(), data);
    let name = format!("{INSTANCE}/blobs/{digest}");
    for (offset, limit, from, to) in [
        (0, 10, 0, 10),
        (1_000_000, 0, 1_000_000, 3_000_000),
        (2_999_990, 100, 2_999_990, 3_000_000),
        (size, 0, 3_000_000, 3_000_000),
    ] {
        assert_eq!(server.read_name(&name, offset, limit).await.unwrap(), data[from..to]);
    }
    assert_code(server.read_name(&name, size + 1, 0).await, Code::OutOfRange);
    assert_code(server.read_name(&name, -1, 0).await, Code::OutOfRange);
    assert_code(server.read_name(&name, 0, -1).await, Code::InvalidArgument);
    assert_code(server.read(sha256(b"absent")).await, Code::NotFound);
    let other_size = Digest { size_bytes: digest.size_bytes + 1, ..digest };
    assert_code(server.read(other_size).await, Code::NotFound);
    assert_eq!(server.read(sha256(b"")).await.unwrap(), "");
    assert_eq!(server.read(Digest::empty(DigestFunction::Blake3)).await.unwrap(), "");
}

#[tokio::test]
async fn reapi_49_52_bad_names_are_the_clients_mistake() {
    let server = TestServer::start().await;
    let digest = server.put(b"x").await;
    for name in [
        String::new(),
        format!("/blobs/{digest}"),
        format!("{INSTANCE}/blobs/sha256/{digest}"),
        format!("{INSTANCE}/blobs/{digest}/more"),
        format!("{INSTANCE}/uploads/u/blobs/{digest}/../x/blobs/y"),
        format!("{INSTANCE}/compressed-blobs/zstd/{digest}"),
        format!("{INSTANCE}/compressed-blobs/identity/{digest}"),
    ] {
        let status = server.read_name(&name, 0, 0).await;
        assert_code(status, Code::InvalidArgument);
    }
    assert_code(server.query(&format!("{INSTANCE}/blobs/{digest}")).await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_53_the_resource_name_header_must_agree() {
    use castellan_proto::messages::ReadRequest;
    let server = TestServer::start().await;
    let digest = server.put(b"routed").await;
    let name = format!("{INSTANCE}/blobs/{digest}");
    for (header, is_ok) in [(name.clone(), true), (format!("blobs/{digest}"), false)] {
        let mut request =
            Request::new(ReadRequest { resource_name: name.clone(), ..ReadRequest::default() });
        request
            .metadata_mut()
            .insert("build.bazel.remote.execution.v2.resource-name", header.parse().unwrap());
        let reply = server.bytes().read(request).await;
        assert_eq!(reply.is_ok(), is_ok);
    }
}

#[tokio::test]
async fn reapi_101_health_follows_the_drain() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel());
    for draining in [false, true] {
        if draining {
            server.handle.start_draining().await;
        }
        for service in crate::grpc::SERVICES {
            let request = HealthCheckRequest { service: service.to_owned() };
            let reply = health.check(request).await.unwrap().into_inner();
            let expected = if draining { 2 } else { 1 };
            assert_eq!(reply.status, expected, "{service}");
        }
    }
    let request = HealthCheckRequest { service: "nobody".to_owned() };
    assert_code(health.check(request).await, Code::NotFound);
    // Draining answers what is still asked.
    capabilities(&server, INSTANCE).await.unwrap();
}
