//! Goal: every key of every kind of store means what it says, and what is not said has the format's
//! default. Method: whole files under testdata/valid/.

use super::{spec, valid};
use crate::{
    CasConfig, CompressionAlgorithm, Durability, ErrorCode, EvictionPolicy, FilesystemExtension,
    FilesystemStore, GrpcStore, LeasePressure, Lz4Config, MemoryStore, ReadBatching, Retry,
    StoreDirection, StoreSpec, StoreType, UnsupportedStore, VerifyOnRead, WriteBehind,
};
use std::time::Duration;

fn grpc<'c>(config: &'c CasConfig, name: &str) -> &'c GrpcStore {
    match spec(config, name) {
        StoreSpec::Grpc(store) => store,
        other => panic!("{other:?}"),
    }
}

fn disk<'c>(config: &'c CasConfig, name: &str) -> &'c FilesystemStore {
    match spec(config, name) {
        StoreSpec::Filesystem(store) => store,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_has_every_key() {
    let config = valid!("every_store");
    let policy = EvictionPolicy {
        max_bytes: Some(1_000_000_000),
        evict_bytes: 100_000_000,
        max_seconds: Some(Duration::from_hours(1)),
        max_count: Some(1000),
    };
    let memory = MemoryStore { eviction_policy: policy, ..MemoryStore::default() };
    assert_eq!(spec(&config, "MEMORY"), &StoreSpec::Memory(memory));

    let StoreSpec::FastSlow(store) = spec(&config, "FAST_SLOW") else { panic!() };
    assert_eq!(store.fast.value, StoreSpec::Memory(MemoryStore::default()));
    assert_eq!(store.fast_direction, StoreDirection::Get);
    assert!(matches!(&store.slow.value, StoreSpec::RefStore(name) if name.value == "MEMORY"));
    assert_eq!(store.slow_direction, StoreDirection::ReadOnly);
    assert_eq!(store.bypass_dedup_threshold_bytes, Some(1 << 20));
    assert_eq!(store.write_behind, None);
    assert_eq!(store.slow.place.path, "stores[1].fast_slow.slow.ref_store");

    let StoreSpec::Verify(store) = spec(&config, "VERIFY") else { panic!() };
    assert_eq!((&store.backend.value, store.verify_size), (&StoreSpec::Noop, true));
    assert!(store.verify_hash);

    let StoreSpec::ExistenceCache(store) = spec(&config, "EXISTENCE") else { panic!() };
    assert_eq!(store.eviction_policy.max_seconds, Some(Duration::from_mins(1)));
    assert_eq!(store.eviction_policy.max_count, Some(5));

    let StoreSpec::CompletenessChecking(store) = spec(&config, "COMPLETENESS") else { panic!() };
    assert_eq!(store.backend.value, StoreSpec::Noop);
    assert!(matches!(&store.cas_store.value, StoreSpec::RefStore(name) if name.value == "VERIFY"));

    let StoreSpec::Compression(store) = spec(&config, "COMPRESSION") else { panic!() };
    let lz4 = Lz4Config { block_size: 128 << 10, max_decode_block_size: 1 << 20 };
    assert_eq!(store.compression_algorithm, CompressionAlgorithm::Lz4(lz4));

    let StoreSpec::Dedup(store) = spec(&config, "DEDUP") else { panic!() };
    assert_eq!((store.min_size, store.normal_size, store.max_size), (1024, 2048, 4096));
    assert_eq!(store.max_concurrent_fetch_per_get, 3);
}

#[test]
fn stores_that_choose_another_have_their_parts_in_order() {
    let config = valid!("every_store");
    let StoreSpec::SizePartitioning(store) = spec(&config, "BY_SIZE") else { panic!() };
    assert_eq!(store.size, 128 << 20);
    assert!(matches!(store.lower_store.value, StoreSpec::Memory(_)));
    assert_eq!(store.upper_store.value, StoreSpec::Noop);

    let StoreSpec::Shard(store) = spec(&config, "SHARDS") else { panic!() };
    let weights: Vec<u32> = store.stores.iter().map(|shard| shard.weight).collect();
    assert_eq!(weights, [1000, 1]);
    assert_eq!(store.stores[1].store.value, StoreSpec::Noop);

    let StoreSpec::RefStore(name) = spec(&config, "REFERENCE") else { panic!() };
    assert_eq!(name.value, "SHARDS");
    assert_eq!(spec(&config, "NOTHING"), &StoreSpec::Noop);
    let StoreSpec::CacheMetrics(store) = spec(&config, "METRICS") else { panic!() };
    assert_eq!((store.cache_type.as_str(), &store.backend.value), ("cas", &StoreSpec::Noop));
}

#[test]
fn another_server_has_every_key() {
    let config = valid!("every_store");
    let store = grpc(&config, "UPSTREAM");
    assert_eq!((store.instance_name.as_str(), store.store_type), ("main", StoreType::Cas));
    let endpoint = &store.endpoints[0];
    assert_eq!(endpoint.address.value, "grpcs://cas.example.com:443");
    let tls = endpoint.tls_config.as_ref().unwrap();
    let path = |path: &Option<crate::Located<String>>| path.as_ref().unwrap().value.clone();
    assert_eq!(path(&tls.ca_file), "/home/ada/ca.pem");
    assert_eq!(path(&tls.cert_file), "/srv/cert.pem");
    assert_eq!(path(&tls.key_file), "key.pem");
    assert!(tls.use_native_roots);
    assert_eq!(endpoint.concurrency_limit, Some(100));
    assert_eq!(endpoint.connect_timeout, Duration::from_secs(5));
    assert_eq!(endpoint.tcp_keepalive, Duration::from_mins(1));
    assert_eq!(endpoint.http2_keepalive_interval, Duration::from_secs(10));
    assert_eq!(endpoint.http2_keepalive_timeout, Duration::from_millis(500));
    assert_eq!(store.endpoints[1].address.value, "http://10.0.0.2:50051");
    let retry = Retry {
        max_retries: 6,
        delay: Duration::from_millis(300),
        jitter: 0.5,
        retry_on_errors: Some(vec![ErrorCode::Unavailable, ErrorCode::DeadlineExceeded]),
    };
    assert_eq!(store.retry, retry);
    assert_eq!((store.max_concurrent_requests, store.connections_per_endpoint), (Some(64), 4));
    assert_eq!(store.rpc_timeout, Some(Duration::from_mins(2)));
    assert!(store.use_legacy_resource_names);
    let headers = [("x-token", "a $token that stays"), ("authorization", "Bearer 5")];
    let found: Vec<(&str, &str)> =
        store.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, headers);
    let batching = ReadBatching {
        max_blob_size_bytes: 64 << 10,
        max_batch_bytes: 1 << 20,
        dispatch_slots: 2,
        max_queued_bytes: 8 << 20,
    };
    assert_eq!(store.experimental_read_batching, Some(batching));

    let store = grpc(&config, "RESULTS_UPSTREAM");
    assert_eq!(store.store_type, StoreType::Ac);
    assert_eq!(store.forward_headers, ["authorization", "x-request-id"]);
}

