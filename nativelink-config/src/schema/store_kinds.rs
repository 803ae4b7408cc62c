//! The kinds of stores that this version runs.

use super::stores::{BACKEND, EVICTION, EVICTION_POLICY, GRPC_ENDPOINT, RETRY};
use super::{Field, Kind, Literal, SHAPE, Shape, count, key, needed, part, size, switch, time};

/// A store that would fill what it is on does not take the format at its word: never evict.
const fn bounded(words: &'static str) -> Field {
    key("max_bytes", Kind::Size, "The most bytes to keep.").else_words(words)
}

const fn policy(shape: &'static Shape) -> Field {
    part("eviction_policy", shape, "When content is removed.")
}

static MEMORY_POLICY: Shape = Shape {
    name: "memory_eviction_policy",
    about: "When content is removed: the least recently used first.",
    fields: &[bounded("a quarter of the memory")],
    shared: &EVICTION,
    ..SHAPE
};

static DISK_POLICY: Shape = Shape {
    name: "disk_eviction_policy",
    about: "When content is removed: the least recently used first.",
    fields: &[bounded("80% of what is free or its own")],
    shared: &EVICTION,
    ..SHAPE
};

const MAX_BLOB: Field =
    size("max_blob_bytes", "0", "The largest blob to take; 0 is what fits.").own();

const LEASE: Field = key(
    "lease_s",
    Kind::Seconds,
    "How long what a client was told is there stays for sure, at most 7 days; 0 is no promise.",
)
.usually(Literal::Text("30m"))
.own();

/// A store inside another one.
const fn inner(name: &'static str, about: &'static str) -> Field {
    needed(name, Kind::Object(&BACKEND), about)
}

pub(super) static MEMORY: Shape = Shape {
    name: "memory",
    about: "A store in the memory of the process.",
    fields: &[policy(&MEMORY_POLICY), MAX_BLOB, LEASE],
    ..SHAPE
};

pub(super) static FILESYSTEM: Shape = Shape {
    name: "filesystem",
    about: "A store in a directory.",
    fields: &[
        needed("content_path", Kind::Path, "The directory."),
        key("temp_path", Kind::Path, "Has no effect: unfinished uploads have no name."),
        size("read_buffer_size", "0", "Has no effect."),
        size("block_size", "0", "Has no effect: disk use is counted in the blocks of the disk."),
        count("max_concurrent_writes", 0, "Has no effect."),
        switch("evict_page_cache", "Has no effect."),
        policy(&DISK_POLICY),
        MAX_BLOB,
        key("min_free_bytes", Kind::Size, "Free space to leave to others on the same disk.")
            .usually(Literal::Text("0"))
            .own(),
        LEASE,
        key(
            "on_lease_pressure",
            Kind::Choice(&["break", "refuse"]),
            "When leases hold the room that a write needs: break the oldest, or refuse the write.",
        )
        .usually(Literal::Text("break"))
        .own(),
        key(
            "durability",
            Kind::Choice(&["async", "group", "fsync"]),
            "When a write is acknowledged: at once, after a sync that many share, or after one of \
             its own.",
        )
        .usually(Literal::Text("async"))
        .own(),
        key(
            "sync_interval_s",
            Kind::Seconds,
            "How often everything written is synced to the disk, from 10ms to 1h.",
        )
        .usually(Literal::Text("30s"))
        .own(),
        key(
            "verify_on_read",
            Kind::Choice(&["first", "always", "never"]),
            "Which reads check the bytes against their hash.",
        )
        .usually(Literal::Text("first"))
        .own(),
        key(
            "scrub_bytes_per_second",
            Kind::Size,
            "Bytes that are checked in the background each second; 0 is none.",
        )
        .usually(Literal::Text("8MiB"))
        .own(),
        key(
            "snapshot_interval_s",
            Kind::Seconds,
            "How often the order of use is written down, from 1s to 1 day.",
        )
        .usually(Literal::Text("5m"))
        .own(),
    ],
    ..SHAPE
};

const DIRECTION: Kind = Kind::Choice(&["both", "update", "get", "read_only"]);

pub(super) static FAST_SLOW: Shape = Shape {
    name: "fast_slow",
    about: "A near store in front of a far one.",
    fields: &[
        inner("fast", "The near store."),
        key("fast_direction", DIRECTION, "What the near store is used for.")
            .or(Literal::Text("both")),
        inner("slow", "The far store."),
        key("slow_direction", DIRECTION, "What the far store is used for.")
            .or(Literal::Text("both")),
        size(
            "bypass_dedup_threshold_bytes",
            "0",
            "Blobs from this size on are fetched by each reader on its own; 0 is none.",
        ),
        key(
            "write_behind",
            Kind::Object(&WRITE_BEHIND),
            "Writes to the far store after the client has its answer.",
        )
        .own(),
    ],
    ..SHAPE
};

static WRITE_BEHIND: Shape = Shape {
    name: "write_behind",
    about: "The bounds of writing later.",
    fields: &[
        count("max_items", 1024, "The most blobs that wait.").own(),
        size("max_bytes", "256MiB", "The most bytes that wait.").own(),
        count("max_concurrent_copies", 4, "The most copies at a time.").own(),
        count("max_attempts", 5, "How often a copy is tried.").own(),
    ],
    ..SHAPE
};

pub(super) static VERIFY: Shape = Shape {
    name: "verify",
    about: "A store that checks uploads.",
    fields: &[
        inner("backend", "Where checked content goes."),
        switch("verify_size", "Whether the size is checked."),
        switch("verify_hash", "Whether the hash is checked."),
    ],
    ..SHAPE
};

