//! Staged trees and their leases, with streams that the tests take messages from by hand.

#![expect(clippy::disallowed_methods, reason = "the tests do what a worker does")]

use std::path::PathBuf;

use bytes::Bytes;
use castellan_proto::protobuf::Duration as WireDuration;
use castellan_proto::worker::Digest as WireDigest;
use castellan_proto::worker::stage_tree_request::Root as WireRoot;
use futures_util::stream::StreamExt as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::cas::Cas;
use crate::digest::{Digest, DigestFunction};
use crate::grpc::worker::paths::Root;
use crate::grpc::worker::turns::Turns;
use crate::grpc::worker::{WorkerInstances, WorkerOptions};
use crate::staging::Stager;
use crate::staging::leases::Leases;
use crate::store::filesystem::{Cap, FilesystemOptions};
use crate::trees::on_disk::Folder;

struct World {
    place: TempDir,
    worker: Arc<Worker>,
}

impl World {
    async fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let options = FilesystemOptions::new(place.path().join("store"), Cap::Bytes(64 << 20));
        let files = FilesystemStore::open(options).await.unwrap();
        let cas = Cas::new(Arc::<FilesystemStore>::clone(&files));
        cas.put(Digest::of(DigestFunction::Sha256, b""), Bytes::new()).await.unwrap();
        let stager = Stager::new(cas, Arc::clone(&files));
        let instances = WorkerInstances {
            named: std::collections::HashMap::new(),
            any: Some(Ok(Local { stager, files })),
            default_digest_function: DigestFunction::Sha256,
        };
        let options = WorkerOptions::default();
        let turns = || Turns::new(1, 9, options.turn_timeout);
        let worker = Worker {
            instances,
            root: Root::new(Folder::make_root(&place.path().join("work")).unwrap()),
            leases: Leases::new(9),
            stages: turns(),
            fetches: turns(),
            captures: turns(),
            removals: turns(),
            metrics: Metrics::new(crate::telemetry::recent_errors::RecentErrors::default()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            options,
        };
        Self { place, worker: Arc::new(worker) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join("work").join(name)
    }

    /// Begins to stage the empty tree.
    fn start(&self, name: &str) -> EventStream<StageTreeResponse> {
        let hash = Digest::of(DigestFunction::Sha256, b"").hash_hex().as_str().to_owned();
        let request = StageTreeRequest {
            root: Some(WireRoot::InputRootDigest(WireDigest { hash, size_bytes: 0 })),
            path: name.to_owned(),
            lease_duration: Some(WireDuration { seconds: 3600, nanos: 0 }),
            ..StageTreeRequest::default()
        };
        start(&self.worker, &request).unwrap()
    }

    /// Takes messages until something is staged; gives the name of the lease.
    async fn staged(&self, stream: &mut EventStream<StageTreeResponse>) -> String {
        loop {
            let message = stream.next().await.unwrap().unwrap();
            if let Some(stage_tree_response::Event::Staged(staged)) = message.event {
                return staged.lease_id;
            }
        }
    }

    /// Waits until nothing goes on.
    async fn rest(&self) {
        self.worker.tasks.close();
        self.worker.tasks.wait().await;
    }

    async fn release(&self, lease_id: &str) -> Result<bool, Status> {
        let request = ReleaseTreeRequest { lease_id: lease_id.to_owned(), remove: true };
        release(&self.worker, request).await
    }
}

#[tokio::test]
async fn a_client_that_takes_what_was_staged_and_leaves_at_once_has_it() {
    let world = World::new().await;
    let mut stream = world.start("tree");
    let lease_id = world.staged(&mut stream).await;
    // On one thread nothing has happened between these two.
    drop(stream);
    world.rest().await;
    assert!(world.path("tree").is_dir());
    assert!(world.release(&lease_id).await.unwrap());
    assert!(!world.path("tree").exists());
}

#[tokio::test]
async fn what_nobody_took_is_undone() {
    let world = World::new().await;
    let stream = world.start("tree");
    while world.worker.leases.count(|_| true) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(world.path("tree").is_dir());
    drop(stream);
    world.rest().await;
    assert_eq!(world.worker.leases.count(|_| true), 0);
    assert!(!world.path("tree").exists());
}

#[tokio::test(start_paused = true)]
async fn i23_a_client_that_takes_nothing_is_told_and_has_nothing() {
    let world = World::new().await;
    let mut stream = world.start("tree");
    world.rest().await;
    assert!(!world.path("tree").exists());
    let mut messages: Vec<_> = stream.by_ref().collect().await;
    assert_eq!(messages.pop().unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(messages.iter().all(|it| {
        let event = &it.as_ref().unwrap().event;
        matches!(event, Some(stage_tree_response::Event::Progress(_)))
    }));
}

#[tokio::test]
async fn a_release_removes_what_was_staged_and_nothing_that_has_its_name() {
    let world = World::new().await;
    let first = world.staged(&mut world.start("tree")).await;
    std::fs::rename(world.path("tree"), world.path("moved")).unwrap();
    let second = world.staged(&mut world.start("tree")).await;
    world.rest().await;
    assert!(!world.release(&first).await.unwrap());
    assert_eq!(world.release(&first).await.unwrap_err().code(), Code::NotFound);
    assert!(world.path("tree").is_dir() && world.path("moved").is_dir());

    assert!(world.release(&second).await.unwrap());
    assert!(!world.path("tree").exists());
    let third = world.staged(&mut world.start("tree")).await;
    std::fs::remove_dir(world.path("tree")).unwrap();
    assert!(!world.release(&third).await.unwrap());
}

#[tokio::test]
async fn a_removal_that_fails_can_be_tried_again() {
    let world = World::new().await;
    let leases = &world.worker.leases;
    let lease_id = world.staged(&mut world.start("tree")).await;
    world.rest().await;
    let mut held = Arc::into_inner(leases.take(&lease_id).unwrap()).unwrap();
    // No directory is called that, so that it cannot be looked for.
    held.target.name = "a/b".to_owned();
    let lease = leases.place().unwrap().fill(Arc::new(held)).unwrap().unwrap();
    for _ in 0..2 {
        assert_eq!(world.release(&lease.id()).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(leases.count(|_| true), 1);
    }
    assert!(world.path("tree").is_dir());
}

#[tokio::test]
async fn i22_removals_need_a_turn_and_the_lease_waits_for_it() {
    let world = World::new().await;
    let lease_id = world.staged(&mut world.start("tree")).await;
    world.rest().await;
    let joined: Vec<_> = (0..10).map(|_| world.worker.removals.join().unwrap()).collect();
    let refused = world.release(&lease_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(joined);
    assert!(world.release(&lease_id).await.unwrap());
}