#[test]
fn what_is_not_said_has_the_default_of_the_format() {
    let config = valid!("defaults");
    assert_eq!(spec(&config, "MEMORY"), &StoreSpec::Memory(MemoryStore::default()));
    assert_eq!(disk(&config, "DISK").extension, FilesystemExtension::default());
    let StoreSpec::FastSlow(store) = spec(&config, "FAST_SLOW") else { panic!() };
    assert_eq!(store.fast_direction, StoreDirection::Both);
    assert_eq!(store.bypass_dedup_threshold_bytes, None);
    let write_behind = store.write_behind.unwrap();
    assert_eq!(write_behind, WriteBehind::default());
    assert_eq!((write_behind.max_items, write_behind.max_bytes), (1024, 256 << 20));
    assert_eq!((write_behind.max_concurrent_copies, write_behind.max_attempts), (4, 5));
    let StoreSpec::Verify(store) = spec(&config, "VERIFY") else { panic!() };
    assert!(!store.verify_size && !store.verify_hash);
    let StoreSpec::ExistenceCache(store) = spec(&config, "EXISTENCE") else { panic!() };
    assert_eq!(store.eviction_policy, EvictionPolicy::default());
    let StoreSpec::Compression(store) = spec(&config, "COMPRESSION") else { panic!() };
    let lz4 = Lz4Config { block_size: 64 << 10, max_decode_block_size: 64 << 10 };
    assert_eq!(store.compression_algorithm, CompressionAlgorithm::Lz4(lz4));
    assert_dedup_defaults(&config);
    let StoreSpec::Shard(store) = spec(&config, "SHARDS") else { panic!() };
    assert_eq!(store.stores[0].weight, 1);

    let store = grpc(&config, "UPSTREAM");
    assert_eq!((store.instance_name.as_str(), &store.retry), ("", &Retry::default()));
    assert_eq!((store.max_concurrent_requests, store.connections_per_endpoint), (None, 1));
    assert_eq!((store.rpc_timeout, store.use_legacy_resource_names), (None, false));
    assert!(store.headers.is_empty() && store.forward_headers.is_empty() && store.verify_ranges);
    assert_endpoint_defaults(store);
    assert_batching_defaults(store);
}

