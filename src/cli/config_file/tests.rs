//! Goal: what a file says reaches the settings. Method: whole files, planned, and looked at.

use std::io::Write as _;
use std::time::Duration;

use super::*;
use crate::digest::DigestFunction;
use crate::server::{GrpcListener, InstanceSettings, Instances, StoreKind, StoreSettings};
use crate::store::filesystem::{Cap, Durability, LeasePolicy, VerifyOnRead};

fn env(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/somebody".to_owned())
}

fn plan_text(text: &str) -> Result<Served, Problems> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut problems = Problems::default();
    let served = plan(file.path(), &env, &StoreFlags::default(), &mut problems);
    served.filter(|_| problems.is_empty()).ok_or(problems)
}

/// One listener with these stores, services, and further keys of the listener.
fn file(stores: &str, services: &str, http: &str) -> String {
    format!(
        "{{ stores: [{stores}], servers: [{{ listener: {{ http: {{ socket_address: \
         '127.0.0.1:0', {http} }} }}, services: {{ {services} }} }}] }}"
    )
}

fn served(stores: &str, services: &str, http: &str) -> Served {
    plan_text(&file(stores, services, http)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The stores in words, and what stands behind each by its place.
fn shape(stores: &[StoreSettings]) -> Vec<String> {
    let describe = |store: &StoreSettings| {
        let kind = match &store.kind {
            StoreKind::Filesystem(_) => "files".to_owned(),
            StoreKind::Memory(_) => "memory".to_owned(),
            StoreKind::Remote(_) => "remote".to_owned(),
            StoreKind::Tiered { fast, slow, .. } => format!("{fast} before {slow}"),
            StoreKind::ExistenceCache { backend, .. } => format!("existence of {backend}"),
            StoreKind::Compression { backend, .. } => format!("compressed in {backend}"),
            StoreKind::Dedup { index, content, .. } => format!("chunks in {content} by {index}"),
            StoreKind::BySize { lower, upper, .. } => format!("small {lower} large {upper}"),
            StoreKind::Sharded(shards) => format!("shards {shards:?}"),
            StoreKind::Counted { cache_type, backend } => format!("{cache_type} {backend}"),
            StoreKind::Noop => "noop".to_owned(),
        };
        format!("{}: {kind}", store.name)
    };
    stores.iter().map(describe).collect()
}

fn instance(listener: &GrpcListener, name: &str) -> InstanceSettings {
    let Instances::Named(named) = &listener.instances else { panic!("{listener:?}") };
    named[name]
}

#[test]
fn the_stacks_that_people_run_become_lists_in_order() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deployment/examples");
    let shape_of = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        shape(&plan_text(&text).unwrap_or_else(|problems| panic!("{problems}")).stores)
    };
    assert_eq!(shape_of("memory.json5"), ["CAS: memory", "AC: memory"]);
    assert_eq!(shape_of("filesystem.json5"), ["CAS: files", "AC: files"]);
    assert_eq!(
        shape_of("tiered.json5"),
        [
            "CAS/backend/fast: memory",
            "CAS/backend/slow: files",
            "CAS/backend: 0 before 1",
            "CAS: existence of 2",
            "AC/fast: memory",
            "AC/slow: files",
            "AC: 4 before 5",
        ]
    );
    assert_eq!(
        shape_of("dedup.json5"),
        [
            "CAS/index_store: files",
            "CAS/content_store/backend: files",
            "CAS/content_store: compressed in 1",
            "CAS: chunks in 2 by 0",
            "AC: files",
        ]
    );
    assert_eq!(
        shape_of("proxy.json5"),
        ["CAS/fast: files", "CAS/slow: remote", "CAS: 0 before 1", "AC: remote"]
    );
}

