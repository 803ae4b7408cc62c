//! The file as a whole.

use super::schedulers::SCHEDULER;
use super::servers::SERVER;
use super::stores::STORE;
use super::workers::WORKER;
use super::{Kind, Literal, SHAPE, Shape, count, key, needed, part};

pub(crate) static ROOT: Shape = Shape {
    name: "config",
    about: "A configuration file of Castellan or NativeLink.",
    fields: &[
        needed("stores", Kind::List(&Kind::Object(&STORE)), "Where content is kept."),
        key(
            "schedulers",
            Kind::List(&Kind::Object(&SCHEDULER)),
            "Who runs actions. Not run by this version.",
        ),
        key(
            "workers",
            Kind::List(&Kind::Object(&WORKER)),
            "Where actions run. Not run by this version.",
        ),
        needed(
            "servers",
            Kind::List(&Kind::Object(&SERVER)),
            "Where clients connect, and to what.",
        ),
        part("global", &GLOBAL, "What concerns the process as a whole."),
        key(
            "experimental_origin_events",
            Kind::Object(&ORIGIN_EVENTS),
            "Events about requests. Not run by this version.",
        ),
    ],
    ..SHAPE
};

static GLOBAL: Shape = Shape {
    name: "global",
    about: "What concerns the process as a whole.",
    fields: &[
        count("max_open_files", 0, "Has no effect: as many as the system allows."),
        key(
            "default_digest_hash_function",
            Kind::Choice(&["sha256", "blake3"]),
            "The digest function of clients that name none.",
        )
        .or(Literal::Text("sha256")),
        key(
            "default_digest_size_health_check",
            Kind::Size,
            "The size of the blobs with which health checks try a store.",
        )
        .else_words("what the server needs"),
    ],
    ..SHAPE
};

static ORIGIN_EVENTS: Shape = Shape {
    name: "origin_events",
    about: "Events about requests.",
    fields: &[
        needed("publisher", Kind::Object(&PUBLISHER), "Where events go."),
        count("max_event_queue_size", 65_536, "The most events that wait."),
    ],
    ..SHAPE
};

static PUBLISHER: Shape = Shape {
    name: "event_publisher",
    about: "Where events go.",
    fields: &[needed("store", Kind::Text, "The name of a store.")],
    ..SHAPE
};
