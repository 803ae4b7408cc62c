//! The program itself: flags, environment, configuration, the ready line, signals, exit codes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use tonic::Code;

use crate::support::client::{drain, part, parts, rest, whole};
use crate::support::wait::{committed_reaches, eventually};
use crate::support::{Blob, Client, Process, assert_code, disk, get};

const MIB: usize = 1 << 20;
const FREE_PORTS: [&str; 4] = ["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"];

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
    Process::command(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn write_file(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Waits until a drain has begun: nothing is accepted any more.
async fn nobody_listens(address: &str) {
    let is_refused = || std::future::ready(TcpStream::connect(address).is_err());
    eventually("the listener is closed", is_refused).await;
}

#[tokio::test]
async fn the_ready_line_has_the_real_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Process::command(&["serve", "--dir", directory.path().to_str().unwrap()]);
    command.args(FREE_PORTS).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        line.extend(byte);
    }
    let line = String::from_utf8(line).unwrap();
    let addresses = line.strip_prefix("castellan ready grpc=").unwrap().trim_end();
    let (grpc, http) = addresses.split_once(" http=").unwrap();
    for address in [grpc, http] {
        let address: SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback() && address.port() != 0, "{line}");
        drop(TcpStream::connect(address).unwrap());
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line and nothing else");
}

#[test]
fn help_and_version_exit_0() {
    for (arguments, text) in [
        (["--help"].as_slice(), "serve"),
        (&["serve", "--help"], "--max-size"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(text), "{arguments:?}");
        assert!(output.stderr.is_empty());
    }
}