#[test]
fn a_name_stands_for_one_store_wherever_it_is_used() {
    let stores = "{ name: 'A', ref_store: { name: 'B' } },
        { name: 'S', shard: { stores: [{ store: { ref_store: { name: 'M' } }, weight: 2 },
                                       { store: { ref_store: { name: 'B' } } }] } },
        { name: 'B', cache_metrics: { cache_type: 'blobs',
                                      backend: { ref_store: { name: 'M' } } } },
        { name: 'M', memory: { eviction_policy: { max_bytes: '1mb' } } },
        { name: 'P', size_partitioning: { size: '1kb', lower_store: { ref_store: { name: 'M' } },
                                          upper_store: { noop: {} } } }";
    let services = "cas: [{ cas_store: 'A' }], ac: [{ ac_store: 'S' }]";
    let served = served(stores, services, "");
    let expected = [
        "M: memory",
        "B: blobs 0",
        "S: shards [(0, 2), (1, 1)]",
        "P/upper_store: noop",
        "P: small 0 large 3",
    ];
    assert_eq!(shape(&served.stores), expected);
    assert_eq!(instance(&served.listeners[0], ""), InstanceSettings::new(1, 2));
}

#[test]
fn what_a_store_of_files_says_of_itself_goes_before_the_flags() {
    let text = file(
        "{ name: 'A', filesystem: { content_path: '~/a', max_blob_bytes: '1mb',
            min_free_bytes: '2mb', lease_s: '3h', on_lease_pressure: 'refuse',
            durability: 'group', sync_interval_s: '5s', verify_on_read: 'always',
            scrub_bytes_per_second: 0, snapshot_interval_s: '1m',
            eviction_policy: { max_bytes: '1gib', evict_bytes: '1mib' } } },
         { name: 'B', filesystem: { content_path: '/b' } }",
        "cas: [{ cas_store: 'A' }]",
        "",
    );
    let Served { stores, .. } = plan_text(&text).unwrap();
    let StoreKind::Filesystem(options) = &stores[0].kind else { panic!("{stores:?}") };
    assert_eq!(options.root, Path::new("/home/somebody/a"));
    assert_eq!((options.max_blob_bytes, options.min_free_bytes), (Some(1_000_000), 2_000_000));
    assert_eq!(options.lease, Duration::from_hours(3));
    assert_eq!(options.lease_policy, LeasePolicy::RefuseWrites);
    assert_eq!(options.durability, Durability::Group);
    assert_eq!(options.sync_interval, Duration::from_secs(5));
    assert_eq!(options.verify_on_read, VerifyOnRead::Always);
    assert_eq!(options.scrub_bytes_per_second, 0);
    assert_eq!(options.snapshot_interval, Duration::from_mins(1));
    assert_eq!((options.cap, options.low_water_bytes), (Cap::Bytes(1 << 30), Some(1 << 20)));
    let StoreKind::Filesystem(options) = &stores[1].kind else { panic!("{stores:?}") };
    assert_eq!(options.cap, Cap::Share { percent: 80, at_most_bytes: u64::MAX });
}

#[test]
fn what_a_server_says_reaches_its_listener() {
    let stores = "{ name: 'M', memory: { eviction_policy: { max_bytes: '1mb' } } },
        { name: 'R', memory: { eviction_policy: { max_bytes: '1mb' } } }";
    let services = "cas: [{ instance_name: 'a', cas_store: 'M' }],
        ac: [{ instance_name: 'a', ac_store: 'R', read_only: true }],
        bytestream: [{ instance_name: 'a', cas_store: 'M', max_bytes_per_stream: '256kib',
                       persist_stream_on_disconnect_timeout_s: '2m' }],
        health: { path: '/healthy', timeout_seconds: 3 }, admin: {}";
    let http = "freebind: true, max_decoding_message_size: '16mib',
        tls: { cert_file: '/c', key_file: '/k', client_ca_file: '/a' },
        advanced_http: { experimental_http2_max_concurrent_streams: 7 }";
    let served = served(stores, services, http);
    let listener = &served.listeners[0];
    assert!(listener.freebind);
    assert_eq!(listener.options.max_decoding_message_size_bytes, 16 << 20);
    assert_eq!(listener.options.read_chunk_bytes, 256 << 10);
    assert_eq!(listener.options.parked_upload_ttl, Duration::from_mins(2));
    assert_eq!(listener.http2.max_streams, 7);
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!((tls.cert_file.as_path(), tls.key_file.as_path()), ("/c".as_ref(), "/k".as_ref()));
    assert_eq!(tls.client_ca_file.as_deref(), Some(Path::new("/a")));
    let health = listener.health.as_ref().unwrap();
    assert_eq!((health.path.as_str(), health.timeout), ("/healthy", Duration::from_secs(3)));
    assert_eq!(instance(listener, "a"), InstanceSettings::new(0, 1).read_only());
    assert_eq!(listener.options.default_digest_function, DigestFunction::Sha256);
}