fn assert_dedup_defaults(config: &CasConfig) {
    let StoreSpec::Dedup(store) = spec(config, "DEDUP") else { panic!() };
    let sizes = (store.min_size, store.normal_size, store.max_size);
    assert_eq!(sizes, (64 << 10, 256 << 10, 512 << 10));
    assert_eq!(store.max_concurrent_fetch_per_get, 10);
}

fn assert_endpoint_defaults(store: &GrpcStore) {
    let endpoint = &store.endpoints[0];
    assert_eq!((&endpoint.tls_config, endpoint.concurrency_limit), (&None, None));
    let thirty = Duration::from_secs(30);
    assert_eq!((endpoint.connect_timeout, endpoint.tcp_keepalive), (thirty, thirty));
    assert_eq!(endpoint.http2_keepalive_interval, thirty);
    assert_eq!(endpoint.http2_keepalive_timeout, Duration::from_secs(20));
}

fn assert_batching_defaults(store: &GrpcStore) {
    let batching = store.experimental_read_batching.unwrap();
    assert_eq!((batching.max_blob_size_bytes, batching.max_batch_bytes), (128 << 10, 3 << 20));
    assert_eq!((batching.dispatch_slots, batching.max_queued_bytes), (4, 32 << 20));
}

#[test]
fn zero_is_the_default_unless_it_means_none() {
    let config = valid!("zeros");
    let store = disk(&config, "DISK");
    assert_eq!(
        (store.read_buffer_size, store.block_size, store.max_concurrent_writes),
        Default::default()
    );
    assert_eq!(store.eviction_policy, EvictionPolicy::default());
    let extension = FilesystemExtension {
        min_free_bytes: Some(0),
        lease: Some(Duration::ZERO),
        scrub_bytes_per_second: Some(0),
        ..FilesystemExtension::default()
    };
    assert_eq!(store.extension, extension);
    assert_dedup_defaults(&config);
    let StoreSpec::SizePartitioning(store) = spec(&config, "BY_SIZE") else { panic!() };
    assert_eq!(store.size, 0);
    let store = grpc(&config, "UPSTREAM");
    assert_eq!(store.retry, Retry { retry_on_errors: Some(Vec::new()), ..Retry::default() });
    assert_eq!((store.max_concurrent_requests, store.connections_per_endpoint), (None, 1));
    assert_eq!(store.rpc_timeout, None);
    assert_endpoint_defaults(store);
    assert_batching_defaults(store);
    let StoreSpec::FastSlow(store) = spec(&config, "LAYERS") else { panic!() };
    let memory = MemoryStore { lease: Some(Duration::ZERO), ..MemoryStore::default() };
    assert_eq!(store.fast.value, StoreSpec::Memory(memory));
    assert_eq!(store.bypass_dedup_threshold_bytes, None);
}

#[test]
fn our_own_keys_are_read() {
    let config = valid!("own_keys");
    let careful = FilesystemExtension {
        max_blob_bytes: Some(2 << 30),
        min_free_bytes: Some(10_000_000_000),
        lease: Some(Duration::from_hours(7 * 24)),
        on_lease_pressure: Some(LeasePressure::Refuse),
        durability: Some(Durability::Fsync),
        sync_interval: Some(Duration::from_millis(10)),
        verify_on_read: Some(VerifyOnRead::Always),
        scrub_bytes_per_second: Some(8 << 20),
        snapshot_interval: Some(Duration::from_secs(1)),
    };
    assert_eq!(disk(&config, "CAREFUL").extension, careful);
    let fast = FilesystemExtension {
        max_blob_bytes: None,
        min_free_bytes: None,
        lease: Some(Duration::ZERO),
        on_lease_pressure: Some(LeasePressure::Break),
        durability: Some(Durability::Async),
        sync_interval: Some(Duration::from_hours(1)),
        verify_on_read: Some(VerifyOnRead::Never),
        scrub_bytes_per_second: Some(0),
        snapshot_interval: Some(Duration::from_hours(24)),
    };
    assert_eq!(disk(&config, "FAST").extension, fast);
    let shared = &disk(&config, "SHARED").extension;
    assert_eq!(shared.durability, Some(Durability::Group));
    assert_eq!(shared.verify_on_read, Some(VerifyOnRead::First));
    let memory = MemoryStore {
        eviction_policy: EvictionPolicy::default(),
        max_blob_bytes: Some(1 << 20),
        lease: Some(Duration::from_mins(30)),
    };
    assert_eq!(spec(&config, "MEMORY"), &StoreSpec::Memory(memory));
    let StoreSpec::FastSlow(store) = spec(&config, "LATER") else { panic!() };
    let write_behind = WriteBehind {
        max_items: 10,
        max_bytes: 1 << 20,
        max_concurrent_copies: 1,
        max_attempts: 2,
    };
    assert_eq!(store.write_behind, Some(write_behind));
    assert!(matches!(&store.slow.value, StoreSpec::Grpc(store) if !store.verify_ranges));
}

