//! The `servers`.

use super::services::SERVICES;
use super::{Field, Kind, Literal, SHAPE, Shape, key, needed, part, switch};

pub(super) static SERVER: Shape = Shape {
    name: "server",
    about: "Where clients connect, and to what.",
    fields: &[
        key("name", Kind::Text, "A name for telemetry.").or(Literal::Text("")),
        needed("listener", Kind::Object(&LISTENER), "How the server is reached."),
        needed("services", Kind::Object(&SERVICES), "What it serves."),
        key("experimental_identity_header", Kind::Object(&IDENTITY), "Has no effect."),
    ],
    ..SHAPE
};

static IDENTITY: Shape = Shape {
    name: "identity_header",
    about: "The header by which clients say who they are.",
    fields: &[
        key("header_name", Kind::Name, "Its name.").or(Literal::Text("x-identity")),
        switch("required", "Refuses requests without it. Not run by this version."),
    ],
    ..SHAPE
};

static LISTENER: Shape = Shape {
    name: "listener",
    about: "How a server is reached.",
    fields: &[needed("http", Kind::Object(&HTTP), "Over HTTP/2.")],
    ..SHAPE
};

static HTTP: Shape = Shape {
    name: "http_listener",
    about: "An address and how it is used.",
    fields: &[
        needed(
            "socket_address",
            Kind::Text,
            "Where to listen: 0.0.0.0:50051, :50051, localhost:50051, [::1]:50051, unix:/path.",
        ),
        switch("freebind", "Whether the address may be one that the machine does not have yet."),
        key("max_decoding_message_size", Kind::Size, "The largest message that a client may send.")
            .usually(Literal::Text("16MiB")),
        key(
            "compression",
            Kind::Object(&COMPRESSION),
            "How messages are compressed; not at all unless said.",
        ),
        key("tls", Kind::Object(&TLS), "Certificates."),
        part("advanced_http", &ADVANCED, "Fine tuning of HTTP/2."),
    ],
    ..SHAPE
};

const CODEC: Kind = Kind::Choice(&["none", "gzip"]);

static COMPRESSION: Shape = Shape {
    name: "http_compression",
    about: "How messages are compressed.",
    fields: &[
        key("send_compression_algorithm", CODEC, "What is sent.").or(Literal::Text("none")),
        needed("accepted_compression_algorithms", Kind::List(&CODEC), "What is understood."),
    ],
    ..SHAPE
};

static TLS: Shape = Shape {
    name: "server_tls",
    about: "The certificates of a listener.",
    fields: &[
        needed("cert_file", Kind::Path, "The server's certificate."),
        needed("key_file", Kind::Path, "Its key."),
        key(
            "client_ca_file",
            Kind::Path,
            "The authorities of clients, who then need certificates.",
        ),
        key("client_crl_file", Kind::Path, "Clients' certificates that are no longer valid."),
    ],
    ..SHAPE
};

const UNSAID: &str = "the server's choice";

const fn tuned(name: &'static str, about: &'static str) -> Field {
    key(name, Kind::Count, about).else_words(UNSAID)
}

static ADVANCED: Shape = Shape {
    name: "advanced_http",
    about: "Fine tuning of HTTP/2.",
    fields: &[
        key("http2_keep_alive_interval", Kind::Seconds, "How often a connection is tried.")
            .else_words(UNSAID),
        key(
            "experimental_http2_keep_alive_timeout_s",
            Kind::Seconds,
            "How long the peer has to answer that.",
        )
        .else_words(UNSAID)
        .once("experimental_http2_keep_alive_timeout"),
        tuned(
            "experimental_http2_max_pending_accept_reset_streams",
            "The most streams that were reset and are not yet dealt with.",
        ),
        tuned(
            "experimental_http2_initial_stream_window_size",
            "How many bytes a client may send on a stream before it has to wait.",
        ),
        tuned(
            "experimental_http2_initial_connection_window_size",
            "How many bytes a client may send on a connection before it has to wait.",
        ),
        key("experimental_http2_adaptive_window", Kind::Flag, "Whether windows grow.")
            .else_words(UNSAID),
        tuned("experimental_http2_max_frame_size", "The largest frame, in bytes."),
        tuned("experimental_http2_max_concurrent_streams", "The most streams of a connection."),
        tuned(
            "experimental_http2_max_send_buf_size",
            "The most bytes of a stream that wait to be sent.",
        ),
        switch(
            "experimental_http2_enable_connect_protocol",
            "Whether the extended CONNECT is offered.",
        ),
        tuned("experimental_http2_max_header_list_size", "The most bytes of headers."),
    ],
    ..SHAPE
};
