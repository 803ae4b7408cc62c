//! `castellan download`, `upload` and `cat` where something is in the way.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use castellan_proto::v2;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{Cli, Entry, make_file, snapshot};
use crate::support::wait::eventually;
use crate::support::{Blob, TestServer, directory, start_small};

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// As much of one as a pipe, a disk or `/dev/null`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_file_is_not_replaced() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let blob = Blob::new("bytes");
    let link = v2::SymlinkNode {
        name: "socket".to_owned(),
        target: "anywhere".to_owned(),
        ..v2::SymlinkNode::default()
    };
    let links = v2::Directory { symlinks: vec![link], ..v2::Directory::default() };
    let links = Blob::new(links.encode_to_vec());
    let files = directory(&[("socket", &blob)], &[]);
    server.put(&[&blob, &links, &files]).await;
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    symlink("socket", folder.path().join("link")).unwrap();
    let cases = [
        (blob.digest.to_string(), at("socket"), at("socket")),
        (blob.digest.to_string(), at("link"), at("link")),
        (format!("dir:{}", files.digest), at(""), "socket".to_owned()),
        (format!("dir:{}", links.digest), at(""), "socket".to_owned()),
    ];
    for (digest, to, named) in cases {
        let (code, _, errors) = cli.run(&["download", &digest, &to]);
        let expected =
            format!("error: \"{named}\": is a pipe, a socket or a device, which is not replaced\n");
        assert_eq!((code, errors), (Some(1), expected), "{digest} {to}");
        let kind = folder.path().join("socket").symlink_metadata().unwrap().file_type();
        assert!(kind.is_socket(), "{digest} {to}");
        assert_eq!(names(folder.path()), ["link", "socket"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_downloaded_to_the_output() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let blob = Blob::random(1, 3 << 20);
    let root = directory(&[("a", &blob)], &[]);
    server.put(&[&blob, &root]).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["-", "/dev/stdout"] {
        let mut command = cli.command(&["download", &blob.digest.to_string(), name]);
        command.current_dir(folder.path());
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        assert!(output.status.success() && output.stdout == blob.data, "{name}");
        let (code, _, errors) = cli.run(&["download", &format!("dir:{}", root.digest), name]);
        assert!(code == Some(64) && errors.contains("standard output"), "{errors}");
    }
    assert!(names(folder.path()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_download_left_goes_with_the_next() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let blob = Blob::new("bytes");
    let sub = directory(&[("file", &blob)], &[]);
    let root = directory(&[("file", &blob)], &[("sub", &sub)]);
    server.put(&[&blob, &sub, &root]).await;
    let left = ".castellan-0123456789abcdef.part";
    let (live, other) = (".castellan-fedcba9876543210.part", ".castellan-mine.part");
    for below in ["", "sub"] {
        for name in [left, live, other] {
            make_file(&folder.path().join(below).join(name), b"some", false);
        }
    }
    // Somebody is at this one.
    let locked = File::open(folder.path().join(live)).unwrap();
    locked.try_lock().unwrap();
    let to = folder.path().to_str().unwrap();
    cli.ok(&["download", &format!("dir:{}", root.digest), to]);
    assert_eq!(names(folder.path()), [live, other, "file", "sub"]);
    assert_eq!(names(&folder.path().join("sub")), [other, "file"]);
    make_file(&folder.path().join(left), b"some", false);
    drop(locked);
    let file = folder.path().join("file");
    cli.ok(&["download", &blob.digest.to_string(), file.to_str().unwrap()]);
    assert_eq!(names(folder.path()), [other, "file", "sub"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_missing_is_named() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let (here, first, second) = (Blob::new("here"), Blob::new("first"), Blob::new("second"));
    let root = directory(&[("a", &first), ("b", &here), ("c", &second)], &[]);
    server.put(&[&here, &root]).await;
    let to = folder.path().join("target");
    let digest = format!("dir:{}", root.digest);
    let (code, _, errors) = cli.run(&["download", &digest, to.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: 2 blobs are not on the server: "), "{errors}");
    for blob in [first, second] {
        assert!(errors.contains(&blob.digest.to_string()), "{errors}");
    }
}

/// Its `Tree` message says nothing of a directory in which nothing is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_empty_directory_is_in_every_tree() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let empty = v2::DirectoryNode { name: "empty".to_owned(), digest: Some(Blob::new("").v2()) };
    let root = v2::Directory { directories: vec![empty], ..v2::Directory::default() };
    let tree = v2::Tree { root: Some(root), children: Vec::new() };
    let tree = Blob::new(tree.encode_to_vec());
    server.put(&[&tree]).await;
    let to = folder.path().join("target");
    cli.ok(&["download", &format!("tree:{}", tree.digest), to.to_str().unwrap()]);
    assert_eq!(snapshot(&to).get("empty"), Some(&Entry::Folder));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_does_not_keep_cat() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let blob = Blob::random(1, 4 << 20);
    server.put(&[&blob]).await;
    let mut command = cli.command(&["cat", &blob.digest.to_string()]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    // It has begun; a pipe takes less than all of it.
    tokio::task::block_in_place(|| output.read_exact(&mut [0]).unwrap());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    eventually("it ends", || std::future::ready(child.try_wait().unwrap().is_some())).await;
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "error: interrupted\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_server_cannot_keep_fails() {
    let server = start_small().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..30 {
        let blob = Blob::random(seed, 200_000);
        make_file(&folder.path().join(seed.to_string()), &blob.data, false);
    }
    let path = folder.path().to_str().unwrap();
    let (code, text, errors) = cli.run(&["upload", path]);
    assert_eq!((code, text.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.starts_with("error: the server has not kept "), "{errors}");
    cli.ok(&["upload", folder.path().join("7").to_str().unwrap()]);
}
