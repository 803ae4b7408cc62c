//! The `schedulers`.

use super::stores::{GRPC_ENDPOINT, RETRY};
use super::{Field, Kind, Literal, SHAPE, Shape, count, key, needed, part, time};

pub(super) static SCHEDULER: Shape = Shape {
    name: "scheduler",
    about: "A scheduler with a name. Not run by this version.",
    fields: &[needed("name", Kind::Name, "The name by which services refer to it.")],
    kinds: &KINDS,
    ..SHAPE
};

static INNER_SCHEDULER: Shape = Shape {
    name: "inner_scheduler",
    about: "A scheduler inside another one.",
    kinds: &KINDS,
    ..SHAPE
};

static KINDS: [Field; 5] = [
    key("simple", Kind::Object(&SIMPLE), "Has the queue itself."),
    key("grpc", Kind::Object(&GRPC), "Asks another server."),
    key("cache_lookup", Kind::Object(&CACHE_LOOKUP), "Asks the action cache first."),
    key("property_modifier", Kind::Object(&PROPERTY_MODIFIER), "Changes what actions ask for."),
    key(
        "historical_resource",
        Kind::Object(&HISTORICAL_RESOURCE),
        "Asks for what an action took earlier.",
    ),
];

/// The scheduler behind another one.
const fn inner() -> Field {
    needed("scheduler", Kind::Object(&INNER_SCHEDULER), "The scheduler behind this one.")
}

static SIMPLE: Shape = Shape {
    name: "simple_scheduler",
    about: "A scheduler that has the queue itself.",
    fields: &[
        key(
            "supported_platform_properties",
            Kind::Map(&Kind::Choice(&["minimum", "exact", "priority", "ignore"])),
            "How each property of an action is compared with those of workers.",
        ),
        time("retain_completed_for_s", "60s", "How long results are kept for those who ask late."),
        time("client_action_timeout_s", "60s", "How long an action stays that no client asks for."),
        time("worker_timeout_s", "5s", "How long a worker may be silent."),
        time(
            "max_action_executing_timeout_s",
            "0s",
            "How long an action may run without a word from its worker; 0 is no limit.",
        ),
        time(
            "unacknowledged_kill_timeout_s",
            "60s",
            "How long a worker may take to say that it has ended an action.",
        ),
        count("max_job_retries", 3, "How often an action is tried again."),
        key(
            "allocation_strategy",
            Kind::Choice(&["least_recently_used", "most_recently_used"]),
            "Which of several workers gets an action.",
        )
        .or(Literal::Text("least_recently_used")),
        key("experimental_backend", Kind::ChoiceOr(&["memory"], &BACKEND), "Where the queue is.")
            .or(Literal::Text("memory")),
        key(
            "worker_match_logging_interval_s",
            Kind::SecondsOrNever,
            "How often it is logged why actions wait; -1 is never.",
        )
        .or(Literal::Text("10s")),
        time(
            "fallback_match_interval_s",
            "5s",
            "How often workers are looked for when nothing has changed.",
        ),
    ],
    ..SHAPE
};

static BACKEND: Shape = Shape {
    name: "scheduler_backend",
    about: "Where a scheduler has its queue.",
    fields: &[needed("redis", Kind::Object(&REDIS_BACKEND), "In Redis.")],
    ..SHAPE
};

static REDIS_BACKEND: Shape = Shape {
    name: "redis_scheduler_backend",
    about: "A queue in Redis.",
    fields: &[needed("redis_store", Kind::Text, "The name of a redis_store.")],
    ..SHAPE
};

static GRPC: Shape = Shape {
    name: "grpc_scheduler",
    about: "A scheduler that asks another server.",
    fields: &[
        needed("endpoint", Kind::Object(&GRPC_ENDPOINT), "The server that is asked."),
        part("retry", &RETRY, "What happens after a failure."),
        count(
            "max_concurrent_requests",
            0,
            "How many requests are under way at a time; 0 is no limit.",
        ),
        count("connections_per_endpoint", 1, "How many connections are kept open."),
    ],
    ..SHAPE
};

static CACHE_LOOKUP: Shape = Shape {
    name: "cache_lookup_scheduler",
    about: "A scheduler that asks the action cache first.",
    fields: &[needed("ac_store", Kind::Text, "The name of a store of action results."), inner()],
    ..SHAPE
};

static PROPERTY_MODIFIER: Shape = Shape {
    name: "property_modifier_scheduler",
    about: "A scheduler that changes what actions ask for.",
    fields: &[
        needed(
            "modifications",
            Kind::List(&Kind::Object(&MODIFICATION)),
            "The changes, in their order.",
        ),
        inner(),
    ],
    ..SHAPE
};

static MODIFICATION: Shape = Shape {
    name: "property_modification",
    about: "A change to the properties of an action.",
    kinds: &[
        key("add", Kind::Object(&ADDITION), "Adds a property."),
        key("remove", Kind::Name, "Removes the property of this name."),
        key("replace", Kind::Object(&REPLACEMENT), "Puts a property in the place of another."),
    ],
    ..SHAPE
};

static ADDITION: Shape = Shape {
    name: "property_addition",
    about: "A property to add.",
    fields: &[
        needed("name", Kind::Name, "The property."),
        needed("value", Kind::Name, "Its value."),
    ],
    ..SHAPE
};

static REPLACEMENT: Shape = Shape {
    name: "property_replacement",
    about: "A property in the place of another.",
    fields: &[
        needed("name", Kind::Name, "The property to replace."),
        key("value", Kind::Name, "Only where it has this value.").else_words("any"),
        needed("new_name", Kind::Name, "The new property."),
        key("new_value", Kind::Name, "Its value.").else_words("the old one"),
    ],
    ..SHAPE
};

static HISTORICAL_RESOURCE: Shape = Shape {
    name: "historical_resource_scheduler",
    about: "A scheduler that asks for what an action took earlier.",
    fields: &[
        needed("hints_file", Kind::Path, "The file that says what actions took."),
        time("refresh_interval_s", "30s", "How often it is read again; 0 is once."),
        key("cpu_property_name", Kind::Name, "The property that asks for processors.")
            .or(Literal::Text("cpu_count")),
        key("memory_property_name", Kind::Name, "The property that asks for memory.")
            .or(Literal::Text("memory_kb")),
        inner(),
    ],
    ..SHAPE
};
