//! The kinds of stores that this version does not run.

use super::stores::RETRY;
use super::{Field, Kind, Literal, SHAPE, Shape, count, key, needed, part, size, switch, time};

const RETRIES: Field = part("retry", &RETRY, "What happens after a failure.");

/// A length of time that plain numbers give in milliseconds.
const fn fine(name: &'static str, default: &'static str, about: &'static str) -> Field {
    key(name, Kind::Milliseconds, about).or(Literal::Text(default))
}

pub(super) static REDIS: Shape = Shape {
    name: "redis_store",
    about: "Content in Redis. Not run by this version.",
    fields: &[
        needed(
            "addresses",
            Kind::List(&Kind::Text),
            "URLs of the servers, such as redis://user:password@host:6379/0; at least one.",
        ),
        key(
            "mode",
            Kind::Choice(&["standard", "cluster", "sentinel"]),
            "How the servers work together.",
        )
        .or(Literal::Text("standard")),
        fine("command_timeout_ms", "10s", "How long one command may take.")
            .unless("response_timeout_s"),
        fine("connection_timeout_ms", "3s", "How long connecting may take.")
            .unless("connection_timeout_s"),
        fine("health_check_timeout_ms", "4s", "How long the command of a health check may take."),
        size("read_chunk_size", "64KiB", "How much one command reads."),
        count("connection_pool_size", 3, "How many connections are kept open."),
        key("key_prefix", Kind::Text, "What stands before every key.").or(Literal::Text("")),
        time("key_ttl_s", "0s", "How long a key is kept after it was written; 0 is forever."),
        count(
            "max_chunk_uploads_per_update",
            10,
            "How many pieces of one upload are under way at a time.",
        ),
        count("scan_count", 10_000, "How many keys one step of a scan looks at."),
        count("max_client_permits", 500, "How many commands are under way at a time."),
        count("max_count_per_cursor", 1500, "How many results one step of a search gives."),
        RETRIES,
        key("experimental_pub_sub_channel", Kind::Text, "The channel that is told of every write."),
        key("response_timeout_s", Kind::Seconds, "Write command_timeout_ms.").old(),
        key("connection_timeout_s", Kind::Seconds, "Write connection_timeout_ms.").old(),
        key("broadcast_channel_capacity", Kind::Count, "Has no effect.").old(),
    ],
    ..SHAPE
};

/// What all clouds have in common.
static OBJECTS: [Field; 7] = [
    key("key_prefix", Kind::Text, "What stands before every name in the bucket."),
    RETRIES,
    time(
        "consider_expired_after_s",
        "0s",
        "Objects that are older count as missing, because somebody else will delete them; 0 is \
         never.",
    ),
    size(
        "max_retry_buffer_per_request",
        "5MiB",
        "How much of an upload is kept for another attempt; 0 is nothing.",
    ),
    count(
        "multipart_max_concurrent_uploads",
        10,
        "How many parts of one upload are under way at a time.",
    ),
    switch("insecure_allow_http", "Whether connections may do without TLS."),
    switch("disable_http2", "Whether connections are HTTP/1.1 only."),
];

const BUCKET: Field = needed("bucket", Kind::Text, "The bucket.");
const REGION: Field = needed("region", Kind::Text, "The region of the bucket.");
const ACCESS_KEY: Field =
    key("access_key_id", Kind::Text, "Who asks.").else_words("what the environment says");
const SECRET_KEY: Field = key("secret_access_key", Kind::Text, "The secret of the access key.")
    .else_words("what the environment says")
    .secret();

const fn provider(name: &'static [&'static str]) -> Field {
    needed("provider", Kind::Choice(name), "Whose cloud it is.")
}

pub(super) const CLOUD: Kind = Kind::Tagged(
    "provider",
    &[
        ("aws", &AWS),
        ("gcs", &GCS),
        ("azure", &AZURE),
        ("ontap", &ONTAP),
        ("r2", &R2),
        ("oci", &OCI),
    ],
);

static AWS: Shape = Shape {
    name: "aws",
    about: "Content in Amazon S3. Not run by this version.",
    fields: &[provider(&["aws"]), REGION, BUCKET],
    shared: &OBJECTS,
    ..SHAPE
};

static GCS: Shape = Shape {
    name: "gcs",
    about: "Content in Google Cloud Storage. Not run by this version.",
    fields: &[
        provider(&["gcs"]),
        BUCKET,
        size("resumable_chunk_size", "2MiB", "How much one request of an upload carries."),
        switch("authentication_required", "Whether it is an error that there are no credentials."),
        fine("connection_timeout_s", "3s", "How long connecting may take, in milliseconds."),
        fine("read_timeout_s", "3s", "How long an answer may take, in milliseconds."),
    ],
    shared: &OBJECTS,
    ..SHAPE
};