pub(super) static EXISTENCE_CACHE: Shape = Shape {
    name: "existence_cache",
    about: "A store that remembers what is there.",
    fields: &[
        inner("backend", "The store whose answers are remembered."),
        policy(&EVICTION_POLICY),
    ],
    ..SHAPE
};

pub(super) static COMPLETENESS_CHECKING: Shape = Shape {
    name: "completeness_checking",
    about: "A store without action results whose blobs are gone.",
    fields: &[
        inner("backend", "The store that has the action results."),
        inner("cas_store", "The store that has the blobs."),
    ],
    ..SHAPE
};

pub(super) static CACHE_METRICS: Shape = Shape {
    name: "cache_metrics",
    about: "A store whose hits and misses are counted.",
    fields: &[
        needed("cache_type", Kind::Text, "What the cache is called in metrics."),
        inner("backend", "The store that is counted."),
    ],
    ..SHAPE
};

pub(super) static COMPRESSION: Shape = Shape {
    name: "compression",
    about: "A store that keeps content compressed.",
    fields: &[
        inner("backend", "Where compressed content goes."),
        needed("compression_algorithm", Kind::Object(&ALGORITHM), "How it is compressed."),
    ],
    ..SHAPE
};

static ALGORITHM: Shape = Shape {
    name: "compression_algorithm",
    about: "A way to compress content.",
    fields: &[needed("lz4", Kind::Object(&LZ4), "LZ4.")],
    ..SHAPE
};

static LZ4: Shape = Shape {
    name: "lz4",
    about: "The settings of LZ4.",
    fields: &[
        size("block_size", "64KiB", "How much is compressed at a time."),
        key("max_decode_block_size", Kind::Size, "The largest block that is read back.")
            .else_words("block_size"),
    ],
    ..SHAPE
};

pub(super) static DEDUP: Shape = Shape {
    name: "dedup",
    about: "A store that keeps content in pieces that blobs share.",
    fields: &[
        inner("index_store", "Where the lists of pieces go."),
        inner("content_store", "Where the pieces go."),
        size("min_size", "64KiB", "The least size of a piece."),
        size("normal_size", "256KiB", "The size around which pieces are cut."),
        size("max_size", "512KiB", "The largest size of a piece."),
        count(
            "max_concurrent_fetch_per_get",
            10,
            "The most pieces that one read fetches at a time.",
        ),
    ],
    ..SHAPE
};

pub(super) static SIZE_PARTITIONING: Shape = Shape {
    name: "size_partitioning",
    about: "A store for small blobs and one for large ones.",
    fields: &[
        needed("size", Kind::Size, "The least size of what goes to the upper store."),
        inner("lower_store", "Where smaller blobs go."),
        inner("upper_store", "Where the others go."),
    ],
    ..SHAPE
};

pub(super) static SHARD: Shape = Shape {
    name: "shard",
    about: "Several stores with a share of the blobs each.",
    fields: &[needed("stores", Kind::List(&Kind::Object(&SHARE)), "The stores, at least one.")],
    ..SHAPE
};

static SHARE: Shape = Shape {
    name: "shard_part",
    about: "One part of a shard store.",
    fields: &[
        inner("store", "Where its blobs go."),
        count("weight", 1, "Its share of the blobs in proportion to the others; at least 1."),
    ],
    ..SHAPE
};

pub(super) static REFERENCE: Shape = Shape {
    name: "ref_store",
    about: "Another of the stores.",
    fields: &[needed("name", Kind::Text, "Its name.")],
    ..SHAPE
};

pub(super) static GRPC: Shape = Shape {
    name: "grpc",
    about: "A store of another server.",
    fields: &[
        key("instance_name", Kind::Text, "The instance at the other server.").or(Literal::Text("")),
        needed(
            "endpoints",
            Kind::List(&Kind::Object(&GRPC_ENDPOINT)),
            "Where the other server is, at least one.",
        ),
        needed("store_type", Kind::Choice(&["cas", "ac"]), "Blobs, or action results."),
        part("retry", &RETRY, "When a request is tried again."),
        count("max_concurrent_requests", 0, "The most requests at a time; 0 is no limit."),
        count("connections_per_endpoint", 1, "How many connections there are to each endpoint."),
        time("rpc_timeout_s", "0s", "How long a request may take; 0 is no limit."),
        switch(
            "use_legacy_resource_names",
            "Whether the names of streams leave the digest function out.",
        ),
        key("headers", Kind::Map(&Kind::Name), "Headers of every request.").secret(),
        key(
            "forward_headers",
            Kind::List(&Kind::Name),
            "The names of those headers of a client's request that go on.",
        ),
        key("experimental_read_batching", Kind::Object(&BATCHING), "Small reads share requests."),
        key(
            "experimental_remote_cache_compression",
            Kind::Flag,
            "Has no effect: blobs are sent as they are.",
        ),
        key(
            "verify_ranges",
            Kind::Flag,
            "Whether ranges that were read are checked against the blob's digest.",
        )
        .or(Literal::Flag(true))
        .own(),
    ],
    ..SHAPE
};

static BATCHING: Shape = Shape {
    name: "read_batching",
    about: "How small reads share requests.",
    fields: &[
        size("max_blob_size_bytes", "128KiB", "The largest blob that shares a request."),
        size("max_batch_bytes", "3MiB", "The most bytes in one request."),
        count("dispatch_slots", 4, "The most such requests at a time."),
        size("max_queued_bytes", "32MiB", "The most bytes that wait for a request."),
    ],
    ..SHAPE
};
