//! Several listeners: sockets in the file system, what each serves, and pages beside gRPC.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use castellan::server::{GrpcListener, HealthPage, InstanceSettings, Instances, ServerError};
use castellan::socket::ListenAddress;
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    FindMissingBlobsRequest, GetActionResultRequest, ReadRequest, UpdateActionResultRequest,
};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::support::http::Http;
use crate::support::listeners::{capabilities, channels, on_free_port, start_listeners};
use crate::support::{Blob, FullResult, assert_code, write_requests};

fn named(instances: &[(&str, InstanceSettings)]) -> Instances {
    let named = instances.iter().map(|(name, it)| ((*name).to_owned(), *it));
    Instances::Named(named.collect::<HashMap<_, _>>())
}

async fn upload(channel: &Channel, instance_name: &str, blob: &Blob) -> Result<(), Status> {
    let name = format!("{instance_name}/{}", blob.write_name());
    let requests = write_requests(name.trim_start_matches('/'), &blob.data, 64 << 10);
    ByteStreamClient::new(channel.clone()).write(tokio_stream::iter(requests)).await.map(drop)
}

async fn download(channel: &Channel, instance_name: &str, blob: &Blob) -> Result<Vec<u8>, Status> {
    let name = format!("{instance_name}/{}", blob.read_name());
    let resource_name = name.trim_start_matches('/').to_owned();
    let request = ReadRequest { resource_name, ..ReadRequest::default() };
    let mut stream = ByteStreamClient::new(channel.clone()).read(request).await?.into_inner();
    let mut data = Vec::new();
    while let Some(message) = stream.message().await? {
        data.extend_from_slice(&message.data);
    }
    Ok(data)
}

async fn is_missing(channel: &Channel, instance_name: &str, blob: &Blob) -> Result<bool, Status> {
    let request = FindMissingBlobsRequest {
        instance_name: instance_name.to_owned(),
        blob_digests: vec![blob.wire()],
        ..FindMissingBlobsRequest::default()
    };
    let mut client = ContentAddressableStorageClient::new(channel.clone());
    let reply = client.find_missing_blobs(request).await?.into_inner();
    Ok(!reply.missing_blob_digests.is_empty())
}

async fn update(channel: &Channel, instance_name: &str, full: &FullResult) -> Result<(), Status> {
    let request = UpdateActionResultRequest {
        instance_name: instance_name.to_owned(),
        action_digest: Some(full.action.wire()),
        action_result: Some(full.result.encode_to_vec().into()),
        ..UpdateActionResultRequest::default()
    };
    ActionCacheClient::new(channel.clone()).update_action_result(request).await.map(drop)
}

