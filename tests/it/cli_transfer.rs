//! `castellan upload`, `download`, `ls` and `cat` against a real server.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::symlink;
use std::path::Path;

use castellan::server::{GrpcListener, InstanceSettings, Instances};
use castellan::socket::ListenAddress;
use castellan_proto::v2;
use prost::Message as _;
use serde_json::Value;

use crate::support::cli::{Cli, Entry, Proxy, make_file, snapshot};
use crate::support::listeners::start_listeners;
use crate::support::{Blob, TestServer, directory};

/// A directory with all that a tree can have.
fn sample(root: &Path) {
    for folder in ["empty", "deep/er/est", "bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    make_file(&root.join("text"), b"some text", false);
    make_file(&root.join("nothing"), b"", false);
    make_file(&root.join("bin/run"), b"#!/bin/sh\n", true);
    make_file(&root.join("bin/nothing-to-run"), b"", true);
    make_file(&root.join("with space and \"quotes\""), b"odd", false);
    make_file(&root.join("deep/er/est/large"), &Blob::random(1, 5 << 20).data, false);
    make_file(&root.join("deep/middling"), &Blob::random(2, 300 << 10).data, true);
    make_file(&root.join("deep/same"), b"some text", false);
    for seed in 3..40 {
        let blob = Blob::random(seed, 1000 * usize::try_from(seed).unwrap());
        make_file(&root.join(format!("deep/er/{seed}")), &blob.data, seed % 2 == 0);
    }
    symlink("../text", root.join("bin/link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    symlink("deep", root.join("link-to-folder")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_comes_back_as_it_went() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    sample(&source);
    let before = snapshot(&source);
    for function in ["sha256", "blake3"] {
        let flags = ["--digest-function", function];
        let target = folder.path().join(function);
        let first = cli.json(&[&["upload", source.to_str().unwrap()], &flags[..]].concat());
        assert_eq!(first["kind"], "directory");
        assert_eq!((&first["files"], &first["symlinks"]), (&45.into(), &3.into()), "{first}");
        assert_eq!(first["directories"], 6);
        assert!(first["sent_bytes"].as_u64() > Some(5 << 20), "{first}");
        let text = cli.ok(&[&["upload", source.to_str().unwrap()], &flags[..]].concat());
        let (digest, path) = text.trim_end().split_once("  ").unwrap();
        assert_eq!(path, source.to_str().unwrap());
        assert_eq!(digest, format!("dir:{}", first["digest"].as_str().unwrap()));
        let target_text = target.to_str().unwrap();
        let done = cli.json(&["download", digest, target_text]);
        assert_eq!((&done["files"], &done["kept_files"]), (&45.into(), &0.into()), "{done}");
        assert_eq!(snapshot(&target), before);
        // The same from the one message that holds all directories.
        let tree = format!("tree:{}", first["tree_digest"].as_str().unwrap());
        let other = folder.path().join(format!("{function}-tree"));
        cli.ok(&["download", &tree, other.to_str().unwrap()]);
        assert_eq!(snapshot(&other), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_sent_again() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    sample(folder.path());
    let path = folder.path().to_str().unwrap();
    let first = cli.json(&["upload", path]);
    let second = cli.json(&["upload", path]);
    assert_eq!((&second["sent_blobs"], &second["sent_bytes"]), (&0.into(), &0.into()), "{second}");
    assert_eq!(second["digest"], first["digest"]);
    let all = first["sent_bytes"].as_u64().unwrap() + first["skipped_bytes"].as_u64().unwrap();
    assert_eq!(second["skipped_bytes"].as_u64(), Some(all), "{first} {second}");
    make_file(&folder.path().join("deep/new"), b"only this", false);
    let third = cli.json(&["upload", path]);
    // The file, two directories on the way to it, and the message of all of them.
    assert_eq!(third["sent_blobs"], 4, "{third}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_many_files_comes_back_as_it_went() {
    let count: usize = std::env::var("CASTELLAN_TRANSFER_FILES")
        .map_or(600, |text| text.parse().expect("CASTELLAN_TRANSFER_FILES is a number"));
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for number in 0..count {
        let below = source.join(format!("{}/{}", number % 7, number / 25));
        std::fs::create_dir_all(&below).unwrap();
        let data = format!("file {number} ").repeat(number % 50);
        make_file(&below.join(number.to_string()), data.as_bytes(), number % 3 == 0);
    }
    let uploaded = cli.json(&["upload", source.to_str().unwrap()]);
    assert_eq!(uploaded["files"], count);
    let target = folder.path().join("target");
    let digest = format!("dir:{}", uploaded["digest"].as_str().unwrap());
    cli.ok(&["download", &digest, target.to_str().unwrap()]);
    assert!(snapshot(&target) == snapshot(&source), "another directory came back");
    let second = cli.json(&["upload", target.to_str().unwrap()]);
    assert_eq!((&second["sent_blobs"], &second["digest"]), (&0.into(), &uploaded["digest"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_download_keeps_what_is_right_and_mends_the_rest() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    sample(&source);
    let digest = cli.ok(&["upload", source.to_str().unwrap()]);
    let digest = digest.split("  ").next().unwrap();
    let target = folder.path().join("target");
    let target_text = target.to_str().unwrap();
    cli.ok(&["download", digest, target_text]);
    make_file(&target.join("bin/run"), b"#!/bin/no\n", true);
    make_file(&target.join("deep/er/4"), &Blob::random(4, 4000).data, false);
    std::fs::remove_dir_all(target.join("deep/er/est")).unwrap();
    let link = target.join("dangling");
    #[expect(clippy::disallowed_methods, reason = "does what a user would")]
    std::fs::rename(target.join("link-to-folder"), &link).unwrap();
    make_file(&target.join("my own"), b"kept", false);
    let done = cli.json(&["download", digest, target_text]);
    assert_eq!((&done["files"], &done["kept_files"]), (&45.into(), &42.into()), "{done}");
    let mut after = snapshot(&target);
    assert_eq!(after.remove("my own"), Some(Entry::File(b"kept".to_vec(), false)));
    assert_eq!(after, snapshot(&source));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_back_as_a_blob() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    let blob = Blob::random(1, 3 << 20);
    make_file(&source, &blob.data, false);
    symlink(&source, folder.path().join("link")).unwrap();
    for name in ["source", "link"] {
        let path = folder.path().join(name);
        let text = cli.ok(&["upload", path.to_str().unwrap()]);
        assert_eq!(text, format!("{}  {}\n", blob.digest, path.display()));
    }
    make_file(&target, b"other bytes", false);
    cli.ok(&["download", &blob.digest.to_string(), target.to_str().unwrap()]);
    assert_eq!(snapshot(&folder.path().join("target")), snapshot(&source));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let (code, _, errors) = cli.run(&["upload", "/dev/null"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("\"/dev/null\": is no file and no directory"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_in_a_tree_is_refused_by_name() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("below")).unwrap();
    let socket = folder.path().join("below/socket");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let path = folder.path().to_str().unwrap();
    let (code, text, errors) = cli.run(&["upload", path]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    let socket = socket.display();
    let expected = format!("error: \"{socket}\": is a pipe, a socket or a device\n");
    assert_eq!(errors, expected);
    let (code, _, errors) = cli.run(&["upload", "/nowhere/at/all"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("\"/nowhere/at/all\": No such file"), "{errors}");
}

/// Each read of it gives other bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_meanwhile_is_an_error_that_names_it() {
    let server = TestServer::start().await;
    let path = "/proc/sys/kernel/random/uuid";
    let (code, text, errors) = Cli::of(&server).run(&["upload", path]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert_eq!(errors, format!("error: {path:?} has changed while it was uploaded\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_tree_touches_nothing() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    let file = Blob::new("evil");
    let link = v2::SymlinkNode {
        name: "way".to_owned(),
        target: folder.path().to_str().unwrap().to_owned(),
        ..v2::SymlinkNode::default()
    };
    let below = directory(&[("evil", &file)], &[]);
    let two = v2::Directory {
        symlinks: vec![link],
        directories: vec![v2::DirectoryNode { name: "way".to_owned(), digest: Some(below.v2()) }],
        ..v2::Directory::default()
    };
    let mut hostile = vec![(Blob::new(two.encode_to_vec()), "way".to_owned())];
    for name in ["../evil", "..", "/evil", "", "a/b", "nul\0", &"x".repeat(256)] {
        // Of a long name its beginning is shown.
        let shown: String = name.escape_debug().take(60).collect();
        hostile.push((directory(&[(name, &file)], &[]), shown));
    }
    server.put(&[&file, &below]).await;
    for (root, named) in &hostile {
        let outer = directory(&[], &[("sub", root)]);
        server.put(&[root, &outer]).await;
        for digest in [root.digest, outer.digest] {
            let target = folder.path().join("target");
            let digest = format!("dir:{digest}");
            let (code, _, errors) = cli.run(&["download", &digest, target.to_str().unwrap()]);
            assert_eq!(code, Some(1), "{named}");
            assert!(errors.contains(named.as_str()), "{named}: {errors}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{named}");
        }
    }
    // What was there before the download is as much of a trap.
    let root = directory(&[], &[("way", &below)]);
    server.put(&[&root]).await;
    let outside = folder.path().join("outside");
    let target = folder.path().join("target");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(&target).unwrap();
    symlink(&outside, target.join("way")).unwrap();
    let digest = format!("dir:{}", root.digest);
    let (code, _, errors) = cli.run(&["download", &digest, target.to_str().unwrap()]);
    assert!(code == Some(1) && errors.contains("\"way\""), "{errors}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trees_that_no_disk_could_hold_end_at_once() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let mut wide = directory(&[("file", &Blob::new("x"))], &[]);
    let mut deep = wide.clone();
    server.put(&[&wide]).await;
    for _ in 0..30 {
        wide = directory(&[], &[("a", &wide), ("b", &wide)]);
        server.put(&[&wide]).await;
    }
    for _ in 0..520 {
        deep = directory(&[], &[("d", &deep)]);
        server.put(&[&deep]).await;
    }
    for (root, problem) in [(wide, "paths, more than"), (deep, "deeper than")] {
        let (code, _, errors) = cli.run(&["ls", "-R", &root.digest.to_string()]);
        assert_eq!(code, Some(1));
        assert!(errors.contains(problem), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_after_its_connection_broke() {
    let server = TestServer::start().await;
    let proxy = Proxy::start(&server, &[1 << 20, 7 << 20, 2 << 20], &[]).await;
    let cli = Cli::at(&proxy.address());
    let folder = tempfile::tempdir().unwrap();
    let blob = Blob::random(1, 14 << 20);
    make_file(&folder.path().join("large"), &blob.data, false);
    for seed in 2..8 {
        let small = Blob::random(seed, 400 << 10);
        make_file(&folder.path().join(seed.to_string()), &small.data, false);
    }
    let uploaded = cli.json(&["upload", folder.path().to_str().unwrap()]);
    assert!(proxy.cut_connections() >= 2, "nothing broke");
    let digest = format!("dir:{}", uploaded["digest"].as_str().unwrap());
    let target = tempfile::tempdir().unwrap();
    Cli::of(&server).ok(&["download", &digest, target.path().to_str().unwrap()]);
    assert!(snapshot(target.path()) == snapshot(folder.path()), "other files came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_goes_on_after_its_connection_broke() {
    let server = TestServer::start().await;
    let proxy = Proxy::start(&server, &[], &[1 << 20, 6 << 20, 2 << 20]).await;
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    sample(&source);
    make_file(&source.join("larger"), &Blob::random(99, 9 << 20).data, false);
    let digest = Cli::of(&server).ok(&["upload", source.to_str().unwrap()]);
    let digest = digest.split("  ").next().unwrap();
    let target = folder.path().join("target");
    Cli::at(&proxy.address()).ok(&["download", digest, target.to_str().unwrap()]);
    assert!(proxy.cut_connections() >= 2, "nothing broke");
    assert!(snapshot(&target) == snapshot(&source), "other files came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_listed() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    make_file(&folder.path().join("run"), b"1234", true);
    make_file(&folder.path().join("sub/text"), b"12", false);
    symlink("sub/text", folder.path().join("link")).unwrap();
    let uploaded = cli.json(&["upload", folder.path().to_str().unwrap()]);
    let digest = uploaded["digest"].as_str().unwrap();
    let (run, text) = (Blob::new("1234").digest, Blob::new("12").digest);
    let sub = directory(&[("text", &Blob::new("12"))], &[]).digest;
    let expected = format!(
        "lrwxrwxrwx            -  link -> sub/text\n\
         -rwxr-xr-x            4  {run}  run\n\
         drwxr-xr-x            -  dir:{sub}  sub/\n"
    );
    assert_eq!(cli.ok(&["ls", digest]), expected);
    let expected = format!("{expected}-rw-r--r--            2  {text}  sub/text\n");
    assert_eq!(cli.ok(&["ls", "-R", &format!("dir:{digest}")]), expected);
    let tree = uploaded["tree_digest"].as_str().unwrap();
    assert_eq!(cli.ok(&["ls", "-R", &format!("tree:{tree}")]), expected);
    let lines = cli.ok(&["ls", "-R", "--json", digest]);
    let objects: BTreeMap<String, Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|object| (object["path"].as_str().unwrap().to_owned(), object))
        .collect();
    assert_eq!(objects["link"]["target"], "sub/text");
    assert_eq!(
        (&objects["run"]["is_executable"], &objects["run"]["size_bytes"]),
        (&true.into(), &4.into())
    );
    assert_eq!(objects["sub"]["kind"], "directory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_is_printed_and_one_that_rots_is_not() {
    let server = TestServer::start_on_files().await;
    let cli = Cli::of(&server);
    let blob = Blob::random(1, 2 << 20);
    server.put(&[&blob]).await;
    assert!(cli.bytes(&["cat", &blob.digest.to_string()]) == blob.data, "other bytes");
    assert_eq!(cli.ok(&["cat", &Blob::new("").digest.to_string()]), "");
    crate::support::disk::corrupt(server.directory.path(), &blob);
    // What was hashed when it came is read without being hashed; the client does it again.
    let (code, _, errors) = cli.run(&["cat", &blob.digest.to_string()]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("has other bytes under this digest"), "{errors}");
    let missing = Blob::new("never stored").digest;
    let (code, text, errors) = cli.run(&["cat", &missing.to_string()]);
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert_eq!(errors, format!("error: {missing} is not on the server\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_flags_have_an_exit_code_of_their_own() {
    let server = TestServer::start().await;
    let cli = Cli::of(&server);
    let digest = Blob::new("blob").digest.to_string();
    let wrong: &[&[&str]] = &[
        &["cat", "abc"],
        &["cat", &digest.to_uppercase()],
        &["ls", &format!("blob:{digest}")],
        &["download", &format!("dir:{digest}"), "x", "--type", "tree"],
        &["upload"],
        &["cat", &digest, "--header", "no value"],
        &["action", "create", "--input-root", "x", "--", "true"],
    ];
    for arguments in wrong {
        let (code, text, errors) = cli.run(arguments);
        assert_eq!((code, text.as_str()), (Some(64), ""), "{arguments:?}: {errors}");
        assert!(errors.starts_with("error: "), "{arguments:?}: {errors}");
    }
    for server in ["127.0.0.1:1", "http://x", "grpc://", "unix:", "grpc://user@host:1"] {
        let (code, _, errors) = Cli::at(server).run(&["cat", &digest]);
        assert_eq!(code, Some(64), "{server}: {errors}");
        assert!(errors.starts_with("error: --server: "), "{server}: {errors}");
    }
    let (code, _, errors) = Cli::at("grpc://127.0.0.1:1").run(&["cat", &digest]);
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("error: upstream grpc://127.0.0.1:1"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_in_the_file_system_and_an_instance_are_a_server_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let main = ("main".to_owned(), InstanceSettings::new(0, 0));
    let only = Instances::Named(HashMap::from([main]));
    let listener = GrpcListener::new(ListenAddress::Unix(path.clone()), only);
    let server = start_listeners(folder.path(), 1, vec![listener]).await.unwrap();
    let file = folder.path().join("file");
    make_file(&file, b"over a socket", false);
    let cli = Cli::at(&format!("unix:{}", path.display()));
    let text = cli.ok(&["upload", file.to_str().unwrap(), "--instance", "main"]);
    let digest = text.split("  ").next().unwrap();
    assert_eq!(cli.ok(&["cat", digest, "--instance", "main"]), "over a socket");
    let (code, _, errors) = cli.run(&["cat", digest, "--instance", "other"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("other"), "{errors}");
    server.shutdown().await.unwrap();
}
