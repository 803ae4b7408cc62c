//! Flags: how they are read, and that every problem is found at once.

use std::io::Write as _;
use std::time::Duration;

use clap::Parser as _;

use super::{Arguments, Command, format, serve, stats, why};
use crate::operator::explanation_json;
use crate::server::{StoreKind, StoreSettings};
use crate::store::filesystem::{
    Cap, Durability, Explanation, FilesystemOptions, LeasePolicy, SetAside, VerifyOnRead, Wanted,
};

fn arguments(flags: &[&str]) -> Result<Box<serve::ServeArguments>, clap::Error> {
    let all = ["castellan", "serve"].into_iter().chain(flags.iter().copied());
    match Arguments::try_parse_from(all)?.command {
        Command::Serve(arguments) => Ok(arguments),
        other => panic!("{other:?}"),
    }
}

fn env(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/somebody".to_owned())
}

fn problems(flags: &[&str]) -> String {
    serve::problems_of(&arguments(flags).unwrap(), &env)
}

/// The one store that `serve` would open.
fn store(flags: &[&str]) -> FilesystemOptions {
    let mut stores = serve::stores_of(&arguments(flags).unwrap(), &env);
    assert_eq!(stores.len(), 1);
    filesystem(stores.remove(0))
}

fn filesystem(store: StoreSettings) -> FilesystemOptions {
    let StoreKind::Filesystem(options) = store.kind else { panic!("{store:?}") };
    options
}

#[test]
fn defaults_are_enough() {
    assert_eq!(problems(&[]), "");
    assert_eq!(problems(&["--max-size", "80%", "--grpc-listen", ":0"]), "");
    assert_eq!(problems(&["--http-listen", "localhost:0", "--log", "castellan=debug,warn"]), "");
}

#[test]
fn every_problem_is_listed_not_the_first() {
    let found = problems(&[
        "--max-size",
        "ten",
        "--max-blob-size=-1",
        "--grpc-listen",
        "nowhere",
        "--http-listen",
        "127.0.0.1:99999",
        "--drain-timeout",
        "soon",
        "--log",
        "a=b=c",
    ]);
    for flag in [
        "--max-size",
        "--max-blob-size",
        "--grpc-listen",
        "--http-listen",
        "--drain-timeout",
        "--log",
    ] {
        assert!(found.contains(&format!("error: {flag}: ")), "{flag} in {found}");
    }
    assert_eq!(found.lines().count(), 6, "{found}");
}

#[test]
fn values_that_could_not_work_are_refused() {
    for (flag, value) in
        [("--max-size", "64KiB"), ("--max-size", "0"), ("--max-blob-size", "0"), ("--log", " ")]
    {
        let found = problems(&[flag, value]);
        assert!(found.starts_with(&format!("error: {flag}: ")), "{flag} {value}: {found}");
    }
}

#[test]
fn without_a_home_the_directory_must_be_named() {
    let found = serve::problems_of(&arguments(&[]).unwrap(), &|_| None);
    assert!(found.starts_with("error: --dir: "), "{found}");
    let arguments = arguments(&["--dir", "/srv/castellan"]).unwrap();
    assert_eq!(serve::problems_of(&arguments, &|_| None), "");
}

#[test]
fn a_flag_beside_a_file_that_says_the_same_is_a_problem() {
    let found = problems(&["/nonexistent.json5", "--dir", "/srv/castellan", "--max-size", "1GiB"]);
    assert!(found.contains("--dir: the configuration file says this"), "{found}");
    assert!(found.contains("--max-size: the configuration file says this"), "{found}");
    assert!(found.contains("/nonexistent.json5: "), "{found}");
}

#[test]
fn unknown_flags_are_refused() {
    assert!(arguments(&["--max-sise", "1GiB"]).is_err());
    assert!(arguments(&["one.json5", "two.json5"]).is_err());
}

