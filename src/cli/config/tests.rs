//! Goal: `check` says all that `serve` would say, and `show` says why a key has its value.

use std::io::Write as _;
use std::path::Path;

use clap::Parser as _;
use serde_json::Value;

use super::{ConfigCommand, check, show};
use nativelink_config::units::{show_duration, show_size};

use crate::cli::problems::Problems;
use crate::cli::{Arguments, Command, config_file};
use crate::grpc::GrpcOptions;
use crate::store::filesystem::{Cap, FilesystemOptions};

const GOOD: &str = "{
  stores: [
    { name: 'A', filesystem: { content_path: '${ROOT}/a', lease_s: 90 } },
    { name: 'B', filesystem: { content_path: '/srv/b', max_blob_bytes: '1MiB' } },
  ],
  servers: [{
    listener: { http: { socket_address: '127.0.0.1:0' } },
    services: { cas: { '': { cas_store: 'A' } }, ac: [{ ac_store: 'B' }] },
  }],
}
";

/// The same without what only Castellan knows.
fn plain() -> String {
    GOOD.replace(", lease_s: 90", "").replace(", max_blob_bytes: '1MiB'", "")
}

fn env(name: &str) -> Option<String> {
    (name == "ROOT").then(|| "/srv".to_owned())
}

fn with_file(text: &str, look: impl Fn(&Path)) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    look(file.path());
}

fn checked(path: &Path) -> String {
    let file = path.display().to_string();
    check::text(&check::findings(path, &env)).replace(&file, "FILE")
}

/// What `show` prints with these flags.
fn shown(path: &Path, flags: &[&str]) -> String {
    let file = path.to_str().unwrap();
    let all = ["castellan", "config", "show", file].into_iter().chain(flags.iter().copied());
    let Command::Config(arguments) = Arguments::try_parse_from(all).unwrap().command else {
        panic!()
    };
    let ConfigCommand::Show(arguments) = &arguments.command else { panic!() };
    let settings = config_file::settings(path, &env).unwrap();
    show::text(&settings, arguments, &mut Problems::default()).replace(file, "FILE")
}

#[test]
fn a_good_file_has_warnings_at_most() {
    with_file(&plain(), |path| {
        let expected = "FILE:8:22: warning: servers[0].services.cas: this form is old; write an \
                        array, [{ instance_name: \"...\", ... }]\n";
        assert_eq!(checked(path), expected);
    });
}

#[test]
fn mistakes_and_what_does_not_run_are_errors() {
    let text = GOOD.replace("lease_s", "leases").replace("'A' }", "'C' }");
    with_file(&text, |path| {
        let found = checked(path);
        let unknown = "FILE:3:59: stores[0].filesystem.leases: unknown key; did you mean";
        assert!(found.starts_with(unknown), "{found}");
        assert!(found.contains("there is no store named \"C\""), "{found}");
    });
    with_file(
        &GOOD.replace("  servers", "  schedulers: [{ name: 'S', simple: {} }], servers"),
        |path| {
            let found = checked(path);
            assert!(
                found.starts_with("FILE:6:3: schedulers: not supported by this version"),
                "{found}"
            );
            assert!(found.contains("FILE:8:22: warning: servers[0].services.cas: "), "{found}");
        },
    );
}

#[test]
fn what_only_serve_would_notice_is_noticed() {
    let small = "/srv/b', eviction_policy: { max_bytes: 1 }";
    with_file(&plain().replace("/srv/b'", small), |path| {
        let found = checked(path);
        assert!(found.starts_with("FILE:4:46: stores[1].filesystem.content_path: "), "{found}");
        assert!(found.contains("max_bytes 1 bytes are below the least"), "{found}");
    });
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_without_a_place() {
    let found = check::findings(Path::new("/nonexistent.json5"), &env);
    assert!(check::text(&found).starts_with("/nonexistent.json5: "), "{found:?}");
    let json: Vec<Value> = found.iter().map(check::Finding::json).collect();
    assert_eq!(json[0]["severity"], "error");
    assert_eq!(json[0]["file"], "/nonexistent.json5");
    assert_eq!(json[0].get("line"), None);
}

#[test]
fn findings_in_json_have_their_place_and_severity() {
    with_file(&GOOD.replace("lease_s: 90", "lease_s: '8 days'"), |path| {
        let found: Vec<Value> =
            check::findings(path, &env).iter().map(check::Finding::json).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0]["line"], &found[0]["column"]), (&3.into(), &68.into()));
        assert_eq!(found[0]["path"], "stores[0].filesystem.lease_s");
        assert_eq!(found[0]["severity"], "error");
        assert!(found[0]["message"].as_str().unwrap().contains("from 1s to 7 days"), "{found:?}");
    });
}

