//! Goal: files mean what they mean to bazel-remote, and hostile ones are refused with a place.

use std::io::Write as _;

use proptest::prelude::*;

use super::super::file::entries;
use super::{files, grpc_address, planned};
use crate::cli::problems::Problems;
use crate::server::ServerSettings;
use crate::store::filesystem::Cap;

const FULL: &str = "\
# Of a machine that has been running for years.
dir: /srv/cache
max_size: 0x10
max_size_hard_limit: -1
host: 127.0.0.1
port: 81
grpc_port: 82
storage_mode: \"zstd\"
http_read_timeout: 0s
max_blob_size: 1_000
disable_http_ac_validation: yes
s3_proxy:
ldap: ~
endpoint_metrics_duration_buckets: [.5, 1, 2.5]
";

/// What would be served of a file, and the warnings; or the problems, the file called FILE.
fn of_file(text: &str, flags: &[&str]) -> Result<(ServerSettings, Vec<String>), String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let flags: Vec<&str> =
        ["--config_file", path].into_iter().chain(flags.iter().copied()).collect();
    let name = |text: String| text.replace(path, "FILE");
    let planned = planned(&flags, &[("BAZEL_REMOTE_HOST", "10.0.0.1")]);
    planned.map(|(settings, notes)| (settings, notes.into_iter().map(name).collect())).map_err(name)
}

fn problems(text: &str) -> String {
    of_file(text, &[]).map(|_| ()).unwrap_err()
}

#[test]
fn a_file_says_everything_and_the_rest_is_ignored() {
    let (settings, notes) = of_file(FULL, &["--port=99", "--s3.bucket=b"]).unwrap();
    let options = files(&settings);
    assert_eq!((options.cap, options.max_blob_bytes), (Cap::Bytes(16 << 30), Some(1000)));
    assert_eq!(settings.http_listen.to_string(), "127.0.0.1:81");
    assert_eq!(grpc_address(&settings), "127.0.0.1:82");
    assert!(settings.http.keeps_raw_results);
    assert_eq!(
        notes,
        [
            "BAZEL_REMOTE_HOST (--host): is ignored beside --config_file",
            "--port: is ignored beside --config_file",
            "--s3.bucket: is ignored beside --config_file",
            "FILE:14:36: endpoint_metrics_duration_buckets: has no effect: the buckets are those \
             of docs/metrics.md",
        ]
    );
}

#[test]
fn a_file_without_grpc_is_served_over_http_alone() {
    let (settings, _) = of_file("dir: /d\nmax_size: 1\n", &[]).unwrap();
    assert!(settings.listeners.is_empty() && settings.http_instances.is_some());
    assert_eq!(settings.http_listen.to_string(), "0.0.0.0:8080");
}

#[test]
fn problems_have_their_places() {
    let found = problems(
        "max_size: none\nhtpasswd_file: /p\ns3_proxy:\n  endpoint: e\n  bucket: b\n\
         grpc_proxy:\n  ca_file: /ca\nmax_sise: 1\nidle_timeout: 45m\nport: 70000\n",
    );
    for expected in [
        "FILE: dir: is required",
        "FILE:1:11: max_size: \"none\" is not a whole number",
        "FILE:2:16: htpasswd_file: is not supported: there are no passwords",
        "FILE:4:13: s3_proxy.endpoint: is not supported, as s3.bucket is not",
        "FILE:5:11: s3_proxy.bucket: is not supported: no object store",
        "FILE: grpc_proxy.url: is required beside its certificates",
        "FILE:8:11: max_sise: bazel-remote has no such option",
        "FILE:9:15: idle_timeout: is not supported: the server does not end",
        "FILE:10:7: port: is not a port",
    ] {
        assert!(found.contains(&format!("error: {expected}")), "{expected} in\n{found}");
    }
}

#[test]
fn what_is_no_configuration_is_refused_with_its_place() {
    let deep = "[".repeat(100_000);
    let many: Vec<String> = (0..2000).map(|number| format!("k{number}: 1")).collect();
    let many = many.join("\n");
    for (text, expected) in [
        ("dir: [unclosed", "FILE:"),
        ("- dir\n", "FILE:1:1: is more than a configuration needs"),
        ("dir", "FILE:1:1: is not a list of options"),
        ("dir: {a: {b: c}}", "FILE:1:10: dir.a: no option is in here"),
        ("dir: &a x", "FILE:1:"),
        ("dir: *a", "FILE:1:"),
        ("dir: !!str x", "FILE:1:"),
        ("? {a: b}\n: c", "FILE:1:3: no option is in here"),
        ("dir: 1\ndir: 2", "FILE:2:1: dir: is there twice"),
        ("a: [[1]]", "FILE:1:5: is more than"),
        (&deep, "FILE:1:"),
        (&format!("a: [{}]", "1,".repeat(5000)), "FILE:1:4: a: the list is too long"),
        (&format!("{}: 1", "k".repeat(200)), "FILE:1:1: no option has so long a name"),
        (&many, "FILE:1001:1: k1000: there are more keys than options"),
    ] {
        let mut found = Problems::default();
        entries("FILE", text, &mut found);
        let found: Vec<String> = found.into_iter().map(|it| it.to_string()).collect();
        let shown: String = text.chars().take(40).collect();
        assert_eq!(found.len(), 1, "{shown}: {found:?}");
        assert!(found[0].starts_with(expected), "{shown}: {found:?}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "[-a-z0-9:,{}\\[\\]'\"|>&*!%@~#? \t\r\n\u{e4}\u{0}]{0,200}") {
        let mut problems = Problems::default();
        let found = entries("FILE", &text, &mut problems);
        prop_assert!(found.len() <= text.len());
    }
}

#[test]
fn only_the_first_document_counts_and_an_empty_one_says_nothing() {
    for (text, number) in [("", 0), ("# nothing\n", 0), ("~\n", 0), ("a: 1\n---\nb: 2\n", 1)] {
        let mut found = Problems::default();
        assert_eq!(entries("FILE", text, &mut found).len(), number, "{text:?}");
        assert!(found.is_empty(), "{text:?}: {found}");
    }
}
