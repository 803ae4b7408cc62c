//! `castellan export` and `castellan import`: from one server to another, over an archive, over the
//! wire, and from directories.

mod directories;
mod hostile;
mod servers;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use prost::Message as _;
use serde_json::Value;

use crate::support::cli::{Cli, Entry, make_file, snapshot};
use crate::support::disk::corrupt;
use crate::support::{Blob, FullResult, TestServer, output_file};

/// A server with some results and everything that they name.
async fn filled(labels: &[&str]) -> (TestServer, Vec<FullResult>) {
    let server = TestServer::start_on_files().await;
    let results: Vec<FullResult> = labels.iter().map(|it| FullResult::new(it)).collect();
    for full in &results {
        store(&server, full).await;
    }
    (server, results)
}

async fn store(server: &TestServer, full: &FullResult) {
    server.put(&full.blobs()).await;
    server.update_result(&full.action, full.result.encode_to_vec()).await.unwrap();
}

/// Every blob and every result is the one that was stored.
async fn assert_all_hits(server: &TestServer, results: &[FullResult]) {
    for full in results {
        let found = server.get_result(&full.action).await.unwrap();
        assert_eq!(found, full.result.encode_to_vec());
        for blob in full.blobs() {
            assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
}

/// A list of digests as `import` and `export` read it.
fn list<'b>(path: &Path, blobs: impl IntoIterator<Item = &'b Blob>) -> String {
    let lines = blobs.into_iter().map(|blob| format!("{}  # of a test", blob.digest));
    let text = ["# a list".to_owned(), String::new()].into_iter().chain(lines);
    let text = text.collect::<Vec<_>>().join("\n");
    make_file(path, text.as_bytes(), false);
    path.to_str().unwrap().to_owned()
}

fn actions(results: &[FullResult]) -> impl Iterator<Item = &Blob> {
    results.iter().map(|it| &it.action)
}

/// The archive of some results.
fn export(server: &TestServer, results: &[FullResult], folder: &Path) -> PathBuf {
    let archive = folder.join("archive.tar");
    let list = list(&folder.join("actions"), actions(results));
    Cli::of(server).ok(&["export", "--closure-of-file", &list, archive.to_str().unwrap()]);
    archive
}

/// The object that an import prints, whatever it exits with.
#[track_caller]
fn import(server: &TestServer, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["import", "--json"], arguments].concat();
    let (exit, text, errors) = Cli::of(server).run(&arguments);
    assert_eq!(exit, Some(code), "{text}{errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"))
}

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_from_one_server_is_all_hits_on_another() {
    let (from, results) = filled(&["one", "two", "three"]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    let done = import(&to, &[archive.to_str().unwrap()], 0);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (33, 3), "{done}");
    assert_all_hits(&to, &results).await;
    // The same results are the same archive, in whatever order they are named.
    let again = folder.path().join("again.tar");
    let named = results.iter().rev().map(|it| it.action.digest.to_string());
    let mut arguments = vec!["export".to_owned(), again.to_str().unwrap().to_owned()];
    arguments.extend(named.flat_map(|it| ["--closure-of".to_owned(), it]));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = Cli::of(&to).ok(&arguments);
    assert!(said.starts_with("exported: 3 results, 33 blobs, "), "{said}");
    assert!(snapshot(&archive) == snapshot(&again), "another archive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_is_a_tar_with_results_behind_what_they_name() {
    let (from, results) = filled(&["one", "two"]).await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let mut tar = tar::Archive::new(std::fs::File::open(&archive).unwrap());
    for entry in tar.entries().unwrap() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        assert!(seen.insert(name.clone()), "{name} twice");
        for full in &results {
            if name.contains(&full.action.digest_hash()) {
                for blob in full.blobs() {
                    let (hash, size) = (blob.digest_hash(), blob.digest.size_bytes);
                    let blob = format!("blobs/sha256/{hash}-{size}");
                    assert!(seen.contains(&blob), "{blob}");
                }
            }
        }
        order.push(name);
    }
    assert_eq!((order[0].as_str(), order.len()), ("castellan-archive/1", 25));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_is_exported_with_its_command_and_its_inputs_where_they_are_wanted() {
    let from = TestServer::start().await;
    let cli = Cli::of(&from);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    make_file(&input.join("deep/main.c"), b"int main() { return 0; }", false);
    let root = cli.ok(&["upload", input.to_str().unwrap()]);
    let root = root.split("  ").next().unwrap();
    let action = cli.ok(&["action", "create", "--input-root", root, "--", "cc", "main.c"]);
    let outputs = folder.path().join("outputs");
    make_file(&outputs, b"{}", false);
    let action = action.trim_end();
    cli.ok(&["action", "finish", action, "--exit-code=0", "--outputs", outputs.to_str().unwrap()]);
    for (flags, blobs) in [(&["--json"][..], 2), (&["--json", "--with-inputs"], 5)] {
        let archive = folder.path().join("archive.tar");
        let archive = archive.to_str().unwrap();
        let arguments = [&["export", "--closure-of", action, archive], flags].concat();
        let done: Value = serde_json::from_str(&cli.ok(&arguments)).unwrap();
        assert_eq!((number(&done, "results"), number(&done, "blobs")), (1, blobs), "{done}");
        let to = TestServer::start().await;
        assert_eq!(number(&import(&to, &[archive], 0), "taken_blobs"), blobs);
        Cli::of(&to).ok(&["action", "show", action]);
        // Inputs that are not there are no hindrance.
        let done: Value = serde_json::from_str(&Cli::of(&to).ok(&[
            "export",
            "--closure-of",
            action,
            archive,
            "--json",
            "--with-inputs",
        ]))
        .unwrap();
        assert_eq!((number(&done, "results"), number(&done, "blobs")), (1, blobs), "{done}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_goes_on_where_the_last_one_ended() {
    let (from, mut results) = filled(&["one", "two"]).await;
    // Large enough to be sent while it is read.
    let large = Blob::random(1, 5 << 20);
    results[0].result.output_files.push(output_file("out/large", &large));
    results[0].parts.push(("large", large));
    store(&from, &results[0]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    let archive_text = archive.to_str().unwrap();
    let Entry::File(whole, _) = snapshot(&archive).remove("").unwrap() else { panic!() };
    let cut = folder.path().join("cut.tar");
    // In the second result at the earliest: the large blob comes before it, or is in the rest.
    let mut taken = 0;
    for part in [whole.len() / 3, whole.len() - 3000, whole.len() - 1024] {
        make_file(&cut, &whole[..part], false);
        let (code, text, errors) = Cli::of(&to).run(&["import", "--json", cut.to_str().unwrap()]);
        assert_eq!(code, Some(1));
        assert_eq!(errors, "error: archive: ends before its end\n");
        let done: Value = serde_json::from_str(&text).unwrap();
        taken += number(&done, "taken_blobs");
        for full in &results {
            // What can be seen is whole.
            if let Ok(found) = to.get_result(&full.action).await {
                assert_eq!(found, full.result.encode_to_vec());
            }
        }
    }
    let done = import(&to, &[archive_text], 0);
    assert_eq!(taken + number(&done, "taken_blobs"), 23, "{done}");
    assert_all_hits(&to, &results).await;
    let done = import(&to, &[archive_text], 0);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (0, 0), "{done}");
    assert_eq!((number(&done, "present_blobs"), number(&done, "present_results")), (23, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_the_server_has_stays() {
    let (from, results) = filled(&["one"]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    let newer = castellan_proto::v2::ActionResult { exit_code: 7, ..Default::default() };
    to.update_result(&results[0].action, newer.encode_to_vec()).await.unwrap();
    let done = import(&to, &[archive.to_str().unwrap()], 0);
    assert_eq!(number(&done, "present_results"), 1, "{done}");
    assert_eq!(to.get_result(&results[0].action).await.unwrap(), newer.encode_to_vec());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_sends_nothing() {
    let (from, results) = filled(&["one"]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    let done = import(&to, &["--dry-run", archive.to_str().unwrap()], 0);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (11, 1), "{done}");
    assert_eq!(done["is_dry_run"], true);
    assert_eq!(to.missing(&results[0].blobs()).await.len(), 11);
    assert!(to.get_result(&results[0].action).await.is_err());
    let flags = ["import", "--dry-run", archive.to_str().unwrap()];
    let text = Cli::of(&to).ok(&flags);
    assert!(text.starts_with("would take: 11 blobs, "), "{text}");
    assert!(text.contains(", at most 1 results\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_rate_and_one_at_a_time_bring_the_same() {
    let (from, results) = filled(&["one"]).await;
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let archive = export(&from, &results, folder.path());
    import(&to, &["--rate", "1GiB", "--jobs", "1", archive.to_str().unwrap()], 0);
    assert_all_hits(&to, &results).await;
    for flags in [["--rate", "0"], ["--rate", "fast"], ["--jobs", "0"]] {
        let (code, _, errors) = Cli::of(&to).run(&[&["import", "x"], &flags[..]].concat());
        assert_eq!(code, Some(64), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_goes_through_pipes() {
    let (from, results) = filled(&["one"]).await;
    let to = TestServer::start().await;
    let action = results[0].action.digest.to_string();
    let archive = Cli::of(&from).bytes(&["export", "--closure-of", &action, "-"]);
    let folder = tempfile::tempdir().unwrap();
    // As tar itself would fill its last record.
    let mut filled = archive.clone();
    filled.resize(archive.len().next_multiple_of(10_240), 0);
    let path = folder.path().join("archive");
    make_file(&path, &filled, false);
    let mut command = Cli::of(&to).command(&["import", "-"]);
    command.stdin(std::fs::File::open(&path).unwrap());
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert_all_hits(&to, &results).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_cannot_be_exported_is_left_out_and_said() {
    let (from, results) = filled(&["one"]).await;
    let folder = tempfile::tempdir().unwrap();
    let (archive, report) = (folder.path().join("archive.tar"), folder.path().join("report"));
    let nothing = Blob::new("no result").digest.to_string();
    let action = results[0].action.digest.to_string();
    let named = ["export", "--closure-of", &nothing, "--closure-of", &action];
    let files = ["--report", report.to_str().unwrap(), archive.to_str().unwrap()];
    let (code, text, errors) = Cli::of(&from).run(&[&named[..], &files[..]].concat());
    assert_eq!((code, errors.as_str()), (Some(1), "error: 1 actions were left out\n"));
    assert!(text.starts_with("exported: 1 results, 11 blobs"), "{text}");
    let report = std::fs::read_to_string(report).unwrap();
    assert_eq!(report, format!("absent\t{nothing}\tthe action has no result\n"));
    let to = TestServer::start().await;
    import(&to, &[archive.to_str().unwrap()], 0);
    assert_all_hits(&to, &results).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_takes_the_place_of_a_file_and_of_nothing_else() {
    let (from, results) = filled(&["one"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name);
    let action = results[0].action.digest.to_string();
    let export = |to: &Path| {
        let arguments = ["export", "--closure-of", &action, to.to_str().unwrap()];
        Cli::of(&from).command(&arguments).output().unwrap()
    };
    make_file(&path("archive.tar"), b"an older one", false);
    assert!(export(&path("archive.tar")).status.success());
    symlink(path("archive.tar"), path("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(path("socket")).unwrap());
    for name in ["link", "socket"] {
        let before = std::fs::symlink_metadata(path(name)).unwrap().ino();
        let output = export(&path(name));
        assert_eq!(output.status.code(), Some(1), "{name}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("is there, and is no regular file"), "{errors}");
        assert_eq!(std::fs::symlink_metadata(path(name)).unwrap().ino(), before);
    }
    let piped = export(Path::new("/dev/stdout"));
    assert!(piped.status.success());
    let mut whole = Vec::new();
    std::fs::File::open(path("archive.tar")).unwrap().read_to_end(&mut whole).unwrap();
    assert_eq!(piped.stdout, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_breaks_leaves_nothing() {
    let (from, mut results) = filled(&[]).await;
    let large = Blob::random(1, 2 << 20);
    let mut full = FullResult::new("one");
    full.result.output_files.push(output_file("out/large", &large));
    full.parts.push(("large", large.clone()));
    store(&from, &full).await;
    results.push(full);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive.tar");
    // It is read again after a start, and then is another one.
    let directory = from.stop().await;
    corrupt(directory.path(), &large);
    let options = castellan::grpc::GrpcOptions::default();
    let from = TestServer::start_in(directory, 256 << 20, options).await;
    let action = results[0].action.digest.to_string();
    let arguments = ["export", "--closure-of", &action, archive.to_str().unwrap()];
    let (code, text, _) = Cli::of(&from).run(&arguments);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Field after field, each with its length before it.
fn message(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let mut message = Vec::new();
    for (tag, value) in fields {
        prost::encoding::encode_key(*tag, prost::encoding::WireType::LengthDelimited, &mut message);
        prost::encoding::encode_varint(value.len() as u64, &mut message);
        message.extend_from_slice(value);
    }
    message
}

/// An entry of Bazel's log of its calls.
fn log_entry(method: &str, details: u32, action: &Blob, code: u8) -> Vec<u8> {
    let request = message(&[(2, &action.v2().encode_to_vec())]);
    let details = message(&[(details, &message(&[(1, &request)]))]);
    let status = [8, code];
    let service = format!("build.bazel.remote.execution.v2.ActionCache/{method}");
    let entry = message(&[(2, &status), (3, service.as_bytes()), (4, &details)]);
    let mut framed = Vec::new();
    prost::encoding::encode_varint(entry.len() as u64, &mut framed);
    framed.extend(entry);
    framed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_actions_of_a_build_are_in_the_log_of_its_calls() {
    let (from, results) = filled(&["one", "two"]).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("grpc.log");
    let missed = Blob::new("a miss that was never stored");
    let mut entries = log_entry("GetActionResult", 8, &missed, 5);
    entries.extend(log_entry("GetActionResult", 8, &results[0].action, 0));
    entries.extend(log_entry("UpdateActionResult", 13, &results[1].action, 0));
    entries.extend(log_entry("UpdateActionResult", 13, &results[1].action, 0));
    // Bazel was stopped while it wrote the last one.
    entries.extend(&log_entry("GetActionResult", 8, &missed, 0)[..20]);
    make_file(&log, &entries, false);
    let archive = folder.path().join("archive.tar");
    let archive = archive.to_str().unwrap();
    let flags = ["--closure-of-grpc-log", log.to_str().unwrap(), archive];
    let done = Cli::of(&from).json(&[&["export"], &flags[..]].concat());
    assert_eq!((number(&done, "results"), number(&done, "blobs")), (2, 22), "{done}");
    make_file(&log, &Blob::random(1, 10_000).data, false);
    let (code, _, errors) = Cli::of(&from).run(&[&["export"], &flags[..]].concat());
    assert_eq!(code, Some(1), "{errors}");
}
