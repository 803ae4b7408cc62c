//! The `stores`, and what several kinds of them share.

use super::store_kinds::{
    CACHE_METRICS, COMPLETENESS_CHECKING, COMPRESSION, DEDUP, EXISTENCE_CACHE, FAST_SLOW,
    FILESYSTEM, GRPC, MEMORY, REFERENCE, SHARD, SIZE_PARTITIONING, VERIFY,
};
use super::unsupported_stores::{CLOUD, MONGO, ONTAP_CACHE, REDIS};
use super::{Field, Kind, Literal, SHAPE, Shape, count, key, needed, size, switch, time};

pub(super) static STORE: Shape = Shape {
    name: "store",
    about: "A store with a name.",
    fields: &[needed(
        "name",
        Kind::Name,
        "The name by which services and other stores refer to it.",
    )],
    kinds: &KINDS,
    ..SHAPE
};

/// A store inside another one.
pub(super) static BACKEND: Shape =
    Shape { name: "backend", about: "A store inside another one.", kinds: &KINDS, ..SHAPE };

static KINDS: [Field; 18] = [
    key("memory", Kind::Object(&MEMORY), "Content in the memory of the process."),
    key("filesystem", Kind::Object(&FILESYSTEM), "Files in a directory."),
    key("fast_slow", Kind::Object(&FAST_SLOW), "A near store in front of a far one."),
    key("verify", Kind::Object(&VERIFY), "Uploads are checked."),
    key("existence_cache", Kind::Object(&EXISTENCE_CACHE), "What is there is remembered."),
    key(
        "completeness_checking",
        Kind::Object(&COMPLETENESS_CHECKING),
        "Action results without their blobs are absent.",
    ),
    key("compression", Kind::Object(&COMPRESSION), "Content is kept compressed."),
    key("dedup", Kind::Object(&DEDUP), "Content is kept in pieces that blobs share."),
    key(
        "size_partitioning",
        Kind::Object(&SIZE_PARTITIONING),
        "Small blobs here, large ones there.",
    ),
    key("shard", Kind::Object(&SHARD), "Each blob in one of several stores."),
    key("ref_store", Kind::Object(&REFERENCE), "Another of the stores, by its name."),
    key("noop", Kind::Object(&NOOP), "Nothing is kept."),
    key("cache_metrics", Kind::Object(&CACHE_METRICS), "Hits and misses are counted."),
    key("grpc", Kind::Object(&GRPC), "Another server."),
    key("redis_store", Kind::Object(&REDIS), "Content in Redis. Not run by this version."),
    key(
        "experimental_cloud_object_store",
        CLOUD,
        "Content in a bucket of a cloud. Not run by this version.",
    ),
    key(
        "ontap_s3_existence_cache",
        Kind::Object(&ONTAP_CACHE),
        "A list of what is in a bucket of ONTAP. Not run by this version.",
    ),
    key("experimental_mongo", Kind::Object(&MONGO), "Content in MongoDB. Not run by this version."),
];

static NOOP: Shape = Shape { name: "noop", about: "A store that keeps nothing.", ..SHAPE };

pub(super) static EVICTION_POLICY: Shape = Shape {
    name: "eviction_policy",
    about: "When content is removed: the least recently used first.",
    fields: &[size("max_bytes", "0", "The most bytes to keep; 0 is no limit.")],
    shared: &EVICTION,
    ..SHAPE
};

/// What policies have in common.
pub(super) static EVICTION: [Field; 3] = [
    size("evict_bytes", "0", "How far below max_bytes an eviction goes."),
    time("max_seconds", "0s", "How long content is kept after its last use; 0 is forever."),
    count("max_count", 0, "The most objects to keep; 0 is no limit."),
];

pub(super) static RETRY: Shape = Shape {
    name: "retry",
    about: "When requests to another server are tried again.",
    fields: &[
        count("max_retries", 0, "How often, after the first try."),
        key(
            "delay",
            Kind::DecimalSeconds,
            "The wait before the first time, in seconds; it doubles each time.",
        )
        .or(Literal::Number(0)),
        key("jitter", Kind::Decimal, "How much of a wait is left to chance, from 0 to 2.")
            .or(Literal::Number(0)),
        key(
            "retry_on_errors",
            Kind::List(&Kind::Choice(&[
                "Cancelled",
                "Unknown",
                "InvalidArgument",
                "DeadlineExceeded",
                "NotFound",
                "AlreadyExists",
                "PermissionDenied",
                "ResourceExhausted",
                "FailedPrecondition",
                "Aborted",
                "OutOfRange",
                "Unimplemented",
                "Internal",
                "Unavailable",
                "DataLoss",
                "Unauthenticated",
            ])),
            "The errors after which it is worth it.",
        )
        .else_words("those that may pass"),
    ],
    ..SHAPE
};

pub(super) static GRPC_ENDPOINT: Shape = Shape {
    name: "grpc_endpoint",
    about: "A server that speaks gRPC.",
    fields: &[
        needed("address", Kind::Text, "Where it is: grpc://HOST:PORT, or grpcs://HOST:PORT."),
        key(
            "tls_config",
            Kind::Object(&CLIENT_TLS),
            "What TLS needs beyond the system's roots; only with grpcs or https.",
        ),
        count(
            "concurrency_limit",
            0,
            "The most requests at a time on a connection; 0 is no limit.",
        ),
        time("connect_timeout_s", "30s", "How long connecting may take."),
        time("tcp_keepalive_s", "30s", "How long a connection is silent before TCP asks."),
        time("http2_keepalive_interval_s", "30s", "How often HTTP/2 asks."),
        time("http2_keepalive_timeout_s", "20s", "How long the peer has to answer that."),
    ],
    ..SHAPE
};

pub(super) static CLIENT_TLS: Shape = Shape {
    name: "client_tls",
    about: "What a client needs for TLS.",
    fields: &[
        key("ca_file", Kind::Path, "The certificates of the authorities to trust.")
            .else_words("the system's"),
        key("cert_file", Kind::Path, "The certificate to show; needs key_file."),
        key("key_file", Kind::Path, "The key of the certificate."),
        switch("use_native_roots", "Whether the system's authorities are trusted too."),
    ],
    ..SHAPE
};
