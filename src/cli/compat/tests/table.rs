//! Goal: the table has every option, and docs/bazel-remote-flags.md says what the table says.
//!
//! `CASTELLAN_WRITE_DOCS=1 cargo test --lib compat` writes the page anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::option::{CompatOption, Fate, Kind, Place};
use super::super::options;

const PAGE: &str = "docs/bazel-remote-flags.md";

/// All flags of bazel-remote, in the order of its help.
const FLAGS: &str = "
    config_file dir max_size max_size_hard_limit storage_mode zstd_implementation http_address host
    port grpc_address grpc_port profile_address profile_host profile_port http_read_timeout
    http_write_timeout htpasswd_file min_tls_version tls_ca_file tls_cert_file tls_key_file
    allow_unauthenticated_reads idle_timeout max_queued_uploads max_blob_size max_proxy_blob_size
    num_uploaders grpc_proxy.url grpc_proxy.key_file grpc_proxy.cert_file grpc_proxy.ca_file
    http_proxy.url http_proxy.key_file http_proxy.cert_file http_proxy.ca_file gcs_proxy.bucket
    gcs_proxy.use_default_credentials gcs_proxy.json_credentials_file ldap.url ldap.base_dn
    ldap.bind_user ldap.bind_password ldap.username_attribute ldap.groups_query ldap.cache_time
    s3.endpoint s3.bucket s3.bucket_lookup_type s3.prefix s3.auth_method s3.access_key_id
    s3.secret_access_key s3.session_token s3.signature_type s3.aws_shared_credentials_file
    s3.aws_profile s3.disable_ssl s3.update_timestamps s3.iam_role_endpoint s3.region
    s3.key_version s3.max_idle_conns azblob.tenant_id azblob.storage_account azblob.container_name
    azblob.prefix azblob.update_timestamps azblob.auth_method azblob.shared_key azblob.client_id
    azblob.client_secret azblob.cert_path disable_http_ac_validation disable_grpc_ac_deps_check
    enable_ac_key_instance_mangling enable_endpoint_metrics http_metrics_prefix
    experimental_remote_asset_api access_log_level log_timezone";

/// Variables that are not the flag in capitals.
const ODD_VARIABLES: &[(&str, &[&str])] = &[
    ("allow_unauthenticated_reads", &["BAZEL_REMOTE_UNAUTHENTICATED_READS"]),
    ("disable_grpc_ac_deps_check", &["BAZEL_REMOTE_DISABLE_GRPS_AC_DEPS_CHECK"]),
    ("gcs_proxy.bucket", &["BAZEL_REMOTE_GCS_BUCKET"]),
    ("gcs_proxy.use_default_credentials", &["BAZEL_REMOTE_GCS_USE_DEFAULT_CREDENTIALS"]),
    ("gcs_proxy.json_credentials_file", &["BAZEL_REMOTE_GCS_JSON_CREDENTIALS_FILE"]),
    ("ldap.username_attribute", &["BAZEL_REMOTE_LDAP_USER_ATTRIBUTE"]),
    (
        "s3.aws_shared_credentials_file",
        &["BAZEL_REMOTE_S3_AWS_SHARED_CREDENTIALS_FILE", "AWS_SHARED_CREDENTIALS_FILE"],
    ),
    ("s3.aws_profile", &["BAZEL_REMOTE_S3_AWS_PROFILE", "AWS_PROFILE"]),
    ("azblob.tenant_id", &["BAZEL_REMOTE_AZBLOB_TENANT_ID", "AZURE_TENANT_ID"]),
    ("azblob.shared_key", &["BAZEL_REMOTE_AZBLOB_SHARED_KEY", "AZURE_STORAGE_ACCOUNT_KEY"]),
    ("azblob.client_id", &["BAZEL_REMOTE_AZBLOB_CLIENT_ID", "AZURE_CLIENT_ID"]),
    ("azblob.client_secret", &["BAZEL_REMOTE_AZBLOB_SECRET_CLIENT_SECRET", "AZURE_CLIENT_SECRET"]),
    ("azblob.cert_path", &["BAZEL_REMOTE_AZBLOB_CERT_PATH", "AZURE_CLIENT_CERTIFICATE_PATH"]),
];

