//! The cache over HTTP and over gRPC is one cache.

use bytes::Bytes;
use prost::Message as _;

use crate::support::http::{Http, http};
use crate::support::{Blob, FullResult, TestServer};

fn cas(blob: &Blob) -> String {
    format!("/cas/{}", blob.digest.hash_hex().as_str())
}

fn ac(action: &Blob) -> String {
    format!("/ac/{}", action.digest.hash_hex().as_str())
}

/// One that is stored in one step, and one that is streamed.
fn blobs() -> [Blob; 2] {
    [Blob::random(1, 1_000), Blob::random(2, 3_000_000)]
}

#[tokio::test]
async fn reapi_h8_a_blob_stored_over_grpc_is_read_over_http() {
    let server = TestServer::start().await;
    for blob in blobs() {
        server.put(&[&blob]).await;
        let reply = http(&server, "GET", &cas(&blob), &[], &[]).await;
        assert_eq!((reply.status, reply.is_whole), (200, true));
        assert_eq!(reply.body, blob.data);
    }
}

#[tokio::test]
async fn reapi_h8_a_blob_stored_over_http_is_read_over_grpc() {
    let server = TestServer::start().await;
    for blob in blobs() {
        let reply = http(&server, "PUT", &cas(&blob), &[], &blob.data).await;
        assert_eq!((reply.status, reply.text()), (200, String::new()));
        assert!(server.missing(&[&blob]).await.is_empty());
        assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
    }
}

#[tokio::test]
async fn reapi_h8_a_result_is_the_same_over_both_ways() {
    let server = TestServer::start().await;
    let [one, two] = ["one", "two"].map(FullResult::new);
    for full in [&one, &two] {
        server.put(&full.blobs()).await;
    }
    let encoded = Bytes::from(one.result.encode_to_vec());
    server.update_result(&one.action, encoded.clone()).await.unwrap();
    let reply = http(&server, "GET", &ac(&one.action), &[], &[]).await;
    assert_eq!((reply.status, reply.body), (200, encoded.to_vec()));

    let encoded = two.result.encode_to_vec();
    assert_eq!(http(&server, "PUT", &ac(&two.action), &[], &encoded).await.status, 200);
    assert_eq!(server.get_result(&two.action).await.unwrap(), encoded);
}

#[tokio::test]
async fn reapi_h4_one_connection_serves_many_requests() {
    let server = TestServer::start().await;
    let mut client = Http::connect(&server).await;
    for blob in blobs() {
        assert_eq!(client.call("GET", &cas(&blob), &[], &[]).await.status, 404);
        assert_eq!(client.call("PUT", &cas(&blob), &[], &blob.data).await.status, 200);
        assert_eq!(client.call("HEAD", &cas(&blob), &[], &[]).await.status, 200);
        assert_eq!(client.call("GET", &cas(&blob), &[], &[]).await.body, blob.data);
    }
}