#[test]
fn results_alone_are_checked_against_the_blobs_of_their_instance_elsewhere() {
    let server = |services: &str| {
        format!(
            "{{ listener: {{ http: {{ socket_address: ':0' }} }}, services: {{ {services} }} }}"
        )
    };
    let memory = |name: &str| {
        format!("{{ name: '{name}', memory: {{ eviction_policy: {{ max_bytes: '1mb' }} }} }}")
    };
    let servers = [
        server("ac: [{ instance_name: 'a', ac_store: 'R' }]"),
        server("cas: [{ instance_name: 'a', cas_store: 'M' }]"),
        server("ac: [{ instance_name: 'b', ac_store: 'C' }]"),
        server("ac: [{ instance_name: 'c', ac_store: 'R' }]"),
    ];
    let checked = "{ name: 'C', completeness_checking: { backend: { ref_store: { name: 'R' } },
        cas_store: { ref_store: { name: 'M' } } } }";
    let text = format!(
        "{{ global: {{ default_digest_hash_function: 'blake3' }},
            stores: [{}, {}, {checked}], servers: [{}] }}",
        memory("M"),
        memory("R"),
        servers.join(", ")
    );
    let Served { listeners, warnings, .. } =
        plan_text(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let results = InstanceSettings { action_cache: Some(1), ..InstanceSettings::default() };
    let checked = InstanceSettings { completeness: Some(0), ..results };
    assert_eq!(instance(&listeners[0], "a"), checked);
    assert_eq!(instance(&listeners[2], "b"), checked);
    assert_eq!(instance(&listeners[3], "c"), results);
    assert!(warnings.iter().any(|it| it.contains("instance \"c\"")), "{warnings:?}");
    let function = listeners[0].options.default_digest_function;
    assert_eq!(function, DigestFunction::Blake3);
}

#[test]
fn what_cannot_run_is_said_with_its_place() {
    let problems = |stores: &str| {
        plan_text(&file(stores, "cas: [{ cas_store: 'A' }]", "")).err().unwrap().to_string()
    };
    for (stores, expected) in [
        ("{ name: 'A', redis_store: { addresses: ['redis://r'] } }", "redis_store"),
        (
            "{ name: 'A', filesystem: { content_path: '/a', eviction_policy: { max_bytes: 1 } } }",
            "max_bytes 1 bytes are below",
        ),
        (
            "{ name: 'A', memory: { eviction_policy: { max_bytes: 9, evict_bytes: 9 } } }",
            "evict_bytes is not below max_bytes",
        ),
        (
            "{ name: 'A', grpc: { store_type: 'cas', endpoints: [{ address: 'unix:/s' }] } }",
            "is not the address of a server",
        ),
        (
            "{ name: 'A', grpc: { store_type: 'cas', endpoints: [{ address: 'grpcs://h:1',
            tls_config: { ca_file: '/no/such/file' } }] } }",
            "/no/such/file",
        ),
    ] {
        let found = problems(stores);
        assert!(found.contains(expected) && found.contains("stores[0]."), "{stores}: {found}");
    }
}

#[test]
fn a_long_chain_of_names_is_refused() {
    let links =
        (0..3000).map(|at| format!("{{ name: 'S{at}', ref_store: {{ name: 'S{}' }} }}", at + 1));
    let mut stores: Vec<String> = links.collect();
    stores.push("{ name: 'S3000', noop: {} }".to_owned());
    let text = file(&stores.join(", "), "cas: [{ cas_store: 'S0' }]", "");
    let found = plan_text(&text).err().unwrap().to_string();
    assert!(found.contains("more than 64 stores stand before one another"), "{found}");
}
