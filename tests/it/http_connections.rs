//! Connections that are slow, idle, odd, or there when the server ends.

use std::time::Duration;

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan::http::HttpOptions;
use castellan::shutdown::raise_descriptor_limit;
use castellan::store::{BlobStore as _, Key};
use futures_util::future::join_all;
use rustix::process::{Resource, getrlimit};
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::support::http::{Http, http};
use crate::support::wait::{eventually, stats_reach};
use crate::support::{Blob, TestServer};

fn cas(blob: &Blob) -> String {
    format!("/cas/{}", blob.digest.hash_hex().as_str())
}

/// Bounds that a test can wait for.
fn impatient() -> HttpOptions {
    HttpOptions {
        idle_timeout: Duration::from_secs(2),
        read_idle_timeout: Duration::from_secs(2),
        upload_window: Duration::from_secs(2),
        ..HttpOptions::default()
    }
}

/// A third of them trickle a head, a third a body, a third say nothing.
async fn trickler(server: &TestServer, number: usize) -> (Http, &'static [u8]) {
    let mut client = Http::connect(server).await;
    let blob = Blob::random(number as u64, 100);
    match number % 3 {
        0 => (client, b"GET /cas/0000000000000000000000000000000000000000000000000000000000000"),
        1 => {
            client.head("PUT", &cas(&blob), &[("Content-Length", "1000")]).await;
            (client, &[b'x'; 900])
        }
        _ => (client, b""),
    }
}

/// Each sends a byte when its turn comes, until the server has closed them all.
async fn trickle(tricklers: Vec<(Http, &'static [u8])>, pause: Duration) {
    let mut open = tricklers;
    let mut turn = 0;
    eventually("every slow client is cut off", || {
        for (client, text) in &open {
            if let Some(byte) = text.get(turn..=turn) {
                client.try_send(byte);
            }
        }
        turn += 1;
        open.retain(|(client, _)| !client.try_closed());
        let is_over = open.is_empty();
        async move {
            tokio::time::sleep(pause).await;
            is_over
        }
    })
    .await;
}

#[tokio::test]
async fn i23_slow_clients_are_cut_off_and_cost_an_honest_one_nothing() {
    const TRICKLERS: usize = 2_000;
    const REQUESTS: u64 = 200;
    raise_descriptor_limit();
    if getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < 4 * TRICKLERS as u64) {
        println!("skipped: too few descriptors");
        return;
    }
    let server = TestServer::start_http(impatient()).await;
    let tricklers = join_all((0..TRICKLERS).map(|number| trickler(&server, number))).await;
    let honest = async {
        let mut client = Http::connect(&server).await;
        for number in 0..REQUESTS {
            let blob = Blob::random(1_000_000 + number, 10_000);
            assert_eq!(client.call("PUT", &cas(&blob), &[], &blob.data).await.status, 200);
            assert_eq!(client.call("GET", &cas(&blob), &[], &[]).await.body, blob.data);
        }
    };
    tokio::join!(trickle(tricklers, Duration::from_millis(200)), honest);
    stats_reach(&server, "nothing is held for them", |it| it.reserved_bytes == 0).await;
}

#[tokio::test]
async fn i23_a_body_that_trickles_is_refused() {
    let server = TestServer::start_http(impatient()).await;
    let blob = Blob::random(1, 1_000_000);
    let mut client = Http::connect(&server).await;
    client.head("PUT", &cas(&blob), &[("Content-Length", "1000000")]).await;
    client.send(&blob.data[..500]).await;
    stats_reach(&server, "it has room", |it| it.reserved_bytes >= 1_000_000).await;
    let reply = client.reply("PUT").await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
    client.closed().await;
    stats_reach(&server, "the room is given back", |it| it.reserved_bytes == 0).await;
}

