//! Leases of staged trees: how each ends, and that nothing is left of what nobody got.

#![expect(clippy::disallowed_methods, reason = "the tests do what a worker does")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use castellan::grpc::worker::WorkerOptions;
use castellan::server::{InstanceSettings, Instances, StoreKind};
use castellan::store::remote::{Endpoint, RemoteKind, RemoteOptions};
use castellan::store::tiered::TieredOptions;
use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::worker::{ReleaseTreeRequest, StageTreeRequest};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::support::wait::eventually;
use crate::support::worker::{PATIENCE, Worker, files, listing, put, request, small_tree};
use crate::support::{Blob, Scrape, assert_code};

async fn release(worker: &Worker, lease_id: &str, remove: bool) -> Result<(), Status> {
    let request = ReleaseTreeRequest { lease_id: lease_id.to_owned(), remove };
    worker.client.clone().release_tree(request).await.map(drop)
}

async fn leases_reach(worker: &Worker, wanted: u64) {
    eventually("so many leases", || async { worker.usage().await.leases == wanted }).await;
}

/// A worker of a server that has a tree.
async fn worker_with_tree(options: WorkerOptions) -> (Worker, Vec<Blob>) {
    let worker = Worker::start_with(options).await;
    let tree = small_tree();
    put(&worker.server, &tree).await;
    (worker, tree)
}

