//! The `services` of a server.

use super::{Field, Kind, Literal, SHAPE, Shape, count, key, needed, size, switch, time};

/// The name of a store.
const fn store(name: &'static str, about: &'static str) -> Field {
    needed(name, Kind::Text, about)
}

pub(super) static SERVICES: Shape = Shape {
    name: "services",
    about: "What a server serves.",
    fields: &[
        key("cas", Kind::Instances(&CAS), "The blobs of each instance."),
        key("ac", Kind::Instances(&AC), "The action results of each instance."),
        key("capabilities", Kind::Instances(&CAPABILITIES), "What clients are told."),
        key(
            "bytestream",
            Kind::InstancesOr(&BYTESTREAM, &OLD_BYTESTREAM),
            "Large blobs of each instance.",
        ),
        key("health", Kind::Object(&HEALTH), "Answers to health checks."),
        key(
            "admin",
            Kind::Object(&ADMIN),
            "Answers that there is no scheduler whose workers it could drain.",
        ),
        key("execution", Kind::Instances(&EXECUTION), "Who runs actions. Not run by this version."),
        key("worker_api", Kind::Object(&WORKER_API), "For workers. Not run by this version."),
        key("fetch", Kind::Instances(&FETCH), "Remote Asset. Not run by this version."),
        key("push", Kind::Instances(&PUSH), "Remote Asset. Not run by this version."),
        key("experimental_bep", Kind::Object(&BEP), "Build events. Not run by this version."),
    ],
    ..SHAPE
};

static CAS: Shape = Shape {
    name: "cas_service",
    about: "The blobs of an instance.",
    fields: &[
        store("cas_store", "The name of the store that has the blobs."),
        key("experimental_chunking", Kind::Object(&CHUNKING), "Blobs by their pieces."),
    ],
    ..SHAPE
};

static CHUNKING: Shape = Shape {
    name: "chunking",
    about: "How blobs are cut into pieces.",
    fields: &[
        key("index_store", Kind::Text, "The name of the store of lists of pieces."),
        count("avg_chunk_size_bytes", 512 << 10, "The size around which pieces are cut."),
        count("max_chunk_count", 50_000, "The most pieces of a blob."),
    ],
    ..SHAPE
};

static AC: Shape = Shape {
    name: "ac_service",
    about: "The action results of an instance.",
    fields: &[
        store("ac_store", "The name of the store that has the action results."),
        switch("read_only", "Whether clients are refused to write."),
    ],
    ..SHAPE
};

static CAPABILITIES: Shape = Shape {
    name: "capabilities_service",
    about: "What clients are told about an instance.",
    fields: &[
        key(
            "remote_execution",
            Kind::Object(&REMOTE_EXECUTION),
            "Announces execution. Not run by this version.",
        ),
        switch("remote_cache_compression", "Whether compressed blobs are announced."),
    ],
    ..SHAPE
};

static REMOTE_EXECUTION: Shape = Shape {
    name: "remote_execution",
    about: "Announces execution.",
    fields: &[needed("scheduler", Kind::Text, "The name of a scheduler.")],
    ..SHAPE
};

const STREAM_SIZE: Field = size(
    "max_bytes_per_stream",
    "0",
    "The most bytes of a blob in one message; 0 is the server's choice.",
);
const STREAM_TIMEOUT: Field = key(
    "persist_stream_on_disconnect_timeout_s",
    Kind::Seconds,
    "How long an interrupted upload can be resumed.",
)
.usually(Literal::Text("1m"))
.once("persist_stream_on_disconnect_timeout");

static BYTESTREAM: Shape = Shape {
    name: "bytestream_service",
    about: "Large blobs of an instance.",
    fields: &[
        store("cas_store", "The name of the store that has the blobs."),
        STREAM_SIZE,
        STREAM_TIMEOUT,
    ],
    ..SHAPE
};

static OLD_BYTESTREAM: Shape = Shape {
    name: "old_bytestream_service",
    about: "The form of earlier releases; write an array.",
    fields: &[
        needed("cas_stores", Kind::Map(&Kind::Text), "The store of each instance."),
        STREAM_SIZE,
        STREAM_TIMEOUT,
        key("max_decoding_message_size", Kind::Size, "Belongs to the listener.").old(),
    ],
    ..SHAPE
};

static HEALTH: Shape = Shape {
    name: "health_service",
    about: "Answers to health checks.",
    fields: &[
        key("path", Kind::Name, "The path of the request.").or(Literal::Text("/status")),
        time("timeout_seconds", "5s", "How long the checks may take."),
    ],
    ..SHAPE
};

static ADMIN: Shape = Shape {
    name: "admin_service",
    about: "Orders of an operator to workers.",
    fields: &[key("path", Kind::Name, "The path of the requests.").or(Literal::Text("/admin"))],
    ..SHAPE
};

static EXECUTION: Shape = Shape {
    name: "execution_service",
    about: "Who runs the actions of an instance.",
    fields: &[
        store("cas_store", "The name of the store that has the blobs."),
        needed("scheduler", Kind::Text, "The name of a scheduler."),
    ],
    ..SHAPE
};

static FETCH: Shape = Shape {
    name: "fetch_service",
    about: "The half of Remote Asset that reads.",
    fields: &[
        store("fetch_store", "The name of the store that has the assets."),
        switch("read_only", "Whether clients are refused to write."),
    ],
    ..SHAPE
};

static PUSH: Shape = Shape {
    name: "push_service",
    about: "The half of Remote Asset that writes.",
    fields: &[
        store("push_store", "The name of the store that has the assets."),
        switch("read_only", "Whether clients are refused to write."),
    ],
    ..SHAPE
};

static WORKER_API: Shape = Shape {
    name: "worker_api",
    about: "Where workers connect.",
    fields: &[
        needed("scheduler", Kind::Text, "The name of a scheduler."),
        switch(
            "disable_kill_revoked_operations",
            "Whether workers are left alone that run what was taken from them.",
        ),
        time("kill_revoked_operations_interval_s", "5s", "How often that is looked for."),
    ],
    ..SHAPE
};

static BEP: Shape = Shape {
    name: "bep_service",
    about: "Keeps build events.",
    fields: &[store("store", "The name of the store that has them.")],
    ..SHAPE
};