#[test]
fn store_flags_reach_the_store() {
    let store = store(&[
        "--min-free=1GiB",
        "--max-entries=5",
        "--max-age=1500ms",
        "--lease=3h",
        "--on-lease-pressure=refuse",
        "--durability=group",
        "--sync-interval=50ms",
        "--verify-on-read=always",
        "--scrub-rate=0",
        "--snapshot-interval=1min",
    ]);
    assert_eq!((store.min_free_bytes, store.max_entries), (1 << 30, Some(5)));
    assert_eq!(store.max_age, Some(Duration::from_secs(2)), "never too early");
    assert_eq!(store.lease, Duration::from_hours(3));
    assert_eq!(store.lease_policy, LeasePolicy::RefuseWrites);
    assert_eq!(store.durability, Durability::Group);
    assert_eq!(store.sync_interval, Duration::from_millis(50));
    assert_eq!(store.verify_on_read, VerifyOnRead::Always);
    assert_eq!(store.scrub_bytes_per_second, 0);
    assert_eq!(store.snapshot_interval, Duration::from_mins(1));
}

#[test]
fn without_store_flags_the_store_has_its_defaults() {
    let expected = FilesystemOptions {
        set_aside: Some(SetAside::Percent(10)),
        ..FilesystemOptions::new("/home/somebody/.cache/castellan", Cap::Bytes(1 << 30))
    };
    assert_eq!(format!("{:?}", store(&["--max-size=1GiB"])), format!("{expected:?}"));
    assert_eq!(store(&["--lease=0"]).lease, Duration::ZERO);
}

#[test]
fn values_take_their_part_of_the_cap() {
    for (flags, set_aside, max_value_bytes) in [
        (&[][..], Some(SetAside::Percent(10)), Some(1 << 30)),
        (&["--values-max-size=25%"], Some(SetAside::Percent(25)), Some(1 << 30)),
        (&["--values-max-size=64MiB"], Some(SetAside::Bytes(64 << 20)), Some(1 << 30)),
        (&["--values-max-value-size=5MiB"], Some(SetAside::Percent(10)), Some(5 << 20)),
        (&["--values-max-size=0"], None, None),
    ] {
        let flags = [&["--max-size=1GiB"], flags].concat();
        assert_eq!(store(&flags).set_aside, set_aside, "{flags:?}");
        let values = serve::values_of(&arguments(&flags).unwrap(), &env);
        assert_eq!(values.map(|it| it.max_value_bytes), max_value_bytes, "{flags:?}");
    }
}

#[test]
fn values_that_could_not_be_kept_are_refused() {
    for (flag, value) in [
        ("--values-max-size", "lots"),
        ("--values-max-size", "100%"),
        ("--values-max-size", "1MiB"),
        ("--values-max-size", "1GiB"),
        ("--values-max-value-size", "0"),
        ("--values-max-value-size", "4GiB"),
        ("--values-max-value-size", "big"),
    ] {
        let found = problems(&["--max-size=1GiB", flag, value]);
        assert!(found.starts_with(&format!("error: {flag}: ")), "{flag} {value}: {found}");
        let found = problems(&["/nonexistent.json5", flag, value]);
        assert!(found.contains(&format!("error: {flag}: with a configuration file")), "{found}");
    }
}

#[test]
fn store_flags_that_make_no_sense_are_refused_all_at_once() {
    let wrong = [
        ("--min-free", ["lots", "80%"]),
        ("--max-entries", ["0", "-1"]),
        ("--max-age", ["0", "500ms"]),
        ("--lease", ["8 days", "10ms"]),
        ("--on-lease-pressure", ["Break", ""]),
        ("--durability", ["sync", "group,fsync"]),
        ("--sync-interval", ["0", "2h"]),
        ("--verify-on-read", ["sometimes", "yes"]),
        ("--scrub-rate", ["fast", "-1"]),
        ("--snapshot-interval", ["0", "2 days"]),
    ];
    for which in [0, 1] {
        let flags: Vec<String> =
            wrong.iter().map(|(flag, values)| format!("{flag}={}", values[which])).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let found = problems(&flags);
        for (flag, values) in wrong {
            assert!(found.contains(&format!("error: {flag}: ")), "{flag} {values:?} in {found}");
        }
        assert_eq!(found.lines().count(), wrong.len(), "{found}");
    }
}