/// What is something when it is not said.
const DEFAULTS: &[(&str, &str)] = &[
    ("max_size_hard_limit", "-1"),
    ("storage_mode", "zstd"),
    ("zstd_implementation", "go"),
    ("port", "8080"),
    ("grpc_port", "9092"),
    ("profile_host", "127.0.0.1"),
    ("min_tls_version", "1.0"),
    ("max_queued_uploads", "1000000"),
    ("max_blob_size", "9223372036854775807"),
    ("max_proxy_blob_size", "9223372036854775807"),
    ("num_uploaders", "100"),
    ("ldap.username_attribute", "uid"),
    ("ldap.cache_time", "3600"),
    ("s3.bucket_lookup_type", "auto"),
    ("s3.signature_type", "v4"),
    ("s3.aws_profile", "default"),
    ("s3.key_version", "2"),
    ("s3.max_idle_conns", "1024"),
    ("access_log_level", "all"),
    ("log_timezone", "UTC"),
];

#[test]
fn the_table_has_every_option_once() {
    let expected: BTreeSet<&str> =
        FLAGS.split_whitespace().chain(["endpoint_metrics_duration_buckets"]).collect();
    let names: Vec<&str> = options::all().map(|option| option.name).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(names.len(), expected.len());
}

#[test]
fn variables_are_the_flag_in_capitals_but_for_the_odd_ones() {
    for option in options::all().filter(|option| option.place != Place::FileOnly) {
        let odd = ODD_VARIABLES.iter().find(|(name, _)| *name == option.name);
        let regular = format!("BAZEL_REMOTE_{}", option.name.to_uppercase().replace('.', "_"));
        let expected = odd.map_or(vec![regular], |(_, names)| {
            names.iter().map(|name| (*name).to_owned()).collect()
        });
        assert_eq!(option.environment_names(), expected, "{}", option.name);
    }
}

#[test]
fn defaults_are_bazel_remotes_and_can_be_said_aloud() {
    for (name, default) in DEFAULTS {
        let option = options::named(name).unwrap();
        assert_eq!(option.read(default), Ok(option.default_value()), "{name}");
    }
    let said: Vec<String> = options::all()
        .filter(|option| !option.default.is_empty() && option.place == Place::Anywhere)
        .map(|option| format!("--{}={}", option.name, option.default))
        .collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    assert_eq!(super::warnings(&said, &[]), Vec::<String>::new());
    assert_eq!(format!("{:?}", super::served(&said)), format!("{:?}", super::served(&[])));
}

/// Something that an option may be and is not unless it is said.
fn other(option: &CompatOption) -> String {
    let known = [
        ("storage_mode", "uncompressed"),
        ("zstd_implementation", "cgo"),
        ("http_address", "127.0.0.1:1"),
        ("host", "127.0.0.1"),
        ("grpc_address", "127.0.0.1:1"),
        ("min_tls_version", "1.3"),
        ("grpc_proxy.url", "grpc://behind:1"),
        ("access_log_level", "none"),
        ("log_timezone", "local"),
    ];
    let text = known.iter().find(|(name, _)| *name == option.name).map(|(_, text)| *text);
    let text = text.unwrap_or(match option.kind {
        Kind::Text | Kind::List => "/no/such/file",
        Kind::Integer => "77",
        Kind::Switch => "true",
        Kind::Duration => "1m",
    });
    text.to_owned()
}

