//! The table of bazel-remote's options: the one place that says what becomes of each.
//!
//! docs/bazel-remote-flags.md is made from it.

mod backends;

use super::option::Fate::{Accepted, Honored, Refused};
use super::option::Kind::{Duration, Integer, List, Switch, Text};
use super::option::{CompatOption, Place};

const TLS: &str = "the certificate of HTTP and gRPC, read again when the file changes";
const PROXY_TLS: &str = "the certificates of the connection to `grpc_proxy.url`";
const PROFILE: &str = "there are no Go profiles, and nothing listens there";
const PACE: &str = "requests and answers are cut off by their pace, not by their length: see \
                    docs/http.md";

/// All options but those of storage and user directories that are refused as a whole.
static OWN: &[CompatOption] = &[
    CompatOption::new(
        "config_file",
        Text,
        "",
        Honored("read instead of all other flags and variables of bazel-remote"),
    )
    .only(Place::FlagsOnly),
    CompatOption::new("dir", Text, "", Honored("the directory, which is adopted; required")),
    CompatOption::new(
        "max_size",
        Integer,
        "",
        Honored(
            "the cap, in GiB; required. There it counts sizes rounded up to 4 KiB, here the \
             blocks that are allocated, which is what `du` says",
        ),
    ),
    CompatOption::new(
        "max_size_hard_limit",
        Integer,
        "-1",
        Accepted("`max_size` is a hard cap: writes wait for room and never pass it"),
    ),
    CompatOption::new(
        "storage_mode",
        Text,
        "zstd",
        Accepted(
            "blobs that are found are read in either form, and new ones are stored uncompressed",
        ),
    ),
    CompatOption::new("zstd_implementation", Text, "go", Accepted("there is one")),
    CompatOption::new(
        "http_address",
        Text,
        "",
        Honored("where HTTP is served; `unix://` is refused: HTTP needs a port here"),
    ),
    CompatOption::new(
        "host",
        Text,
        "",
        Honored(
            "the host of `port` and `grpc_port`; all IPv4 addresses when empty, and here as there \
             `::` for IPv6 too",
        ),
    ),
    CompatOption::new(
        "port",
        Integer,
        "8080",
        Honored("the port of HTTP without `http_address`; 8080 too where a file says neither"),
    ),
    CompatOption::new(
        "grpc_address",
        Text,
        "",
        Honored("where gRPC is served; `none` for HTTP alone; the path of `unix://` is absolute"),
    ),
    CompatOption::new(
        "grpc_port",
        Integer,
        "9092",
        Honored(
            "the port of gRPC without `grpc_address`; 0 for HTTP alone, and so is a file that \
             says neither",
        ),
    ),
    CompatOption::new("profile_address", Text, "none", Accepted(PROFILE)),
    CompatOption::new("profile_host", Text, "127.0.0.1", Accepted(PROFILE)),
    CompatOption::new("profile_port", Integer, "0", Accepted(PROFILE)),
    CompatOption::new("http_read_timeout", Duration, "0s", Accepted(PACE)),
    CompatOption::new("http_write_timeout", Duration, "0s", Accepted(PACE)),
    CompatOption::new(
        "htpasswd_file",
        Text,
        "",
        Refused("there are no passwords; put a server that asks for them before this one"),
    ),
    CompatOption::new(
        "min_tls_version",
        Text,
        "1.0",
        Accepted("TLS is 1.2 or 1.3; 1.3 alone is refused where there are certificates"),
    ),
    CompatOption::new(
        "tls_ca_file",
        Text,
        "",
        Honored("clients without a certificate of these authorities are refused"),
    ),
    CompatOption::new("tls_cert_file", Text, "", Honored(TLS)),
    CompatOption::new("tls_key_file", Text, "", Honored("the key of `tls_cert_file`")),
    CompatOption::new(
        "allow_unauthenticated_reads",
        Switch,
        "false",
        Refused("who may write may read, and nobody else; leave it out"),
    )
    .environment(&["BAZEL_REMOTE_UNAUTHENTICATED_READS"]),
    CompatOption::new(
        "idle_timeout",
        Duration,
        "0s",
        Refused("the server does not end by itself; have whoever starts it stop it"),
    ),
    CompatOption::new(
        "max_queued_uploads",
        Integer,
        "1000000",
        Honored(
            "the copies that may wait for `grpc_proxy.url`; what comes then is copied before it \
             is acknowledged, and not left out",
        ),
    ),
    CompatOption::new(
        "max_blob_size",
        Integer,
        "9223372036854775807",
        Honored("the largest blob to accept, in bytes"),
    ),
    CompatOption::new(
        "max_proxy_blob_size",
        Integer,
        "9223372036854775807",
        Accepted("blobs of any size are read from `grpc_proxy.url`"),
    ),
    CompatOption::new(
        "num_uploaders",
        Integer,
        "100",
        Honored("copies to `grpc_proxy.url` at once; 0 to copy nothing there"),
    ),
    CompatOption::new(
        "grpc_proxy.url",
        Text,
        "",
        Honored(
            "a `grpc` store behind the directory, of which the instance without a name is \
                 used; over HTTP a result is not looked for there, for its size is not known",
        ),
    ),
    CompatOption::new("grpc_proxy.key_file", Text, "", Honored(PROXY_TLS)),
    CompatOption::new("grpc_proxy.cert_file", Text, "", Honored(PROXY_TLS)),
    CompatOption::new("grpc_proxy.ca_file", Text, "", Honored(PROXY_TLS)),
    CompatOption::new(
        "disable_http_ac_validation",
        Switch,
        "false",
        Honored(
            "values of any kind at `/ac/HASH` over HTTP, apart from action results; \
             `--values-max-size` says what they may take",
        ),
    ),
    CompatOption::new(
        "disable_grpc_ac_deps_check",
        Switch,
        "false",
        Refused(
            "a result is served while everything that it names is there, always; leave it out, \
             or serve a JSON5 file in which an instance has `ac` and no `cas`",
        ),
    )
    .environment(&["BAZEL_REMOTE_DISABLE_GRPS_AC_DEPS_CHECK"]),
    CompatOption::new(
        "enable_ac_key_instance_mangling",
        Switch,
        "false",
        Honored(
            "action results that are adopted are found under a hash of hash and instance name; \
             new ones are always kept apart by instance",
        ),
    ),
    CompatOption::new(
        "enable_endpoint_metrics",
        Switch,
        "false",
        Accepted("`/metrics` is always there; its names are others: see docs/metrics.md"),
    ),
    CompatOption::new(
        "endpoint_metrics_duration_buckets",
        List,
        "",
        Accepted("the buckets are those of docs/metrics.md"),
    )
    .only(Place::FileOnly),
    CompatOption::new(
        "http_metrics_prefix",
        Switch,
        "false",
        Accepted("all metrics begin with `castellan_`"),
    ),
    CompatOption::new(
        "experimental_remote_asset_api",
        Switch,
        "false",
        Refused("the Remote Asset API is not served; have Bazel download by itself"),
    ),
    CompatOption::new(
        "access_log_level",
        Text,
        "all",
        Accepted("requests are logged with `--log=debug` only"),
    ),
    CompatOption::new("log_timezone", Text, "UTC", Accepted("the log is in UTC")),
];

/// Every option.
pub(super) fn all() -> impl Iterator<Item = &'static CompatOption> {
    OWN.iter().chain(backends::ALL)
}

/// The option with this name.
pub(super) fn named(name: &str) -> Option<&'static CompatOption> {
    all().find(|option| option.name == name)
}

/// The option at this place of a file.
pub(super) fn in_file(path: &str) -> Option<&'static CompatOption> {
    all().find(|option| option.file_path().is_some_and(|it| it == path))
}