async fn result(channel: &Channel, instance_name: &str, full: &FullResult) -> Result<(), Status> {
    let request = GetActionResultRequest {
        instance_name: instance_name.to_owned(),
        action_digest: Some(full.action.wire()),
        ..GetActionResultRequest::default()
    };
    ActionCacheClient::new(channel.clone()).get_action_result(request).await.map(drop)
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_served_and_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grpc.sock");
    // What a killed process has left.
    drop(UnixListener::bind(&path).unwrap());
    let any = || Instances::Any(InstanceSettings::new(0, 0));
    let unix = GrpcListener::new(ListenAddress::Unix(path.clone()), any());
    let listeners = vec![unix, on_free_port(any())];
    let server = start_listeners(directory.path(), 1, listeners).await.unwrap();
    let tcp = server.grpc_address().unwrap();
    let line = server.ready_line();
    assert!(line.contains(&format!(" grpc=unix:{},{tcp} ", path.display())), "{line}");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);

    let to = path.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let to = to.clone();
        async move { UnixStream::connect(to).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://unix.invalid");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let blob = Blob::random(1, 300_000);
    upload(&channel, "", &blob).await.unwrap();
    assert_eq!(download(&channel, "", &blob).await.unwrap(), blob.data);

    // While it is there nobody else gets it.
    let second = GrpcListener::new(ListenAddress::Unix(path.clone()), any());
    let other = tempfile::tempdir().unwrap();
    let error = start_listeners(other.path(), 1, vec![second]).await.unwrap_err();
    assert!(matches!(error, ServerError::Listen { .. }), "{error}");
    assert_eq!(download(&channel, "", &blob).await.unwrap(), blob.data);
    drop(channel);
    server.shutdown().await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn each_listener_serves_its_instances_and_http_serves_all() {
    let directory = tempfile::tempdir().unwrap();
    let main = InstanceSettings::new(0, 1);
    let public = on_free_port(named(&[("main", main.read_only()), ("public", main)]));
    let private = on_free_port(named(&[("main", main), ("private", InstanceSettings::new(2, 1))]));
    let listeners = vec![public, private];
    let server = start_listeners(directory.path(), 3, listeners).await.unwrap();
    let [public, private] = channels(&server).await.try_into().unwrap();

    let full = FullResult::new("shared");
    for blob in full.blobs() {
        upload(&public, "main", blob).await.unwrap();
    }
    assert_code(update(&public, "main", &full).await, Code::PermissionDenied);
    update(&private, "main", &full).await.unwrap();
    result(&public, "main", &full).await.unwrap();
    let is_enabled = |capabilities: castellan_proto::v2::CacheCapabilities| {
        capabilities.action_cache_update_capabilities.unwrap().update_enabled
    };
    assert!(!is_enabled(capabilities(&public, "main").await.unwrap()));
    assert!(is_enabled(capabilities(&public, "public").await.unwrap()));
    assert!(is_enabled(capabilities(&private, "main").await.unwrap()));
    assert_code(capabilities(&public, "private").await, Code::InvalidArgument);
    assert_code(capabilities(&private, "public").await, Code::InvalidArgument);
    // Another store.
    assert!(is_missing(&private, "private", full.blobs()[0]).await.unwrap());

    let mut http = Http::to(server.http_address()).await;
    let hash = full.blobs()[0].digest_hash();
    let mut status = async |instance: &str| {
        http.call("GET", &format!("/{instance}/cas/{hash}"), &[], &[]).await.status
    };
    assert_eq!(status("main").await, 200);
    assert_eq!(status("public").await, 200);
    assert_eq!(status("private").await, 404);
    assert_eq!(status("other").await, 400);
    // Of two instances of one name that of the first listener counts.
    let action = full.action.digest_hash();
    let body = full.result.encode_to_vec();
    let mut put = async |instance: &str| {
        http.call("PUT", &format!("/{instance}/ac/{action}"), &[], &body).await.status
    };
    assert_eq!(put("main").await, 403);
    assert_eq!(put("public").await, 200);
    server.shutdown().await.unwrap();
}

/// As for an instance that is not there at all, but the answer says what it does not have.
#[tokio::test]
async fn an_instance_without_a_service_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = InstanceSettings { cas: Some(0), ..InstanceSettings::default() };
    let results = InstanceSettings { action_cache: Some(1), ..InstanceSettings::default() };
    let checked = InstanceSettings { completeness: Some(0), ..results };
    let streamed = InstanceSettings { bytestream: Some(2), ..blobs };
    let instances =
        [("cas-only", blobs), ("results", results), ("checked", checked), ("streamed", streamed)];
    let listener = on_free_port(named(&instances));
    let server = start_listeners(directory.path(), 3, vec![listener]).await.unwrap();
    let channel = &channels(&server).await[0];

    let full = FullResult::new("parts");
    let blob = full.blobs()[0];
    let status = assert_code(update(channel, "cas-only", &full).await, Code::InvalidArgument);
    assert!(status.message().contains("\"cas-only\" has no action cache"), "{status:?}");
    assert_code(result(channel, "cas-only", &full).await, Code::InvalidArgument);
    for instance in ["results", "checked"] {
        update(channel, instance, &full).await.unwrap();
        let status = assert_code(is_missing(channel, instance, blob).await, Code::InvalidArgument);
        assert!(status.message().contains("has no content-addressable storage"), "{status:?}");
        assert_code(upload(channel, instance, blob).await, Code::InvalidArgument);
        assert_code(download(channel, instance, blob).await, Code::InvalidArgument);
        capabilities(channel, instance).await.unwrap();
    }
    let blobs_only = capabilities(channel, "cas-only").await.unwrap();
    assert!(!blobs_only.action_cache_update_capabilities.unwrap().update_enabled);

    // Nothing that the result names is there: only who has a CAS to look into can tell.
    result(channel, "results", &full).await.unwrap();
    assert_code(result(channel, "checked", &full).await, Code::NotFound);
    for blob in full.blobs() {
        upload(channel, "cas-only", blob).await.unwrap();
    }
    result(channel, "checked", &full).await.unwrap();

    // Streams have a store of their own.
    assert!(!is_missing(channel, "streamed", blob).await.unwrap());
    assert_code(download(channel, "streamed", blob).await, Code::NotFound);
    upload(channel, "streamed", blob).await.unwrap();
    assert_eq!(download(channel, "streamed", blob).await.unwrap(), blob.data);

    let mut http = Http::to(server.http_address()).await;
    let path = format!("/results/cas/{}", blob.digest_hash());
    assert_eq!(http.call("GET", &path, &[], &[]).await.status, 400);
    let path = format!("/cas-only/ac/{}", full.action.digest_hash());
    let reply = http.call("GET", &path, &[], &[]).await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("has no action cache"), "{}", reply.text());
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn health_and_admin_are_answered_beside_grpc() {
    let directory = tempfile::tempdir().unwrap();
    let page = HealthPage { path: "/status".to_owned(), timeout: Duration::from_secs(5) };
    let listener = GrpcListener {
        health: Some(page),
        admin_path: Some("/admin".to_owned()),
        ..on_free_port(named(&[("", InstanceSettings::new(0, 1))]))
    };
    let bare = on_free_port(named(&[("", InstanceSettings::new(2, 1))]));
    let server = start_listeners(directory.path(), 3, vec![listener, bare]).await.unwrap();
    let mut http = Http::to(server.grpc_address().unwrap()).await;
    let reply = http.call("GET", "/status", &[], &[]).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    let report: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let names: Vec<_> = report.as_array().unwrap().iter().map(|it| &it["namespace"]).collect();
    assert_eq!(names, ["/server", "/stores/store-0", "/stores/store-1"]);
    // On the same connection.
    let reply = http.call("GET", "/admin/scheduler/main/set_drain_worker/w/1", &[], &[]).await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("no scheduler"));
    assert_eq!(http.call("GET", "/metrics", &[], &[]).await.status, 505);

    let channel = &channels(&server).await[0];
    let blob = Blob::random(2, 1000);
    upload(channel, "", &blob).await.unwrap();
    let request = http::Request::get("http://server/status").body(tonic::body::Body::empty());
    let answer = channel.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap(), report);
    assert_eq!(download(channel, "", &blob).await.unwrap(), blob.data);
    server.shutdown().await.unwrap();
}