#[test]
fn each_option_has_the_fate_that_the_table_says() {
    let base = ["--grpc_proxy.url=grpc://behind", "--tls_cert_file=/c", "--tls_key_file=/k"];
    let plain = format!("{:?}", super::served(&base));
    for option in options::all().filter(|it| it.place == Place::Anywhere) {
        let said = format!("--{}={}", option.name, other(option));
        let planned = |more: &[&str]| {
            let flags: Vec<&str> =
                super::REQUIRED.iter().chain(more).copied().chain([said.as_str()]).collect();
            super::planned(&flags, &[])
        };
        match option.fate {
            // What the file of a certificate says is read, and that there is none is noticed.
            Fate::Honored(_) => match planned(&base) {
                Ok((settings, notes)) => {
                    assert_ne!(format!("{settings:?}"), plain, "{said}");
                    // Whose probes want a certificate too, which is said.
                    assert_eq!(notes.is_empty(), option.name != "tls_ca_file", "{said}: {notes:?}");
                }
                Err(problems) => {
                    assert!(option.name.starts_with("grpc_proxy."), "{said}: {problems}");
                }
            },
            Fate::Accepted(_) => {
                let (_, notes) = planned(&[]).unwrap();
                assert!(notes[0].contains(option.name) && notes[0].contains("no effect"), "{said}");
            }
            Fate::Refused(why) => {
                let problems = planned(&[]).map(|_| ()).unwrap_err();
                assert!(problems.contains(option.name) && problems.contains(why), "{problems}");
            }
            Fate::With(of) => {
                assert!(matches!(options::named(of).unwrap().fate, Fate::Refused(_)), "{said}");
                let problems = planned(&[&format!("--{of}=x")]).map(|_| ()).unwrap_err();
                assert!(problems.contains(option.name), "{said}: {problems}");
            }
        }
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for option in options::all() {
        let default = if option.default.is_empty() { "" } else { option.default };
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let flag = match option.place {
            Place::FileOnly => String::new(),
            _ => format!("`--{}`", option.name),
        };
        let names: Vec<String> =
            option.environment_names().iter().map(|name| format!("`{name}`")).collect();
        let key = option.file_path().map_or(String::new(), |path| format!("`{path}`"));
        let fate = match option.fate {
            Fate::Honored(how) => format!("honored: {how}"),
            Fate::Accepted(why) => format!("no effect: {why}"),
            Fate::Refused(why) => format!("refused: {why}"),
            Fate::With(other) => format!("refused beside `{other}`, nothing without"),
        };
        let names = names.join(", ");
        writeln!(page, "| {flag} | {names} | {key} | {default} | {fate} |").unwrap();
    }
    page
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os("CASTELLAN_WRITE_DOCS").is_some() {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, page().as_bytes()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page(), "{PAGE} is stale; CASTELLAN_WRITE_DOCS=1 writes it anew");
}

const INTRODUCTION: &str = "\
# bazel-remote's options

```sh
castellan serve --compat=bazel-remote --dir /data --max_size 100     # its flags, its environment
castellan serve --compat=bazel-remote --config_file bazel-remote.yml # its file
castellan config convert bazel-remote.yml > castellan.json5          # its file as one of ours
```

With `--compat=bazel-remote` the command line, the environment and the YAML file are those \
    of bazel-remote.
Each option has the effect that it has there, or is refused by name, all of them at once and \
    with exit code 64, before anything is opened.
What is taken without an effect is in the log at the start.
An option that is set to its default or to nothing is never refused.

- Flags have one dash or two, and their value behind a space or `=`; a switch only behind \
    `=`. The last one counts. They go before the environment.
- `--config_file` is read instead of everything else, as there. A file has no default for \
    gRPC, so one that names neither `grpc_address` nor `grpc_port` is served over HTTP alone. \
    One without `http_address` and `port` is served on port 8080. A key that is no option is \
    refused, which bazel-remote would ignore.
- Castellan's own flags stand beside them (`--lease`, `--admin-listen`, `--values-max-size`, \
    `--log`), but for those that say the same: `--max-size`, `--max-blob-size`, `--grpc-listen`, \
    `--http-listen` and a JSON5 file.
- A variable that looks like `tcp://10.0.0.1:8080` is ignored, which is said in the log: \
    Kubernetes sets such for every service, and one called `bazel-remote` gets \
    `BAZEL_REMOTE_PORT`.
- New action results are kept apart by instance name, always; bazel-remote does that with \
    `enable_ac_key_instance_mangling` only.
- Values at `/ac/` with `disable_http_ac_validation` need room of their own, a tenth of the cap \
    unless `--values-max-size` says otherwise: see [values.md](values.md). Without either there \
    are no values, also not of ccache, sccache and Gradle, and no room is kept for them.
- `min_tls_version` 1.0 and 1.1 are taken, and clients that speak no later one are refused.
- With `tls_ca_file` all of the HTTP port wants a certificate, `/livez`, `/readyz` and `/metrics` \
    too: probes need one, or to ask over gRPC, or for the port alone.

`castellan config convert FILE` prints the file as JSON5 on standard output, with what is \
    said beside the file as comments, or every option that stands in its way with line and \
    column and exit code 64.
What that format cannot say (any instance name, values at `/ac/`, mangled keys) is served \
    with `--compat=bazel-remote --config_file FILE` only.
[config.md](config.md) describes the format.

This page is made from the table in the program: `CASTELLAN_WRITE_DOCS=1 cargo test --lib \
    compat` writes it.

| flag | environment | file | default | here |
|---|---|---|---|---|
";
