//! `castellan why`: what a directory knows about a digest that is missing, with a server on it and
//! without.

use std::path::Path;

use castellan::digest::DigestFunction;

use crate::support::wait::eventually;
use crate::support::{Blob, Client, Process, disk};

/// Runs `why` with these arguments: the exit code, the output, the errors.
fn run(root: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Process::command(&["why", "--dir", root.to_str().unwrap()]);
    let output = command.args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// `hash/size`, as clients print it.
fn name(blob: &Blob) -> String {
    format!("{}/{}", blob.digest.hash_hex().as_str(), blob.digest.size_bytes)
}

/// Waits until a running server has written down why a blob is missing; it knows at once.
async fn reason_comes(root: &Path, blob: &Blob, reason: &str) {
    let is_known = || {
        let (code, text, _) = run(root, &["--offline", &name(blob)]);
        std::future::ready(code == Some(0) && text.contains(&format!(": {reason}")))
    };
    eventually(reason, is_known).await;
}

#[tokio::test]
async fn an_eviction_is_explained_with_a_server_and_without() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = Process::serve(root, &["--max-size", "4MiB", "--lease", "0", "--log", "warn"]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::with(DigestFunction::Blake3, Blob::random(1, 60_000).data);
    client.put(&blob).await.unwrap();
    let there = format!("there: blob blake3/{}, generation ", name(&blob));
    for asked in [name(&blob), blob.digest.hash_hex().as_str().to_owned(), blob.digest.to_string()]
    {
        let (code, text, errors) = run(root, &[&asked]);
        assert!(code == Some(0) && text.starts_with(&there), "{text}{errors}");
        assert!(text.contains(", 60000 bytes in blobs/blake3/"), "{text}");
    }
    let mut seed = 2;
    while disk::blob_files(root).iter().any(|it| it.to_string_lossy().contains(&name_part(&blob))) {
        client.put(&Blob::random(seed, 60_000)).await.unwrap();
        seed += 1;
    }
    let (code, text, _) = run(root, &[&name(&blob)]);
    assert!(code == Some(0) && text.contains(": evicted to make room; unused for "), "{text}");
    reason_comes(root, &blob, "evicted to make room; unused for ").await;
    drop(client);
    process.kill();
    let (code, text, _) = run(root, &[&name(&blob)]);
    assert_eq!(code, Some(0));
    assert!(text.contains(" UTC (") && text.contains(&format!("blob blake3/{}: ", name(&blob))));
    let (code, json, _) = run(root, &["--json", &name(&blob)]);
    assert_eq!(code, Some(0));
    assert!(json.starts_with("{\"status\":\"removed\",\"files\":[],\"removals\":[{"), "{json}");
    for part in ["\"function\":\"blake3\"", "\"size_bytes\":60000", "\"unused_seconds\":"] {
        assert!(json.contains(part), "{part} in {json}");
    }
    // The same hash with another size is another blob, and so with another function.
    for other in [
        format!("{}/1", blob.digest.hash_hex().as_str()),
        format!("sha256/{}", blob.digest.hash_hex().as_str()),
    ] {
        let (code, text, _) = run(root, &[&other]);
        assert_eq!(code, Some(1));
        assert!(text.starts_with("not known: never stored, or removed longer ago"), "{text}");
    }
}

/// What the name of its file begins with.
fn name_part(blob: &Blob) -> String {
    format!("{}-{}.", blob.digest.hash_hex().as_str(), blob.digest.size_bytes)
}

#[tokio::test]
async fn a_file_that_somebody_deleted_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let process = Process::serve(root, &["--max-size", "64MiB", "--log", "warn"]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 1000);
    client.put(&blob).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "does what somebody else would")]
    std::fs::remove_file(disk::file_of(root, &blob)).unwrap();
    eventually("the deletion is noticed", || client.is_missing(&blob)).await;
    reason_comes(root, &blob, "missing: somebody else deleted its file").await;
    client.put(&blob).await.unwrap();
    let (code, text, _) = run(root, &[&name(&blob)]);
    assert!(code == Some(0) && text.starts_with("there: "), "{text}");
    drop(client);
    assert_eq!(process.stop().await.code(), Some(0));
}

#[tokio::test]
async fn bytes_that_rot_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let flags = ["--max-size", "64MiB", "--verify-on-read", "always", "--log", "error"];
    let process = Process::serve(root, &flags);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(1, 1000);
    client.put(&blob).await.unwrap();
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    disk::corrupt(root, &blob);
    assert!(client.read(&blob.read_name()).await.is_err());
    reason_comes(root, &blob, "corrupt: its bytes were not what was stored").await;
}

#[tokio::test]
async fn the_limits_on_number_and_age_are_explained() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let limits = ["--max-entries", "4", "--max-age", "1s", "--lease", "0"];
    let flags = [&["--max-size", "64MiB", "--log", "warn"], &limits[..]].concat();
    let process = Process::serve(root, &flags);
    let client = Client::connect(&process.grpc).await;
    let blobs: Vec<Blob> = (0..5).map(|seed| Blob::random(seed, 1000)).collect();
    for blob in &blobs {
        client.put(blob).await.unwrap();
    }
    reason_comes(root, &blobs[0], "evicted: more entries than the limit").await;
    reason_comes(root, &blobs[4], "expired: not used for longer than the age limit").await;
    assert!(disk::blob_files(root).is_empty());
}

#[test]
fn what_cannot_be_answered_has_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let hash = "0123456789abcdef".repeat(4);
    for wrong in ["", "abc", &hash.to_uppercase(), &format!("{hash}/x"), &format!("{hash}/0")] {
        let (code, text, errors) = run(root, &[wrong]);
        assert_eq!((code, text.as_str()), (Some(64), ""), "{wrong}: {errors}");
        assert!(errors.starts_with("error: DIGEST: "), "{errors}");
    }
    for (folder, problem) in [(root.to_owned(), "no store"), (root.join("none"), "No such file")] {
        let (code, _, errors) = run(&folder, &[&hash]);
        assert_eq!(code, Some(1));
        assert!(errors.contains(folder.to_str().unwrap()) && errors.contains(problem), "{errors}");
    }
    assert_eq!(Process::serve(root, &[]).terminate().code(), Some(0));
    let (code, text, _) = run(root, &[&hash]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("not known: never stored"), "{text}");
    let empty = Blob::new("");
    let (code, text, _) = run(root, &[&name(&empty)]);
    assert_eq!((code, text.as_str()), (Some(0), "the empty blob: always there and never stored\n"));
}