static AZURE: Shape = Shape {
    name: "azure",
    about: "Content in Azure Blob Storage. Not run by this version.",
    fields: &[
        provider(&["azure"]),
        key("account_name", Kind::Text, "The account; needed without sas_url."),
        key("container", Kind::Text, "The container; needed without sas_url."),
        key("endpoint", Kind::Text, "Another host than the account's own."),
        key("sas_url", Kind::Text, "A signed URL that replaces the other three.").secret(),
    ],
    shared: &OBJECTS,
    ..SHAPE
};

const ENDPOINT: Field = needed("endpoint", Kind::Text, "The URL of the server.");
const VSERVER: Field = needed("vserver_name", Kind::Text, "The storage virtual machine.");
const ROOTS: Field = key(
    "root_certificates",
    Kind::Path,
    "A file of certificates that the server is checked against.",
)
.else_words("the system's");

static ONTAP: Shape = Shape {
    name: "ontap",
    about: "Content in NetApp ONTAP. Not run by this version.",
    fields: &[provider(&["ontap"]), ENDPOINT, VSERVER, BUCKET, ROOTS],
    shared: &OBJECTS,
    ..SHAPE
};

static R2: Shape = Shape {
    name: "r2",
    about: "Content in Cloudflare R2. Not run by this version.",
    fields: &[
        provider(&["r2"]),
        needed("account_id", Kind::Text, "The account."),
        BUCKET,
        ACCESS_KEY,
        SECRET_KEY,
    ],
    shared: &OBJECTS,
    ..SHAPE
};

static OCI: Shape = Shape {
    name: "oci",
    about: "Content in Oracle Cloud Infrastructure. Not run by this version.",
    fields: &[
        provider(&["oci"]),
        needed("namespace", Kind::Text, "The namespace of the tenancy."),
        REGION,
        BUCKET,
        ACCESS_KEY,
        SECRET_KEY,
    ],
    shared: &OBJECTS,
    ..SHAPE
};

pub(super) static ONTAP_CACHE: Shape = Shape {
    name: "ontap_s3_existence_cache",
    about: "A list of what is in a bucket of ONTAP. Not run by this version.",
    fields: &[
        needed("index_path", Kind::Path, "The file that has the list."),
        needed("sync_interval_seconds", Kind::Seconds, "How often the list is made anew."),
        needed("backend", Kind::Object(&ONTAP_BACKEND), "Where the objects are."),
    ],
    ..SHAPE
};

static ONTAP_BACKEND: Shape = Shape {
    name: "ontap_backend",
    about: "A bucket of NetApp ONTAP.",
    fields: &[ENDPOINT, VSERVER, BUCKET, ROOTS],
    shared: &OBJECTS,
    ..SHAPE
};

pub(super) static MONGO: Shape = Shape {
    name: "experimental_mongo",
    about: "Content in MongoDB. Not run by this version.",
    fields: &[
        needed("connection_string", Kind::Text, "The URL of the servers, with who asks.").secret(),
        key("database", Kind::Text, "The database.").or(Literal::Text("nativelink")),
        key("cas_collection", Kind::Text, "The collection of blobs and results.")
            .or(Literal::Text("cas")),
        key("scheduler_collection", Kind::Text, "The collection of a scheduler's state.")
            .or(Literal::Text("scheduler")),
        key("key_prefix", Kind::Text, "What stands before every key."),
        size("read_chunk_size", "64KiB", "How much is read at a time."),
        fine("connection_timeout_ms", "3s", "How long connecting may take."),
        fine("command_timeout_ms", "10s", "How long one command may take."),
        switch("enable_change_streams", "Whether changes that others make are noticed at once."),
        key(
            "write_concern_w",
            Kind::Word,
            "How many servers have to have a write: a number, or a word such as majority.",
        )
        .else_words("what the server has"),
        key("write_concern_j", Kind::Flag, "Whether a write has to be in their journals.")
            .else_words("what the server has"),
        key("write_concern_timeout_ms", Kind::Milliseconds, "How long to wait for that.")
            .else_words("what the server has"),
        count("max_requests", 0, "How many requests are under way at a time; 0 is no limit."),
        key("max_concurrent_uploads", Kind::Count, "Has no effect.").old(),
    ],
    ..SHAPE
};
