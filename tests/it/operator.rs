//! What an operator of a running server sees and can do: the page and its numbers, the admin API,
//! and the commands that ask it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::messages::{GetActionResultRequest, UpdateActionResultRequest};
use castellan_proto::v2;
use prost::Message as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::parts;
use crate::support::wait::{committed_reaches, eventually};
use crate::support::{Blob, Client, Process, get, output_file};

/// A server under 64 MiB with more flags.
fn serve(root: &Path, flags: &[&str]) -> Process {
    Process::serve(root, &[&["--max-size", "64MiB", "--log", "warn"], flags].concat())
}

/// Runs a command about the server in a directory.
fn run(command: &str, root: &Path, arguments: &[&str]) -> Output {
    let mut process = Process::command(&[command, "--dir", root.to_str().unwrap()]);
    process.args(arguments).output().unwrap()
}

/// The same, for one that answers with a JSON object.
#[track_caller]
fn ask(command: &str, root: &Path, arguments: &[&str]) -> Value {
    let output = run(command, root, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A document of the page.
#[track_caller]
fn fetch(process: &Process, path: &str) -> Value {
    let (status, body) = get(&process.http, path);
    assert_eq!(status, "HTTP/1.1 200 OK", "{path}");
    serde_json::from_str(&body).unwrap()
}

/// The result of an action in an instance: one output, stored before.
struct Stored {
    instance: &'static str,
    action: Blob,
    output: Blob,
}

impl Stored {
    async fn store(client: &Client, instance: &'static str, seed: u64) -> Self {
        let action = Blob::new(format!("action {seed} of {instance}"));
        let output = Blob::random(seed, 10_000);
        client.put(&output).await.unwrap();
        let named = v2::ActionResult {
            output_files: vec![output_file("out", &output)],
            ..v2::ActionResult::default()
        };
        let request = UpdateActionResultRequest {
            instance_name: instance.to_owned(),
            action_digest: Some(action.wire()),
            action_result: Some(named.encode_to_vec().into()),
            ..UpdateActionResultRequest::default()
        };
        let mut results = ActionCacheClient::new(client.channel());
        results.update_action_result(request).await.unwrap();
        Self { instance, action, output }
    }

    async fn is_hit(&self, client: &Client) -> bool {
        let request = GetActionResultRequest {
            instance_name: self.instance.to_owned(),
            action_digest: Some(self.action.wire()),
            ..GetActionResultRequest::default()
        };
        ActionCacheClient::new(client.channel()).get_action_result(request).await.is_ok()
    }
}

/// `hash/size`, as clients print it.
fn name(blob: &Blob) -> String {
    format!("{}/{}", blob.digest.hash_hex().as_str(), blob.digest.size_bytes)
}

#[tokio::test]
async fn the_status_says_what_is_there_and_what_was_hit() {
    let directory = tempfile::tempdir().unwrap();
    let process = serve(directory.path(), &[]);
    let client = Client::connect(&process.grpc).await;
    let result = Stored::store(&client, "main", 1).await;
    assert!(result.is_hit(&client).await && result.is_hit(&client).await);
    let (action, output) = (Blob::new("other"), result.output.clone());
    let absent = Stored { action, output, ..result };
    assert!(!absent.is_hit(&client).await);
    let status = fetch(&process, "/status");
    let store = &status["stores"][0];
    assert_eq!((&status["state"], &store["max_bytes"]), (&json!("serving"), &json!(64 << 20)));
    assert_eq!(
        (&store["blobs"]["entries"], &store["action_results"]["entries"]),
        (&json!(1), &json!(1))
    );
    let number = |name: &str| store[name].as_u64().unwrap();
    let parts = ["live_bytes", "reserved_bytes", "dying_bytes", "overhead_bytes", "unread_bytes"];
    assert_eq!(parts.map(number).iter().sum::<u64>(), number("used_bytes"));
    let live = &store["by_age"][0];
    assert_eq!((&live["under_seconds"], &live["entries"]), (&json!(3600), &json!(2)));
    assert_eq!(store["largest"][0]["hash"], result.output.digest.hash_hex().as_str());
    let hits = &status["hits"]["last_10_minutes"]["action_cache"];
    assert_eq!(*hits, json!({ "hits": 2, "misses": 1, "ratio": 0.6667 }));
    assert_eq!(status["instances"][0]["name"], "main");
    assert_eq!(ask("stats", directory.path(), &[])["stores"][0]["name"], store["name"]);
    let table = run("stats", directory.path(), &[]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("66.7 %") && text.contains(" of 64.0 MiB, "), "{text}");
    assert!(!text.contains('\u{1b}'), "no colors in a file: {text}");
    let history = fetch(&process, "/status/history");
    let columns = history["hour"].as_object().unwrap();
    let lengths = columns.values().filter_map(Value::as_array).map(Vec::len);
    assert!(lengths.clone().all(|it| Some(it) == lengths.clone().next()), "{history}");
}

#[tokio::test]
async fn names_from_clients_stay_data() {
    let directory = tempfile::tempdir().unwrap();
    let process = serve(directory.path(), &[]);
    let client = Client::connect(&process.grpc).await;
    let evil = "<script>alert('x')<";
    Stored::store(&client, evil, 1).await;
    let status = fetch(&process, "/status");
    assert_eq!(
        status["instances"].as_array().unwrap().iter().filter(|it| it["name"] == evil).count(),
        1
    );
    let (_, page) = get(&process.http, "/");
    assert!(page.starts_with("<!doctype html>") && !page.contains("alert"), "{page}");
}

#[tokio::test]
async fn the_page_the_command_and_the_directory_give_the_same_answer() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = serve(root, &[]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 1000);
    client.put(&blob).await.unwrap();
    let path = format!("/status/why?digest={}", name(&blob).replace('/', "%2F"));
    let online = ask("why", root, &[&name(&blob)]);
    assert_eq!(online["status"], "present");
    assert!(online["files"][0]["unused_seconds"].is_u64(), "the server knows: {online}");
    let offline = ask("why", root, &["--offline", &name(&blob)]);
    assert!(offline["files"][0]["unused_seconds"].is_null(), "nobody was asked: {offline}");
    let purged = ask("purge", root, &["--yes", "--digest", &name(&blob)]);
    assert_eq!(purged, json!({ "dry_run": false, "removed": 1, "is_drained": true }));
    for answer in [fetch(&process, &path), ask("why", root, &[&name(&blob)])] {
        assert_eq!(answer["status"], "removed", "{answer}");
        assert_eq!(answer["removals"][0]["reason"], "purged", "{answer}");
    }
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
    let alone = ask("why", root, &[&name(&blob)]);
    assert_eq!(alone["removals"][0]["reason"], "purged", "{alone}");
}

#[tokio::test]
async fn i16_each_purge_takes_what_it_says_and_a_look_takes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = serve(root, &[]);
    let client = Client::connect(&process.grpc).await;
    let mut results = Vec::new();
    for (seed, instance) in [(1, "one"), (2, "two"), (3, "")] {
        results.push(Stored::store(&client, instance, seed).await);
    }
    let looked =
        |flags: &[&str]| ask("purge", root, &[flags, &["--dry-run"]].concat())["entries"].clone();
    let purged =
        |flags: &[&str]| ask("purge", root, &[flags, &["--yes"]].concat())["removed"].clone();
    let old = ["--results-older-than", "1h"];
    let now = ["--results-older-than", "0", "--instance", "two"];
    for (flags, entries) in [
        (&["--all"][..], 6),
        (&["--instance", "one"], 1),
        (&["--instance", "none"], 0),
        (&["--digest", &name(&results[2].output)], 1),
        (&old, 0),
        (&now, 1),
    ] {
        assert_eq!(looked(flags), entries, "{flags:?}");
    }
    for result in &results {
        assert!(result.is_hit(&client).await, "{:?} is only looked at", result.instance);
    }
    assert_eq!(purged(&["--instance", "one"]), 1);
    assert!(!results[0].is_hit(&client).await && !client.is_missing(&results[0].output).await);
    assert_eq!(purged(&now), 1);
    assert!(!results[1].is_hit(&client).await && results[2].is_hit(&client).await);
    assert_eq!(purged(&["--digest", results[2].output.digest.hash_hex().as_str()]), 1);
    assert!(!results[2].is_hit(&client).await && client.is_missing(&results[2].output).await);
    assert!(purged(&["--all"]).as_u64().unwrap() >= 2);
    assert!(client.is_missing(&results[0].output).await);
    let text = String::from_utf8(run("purge", root, &["--all", "--dry-run"]).stdout).unwrap();
    assert_eq!(text, "would remove: 0 entries, 0 B\n");
}

