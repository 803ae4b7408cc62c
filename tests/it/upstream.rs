//! Castellan as the upstream of a store: over sockets, in health and through a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan::http::HttpOptions;
use castellan::server::{
    GrpcListener, HealthPage, InstanceSettings, Instances, Server, ServerSettings, StoreKind,
    StoreSettings,
};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan::store::memory::{MemoryOptions, MemoryStore};
use castellan::store::remote::{Endpoint, RemoteKind, RemoteOptions, RemoteStore};
use castellan::store::tiered::{TieredOptions, TieredStore};
use castellan::store::{BlobStore as _, BlobStoreExt as _, ByteRange, Key, Namespace, StoreError};
use castellan::telemetry::recent_errors::RecentErrors;
use castellan_proto::v2;
use futures_util::future::join_all;
use prost::Message as _;
use tokio::net::TcpListener;

use crate::support::http::Http;
use crate::support::wait::eventually;
use crate::support::{Blob, TestServer};

fn connect(address: SocketAddr, kind: RemoteKind) -> Arc<RemoteStore> {
    let endpoints = vec![Endpoint::new(address.to_string())];
    RemoteStore::connect(RemoteOptions::new("main", endpoints, kind)).unwrap()
}

async fn start(directory: &tempfile::TempDir, address: SocketAddr) -> Server {
    let listener = GrpcListener::new(address, Instances::Any(InstanceSettings::new(0, 0)));
    let options = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    let (name, kind) = ("upstream".to_owned(), StoreKind::Filesystem(options));
    let settings = ServerSettings {
        values: None,
        stores: vec![StoreSettings { name, kind }],
        listeners: vec![listener],
        http_listen: (Ipv4Addr::LOCALHOST, 0).into(),
        http: HttpOptions::default(),
        http_tls: None,
        http_instances: None,
        adopted_results_are_mangled: false,
        admin: None,
        worker: None,
        drain_timeout: Duration::from_secs(10),
        recent_errors: RecentErrors::default(),
    };
    Server::start(settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blobs_at_once_go_there_and_come_back() {
    let server = TestServer::start().await;
    let store = connect(server.server.grpc_address().unwrap(), RemoteKind::Cas);
    let sizes = [1, 3_000, 128 << 10, 200 << 10, 3 << 20];
    let blobs: Vec<Blob> = (0..100_u64)
        .map(|seed| {
            let size = sizes[usize::try_from(seed).unwrap() % sizes.len()];
            let data = Blob::random(seed, if size == 1 { 40 } else { size }).data;
            let function = DigestFunction::ALL[usize::from(seed % 2 == 1)];
            Blob::with(function, data)
        })
        .collect();
    let keys: Vec<Key> = blobs.iter().map(|blob| Key::blob(blob.digest)).collect();
    assert_eq!(store.find_missing(&keys).await.unwrap(), vec![true; 100]);
    let puts = blobs.iter().zip(&keys).map(|(blob, key)| store.put(key, blob.data.clone()));
    join_all(puts).await.into_iter().for_each(|outcome| outcome.unwrap());
    assert_eq!(store.find_missing(&keys).await.unwrap(), vec![false; 100]);
    let reads = join_all(keys.iter().map(|key| store.get_all(key, u64::MAX))).await;
    for (blob, read) in blobs.iter().zip(reads) {
        assert!(read.unwrap().unwrap() == blob.data, "other bytes of {}", blob.digest);
    }
    let stats = store.stats();
    assert_eq!((stats.failures, stats.corrupt, stats.in_flight), (0, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn results_go_there_and_come_back_with_what_nobody_knows() {
    let server = TestServer::start().await;
    let store = connect(server.server.grpc_address().unwrap(), RemoteKind::ActionCache);
    let key = Key::action_result(Namespace::of_instance("main"), Blob::new("action").digest);
    let result = v2::ActionResult { exit_code: 3, ..v2::ActionResult::default() };
    let mut encoded = result.encode_to_vec();
    encoded.extend_from_slice(b"\xfa\x7f\x01x");
    assert!(store.get(&key, ByteRange::ALL).await.unwrap().is_none());
    store.put(&key, encoded.clone().into()).await.unwrap();
    assert_eq!(store.get_all(&key, u64::MAX).await.unwrap().unwrap(), encoded);
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
    // What is no result is refused there, and that is no mistake of our client.
    let nonsense = store.put(&key, Bytes::from_static(b"\xff\xff")).await;
    assert!(matches!(nonsense, Err(StoreError::Unavailable { .. })), "{nonsense:?}");
}

#[tokio::test]
async fn an_upstream_may_restart_on_its_port() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory, (Ipv4Addr::LOCALHOST, 0).into()).await;
    let address = server.grpc_address().unwrap();
    let store = connect(address, RemoteKind::Cas);
    let blob = Blob::random(1, 300 << 10);
    let key = Key::blob(blob.digest);
    store.put(&key, blob.data.clone()).await.unwrap();
    server.shutdown().await.unwrap();
    for _ in 0..5 {
        let gone = store.find_missing(&[key]).await;
        assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");
    }
    assert_eq!(store.stats().breaker_open, 1);
    let server = start(&directory, address).await;
    let is_back = || async { store.find_missing(&[key]).await.is_ok_and(|it| it == [false]) };
    eventually("the upstream is used again", is_back).await;
    assert_eq!(store.get_all(&key, u64::MAX).await.unwrap().unwrap(), blob.data);
    assert_eq!(store.stats().breaker_open, 0);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_behind_a_port_and_silence_behind_one_are_answered_for() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let silent = listener.local_addr().unwrap();
    let key = Key::blob(Blob::new("blob").digest);
    let endpoints = vec![Endpoint::new(format!("grpc://{silent}"))];
    let mut options = RemoteOptions::new("main", endpoints, RemoteKind::Cas);
    options.rpc_timeout = Duration::from_millis(300);
    let store = RemoteStore::connect(options.clone()).unwrap();
    for _ in 0..5 {
        let outcome = store.get(&key, ByteRange::ALL).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
    }
    drop(listener);
    let store = RemoteStore::connect(options).unwrap();
    let outcome = store.get(&key, ByteRange::ALL).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_not_there_shows_on_the_health_page_whatever_it_is_for() {
    let nobody = vec![Endpoint::new("127.0.0.1:1")];
    let blobs = InstanceSettings { cas: Some(0), ..InstanceSettings::default() };
    let results = InstanceSettings { action_cache: Some(0), ..InstanceSettings::default() };
    for (kind, instance) in [(RemoteKind::Cas, blobs), (RemoteKind::ActionCache, results)] {
        let options = RemoteOptions::new("main", nobody.clone(), kind);
        let (name, kind) = ("far".to_owned(), StoreKind::Remote(Box::new(options)));
        let page = HealthPage { path: "/health".to_owned(), timeout: Duration::from_secs(30) };
        let loopback: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = GrpcListener {
            health: Some(page),
            ..GrpcListener::new(loopback, Instances::Any(instance))
        };
        let settings = ServerSettings {
            values: None,
            stores: vec![StoreSettings { name, kind }],
            listeners: vec![listener],
            http_listen: loopback,
            http: HttpOptions::default(),
            http_tls: None,
            http_instances: None,
            adopted_results_are_mangled: false,
            admin: None,
            worker: None,
            drain_timeout: Duration::from_secs(10),
            recent_errors: RecentErrors::default(),
        };
        let server = Server::start(settings).await.unwrap();
        let mut http = Http::to(server.grpc_address().unwrap()).await;
        let reply = http.call("GET", "/health", &[], &[]).await;
        assert_eq!(reply.status, 503, "{}", reply.text());
        drop(http);
        server.shutdown().await.unwrap();
    }
}

/// HTTP clients know hashes only, and REAPI has no look-up by them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_store_finds_by_its_hash_what_the_upstream_has() {
    let server = TestServer::start_on_files().await;
    let slow = connect(server.server.grpc_address().unwrap(), RemoteKind::Cas);
    let fast = MemoryStore::new(&MemoryOptions::new(8 << 20));
    let store = TieredStore::new(fast, slow, TieredOptions::default());
    let data = Bytes::from_static(b"known by its size");
    let digest = Digest::of(DigestFunction::Sha256, &data);
    let key = Key::blob(digest);
    store.put(&key, data).await.unwrap();
    let find = async || store.find_by_hash(digest.function, digest.hash).await.unwrap();
    assert_eq!(find().await, Some(digest));
    server.store().remove(&key).await.unwrap();
    assert_eq!(find().await, None, "it is missing over gRPC too");
}
