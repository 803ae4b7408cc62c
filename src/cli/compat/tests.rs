//! Goal: bazel-remote's options have the effect that they have there, or are refused by name.
//!
//! Method: command lines, environments and files as its users have them, against what would be
//! served.

mod file;
mod go;
mod json5;
mod table;

use std::collections::HashMap;
use std::path::Path;

use clap::Parser as _;

use super::split;
use crate::cli::{Arguments, Command, serve};
use crate::server::{Instances, ServerSettings, StoreKind};
use crate::socket::ListenAddress;
use crate::store::filesystem::{Cap, FilesystemOptions, SetAside};
use crate::store::remote::RemoteKind;

const REQUIRED: [&str; 2] = ["--dir=/srv/cache", "--max_size=5"];

/// What `serve --compat=bazel-remote` would serve with these flags and variables.
fn planned(flags: &[&str], env: &[(&str, &str)]) -> Result<(ServerSettings, Vec<String>), String> {
    let all = ["castellan", "serve", "--compat=bazel-remote"].iter().chain(flags);
    let (own, compat_flags) = split(all.map(Into::into).collect());
    assert!(compat_flags.is_some());
    let Command::Serve(mut arguments) = Arguments::try_parse_from(own).unwrap().command else {
        panic!()
    };
    arguments.compat_flags = compat_flags;
    let env: HashMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    serve::settings_of(&arguments, &|name| env.get(name).cloned())
}