/// Every problem, before any port: the address is taken, and yet that is not what is reported.
#[test]
fn bad_flags_exit_64_with_every_problem() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let output = run(&[
        "serve",
        "--dir",
        root.to_str().unwrap(),
        "--grpc-listen",
        &taken,
        "--http-listen",
        "nowhere",
        "--max-size",
        "ten",
        "--max-blob-size",
        "lots",
        "--drain-timeout",
        "soon",
        "--log",
        "a=b=c",
    ]);
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty(), "no ready line");
    let text = stderr(&output);
    for flag in ["--http-listen", "--max-size", "--max-blob-size", "--drain-timeout", "--log"] {
        assert!(text.contains(&format!("error: {flag}: ")), "{flag} in {text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(!root.exists(), "nothing was opened");
}

#[test]
fn unknown_flags_and_commands_exit_64() {
    for arguments in [
        &[][..],
        &["serv"],
        &["serve", "--max-sise", "1GiB"],
        &["serve", "one.json5", "two.json5"],
        &["serve", "--dir"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn a_bad_configuration_exits_64_with_file_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.json5");
    let name = path.to_str().unwrap();
    for (text, places) in [
        ("{\n  stores: [\n    {,\n", &["3:"][..]),
        ("{\n  stores: [],\n  servers: [],\n  colour: 1,\n}\n", &["4:3"]),
        (
            "{\n  stores: [{ name: 'A', filesystem: { content_path: 1 } }],\n  servers: 2,\n}\n",
            &["2:", "3:"],
        ),
    ] {
        write_file(&path, text);
        let output = run(&["serve", name, "--http-listen", "127.0.0.1:0"]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(output.stdout.is_empty());
        for place in places {
            assert!(message.contains(&format!("{name}:{place}")), "{place} in {message}");
        }
    }
    let missing = directory.path().join("missing.json5");
    let output = run(&["serve", missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("missing.json5"), "{}", stderr(&output));
}

/// The example of the deployment folder on free ports and a directory of the test.
fn example_configuration(directory: &Path) -> PathBuf {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deployment/examples/filesystem.json5");
    let text = std::fs::read_to_string(example).unwrap();
    let root = directory.join("data");
    let changed = text
        .replace("/var/cache/castellan", root.to_str().unwrap())
        .replace("0.0.0.0:50051", "127.0.0.1:0");
    assert_ne!(text, changed);
    let path = directory.join("filesystem.json5");
    write_file(&path, &changed);
    path
}

#[tokio::test]
async fn a_nativelink_configuration_serves() {
    let directory = tempfile::tempdir().unwrap();
    let path = example_configuration(directory.path());
    let start = || {
        let path = path.to_str().unwrap();
        Process::spawn(Process::command(&["serve", path, "--http-listen", "127.0.0.1:0"]))
    };
    let process = start();
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, MIB);
    let name = format!("main/{}", blob.write_name());
    assert_eq!(client.write(whole(&name, &blob.data)).await.unwrap(), MIB as i64);
    assert_code(client.put(&blob).await, Code::InvalidArgument);
    assert_code(client.capabilities("other").await, Code::InvalidArgument);
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
    assert_eq!(disk::blob_files(&directory.path().join("data/cas")).len(), 1);
    let process = start();
    let client = Client::connect(&process.grpc).await;
    let name = format!("main/{}", blob.read_name());
    assert_eq!(client.read(&name).await.unwrap(), blob.data);
}

/// Starts `serve` with these settings in the environment and these flags.
fn with_environment(environment: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = Process::command(&["serve"]);
    command.envs(environment.iter().copied()).args(flags);
    command
}

#[tokio::test]
async fn every_setting_can_come_from_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    // An address of its own: no other test can take the port meanwhile.
    let port = || TcpListener::bind("127.77.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (grpc, http) = (port(), port());
    let mut environment = vec![
        ("CASTELLAN_DIR", root.to_str().unwrap()),
        ("CASTELLAN_MAX_SIZE", "64MiB"),
        ("CASTELLAN_MAX_BLOB_SIZE", "1MiB"),
        ("CASTELLAN_LEASE", "3h"),
        ("CASTELLAN_GRPC_LISTEN", grpc.as_str()),
        ("CASTELLAN_HTTP_LISTEN", http.as_str()),
        ("CASTELLAN_DRAIN_TIMEOUT", "10ms"),
        ("CASTELLAN_LOG", "off"),
    ];
    let mut command = with_environment(&environment, &[]);
    let log = directory.path().join("log");
    let mut child = {
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        command.spawn().unwrap()
    };
    let listens = || std::future::ready(TcpStream::connect(&grpc).is_ok());
    eventually("it listens where the environment says", listens).await;
    assert_eq!(get(&http, "/livez").0, "HTTP/1.1 200 OK");
    let client = Client::connect(&grpc).await;
    let capabilities = client.capabilities("").await.unwrap();
    assert_eq!(capabilities.max_cas_blob_size_bytes, 1 << 20);
    assert!(root.join("LOCK").exists());
    // A stalled upload outlives this drain timeout.
    let blob = Blob::random(2, 500_000);
    let write = client.open_write();
    write.send(part(&blob.write_name(), &blob.data, 0..1)).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "the log is off");

    // The same through the flag's variable for a file, which then says where the data is.
    let path = example_configuration(directory.path());
    environment.retain(|(name, _)| *name == "CASTELLAN_HTTP_LISTEN");
    environment.push(("CASTELLAN_CONFIG", path.to_str().unwrap()));
    let process = Process::spawn(with_environment(&environment, &[]));
    assert_eq!(process.http, http);
    let client = Client::connect(&process.grpc).await;
    assert!(client.capabilities("main").await.is_ok());
}

/// A wrong variable is found like a wrong flag; a right flag in its place makes it not matter.
#[tokio::test]
async fn a_flag_beats_its_variable() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("flag");
    let flags = [
        ("CASTELLAN_MAX_SIZE", "--max-size", "64MiB"),
        ("CASTELLAN_MAX_BLOB_SIZE", "--max-blob-size", "2MiB"),
        ("CASTELLAN_MIN_FREE", "--min-free", "1MiB"),
        ("CASTELLAN_MAX_ENTRIES", "--max-entries", "1000"),
        ("CASTELLAN_MAX_AGE", "--max-age", "7 days"),
        ("CASTELLAN_LEASE", "--lease", "0"),
        ("CASTELLAN_ON_LEASE_PRESSURE", "--on-lease-pressure", "refuse"),
        ("CASTELLAN_DURABILITY", "--durability", "group"),
        ("CASTELLAN_SYNC_INTERVAL", "--sync-interval", "1s"),
        ("CASTELLAN_VERIFY_ON_READ", "--verify-on-read", "always"),
        ("CASTELLAN_SCRUB_RATE", "--scrub-rate", "1MiB"),
        ("CASTELLAN_SNAPSHOT_INTERVAL", "--snapshot-interval", "1min"),
        ("CASTELLAN_GRPC_LISTEN", "--grpc-listen", "127.0.0.1:0"),
        ("CASTELLAN_HTTP_LISTEN", "--http-listen", "127.0.0.1:0"),
        ("CASTELLAN_DRAIN_TIMEOUT", "--drain-timeout", "30s"),
        ("CASTELLAN_LOG", "--log", "warn"),
    ];
    let mut environment: Vec<_> = flags.iter().map(|(name, _, _)| (*name, "=x=")).collect();
    let other = directory.path().join("environment");
    environment.push(("CASTELLAN_DIR", other.to_str().unwrap()));
    let output = with_environment(&environment, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    for (_, flag, _) in flags {
        assert!(stderr(&output).contains(&format!("error: {flag}: ")), "{}", stderr(&output));
    }
    let mut given = vec!["--dir", root.to_str().unwrap()];
    given.extend(flags.iter().flat_map(|(_, flag, value)| [*flag, *value]));
    let process = Process::spawn(with_environment(&environment, &given));
    let client = Client::connect(&process.grpc).await;
    let limit = client.capabilities("").await.unwrap().max_cas_blob_size_bytes;
    assert_eq!(limit, 2 << 20);
    assert!(root.join("LOCK").exists() && !other.exists());
}

#[test]
fn without_a_directory_it_is_the_users_cache_folder() {
    let home = tempfile::tempdir().unwrap();
    for (name, root) in [("XDG_CACHE_HOME", "castellan"), ("HOME", ".cache/castellan")] {
        let mut command = with_environment(&[], &FREE_PORTS);
        command.env_remove("XDG_CACHE_HOME").env(name, home.path());
        let process = Process::spawn(command);
        assert!(home.path().join(root).join("LOCK").exists());
        assert_eq!(process.terminate().code(), Some(0));
    }
}

#[test]
fn probes_answer_200() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &[]);
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&process.http, path), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    }
    assert_eq!(get(&process.http, "/nothing").0, "HTTP/1.1 404 Not Found");
}

