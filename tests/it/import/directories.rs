//! Imports from the directories of caches: of this one, of `NativeLink`, of bazel-remote.

use std::os::unix::fs::symlink;
use std::path::Path;

use castellan::former::mangled_action_hash;
use prost::Message as _;

use super::{assert_all_hits, filled, import, number};
use crate::support::cli::{Cli, make_file};
use crate::support::{Blob, FullResult, TestServer};

/// A casblob of one chunk that is not compressed: by the facts of the format.
fn casblob(data: &[u8]) -> Vec<u8> {
    let header: u64 = 29 + 2 * 8;
    let length = data.len() as u64;
    let mut file = Vec::new();
    file.extend(0x184D_2A50_u32.to_le_bytes());
    file.extend(u32::try_from(header - 8).unwrap().to_le_bytes());
    file.extend(length.to_le_bytes());
    file.push(0);
    file.extend((1_u32 << 20).to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    file.extend(header.to_le_bytes());
    file.extend((header + length).to_le_bytes());
    file.extend(data);
    file
}

/// The path of a blob in a directory of bazel-remote.
fn bucketed(top: &str, blob: &Blob, behind: &str) -> String {
    let hash = blob.digest_hash();
    format!("{top}/{}/{hash}-{behind}", &hash[..2])
}

fn put(root: &Path, path: &str, data: &[u8]) {
    make_file(&root.join(path), data, false);
}

fn nativelink_name(blob: &Blob) -> String {
    format!("{}-{}", blob.digest_hash(), blob.digest.size_bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_a_stopped_server_comes_over() {
    let (from, results) = filled(&["one", "two"]).await;
    let large = Blob::random(1, 5 << 20);
    from.put(&[&large, &results[0].action]).await;
    let directory = from.stop().await;
    let path = directory.path().to_str().unwrap();
    let to = TestServer::start().await;
    let dry = import(&to, &["--dry-run", path], 0);
    let done = import(&to, &[path], 0);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (24, 2), "{done}");
    assert_eq!(dry["taken_blobs"], done["taken_blobs"]);
    assert_all_hits(&to, &results).await;
    assert_eq!(to.read(&large.read_name()).await.unwrap(), large.data);
    let done = import(&to, &[path], 0);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "present_results")), (0, 2), "{done}");
    // Results of another instance are another's.
    let done = import(&to, &["--source-instance", "other", path], 0);
    assert_eq!(number(&done, "foreign_results"), 2, "{done}");
    // It also says which actions there are, for an export.
    let archive = directory.path().join("archive.tar");
    let flags = ["--closure-of-dir", path, archive.to_str().unwrap()];
    let done = Cli::of(&to).json(&[&["export"], &flags[..]].concat());
    assert_eq!((number(&done, "results"), number(&done, "blobs")), (2, 22), "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directories_of_a_nativelink_come_over() {
    let full = FullResult::new("one");
    let (blobs, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (number, blob) in full.blobs().into_iter().enumerate() {
        // Older versions have no folder.
        let folder = if number % 2 == 0 { "d/" } else { "" };
        put(blobs.path(), &format!("{folder}{}", nativelink_name(blob)), &blob.data);
    }
    put(blobs.path(), "s/some-key", b"a value");
    let name = format!("d/{}", nativelink_name(&full.action));
    put(results.path(), &name, &full.result.encode_to_vec());
    let to = TestServer::start().await;
    // What no server takes is no part of what would be taken.
    put(blobs.path(), &format!("d/{}-{}", "a".repeat(64), i64::MAX), b"");
    for flags in [&["--dry-run"][..], &[]] {
        let done = import(&to, &[flags, &[blobs.path().to_str().unwrap()]].concat(), 1);
        assert_eq!(number(&done, "taken_blobs"), 11, "{done}");
        assert_eq!(done["skipped"]["too_large"], 1, "{done}");
        assert!(number(&done, "taken_bytes") < 10_000, "{done}");
    }
    let done = import(&to, &["--action-results", results.path().to_str().unwrap()], 0);
    assert_eq!(number(&done, "taken_results"), 1, "{done}");
    assert_all_hits(&to, &[full]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_a_bazel_remote_comes_over() {
    let full = FullResult::new("one");
    let from = tempfile::tempdir().unwrap();
    for (number, blob) in full.blobs().into_iter().enumerate() {
        if number % 2 == 0 {
            let behind = format!("{}-123456789", blob.digest.size_bytes);
            put(from.path(), &bucketed("cas.v2", blob, &behind), &casblob(&blob.data));
        } else {
            put(from.path(), &bucketed("cas.v2", blob, "123456789.v1"), &blob.data);
        }
    }
    let result = bucketed("ac.v2", &full.action, "123456789");
    put(from.path(), &result, &full.result.encode_to_vec());
    put(from.path(), &bucketed("raw.v2", &full.action, "1"), b"a value");
    // A result that a crash has cut off.
    let cut = Blob::new("cut off");
    put(from.path(), &bucketed("ac.v2", &cut, "1"), b"");
    let to = TestServer::start().await;
    let done = import(&to, &[from.path().to_str().unwrap()], 1);
    assert_eq!((number(&done, "taken_blobs"), number(&done, "taken_results")), (11, 1), "{done}");
    assert_eq!(done["skipped"]["invalid_result"], 1, "{done}");
    assert_eq!(number(&done, "results_without_size"), 1, "{done}");
    assert!(to.get_result(&cut).await.is_err());
    assert_all_hits(&to, &[full]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_a_bazel_remote_keeps_apart_are_found_by_their_actions() {
    let action = Blob::new("an action that is there");
    let other = Blob::new("an action of another instance");
    let from = tempfile::tempdir().unwrap();
    let result = castellan_proto::v2::ActionResult { exit_code: 7, ..Default::default() };
    for (blob, instance) in [(&action, "main"), (&other, "other")] {
        put(from.path(), &bucketed("cas.v2", blob, "1.v1"), &blob.data);
        let mangled = mangled_action_hash(&blob.digest.hash, instance);
        let hash = const_hex::encode(mangled);
        put(from.path(), &format!("ac.v2/{}/{hash}-1", &hash[..2]), &result.encode_to_vec());
    }
    let to = TestServer::start().await;
    let done = import(&to, &["--source-instance", "main", from.path().to_str().unwrap()], 0);
    assert_eq!((number(&done, "taken_results"), number(&done, "foreign_results")), (1, 1));
    assert_eq!(to.get_result(&action).await.unwrap(), result.encode_to_vec());
    assert!(to.get_result(&other).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_castellan_has_taken_over_and_nobody_has_read_comes_over() {
    let full = FullResult::new("one");
    let mangled = Blob::new("an action of an instance");
    let directory = TestServer::start_on_files().await.stop().await;
    let file = |kind: &str, hash: &str, middle: &str, length: usize| {
        format!("{kind}/sha256/{}/{hash}-{middle}{length}.7.former", &hash[..2])
    };
    for blob in full.blobs() {
        let path = file("blobs", &blob.digest_hash(), "", blob.data.len());
        put(directory.path(), &path, &casblob(&blob.data));
    }
    let path = format!("blobs/sha256/{}", &mangled.digest_hash()[..2]);
    let plain = format!("{path}/{}-{}.7", mangled.digest_hash(), mangled.data.len());
    put(directory.path(), &plain, &mangled.data);
    let (result, adopted) = (full.result.encode_to_vec(), format!("{}-", "03".repeat(16)));
    let of_instance = const_hex::encode(mangled_action_hash(&mangled.digest.hash, "main"));
    for hash in [full.action.digest_hash(), of_instance] {
        let path = file("actions", &hash, &adopted, result.len());
        put(directory.path(), &path, &result);
    }
    let (to, path) = (TestServer::start().await, directory.path().to_str().unwrap());
    // Which of them are an instance's is seen by its actions.
    let done = import(&to, &["--source-instance", "main", path], 0);
    assert_eq!((number(&done, "taken_results"), number(&done, "foreign_results")), (1, 1));
    assert_eq!(to.get_result(&mangled).await.unwrap(), result);
    let done = import(&to, &[path], 0);
    assert_eq!(number(&done, "taken_results"), 2, "{done}");
    assert_eq!(number(&done, "results_without_size"), 2, "{done}");
    assert_all_hits(&to, &[full]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_lie_are_skipped_and_links_are_not_followed() {
    let from = tempfile::tempdir().unwrap();
    let [good, short, other, linked, torn] =
        ["good", "short", "other", "linked", "torn"].map(|it| Blob::new(it.to_owned()));
    let behind = |blob: &Blob| format!("{}-1", blob.digest.size_bytes);
    let place = |blob: &Blob| bucketed("cas.v2", blob, &behind(blob));
    put(from.path(), &place(&good), &casblob(&good.data));
    put(from.path(), &place(&short), &casblob(b"shor"));
    put(from.path(), &place(&other), &casblob(b"OTHER"));
    put(from.path(), &place(&torn), &casblob(&torn.data)[..20]);
    // A second file of one digest, which is right.
    let second = bucketed("cas.v2", &other, "123.v1");
    put(from.path(), &second, &other.data);
    put(from.path(), &bucketed("cas.v2", &good, "README"), b"");
    put(from.path(), "cas.v2/ab/lost+found", b"");
    put(from.path(), &format!("{}/file", bucketed("cas.v2", &good, "7")), b"");
    let outside = from.path().join("outside");
    make_file(&outside, &linked.data, false);
    let link = from.path().join(bucketed("cas.v2", &linked, "1.v1"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(&outside, &link).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    if !from.path().join("cas.v2/00").exists() {
        symlink(elsewhere.path(), from.path().join("cas.v2/00")).unwrap();
    }
    let to = TestServer::start().await;
    let done = import(&to, &[from.path().to_str().unwrap()], 1);
    assert!(to.missing(&[&good, &other]).await.is_empty(), "{done}");
    assert_eq!(to.missing(&[&short, &linked, &torn]).await.len(), 3);
    let skipped = &done["skipped"];
    assert_eq!((&skipped["wrong_size"], &skipped["wrong_hash"]), (&1.into(), &1.into()), "{done}");
    assert_eq!((&skipped["unreadable"], &skipped["bad_name"]), (&1.into(), &4.into()), "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_directory_is_refused() {
    let to = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    make_file(&folder.path().join("README"), b"hello", false);
    let (code, _, errors) = Cli::of(&to).run(&["import", folder.path().to_str().unwrap()]);
    let problem = "is no directory of Castellan, NativeLink or bazel-remote";
    assert!(code == Some(1) && errors.contains(problem), "{errors}");
}