fn served(flags: &[&str]) -> ServerSettings {
    let flags: Vec<&str> = REQUIRED.iter().chain(flags).copied().collect();
    planned(&flags, &[]).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn refused(flags: &[&str]) -> String {
    let flags: Vec<&str> = REQUIRED.iter().chain(flags).copied().collect();
    planned(&flags, &[]).map(|_| ()).unwrap_err()
}

fn warnings(flags: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    let flags: Vec<&str> = REQUIRED.iter().chain(flags).copied().collect();
    planned(&flags, env).unwrap_or_else(|problems| panic!("{problems}")).1
}

fn files(settings: &ServerSettings) -> &FilesystemOptions {
    let StoreKind::Filesystem(options) = &settings.stores[0].kind else { panic!("{settings:?}") };
    options
}

fn grpc_address(settings: &ServerSettings) -> String {
    settings.listeners[0].address.to_string()
}

#[test]
fn the_two_required_options_are_enough() {
    let settings = served(&[]);
    assert_eq!(settings.stores.len(), 1);
    let options = files(&settings);
    assert_eq!(
        (options.root.as_path(), options.cap),
        (Path::new("/srv/cache"), Cap::Bytes(5 << 30))
    );
    assert_eq!(options.max_blob_bytes, None);
    // What is adopted keeps all of the room.
    assert!(options.set_aside.is_none() && settings.values.is_none());
    assert_eq!(settings.http_listen.to_string(), "0.0.0.0:8080");
    assert_eq!(grpc_address(&settings), "0.0.0.0:9092");
    assert!(matches!(&settings.listeners[0].instances, Instances::Any(_)));
    assert!(!settings.http.keeps_raw_results && !settings.adopted_results_are_mangled);
    let found = planned(&[], &[]).map(|_| ()).unwrap_err();
    assert_eq!(found, "error: --dir: is required\nerror: --max_size: is required, in GiB\n");
}

#[test]
fn flags_have_one_dash_or_two_and_their_value_behind_a_space_or_a_sign() {
    for flags in [
        ["--port", "81", "--host", "127.0.0.1"].as_slice(),
        &["-port=81", "-host=127.0.0.1"],
        &["-port", "0x51", "--host=127.0.0.1"],
        // The last one counts.
        &["--port=80", "--port=81", "--host=127.0.0.1"],
    ] {
        assert_eq!(served(flags).http_listen.to_string(), "127.0.0.1:81", "{flags:?}");
    }
    for (flag, expected) in [
        ("--disable_http_ac_validation", true),
        ("-disable_http_ac_validation=1", true),
        ("--disable_http_ac_validation=TRUE", true),
        ("--disable_http_ac_validation=f", false),
    ] {
        assert_eq!(served(&[flag]).http.keeps_raw_results, expected, "{flag}");
    }
}

#[test]
fn what_is_no_flag_of_either_is_refused_with_everything_else() {
    let found = refused(&[
        "--max-sise=1",
        "-lease=3h",
        "somewhere",
        "--port=http",
        "--disable_http_ac_validation=yes",
        "--idle_timeout=5",
        "--max_blob_size=0",
        "--storage_mode=gzip",
        "--htpasswd_file=/etc/passwords",
        "--endpoint_metrics_duration_buckets=1",
        "--access_log_level",
    ]);
    for expected in [
        "--max-sise=1: neither bazel-remote nor `castellan serve` has this flag",
        "-lease=3h: neither",
        "somewhere: is no flag",
        "--port: \"http\" is not a whole number",
        "--disable_http_ac_validation: \"yes\" is neither true nor false",
        "--idle_timeout: \"5\" is not a duration",
        "--max_blob_size: is not above 0",
        "--storage_mode: \"gzip\" is none of zstd, uncompressed",
        "--htpasswd_file: is not supported: there are no passwords",
        "--endpoint_metrics_duration_buckets=1: neither",
        "--access_log_level: needs a value",
    ] {
        assert!(found.contains(&format!("error: {expected}")), "{expected} in\n{found}");
    }
    assert_eq!(found.lines().count(), 11, "{found}");
}

#[test]
fn castellans_own_flags_stand_beside_them() {
    let settings = served(&["--lease", "3h", "--max-entries=7", "--admin-listen=off", "--port=81"]);
    let options = files(&settings);
    assert_eq!((options.lease.as_secs(), options.max_entries), (3 * 3600, Some(7)));
    assert!(settings.admin.is_none());
    assert_eq!(settings.http_listen.port(), 81);
    let found = refused(&["--max-size=1GiB", "--http-listen", ":0", "--grpc-listen=:1"]);
    for expected in ["--max-size or", "--http-listen or", "--grpc-listen or"] {
        assert!(found.contains(expected), "{expected} in {found}");
    }
}

#[test]
fn without_compat_nothing_is_taken_out() {
    let all = ["castellan", "serve", "--max_size=5"].map(std::ffi::OsString::from);
    let (own, flags) = split(Vec::from(all.clone()));
    assert!(flags.is_none() && own == all);
    assert!(Arguments::try_parse_from(own).is_err());
    assert!(Arguments::try_parse_from(["castellan", "serve", "--compat=squid"]).is_err());
}

#[test]
fn variables_come_after_flags_and_empty_ones_say_nothing() {
    let env = [
        ("BAZEL_REMOTE_DIR", "/srv/other"),
        ("BAZEL_REMOTE_MAX_SIZE", "7"),
        ("BAZEL_REMOTE_PORT", "81"),
        ("BAZEL_REMOTE_GRPC_PORT", ""),
        ("BAZEL_REMOTE_DISABLE_HTTP_AC_VALIDATION", "true"),
        ("BAZEL_REMOTE_MAX_BLOB_SIZE", "1000"),
    ];
    let (settings, _) = planned(&["--port=82"], &env).unwrap();
    let options = files(&settings);
    assert_eq!(
        (options.root.as_path(), options.cap),
        (Path::new("/srv/other"), Cap::Bytes(7 << 30))
    );
    assert_eq!(options.max_blob_bytes, Some(1000));
    assert_eq!(settings.http_listen.port(), 82);
    assert_eq!(grpc_address(&settings), "0.0.0.0:9092");
    assert!(settings.http.keeps_raw_results);
    let found = planned(&REQUIRED, &[("BAZEL_REMOTE_PORT", "http")]).map(|_| ()).unwrap_err();
    assert_eq!(found, "error: BAZEL_REMOTE_PORT (--port): \"http\" is not a whole number\n");
}

#[test]
fn odd_variables_are_known_by_their_odd_names() {
    for (variable, value, expected) in [
        ("BAZEL_REMOTE_UNAUTHENTICATED_READS", "true", "--allow_unauthenticated_reads"),
        ("BAZEL_REMOTE_DISABLE_GRPS_AC_DEPS_CHECK", "1", "--disable_grpc_ac_deps_check"),
        ("BAZEL_REMOTE_GCS_BUCKET", "b", "--gcs_proxy.bucket"),
        ("AZURE_TENANT_ID", "t", "--azblob.tenant_id"),
    ] {
        let found = planned(&REQUIRED, &[(variable, value)]).map(|_| ()).unwrap_err();
        assert!(found.starts_with(&format!("error: {variable} ({expected}): is not ")), "{found}");
    }
}

#[test]
fn what_kubernetes_says_of_a_service_of_that_name_is_ignored_aloud() {
    let env =
        [("BAZEL_REMOTE_PORT", "tcp://10.0.0.1:8080"), ("BAZEL_REMOTE_SERVICE_HOST", "10.0.0.1")];
    let found = warnings(&[], &env);
    assert_eq!(
        found,
        ["BAZEL_REMOTE_PORT (--port): is ignored: Kubernetes sets it for a service called \
          bazel-remote"]
    );
}

#[test]
fn addresses_are_those_of_either_form() {
    let settings = served(&["--http_address=127.0.0.1:81", "--grpc_address=[::1]:82", "--port=1"]);
    assert_eq!(settings.http_listen.to_string(), "127.0.0.1:81");
    assert_eq!(grpc_address(&settings), "[::1]:82");
    let settings = served(&["--host=::1", "--port=81"]);
    assert_eq!(settings.http_listen.to_string(), "[::1]:81");
    let settings = served(&["--grpc_address=unix:///run/cache.sock"]);
    assert_eq!(settings.listeners[0].address, ListenAddress::Unix("/run/cache.sock".into()));
    for (flag, expected) in [
        ("--http_address=unix:///run/http.sock", "--http_address: HTTP is served on ports only"),
        ("--http_address=8080", "--http_address: "),
        ("--grpc_address=unix://cache.sock", "--grpc_address: "),
        ("--port=70000", "--port: is not a port"),
        ("--port=9092", "--grpc_port: HTTP and gRPC cannot have the same port"),
        ("--grpc_address=127.0.0.1:8080", "--grpc_address: HTTP and gRPC cannot have"),
    ] {
        let found = refused(&[flag]);
        assert!(found.contains(&format!("error: {expected}")), "{flag}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn without_grpc_http_serves_the_same_instances() {
    for flag in ["--grpc_address=none", "--grpc_port=0"] {
        let settings = served(&[flag]);
        assert!(settings.listeners.is_empty(), "{flag}");
        let Some(Instances::Any(instance)) = settings.http_instances else { panic!("{flag}") };
        assert_eq!((instance.cas, instance.action_cache), (Some(0), Some(0)));
    }
}

#[test]
fn a_server_behind_is_a_store_behind_the_directory() {
    let settings = served(&[
        "--grpc_proxy.url=grpc://behind:9092",
        "--num_uploaders=3",
        "--max_queued_uploads=50",
    ]);
    let kinds: Vec<&StoreKind> = settings.stores.iter().map(|store| &store.kind).collect();
    let [
        StoreKind::Filesystem(_),
        StoreKind::Remote(blobs),
        StoreKind::Remote(results),
        StoreKind::Tiered { fast: 0, slow: 1, options },
        StoreKind::Tiered { fast: 0, slow: 2, .. },
    ] = kinds.as_slice()
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((blobs.kind, results.kind), (RemoteKind::Cas, RemoteKind::ActionCache));
    assert_eq!(blobs.endpoints[0].address, "grpc://behind:9092");
    let behind = options.write_behind.as_ref().unwrap();
    assert_eq!((behind.max_concurrent_copies, behind.max_items), (3, 50));
    let Instances::Any(instance) = &settings.listeners[0].instances else { panic!() };
    assert_eq!((instance.cas, instance.action_cache), (Some(3), Some(4)));
    assert_eq!(files(&settings).set_aside, None);

    let settings = served(&["--grpc_proxy.url=grpc://behind:9092", "--num_uploaders=0"]);
    let StoreKind::Tiered { options, .. } = &settings.stores[3].kind else { panic!() };
    assert!(options.write_behind.is_none());
    for flags in [
        ["--grpc_proxy.url=http://behind", "--num_uploaders=1"],
        ["--grpc_proxy.url=grpcs://behind", "--grpc_proxy.cert_file=/dev/null"],
        ["--grpc_proxy.url=grpc://behind", "--grpc_proxy.ca_file=/dev/null"],
        ["--grpc_proxy.url=grpcs://behind", "--grpc_proxy.ca_file=/no/such/file"],
        ["--grpc_proxy.url=grpc://behind", "--s3.bucket=b"],
    ] {
        assert_eq!(refused(&flags).lines().count(), 1, "{}", refused(&flags));
    }
}

#[test]
fn values_of_any_kind_need_room() {
    let settings = served(&["--disable_http_ac_validation", "--values-max-size=40%"]);
    assert_eq!(files(&settings).set_aside, Some(SetAside::Percent(40)));
    assert!(settings.values.is_some());
    for flag in ["--disable_http_ac_validation", "--values-max-value-size=1MiB"] {
        assert_eq!(files(&served(&[flag])).set_aside, Some(SetAside::Percent(10)), "{flag}");
    }
    let found = refused(&["--disable_http_ac_validation", "--values-max-size=0"]);
    assert!(found.starts_with("error: --values-max-size: leaves no room"), "{found}");
    assert!(served(&["--values-max-size=0"]).values.is_none());
}

#[test]
fn mangling_is_passed_on() {
    let settings = served(&["--enable_ac_key_instance_mangling"]);
    assert!(settings.adopted_results_are_mangled && settings.http.raw_results_are_mangled);
    assert!(!served(&[]).http.raw_results_are_mangled);
}

#[test]
fn what_has_no_effect_is_said() {
    let found = warnings(&["--max_size_hard_limit=6", "--log_timezone=local"], &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|it| it.starts_with("--log_timezone: has no effect: ")), "{found:?}");
}

#[test]
fn certificates_are_those_of_both_listeners() {
    let pair = ["--tls_cert_file=/c", "--tls_key_file=/k"];
    let settings = served(&[pair[0], pair[1], "--tls_ca_file=/ca"]);
    for tls in [settings.http_tls.as_ref(), settings.listeners[0].tls.as_ref()] {
        let tls = tls.unwrap();
        assert_eq!(
            (tls.cert_file.as_path(), tls.key_file.as_path()),
            ("/c".as_ref(), "/k".as_ref())
        );
        assert_eq!(tls.client_ca_file.as_deref(), Some(Path::new("/ca")));
    }
    assert!(served(&pair).http_tls.unwrap().client_ca_file.is_none());
    assert_eq!(warnings(&pair, &[]), Vec::<String>::new());
    for flag in ["--tls_ca_file=/ca", "--min_tls_version=1.0", "--min_tls_version=1.1"] {
        let found = warnings(&[pair[0], pair[1], flag], &[]);
        let name = flag.split('=').next().unwrap();
        assert!(found.len() == 1 && found[0].starts_with(&format!("{name}: ")), "{found:?}");
    }
    let found = refused(&[pair[0], pair[1], "--min_tls_version=1.3"]);
    assert!(found.starts_with("error: --min_tls_version: TLS 1.2 is always spoken"), "{found}");
}

#[test]
fn certificates_come_in_pairs() {
    let found = refused(&["--tls_cert_file=/c"]);
    assert!(found.contains("--tls_cert_file: needs tls_key_file beside it"), "{found}");
}

#[test]
fn an_option_of_a_group_counts_beside_the_one_that_turns_it_on() {
    assert_eq!(warnings(&[], &[("AWS_PROFILE", "work")]), Vec::<String>::new());
    let found = refused(&["--s3.bucket=b", "--s3.endpoint=e", "--s3.bucket_lookup_type=auto"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("--s3.endpoint: is not supported, as s3.bucket is not"), "{found}");
}