/// One store with this policy in its third line, served with these flags.
fn with_policy(policy: &str, flags: &[&str], look: impl Fn(&str, &serve::ServeArguments)) {
    let text = format!(
        "{{\n  stores: [\n    {{ name: 'A', filesystem: {{ content_path: '/srv/a', \
         eviction_policy: {{ {policy} }} }} }},\n    {{ name: 'B', filesystem: \
         {{ content_path: '/srv/b' }} }},\n  ],\n  servers: [{{\n    \
         listener: {{ http: {{ socket_address: '127.0.0.1:0' }} }},\n    services: {{\n      \
         cas: [{{ instance_name: '', cas_store: 'A' }}],\n      \
         ac: [{{ instance_name: '', ac_store: 'B' }}],\n    }},\n  }}],\n}}\n"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    look(path, &arguments(&[&[path], flags].concat()).unwrap());
}

#[test]
fn an_eviction_policy_reaches_the_store() {
    for (policy, max_age, max_entries, low_water_bytes) in [
        ("max_bytes: '1gib'", None, None, None),
        ("max_bytes: '1gib', max_seconds: 0, max_count: 0, evict_bytes: 0", None, None, None),
        ("max_bytes: '1gib', max_seconds: 90", Some(90), None, None),
        ("max_bytes: '1gib', max_seconds: '500ms', max_count: 7", Some(1), Some(7), None),
        ("max_bytes: '1gib', evict_bytes: '1mib'", None, None, Some(1 << 20)),
    ] {
        with_policy(policy, &["--lease", "1h"], |_, arguments| {
            let store = filesystem(serve::stores_of(arguments, &env).remove(0));
            assert_eq!(store.cap, Cap::Bytes(1 << 30));
            assert_eq!(store.max_age, max_age.map(Duration::from_secs), "{policy}");
            assert_eq!((store.max_entries, store.low_water_bytes), (max_entries, low_water_bytes));
            assert_eq!(store.lease, Duration::from_hours(1), "what the file does not say");
        });
    }
}

#[test]
fn what_is_wrong_with_an_eviction_policy_is_reported_with_its_place() {
    let policy = "max_bytes: '64kib', evict_bytes: '64kib'";
    with_policy(policy, &["--max-age", "1h", "--max-entries", "1"], |path, arguments| {
        let found = serve::problems_of(arguments, &env);
        let place = "stores[0].filesystem.content_path";
        let at = format!("error: {path}:3:46: {place}: eviction_policy.");
        assert!(found.contains(&format!("{at}max_bytes 65536 bytes are below")), "{found}");
        assert!(found.contains(&format!("{at}evict_bytes is not below max_bytes")), "{found}");
        for flag in ["--max-age", "--max-entries"] {
            let text = format!("error: {flag}: the configuration file says this");
            assert!(found.contains(&text), "{found}");
        }
    });
}

#[test]
fn numbers_and_spans_are_for_people() {
    for (seconds, text) in
        [(0, "0s"), (59, "59s"), (61, "1min 1s"), (3661, "1h 1min"), (90_000, "1d 1h")]
    {
        assert_eq!(format::span(seconds), text);
    }
    for (bytes, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (1_610_612_736, "1.5 GiB"),
        (u64::MAX, "16384.0 PiB"),
    ] {
        assert_eq!(format::bytes(bytes), text);
    }
    assert_eq!(format::percent(0.87654), "87.7 %");
    assert_eq!(format::printable("a\u{1b}[2Jb\n"), "a?[2Jb?");
}

#[test]
fn the_admin_address_is_a_socket_a_port_or_off() {
    assert_eq!(problems(&["--admin-listen", "off"]), "");
    assert_eq!(problems(&["--admin-listen", "unix:/run/castellan.sock"]), "");
    assert_eq!(problems(&["--admin-listen", "127.0.0.1:0"]), "");
    for wrong in ["unix:", "on", "/run/castellan.sock", "127.0.0.1:99999"] {
        let found = problems(&["--admin-listen", wrong]);
        assert!(found.starts_with("error: --admin-listen: "), "{wrong}: {found}");
    }
}

#[test]
fn a_purge_must_say_what_and_one_thing_only() {
    let parse = |flags: &[&str]| {
        let all = ["castellan", "purge"].into_iter().chain(flags.iter().copied());
        Arguments::try_parse_from(all).is_ok()
    };
    assert!(parse(&["--all"]) && parse(&["--instance", ""]));
    assert!(parse(&["--results-older-than", "7 days", "--instance", "main"]));
    assert!(!parse(&[]) && !parse(&["--dry-run"]) && !parse(&["--all", "--instance", "main"]));
    assert!(!parse(&["--digest", "abc", "--all"]) && !parse(&["--digest", "a", "--instance", "b"]));
}

#[test]
fn stats_are_a_table_without_colors_where_there_is_no_terminal() {
    let status = serde_json::json!({
        "version": "1.2.3", "state": "draining", "uptime_seconds": 61, "now": 100,
        "stores": [{
            "name": "/srv/x", "max_bytes": 1 << 30, "limit_bytes": 1 << 29, "used_bytes": 1 << 28,
            "fill_ratio": 0.25, "blobs": { "entries": 12, "charged_bytes": 1 << 20 },
            "removals": { "evicted": 3, "purged": 0 }, "oldest_unused_seconds": 3661,
            "predicted_hit_ratios": [{ "factor": 0.25, "bytes": 1 << 28, "ratio": 0.5 }],
        }],
        "hits": { "last_hour": { "action_cache": { "ratio": 0.875 } } },
        "tools": [{ "name": "\u{1b}]0;x", "requests": 7 }],
        "errors": [{ "at": 40, "level": "WARN", "message": "disk", "fields": "" }],
    });
    let text = stats::table(&status, format::Style::PLAIN);
    for part in [
        "castellan 1.2.3, draining, up 1min 1s",
        "256.0 MiB of 1.0 GiB, 25.0 % full",
        "the disk allows 512.0 MiB at present",
        "  blobs                1.0 MiB  12\n",
        "the next to go was last used 1h 1min ago",
        "  evicted  3\n",
        "  256.0 MiB  50.0 %\n",
        "last hour",
        "87.5 %",
        "?]0;x",
        "WARN 1min 0s ago: disk",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains("purged"), "{text}");
}

#[test]
fn what_is_not_known_is_said_to_be_so() {
    let wanted = Wanted::parse(&"a".repeat(64)).unwrap();
    let explanation =
        Explanation { files: Vec::new(), removals: Vec::new(), remembered: 12, looked_at: 0 };
    let answer = explanation_json(&wanted, &[(None, explanation)]);
    let text = "not known: never stored, or removed longer ago than the log remembers (12 records)";
    assert_eq!(why::text(&answer).trim_end(), text);
    let json = "{\"status\":\"unknown\",\"files\":[],\"removals\":[],\"remembered\":12}";
    assert_eq!(answer.to_string(), json);
}

#[test]
fn workers_need_an_address_and_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let good = ["--worker-root", root, "--worker-listen"];
    // Neither there yet, nor named as it is.
    let below = format!("{root}/../{}/not/there", directory.path().file_name().unwrap().display());
    let worker = |flags: &[&str]| serve::worker_of(&arguments(flags).unwrap(), &env);
    assert!(worker(&[]).is_none());
    let both = [&good[..], &["unix:/run/w.sock,127.0.0.1:0", "--worker-listen", ":7"]].concat();
    let settings = worker(&both).unwrap();
    let addresses: Vec<_> = settings.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["unix:/run/w.sock", "127.0.0.1:0", "0.0.0.0:7"]);
    assert_eq!(settings.root, directory.path());
    assert_eq!((settings.socket_mode, settings.socket_group), (0o600, None));
    let shared = ["--worker-socket-mode", "0660", "--worker-socket-group", "7"];
    let settings = worker(&[&both[..], &shared].concat()).unwrap();
    assert_eq!((settings.socket_mode, settings.socket_group), (0o660, Some(7)));
    for (flags, problem) in [
        (&["--worker-listen", "unix:/run/w.sock"][..], "--worker-root must say"),
        (&["--worker-root", root], "without --worker-listen"),
        (&[good[0], good[1], good[2], "nowhere"], "error: --worker-listen: "),
        (&[good[0], "/dev/null", good[2], ":7"], "/dev/null is no directory"),
        (&[good[0], root, good[2], ":7", "--worker-socket-mode", "rw"], "--worker-socket-mode: "),
        (&[good[0], root, good[2], ":7", "--worker-socket-mode", "4755"], "is no octal mode"),
        (&[good[0], root, good[2], ":7", "--dir", root], "is the directory of a store"),
        (&[good[0], &below, good[2], ":7", "--dir", root], "is inside of the directory of"),
        (&[good[0], root, good[2], ":7", "--dir", &below], "is around the directory of"),
        (&[good[0], "/", good[2], ":7"], "is around the directory of"),
    ] {
        let found = problems(flags);
        assert!(found.contains(problem) && found.lines().count() == 1, "{flags:?}: {found}");
    }
}
