//! The `workers`.

use super::stores::CLIENT_TLS;
use super::{Kind, Literal, SHAPE, Shape, count, key, needed, part, size, switch, time};

pub(super) static WORKER: Shape = Shape {
    name: "worker",
    about: "A worker. Not run by this version.",
    fields: &[needed("local", Kind::Object(&LOCAL), "Runs actions on this machine.")],
    ..SHAPE
};

static LOCAL: Shape = Shape {
    name: "local_worker",
    about: "A worker that runs actions on this machine.",
    fields: &[
        key("name", Kind::Text, "What it is called in logs.").or(Literal::Text("")),
        needed(
            "worker_api_endpoint",
            Kind::Object(&API_ENDPOINT),
            "The scheduler that it works for.",
        ),
        time("max_action_timeout_s", "20m", "The longest time that an action may run.")
            .once("max_action_timeout"),
        time("max_upload_timeout_s", "10m", "The longest time that an upload of results may take.")
            .once("max_upload_timeout"),
        time(
            "max_cleanup_wait_s",
            "30s",
            "The longest wait for an earlier action to be cleaned up.",
        ),
        key("max_cleanup_backoff_ms", Kind::Milliseconds, "The longest pause between two looks.")
            .or(Literal::Text("500ms")),
        count("max_inflight_tasks", 0, "How many actions run at a time; 0 is no limit."),
        switch(
            "timeout_handled_externally",
            "Whether the entry point ends actions that take too long.",
        ),
        key("entrypoint", Kind::Text, "What is put before every command.").or(Literal::Text("")),
        key(
            "experimental_precondition_script",
            Kind::Path,
            "What is run before every action to see whether there is room for it.",
        ),
        needed(
            "cas_fast_slow_store",
            Kind::Text,
            "The name of a fast_slow store with a filesystem store as its fast one.",
        ),
        part("upload_action_result", &RESULTS, "What happens to results."),
        needed("work_directory", Kind::Path, "Where actions run; emptied at the start."),
        needed(
            "platform_properties",
            Kind::Map(&Kind::Object(&PROPERTY)),
            "What the worker offers.",
        ),
        key(
            "additional_environment",
            Kind::Map(&Kind::ChoiceOr(
                &["timeout_millis", "side_channel_file", "action_directory"],
                &SOURCE,
            )),
            "Variables for actions.",
        ),
        key(
            "directory_cache",
            Kind::Object(&DIRECTORY_CACHE),
            "Keeps input directories for later actions.",
        ),
        switch(
            "experimental_active_input_leases",
            "Whether blobs of running actions are protected from eviction.",
        ),
        key("use_namespaces", Kind::Flag, "Whether actions run in namespaces of their own.")
            .else_words("where the machine allows it"),
        key("use_mount_namespace", Kind::Flag, "Whether that includes the mounts.")
            .else_words("where the machine allows it"),
    ],
    ..SHAPE
};

static API_ENDPOINT: Shape = Shape {
    name: "worker_api_endpoint",
    about: "How a worker reaches its scheduler.",
    fields: &[
        needed("uri", Kind::Text, "The URL, such as grpc://host:50061."),
        key("timeout", Kind::DecimalSeconds, "How long a request may take, in seconds.")
            .or(Literal::Number(5)),
        key("tls_config", Kind::Object(&CLIENT_TLS), "What TLS needs."),
    ],
    ..SHAPE
};

const STRATEGY: Kind = Kind::Choice(&["success_only", "never", "everything", "failures_only"]);

static RESULTS: Shape = Shape {
    name: "upload_action_result",
    about: "What a worker does with results.",
    fields: &[
        key("ac_store", Kind::Text, "The name of the store of action results."),
        key("upload_ac_results_strategy", STRATEGY, "Which results go there.")
            .or(Literal::Text("success_only")),
        key(
            "historical_results_store",
            Kind::Text,
            "The name of the store of results for people to look at.",
        )
        .else_words("the one of the blobs"),
        key("upload_historical_results_strategy", STRATEGY, "Which results go there.")
            .else_words("failures_only"),
        key("success_message_template", Kind::Text, "What clients are told with a success.")
            .or(Literal::Text("")),
        key("failure_message_template", Kind::Text, "What clients are told with a failure.")
            .or(Literal::Text("")),
    ],
    ..SHAPE
};

static PROPERTY: Shape = Shape {
    name: "worker_property",
    about: "Where the values of a property come from.",
    kinds: &[
        key("values", Kind::List(&Kind::Text), "The values."),
        key("query_cmd", Kind::Name, "A command that prints them, a line each."),
    ],
    ..SHAPE
};

static SOURCE: Shape = Shape {
    name: "environment_source",
    about: "Where the value of a variable comes from.",
    kinds: &[
        key("property", Kind::Name, "The action's property of this name."),
        key("value", Kind::Text, "The value."),
    ],
    ..SHAPE
};

static DIRECTORY_CACHE: Shape = Shape {
    name: "directory_cache",
    about: "Input directories that are kept for later actions.",
    fields: &[
        count("max_entries", 1000, "The most directories to keep."),
        size("max_size_bytes", "10GiB", "The most bytes to keep; 0 is no limit."),
        key("cache_root", Kind::Path, "Where they are.").else_words("next to the work directory"),
        switch(
            "experimental_subtree_caching",
            "Whether the directories in a directory are kept for themselves too.",
        ),
        count("max_concurrent_fetches", 64, "How many blobs are fetched at a time."),
        switch("experimental_get_tree_prefetch", "Whether the whole tree is asked for at once."),
    ],
    ..SHAPE
};