#[tokio::test]
async fn the_socket_is_its_users_and_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let socket = root.join("admin.sock");
    let process = serve(root, &[]);
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    process.kill();
    assert!(socket.exists());
    let process = serve(root, &[]);
    assert_eq!(ask("stats", root, &[])["state"], "serving", "a stale one is replaced");
    assert_eq!(ask("stats", root, &[])["stores"][0]["trouble"]["foreign_files"], 0);
    assert_eq!(process.stop().await.code(), Some(0));
    assert!(!socket.exists());
    let process = serve(root, &["--admin-listen", "off"]);
    assert!(!socket.exists());
    let output = run("stats", root, &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("error: no server answers on unix:"), "{errors}");
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn the_operator_is_answered_while_the_server_drains() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = serve(root, &[]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 1 << 20);
    let upload = client.open_write();
    let written = blob.write_name();
    for message in parts(&written, &blob.data, 0..1000, 1000) {
        upload.send(message).await;
    }
    committed_reaches(&client, &written, 1000).await;
    assert_eq!(get(&process.http, "/readyz").0, "HTTP/1.1 200 OK");
    process.signal(Signal::TERM);
    eventually("the server drains", || {
        let output = run("stats", root, &["--json"]);
        let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        std::future::ready(status.is_some_and(|status| status["state"] == "draining"))
    })
    .await;
    assert!(get(&process.http, "/readyz").0.contains(" 503 "));
    assert_eq!(get(&process.http, "/livez").0, "HTTP/1.1 200 OK");
    upload.reset();
    drop(client);
    assert_eq!(process.end().await.code(), Some(0));
}

#[test]
fn commands_without_an_answer_have_their_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (command, arguments, code, error) in [
        ("stats", &[][..], 1, "error: no server answers on unix:"),
        ("stats", &["--admin", "nowhere"], 64, "error: --admin: "),
        ("stats", &["--watch", "0"], 64, "error: invalid value '0'"),
        ("purge", &["--all"], 64, "error: --yes: "),
        ("purge", &["--all", "--yes"], 1, "error: no server answers on unix:"),
        ("purge", &["--dry-run"], 64, "error: "),
        ("purge", &["--digest", "abc", "--yes"], 64, "error: --digest: "),
        ("purge", &["--results-older-than", "7", "--yes"], 64, "error: --results-older-than: "),
        ("why", &["--admin", "unix:/nonexistent.sock", &"a".repeat(64)], 1, "error: no server"),
    ] {
        let output = run(command, root, arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command} {arguments:?}: {errors}");
        assert!(errors.starts_with(error), "{command} {arguments:?}: {errors}");
        assert!(output.stdout.is_empty());
    }
}