#[tokio::test]
async fn i23_a_client_that_takes_nothing_is_cut_off() {
    let server = TestServer::start_http(impatient()).await;
    // More than the sockets hold.
    let blob = Blob::random(2, 40 << 20);
    for headers in [&[][..], &[("Accept-Encoding", "zstd")]] {
        server.put(&[&blob]).await;
        let mut client = Http::with_small_buffer(&server).await;
        client.head("GET", &cas(&blob), headers).await;
        let mut head = Vec::new();
        client.bytes(12, &mut head).await.unwrap();
        assert_eq!(head, b"HTTP/1.1 200");
        // What is removed takes its room until nobody reads it any more.
        assert!(server.store().remove(&Key::blob(blob.digest)).await.unwrap());
        assert!(server.store().stats().dying_bytes > 0);
        stats_reach(&server, "the read is over", |it| it.dying_bytes == 0).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn reapi_h4_an_idle_connection_is_closed_at_the_limit() {
    let server = TestServer::start_http(impatient()).await;
    let mut client = Http::connect(&server).await;
    assert_eq!(client.call("GET", "/livez", &[], &[]).await.status, 200);
    client.closed().await;
}

#[tokio::test]
async fn a_refused_upload_is_not_asked_to_go_on() {
    let server = TestServer::start().await;
    let blob = Blob::random(3, 100_000);
    let expect = ("Expect", "100-continue");
    for (path, length, status) in [
        ("/cas/abc".to_owned(), "100000", 400),
        (cas(&blob), "1000000000000", 413),
        (cas(&blob).replace("cas", "ac"), "5000000", 413),
    ] {
        let mut client = Http::connect(&server).await;
        client.head("PUT", &path, &[expect, ("Content-Length", length)]).await;
        assert_eq!(client.reply("PUT").await.unwrap().status, status);
        client.closed().await;
    }
    let mut client = Http::connect(&server).await;
    client.head("PUT", &cas(&blob), &[expect, ("Content-Length", "100000")]).await;
    assert_eq!(client.reply("PUT").await.unwrap().status, 100);
    client.send(&blob.data).await;
    assert_eq!(client.reply("PUT").await.unwrap().status, 200);
}

/// A server that closes at once takes its answer back: the client finds a broken connection.
#[tokio::test]
async fn a_client_that_sends_all_of_a_refused_body_sees_why() {
    let server = TestServer::start().await;
    let blob = Blob::random(4, 20 << 20);
    let mut client = Http::connect(&server).await;
    for path in ["/cas/abc", "/blobs/cas/abc", "/nothing"] {
        let reply = client.call("PUT", path, &[], &blob.data).await;
        assert!(matches!(reply.status, 400 | 404), "{}", reply.status);
    }
    assert_eq!(client.call("PUT", &cas(&blob), &[], &blob.data).await.status, 200);
}

#[tokio::test]
async fn reapi_h3_a_client_that_vanishes_leaves_nothing() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::random(5, 5_000_000);
    let mut client = Http::connect(&server).await;
    client.head("PUT", &cas(&blob), &[("Content-Length", "5000000")]).await;
    client.send(&blob.data[..4_000_000]).await;
    stats_reach(&server, "it has room", |it| it.reserved_bytes >= 5_000_000).await;
    drop(client);
    stats_reach(&server, "the room is given back", |it| it.reserved_bytes == 0).await;
    assert_eq!(server.missing(&[&blob]).await.len(), 1);
}

#[tokio::test]
async fn i22_requests_are_bounded() {
    let one = HttpOptions { max_requests: 1, ..HttpOptions::default() };
    let server = TestServer::start_http(one).await;
    let blob = Blob::random(6, 200_000);
    let mut first = Http::connect(&server).await;
    first.head("PUT", &cas(&blob), &[("Content-Length", "200000")]).await;
    stats_reach(&server, "it has room", |it| it.reserved_bytes >= 200_000).await;
    let second = http(&server, "GET", &cas(&blob), &[], &[]).await;
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert_eq!(http(&server, "GET", "/livez", &[], &[]).await.status, 200);
    first.send(&blob.data).await;
    assert_eq!(first.reply("PUT").await.unwrap().status, 200);
    assert_eq!(http(&server, "GET", &cas(&blob), &[], &[]).await.body, blob.data);
}

#[tokio::test]
async fn http_2_is_spoken_with_who_begins_with_it() {
    let server = TestServer::start().await;
    let address = server.server.http_address();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let blob = Blob::random(7, 3_000_000);
    let call = async |method: &str, body: Bytes| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{address}{}", cas(&blob)))
            .header("content-length", body.len())
            .body(tonic::body::Body::new(axum::body::Body::from(body)))
            .unwrap();
        let response = channel.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::Body::new(response.into_body());
        (status, axum::body::to_bytes(body, 10 << 20).await.unwrap())
    };
    assert_eq!(call("PUT", blob.data.clone()).await, (200, Bytes::new()));
    assert_eq!(call("GET", Bytes::new()).await, (200, blob.data.clone()));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the task is awaited")]
async fn reapi_100_a_drain_lets_a_request_end_and_takes_no_new_one() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::random(8, 500_000);
    let mut kept = Http::connect(&server).await;
    assert_eq!(kept.call("GET", &cas(&blob), &[], &[]).await.status, 404);
    let mut running = Http::connect(&server).await;
    running.head("PUT", &cas(&blob), &[("Content-Length", "500000")]).await;
    running.send(&blob.data[..100_000]).await;
    stats_reach(&server, "it has room", |it| it.reserved_bytes >= 500_000).await;
    let address = server.server.http_address();
    let stopped = tokio::spawn(server.stop());
    eventually("it says that it drains", || async {
        Http::to(address).await.call("GET", "/readyz", &[], &[]).await.status == 503
    })
    .await;
    let reply = kept.call("GET", &cas(&blob), &[], &[]).await;
    assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
    let mut probe = Http::to(address).await;
    assert_eq!(probe.call("GET", "/livez", &[], &[]).await.status, 200);
    running.send(&blob.data[100_000..]).await;
    assert_eq!(running.reply("PUT").await.unwrap().status, 200);
    let directory = stopped.await.unwrap();
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    assert_eq!(http(&server, "GET", &cas(&blob), &[], &[]).await.body, blob.data);
}