#[test]
fn stores_nest_with_the_places_of_their_parts() {
    let config = valid!("nested");
    let mut path = Vec::new();
    let mut store = &config.stores[0].spec;
    while let Some(last) = store.backends().last() {
        store = last;
        path.push(store.place.path.rsplit('.').next().unwrap());
    }
    assert_eq!(
        path,
        ["existence_cache", "verify", "fast_slow", "shard", "compression", "filesystem"]
    );
    let StoreSpec::Filesystem(disk) = &store.value else { panic!("{store:?}") };
    assert_eq!(disk.content_path.place.to_string(), "cas.json5:28:72");
    assert_eq!(
        disk.content_path.place.path,
        "stores[0].cache_metrics.backend.existence_cache.backend.verify.backend.fast_slow.slow\
         .shard.stores[1].store.compression.backend.filesystem.content_path"
    );
}

#[test]
fn stores_may_lead_to_one_store_many_times() {
    let config = valid!("references");
    let StoreSpec::FastSlow(store) = spec(&config, "TWICE") else { panic!() };
    assert_eq!(store.fast_direction, StoreDirection::Both);
    assert_eq!(store.slow_direction, StoreDirection::Update);
}

#[test]
fn kinds_that_do_not_run_are_read_as_such() {
    let config = valid!("unsupported");
    let unsupported = |spec: &StoreSpec| match spec {
        StoreSpec::Unsupported(spec) => UnsupportedStore::clone(spec),
        other => panic!("{other:?}"),
    };
    let redis = unsupported(spec(&config, "REDIS"));
    assert!(matches!(redis, UnsupportedStore::Redis(_)), "{redis:?}");
    let mongo = unsupported(spec(&config, "MONGO"));
    assert!(matches!(mongo, UnsupportedStore::Mongo(_)), "{mongo:?}");
    let ontap = unsupported(spec(&config, "ONTAP"));
    assert!(matches!(ontap, UnsupportedStore::OntapExistenceCache(_)), "{ontap:?}");
    let StoreSpec::FastSlow(store) = spec(&config, "BUCKET") else { panic!() };
    let bucket = unsupported(&store.slow.value);
    assert!(matches!(bucket, UnsupportedStore::Cloud(_)), "{bucket:?}");
    assert_eq!(config.unsupported.len(), 14);
}

#[test]
fn values_have_many_spellings() {
    let config = valid!("spellings");
    let store = disk(&config, "A");
    assert_eq!(store.content_path.value, "/data/a/b");
    assert_eq!((store.read_buffer_size, store.block_size), (Some(1024), Some(4096)));
    assert_eq!(store.max_concurrent_writes, Some(16));
    assert!(!store.evict_page_cache);
    let policy = EvictionPolicy {
        max_bytes: Some(1_500_000_000_000),
        evict_bytes: 10_000_000_000,
        max_seconds: Some(Duration::from_secs(3723)),
        max_count: Some(255),
    };
    assert_eq!(store.eviction_policy, policy);
    let retry = &grpc(&config, "B").retry;
    assert_eq!((retry.max_retries, retry.delay), (3, Duration::from_millis(250)));
    assert!((retry.jitter - 0.5).abs() < f64::EPSILON);
    let retry = &grpc(&config, "C").retry;
    assert_eq!(retry.delay, Duration::from_millis(100));
    assert!((retry.jitter - 2.0).abs() < f64::EPSILON);
}

#[test]
fn variables_are_put_in_where_the_format_has_them() {
    let config = valid!("environment");
    let store = disk(&config, "$STAYS");
    assert_eq!(store.content_path.value, "/home/ada/.cache/castellan/cas");
    assert_eq!(store.temp_path.as_ref().unwrap().value, "/home/ada");
    assert_eq!(store.eviction_policy.max_bytes, Some(5 << 30));
    assert_eq!(store.eviction_policy.max_seconds, Some(Duration::from_hours(24)));
    assert_eq!(store.eviction_policy.max_count, Some(7));
    assert!(store.evict_page_cache);
    let StoreSpec::CacheMetrics(metrics) = spec(&config, "B") else { panic!() };
    assert_eq!(metrics.cache_type, "cost: 5$");
    let server = &config.servers[0];
    assert_eq!(server.name, "$HOME");
    let crate::Listener::Http(http) = &server.listener;
    assert_eq!(http.socket_address.to_string(), "unix:/home/ada/cas.sock");
    assert_eq!(server.services.cas[0].instance_name.value, "$ROOT");
    assert_eq!(server.services.cas[0].cas_store.value, "$STAYS");
}
