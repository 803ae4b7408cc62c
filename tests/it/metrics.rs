//! `/metrics` says what has happened: each request, hit and byte once.

use std::time::Duration;

use bytes::Bytes;
use tonic::Code;

use crate::support::{
    Blob, FullResult, Scrape, Subject, TestServer, assert_all_present, assert_code, directory,
};

/// What `/metrics` says once every call that was answered has been counted.
async fn settled(server: &TestServer) -> Scrape {
    let settling = async {
        loop {
            let scrape = Scrape::of(server).await;
            if scrape.sum("castellan_requests_in_flight", &[("transport", "grpc")]) == 0 {
                return scrape;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), settling).await.expect("calls stay in flight")
}

#[tokio::test]
async fn every_method_counts_its_calls_their_time_and_their_bytes() {
    let server = TestServer::start_on_files().await;
    let blob = directory(&[("works", &Blob::new("works"))], &[]);
    let subject = Subject::of(&blob);
    let mut outcomes = subject.calls(&server).await;
    outcomes.push(subject.capabilities(&server).await);
    assert_all_present(&outcomes);
    let absent = Blob::new("absent");
    assert_code(server.read(&absent.read_name()).await, Code::NotFound);
    let scrape = settled(&server).await;
    assert!(scrape.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    for (method, _) in outcomes {
        let labels = [("transport", "grpc"), ("method", method), ("outcome", "OK")];
        assert_eq!(scrape.sum("castellan_requests_total", &labels), 1, "{method}");
        let count = scrape.sum("castellan_request_duration_seconds_count", &labels);
        assert_eq!(count, 1, "{method}");
        for name in ["received", "sent"] {
            let name = format!("castellan_request_{name}_bytes_total");
            assert!(scrape.sum(&name, &[("method", method)]) >= 5, "{name} of {method}");
        }
    }
    let missed = [("method", "Read"), ("outcome", "NOT_FOUND")];
    assert_eq!(scrape.sum("castellan_requests_total", &missed), 1);
    let http = scrape.sum("castellan_requests_in_flight", &[("transport", "http")]);
    assert_eq!(http, 1, "the scrape itself");
}

#[tokio::test]
async fn bytes_of_blobs_are_counted_in_and_out() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::random(5, 3 << 20);
    server.put(&[&blob]).await;
    server.read(&blob.read_name()).await.unwrap();
    let scrape = settled(&server).await;
    for (name, method) in [("received", "Write"), ("sent", "Read")] {
        let name = format!("castellan_request_{name}_bytes_total");
        let bytes = scrape.sum(&name, &[("method", method)]);
        let framing = bytes.checked_sub(blob.data.len() as u64).unwrap();
        assert!(framing < 3 << 10, "{name}: {bytes}");
    }
}

#[tokio::test]
async fn a_call_whose_client_goes_away_is_cancelled() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::random(6, 30 << 20);
    server.put(&[&blob]).await;
    let request = castellan_proto::messages::ReadRequest {
        resource_name: blob.read_name(),
        ..castellan_proto::messages::ReadRequest::default()
    };
    let mut stream = server.byte_stream().read(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let in_flight = [("transport", "grpc")];
    let scrape = Scrape::of(&server).await;
    assert_eq!(scrape.sum("castellan_requests_in_flight", &in_flight), 1);
    drop(stream);
    let cancelled = [("method", "Read"), ("outcome", "CANCELLED")];
    assert_eq!(settled(&server).await.sum("castellan_requests_total", &cancelled), 1);
}

/// What the server looks up for itself is no hit of anybody.
#[tokio::test]
async fn hits_and_misses_are_those_of_clients() {
    let server = TestServer::start_on_files().await;
    let full = FullResult::new("hits");
    server.put(&full.blobs()).await;
    let encoded = prost::Message::encode_to_vec(&full.result);
    assert_code(server.get_result(&full.action).await, Code::NotFound);
    server.update_result(&full.action, encoded).await.unwrap();
    server.get_result(&full.action).await.unwrap();
    server.get_result(&full.action).await.unwrap();
    let scrape = settled(&server).await;
    let sum = |name: &str, result| scrape.sum(name, &[("instance_name", "-"), ("result", result)]);
    assert_eq!(sum("castellan_action_cache_lookups_total", "hit"), 2);
    assert_eq!(sum("castellan_action_cache_lookups_total", "miss"), 1);
    for result in ["hit", "miss"] {
        assert_eq!(sum("castellan_cas_reads_total", result), 0, "{result}");
    }
    for result in ["present", "absent"] {
        assert_eq!(sum("castellan_cas_presence_total", result), 0, "{result}");
    }
    let [absent, empty] = [Blob::new("absent"), Blob::new("")];
    let present = full.blobs()[0];
    assert_eq!(server.missing(&[present, &absent, &empty]).await.len(), 1);
    for blob in [present, &empty] {
        server.read(&blob.read_name()).await.unwrap();
    }
    assert_code(server.read(&absent.read_name()).await, Code::NotFound);
    let in_other = Subject::in_instance(present, "other");
    in_other.calls(&server).await;
    let scrape = settled(&server).await;
    let sum = |instance: &str, name: &str, result| {
        scrape.sum(name, &[("instance_name", instance), ("result", result)])
    };
    assert_eq!(sum("-", "castellan_cas_presence_total", "present"), 2);
    assert_eq!(sum("-", "castellan_cas_presence_total", "absent"), 1);
    assert_eq!(sum("-", "castellan_cas_reads_total", "hit"), 2);
    assert_eq!(sum("-", "castellan_cas_reads_total", "miss"), 1);
    // A batch and a read; a question of FindMissingBlobs and one of QueryWriteStatus.
    assert_eq!(sum("other", "castellan_cas_reads_total", "hit"), 2);
    assert_eq!(sum("other", "castellan_cas_presence_total", "present"), 2);
    assert_eq!(sum("other", "castellan_action_cache_lookups_total", "hit"), 1);
}

#[tokio::test]
async fn i22_no_client_makes_the_metrics_grow_without_end() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::new("one");
    for name in 0..80 {
        let subject = Subject::in_instance(&blob, &format!("instance-{name}"));
        let request = castellan_proto::messages::FindMissingBlobsRequest {
            instance_name: subject.instance_name,
            ..castellan_proto::messages::FindMissingBlobsRequest::default()
        };
        server.cas().find_missing_blobs(request).await.unwrap();
        let method = format!("/google.bytestream.ByteStream/Made{name}");
        let call = crate::support::raw_call(&server.channel, &method, vec![Bytes::new()]);
        assert_code(call.await, Code::Unimplemented);
    }
    let scrape = settled(&server).await;
    assert_eq!(scrape.sum("castellan_requests_total", &[("method", "other")]), 80);
    let instances = scrape.samples["castellan_action_cache_lookups_total"].len() / 2;
    assert_eq!(instances, 65);
}