/// The rule for every signal that ends it: what runs is completed, and the exit code is 0.
#[tokio::test]
async fn reapi_100_a_drain_completes_what_runs() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::serve(directory.path(), &[]);
        let client = Client::with_window(&process.grpc, 65_535).await;
        let [there, coming] = [1, 2].map(|seed| Blob::random(seed, 8 * MIB));
        client.put(&there).await.unwrap();
        let read = client.open_read(&there.read_name(), 0, 0).await.unwrap();
        let name = coming.write_name();
        let write = client.open_write();
        for message in parts(&name, &coming.data, 0..2 * MIB, MIB) {
            write.send(message).await;
        }
        committed_reaches(&client, &name, 2 * MIB).await;
        process.signal(signal);
        nobody_listens(&process.grpc).await;
        assert!(get(&process.http, "/readyz").0.contains("503"), "draining, not gone");
        assert!(get(&process.http, "/livez").0.contains("200"));
        for message in rest("", &coming.data, 2 * MIB, MIB) {
            write.send(message).await;
        }
        assert_eq!(write.half_close().await.unwrap(), 8 * MIB as i64);
        assert_eq!(drain(read).await.unwrap(), there.data);
        assert_eq!(process.end().await.code(), Some(0));
        let process = Process::serve(directory.path(), &[]);
        let client = Client::connect(&process.grpc).await;
        for blob in [&there, &coming] {
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_what_runs() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &["--drain-timeout", "1h"]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(3, 2 * MIB);
    let name = blob.write_name();
    let stalled = client.open_write();
    stalled.send(part(&name, &blob.data, 0..MIB)).await;
    committed_reaches(&client, &name, MIB).await;
    process.signal(Signal::TERM);
    nobody_listens(&process.grpc).await;
    process.signal(Signal::TERM);
    assert_eq!(process.end().await.code(), Some(0));
    assert!(stalled.reply().await.is_err());
    assert!(disk::blob_files(directory.path()).is_empty());
}

#[tokio::test]
async fn connections_without_a_call_do_not_hold_up_a_drain() {
    let directory = tempfile::tempdir().unwrap();
    // The test ends only because nobody waits for these three.
    let process = Process::serve(directory.path(), &["--drain-timeout", "1h"]);
    let silent = TcpStream::connect(&process.grpc).unwrap();
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 10);
    assert_code(client.read(&blob.read_name()).await, Code::NotFound);
    let url = format!("http://{}", process.grpc);
    let channel = tonic::transport::Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut watch = health.watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap();
    assert_eq!(process.stop().await.code(), Some(0));
    drop((silent, client, watch));
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Process::command(&["serve", "--dir", directory.path().to_str().unwrap()]);
    command.args(FREE_PORTS).args(["--log", "debug"]);
    // Every write to it fails, as on a full disk or a pipe that nobody reads any more.
    command.stderr(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let process = Process::spawn_logging(command);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 1000);
    client.put(&blob).await.unwrap();
    // A deletion is worth a warning, logged by a task of its own.
    std::fs::remove_dir_all(directory.path().join("blobs")).unwrap();
    eventually("the blob is missing", || client.is_missing(&blob)).await;
    client.put(&blob).await.unwrap();
    assert_eq!(process.stop().await.code(), Some(0));
}

#[test]
fn a_port_in_use_exits_1_and_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    for (taken, free) in [("--grpc-listen", "--http-listen"), ("--http-listen", "--grpc-listen")] {
        let output = run(&["serve", "--dir", root, taken, &address, free, "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    }
}

#[test]
fn a_second_process_on_a_directory_exits_1_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let first = Process::serve(directory.path(), &[]);
    let output = run(&[&["serve", "--dir", root][..], &FREE_PORTS].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = stderr(&output);
    assert!(text.contains(root) && text.contains("another process"), "{text}");
    assert_eq!(get(&first.http, "/livez").0, "HTTP/1.1 200 OK");
    first.kill();
    // A lock that outlived its process would keep a crashed server from coming back.
    assert_eq!(Process::serve(directory.path(), &[]).terminate().code(), Some(0));
}

#[test]
fn a_directory_that_cannot_be_used_exits_1_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    write_file(&file, "not a directory");
    let root = file.to_str().unwrap();
    let output = run(&[&["serve", "--dir", root][..], &FREE_PORTS].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(root), "{}", stderr(&output));
}