#[tokio::test]
async fn a_lease_without_a_duration_ends_with_its_stream() {
    let (worker, tree) = worker_with_tree(WorkerOptions::default()).await;
    let (staged, stream) = worker.stage(request(&tree[0], "a")).await.unwrap();
    assert_eq!(worker.usage().await.leases, 1);
    drop(stream);
    leases_reach(&worker, 0).await;
    assert_eq!(worker.usage().await.pinned_bytes, 0);
    assert_code(release(&worker, &staged.lease_id, true).await, Code::NotFound);
    // It is the worker's.
    assert_eq!(worker.listing(), ["a"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_lease_with_a_duration_outlives_its_stream_and_ends_with_its_time() {
    let (worker, tree) = worker_with_tree(WorkerOptions::default()).await;
    let lasting = |path: &str, seconds, nanos| StageTreeRequest {
        lease_duration: Some(WireDuration { seconds, nanos }),
        ..request(&tree[0], path)
    };
    let (long, mut stream) = worker.stage(lasting("a", 3600, 0)).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), None);
    let (short, mut stream) = worker.stage(lasting("b", 0, 1_000_000)).await.unwrap();
    assert_eq!(stream.message().await.unwrap(), None);
    leases_reach(&worker, 1).await;
    assert_code(release(&worker, &short.lease_id, false).await, Code::NotFound);
    release(&worker, &long.lease_id, false).await.unwrap();
    assert_eq!(worker.usage().await.leases, 0);
    assert_eq!(worker.listing(), ["a", "b"]);
    let too_long = worker.stage(lasting("c", 24 * 3600 + 1, 0)).await;
    assert_code(too_long.map(drop), Code::InvalidArgument);
    worker.stop().await;
}

#[tokio::test]
async fn a_release_ends_the_stream_and_removes_the_directory() {
    let (worker, tree) = worker_with_tree(WorkerOptions::default()).await;
    let (staged, mut stream) = worker.stage(request(&tree[0], "a")).await.unwrap();
    std::fs::write(worker.root().join("a/empty/made"), "by the worker").unwrap();
    for wrong in ["", "nonsense", &"0".repeat(32)] {
        assert_code(release(&worker, wrong, true).await, Code::NotFound);
    }
    release(&worker, &staged.lease_id, true).await.unwrap();
    assert_eq!(worker.listing(), [""; 0]);
    assert_eq!(stream.message().await.unwrap(), None);
    assert_code(release(&worker, &staged.lease_id, true).await, Code::NotFound);
    assert_eq!(worker.usage().await.leases, 0);
    worker.stop().await;
}

#[tokio::test]
async fn i22_leases_are_bounded_and_who_finds_no_place_is_told() {
    let options = WorkerOptions { max_leases: 1, ..WorkerOptions::default() };
    let (worker, tree) = worker_with_tree(options).await;
    let (staged, _stream) = worker.stage(request(&tree[0], "a")).await.unwrap();
    let outcome = worker.stage(request(&tree[0], "b")).await;
    assert_code(outcome.map(drop), Code::ResourceExhausted);
    release(&worker, &staged.lease_id, false).await.unwrap();
    let (_, _held) = worker.stage(request(&tree[0], "b")).await.unwrap();
    worker.stop().await;
}

/// An upstream that takes connections and never answers.
async fn silent_upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A worker of a server that waits for its upstream where a blob is missing.
async fn worker_before(upstream: SocketAddr, options: WorkerOptions) -> Worker {
    let stores = |directory: &Path| {
        let endpoint = Endpoint::new(upstream.to_string());
        let remote = RemoteOptions::new("main", vec![endpoint], RemoteKind::Cas);
        vec![
            files(directory, "near"),
            StoreKind::Remote(Box::new(remote)),
            StoreKind::Tiered { fast: 0, slow: 1, options: TieredOptions::default() },
        ]
    };
    let instances = Instances::Any(InstanceSettings::new(2, 2));
    Worker::start_on(stores, instances, options).await
}

async fn outcomes(worker: &Worker, result: &str) -> u64 {
    let scrape = Scrape::of(&worker.server).await;
    scrape.sum("castellan_staging_trees_total", &[("result", result)])
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing() {
    let (_upstream, address) = silent_upstream().await;
    let worker = worker_before(address, WorkerOptions::default()).await;
    let stream = worker.open(request(&Blob::new("far away"), "a")).await.unwrap();
    drop(stream);
    eventually("it is given up", || async { outcomes(&worker, "cancelled").await == 1 }).await;
    assert_eq!(worker.usage().await.leases, 0);
    eventually("nothing is left", || std::future::ready(worker.listing().is_empty())).await;
    worker.stop().await;
}

#[tokio::test]
async fn i23_who_waits_too_long_for_a_turn_is_told() {
    let (_upstream, address) = silent_upstream().await;
    let options = WorkerOptions {
        max_running: 1,
        max_waiting: 1,
        turn_timeout: Duration::from_millis(10),
        ..WorkerOptions::default()
    };
    let worker = worker_before(address, options).await;
    let far = |path: &str| request(&Blob::new("far away"), path);
    let running = worker.open(far("a")).await.unwrap();
    let refused = worker.stage(far("b")).await;
    assert_code(refused.map(drop), Code::ResourceExhausted);
    drop(running);
    worker.stop().await;
}

#[tokio::test]
async fn the_end_of_the_server_ends_streams_and_leases_and_keeps_directories() {
    let (_upstream, address) = silent_upstream().await;
    let worker = worker_before(address, WorkerOptions::default()).await;
    let empty = Blob::new("");
    let (_, mut held) = worker.stage(request(&empty, "held")).await.unwrap();
    let mut staging = worker.open(request(&Blob::new("far away"), "a")).await.unwrap();
    let root = worker.root();
    let Worker { server, client } = worker;
    let stopping = timeout(PATIENCE, server.stop());
    let ends = async {
        assert_code(held.message().await, Code::Unavailable);
        assert_code(staging.message().await, Code::Unavailable);
        drop(client);
    };
    let (directory, ()) = tokio::join!(stopping, ends);
    let directory = directory.expect("the end waits for nothing that hangs");
    assert_eq!(listing(&root), ["held"]);
    drop(directory);
}

#[tokio::test]
async fn what_a_killed_server_has_left_half_made_goes_at_the_next_start() {
    let left = Path::new("work/.castellan-staging/1-0/.castellan-staging-1-0/deep");
    let stores = |directory: &Path| {
        std::fs::create_dir_all(directory.join(left)).unwrap();
        std::fs::write(directory.join(left).join("file"), "half").unwrap();
        vec![files(directory, "data")]
    };
    let any = Instances::Any(InstanceSettings::new(0, 0));
    let worker = Worker::start_on(stores, any, WorkerOptions::default()).await;
    let left = worker.server.directory.path().join("work/.castellan-staging/1-0");
    eventually("it is swept", async || !left.exists()).await;

    // Trees that are not finished are no business of workers.
    let within = request(&Blob::new(""), ".castellan-staging/a");
    assert_code(worker.stage(within).await.map(drop), Code::InvalidArgument);
    // Who removes them, and their place, takes nothing from those that come after.
    let tree = small_tree();
    put(&worker.server, &tree).await;
    std::fs::remove_dir_all(worker.root().join(".castellan-staging")).unwrap();
    let (_, _held) = worker.stage(request(&tree[0], "a")).await.unwrap();
    assert_eq!(worker.listing(), ["a"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_release_leaves_alone_what_has_the_name_now() {
    let (worker, tree) = worker_with_tree(WorkerOptions::default()).await;
    let (first, _first) = worker.stage(request(&tree[0], "a")).await.unwrap();
    std::fs::rename(worker.root().join("a"), worker.root().join("b")).unwrap();
    let (second, _second) = worker.stage(request(&tree[0], "a")).await.unwrap();
    release(&worker, &first.lease_id, true).await.unwrap();
    assert_eq!(worker.listing(), ["a", "b"]);
    assert_eq!(worker.usage().await.leases, 1);
    release(&worker, &second.lease_id, true).await.unwrap();
    assert_eq!(worker.listing(), ["b"]);
    worker.stop().await;
}