#[test]
fn every_key_is_shown_with_its_value_and_where_that_comes_from() {
    with_file(GOOD, |path| {
        let text = shown(path, &["--durability", "group", "--lease=2h"]);
        for line in [
            "stores[0].filesystem.content_path = \"/srv/a\"  # FILE:3:46, environment\n",
            "stores[0].filesystem.lease_s = 1m30s  # FILE:3:68\n",
            "stores[0].filesystem.durability = \"group\"  # --durability\n",
            "stores[0].filesystem.verify_on_read = \"first\"  # default\n",
            "stores[1].filesystem.lease_s = 2h  # --lease\n",
            "stores[1].filesystem.max_blob_bytes = 1MiB  # FILE:4:72\n",
            "servers[0].services.cas[\"\"].cas_store = \"A\"  # FILE:8:41\n",
            "servers[0].services.health = none  # default\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    });
}

#[test]
fn json_has_the_same_with_numbers_as_numbers() {
    with_file(GOOD, |path| {
        let text = shown(path, &["--json", "--lease=2h"]);
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        let of = |path: &str| all.iter().find(|it| it["path"] == path).unwrap().clone();
        let blob = of("stores[1].filesystem.max_blob_bytes");
        assert_eq!((&blob["value"], &blob["source"]), (&(1 << 20).into(), &"file".into()));
        assert_eq!((&blob["line"], &blob["column"]), (&4.into(), &72.into()));
        let lease = of("stores[1].filesystem.lease_s");
        assert_eq!((&lease["source"], &lease["flag"]), (&"flag".into(), &"--lease".into()));
        assert_eq!(of("stores[0].filesystem.content_path")["source"], "environment");
        let health = of("servers[0].services.health");
        assert_eq!((&health["value"], &health["words"]), (&Value::Null, &"none".into()));
    });
}

#[test]
fn defaults_that_are_shown_are_those_of_the_server() {
    let options = GrpcOptions::default();
    let timeout = show_duration(options.parked_upload_ttl);
    let size = show_size(options.max_decoding_message_size_bytes);
    let services = "services: { bytestream: [{ cas_store: 'A' }], cas";
    with_file(&GOOD.replace("services: { cas", services), |path| {
        let text = shown(path, &[]);
        let stream = "servers[0].services.bytestream[0].persist_stream_on_disconnect_timeout_s";
        assert!(text.contains(&format!("{stream} = {timeout}  # default\n")), "{text}");
        let listener = "servers[0].listener.http.max_decoding_message_size";
        assert!(text.contains(&format!("{listener} = {size}  # default\n")), "{text}");
    });
}

#[test]
fn defaults_that_are_shown_are_those_of_the_store() {
    let store = FilesystemOptions::new("/srv/a", Cap::Bytes(1 << 30));
    let said = format!(
        "--lease={:?} --sync-interval={:?} --snapshot-interval={:?} --scrub-rate={} --min-free={} \
         --on-lease-pressure=break --durability=async --verify-on-read=first",
        store.lease,
        store.sync_interval,
        store.snapshot_interval,
        store.scrub_bytes_per_second,
        store.min_free_bytes,
    );
    with_file(GOOD, |path| {
        let values = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
        };
        let said: Vec<&str> = said.split(' ').collect();
        assert_eq!(values(&shown(path, &said)), values(&shown(path, &[])));
    });
}
