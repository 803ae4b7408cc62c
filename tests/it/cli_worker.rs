//! `castellan stage`, `capture`, `release`, `fetch` and `disk-usage` on the machine of a server.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use castellan_proto::protobuf::{Timestamp, UInt32Value};
use castellan_proto::v2;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::cli::{Cli, Entry, make_file, snapshot};
use crate::support::worker::{Worker, put, small_tree};
use crate::support::{Blob, directory};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stage_prints_the_lease_alone() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let root = tree[0].digest.to_string();
    let (code, lease, errors) = cli.run(&["stage", &root, "a"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.starts_with("3 files, "), "{errors}");
    assert_eq!(lease.lines().count(), 1, "{lease}");
    assert!(worker.root().join("a/bin/tool").exists());
    cli.ok(&["release", lease.trim_end(), "--remove"]);
    let lease = cli.ok(&["stage", "--quiet", &format!("dir:{root}"), "a"]);
    cli.ok(&["release", lease.trim_end(), "--remove"]);
    let staged = cli.json(&["stage", &format!("dir:sha256/{root}"), "a"]);
    assert_eq!((&staged["files"], &staged["symlinks"]), (&3.into(), &1.into()), "{staged}");
    let lease = staged["lease_id"].as_str().unwrap();
    cli.ok(&["release", lease, "--remove"]);
    assert!(worker.listing().is_empty());
    let (code, _, errors) = cli.run(&["release", lease]);
    assert_eq!(code, Some(1), "{errors}");
    // Only what was staged is removed.
    let lease = cli.ok(&["stage", "--quiet", &root, "a"]);
    std::fs::remove_dir_all(worker.root().join("a")).unwrap();
    std::fs::create_dir(worker.root().join("a")).unwrap();
    let (code, _, errors) = cli.run(&["release", lease.trim_end(), "--remove"]);
    assert_eq!((code, worker.listing()), (Some(0), vec!["a".to_owned()]));
    assert!(errors.starts_with("nothing removed: "), "{errors}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_are_read_and_printed_as_everywhere() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let folder = tempfile::tempdir().unwrap();
    make_file(&folder.path().join("run"), b"#!/bin/sh\n", true);
    make_file(&folder.path().join("sub/text"), b"text", false);
    let before = snapshot(folder.path());
    for (number, function) in ["sha256", "blake3"].into_iter().enumerate() {
        let flags = ["--digest-function", function];
        let path = folder.path().to_str().unwrap();
        let text = cli.ok(&[&["upload", path], &flags[..]].concat());
        let digest = text.split("  ").next().unwrap();
        let uploaded = cli.json(&[&["upload", path], &flags[..]].concat());
        let tree = format!("tree:{}", uploaded["tree_digest"].as_str().unwrap());
        for (kind, digest) in [("dir", digest), ("tree", &tree)] {
            let target = format!("{number}-{kind}");
            cli.ok(&["stage", "--quiet", digest, &target]);
            assert_eq!(snapshot(&worker.root().join(&target)), before, "{digest}");
            cli.ok(&["fetch", digest]);
        }
        let target = format!("{number}-dir");
        let capture = [&["capture", &target, "run", "sub", "nothing"], &flags[..]].concat();
        let lines = cli.ok(&capture);
        let (run, sub) = lines.split_once('\n').unwrap();
        let run = run.strip_suffix("  run").unwrap();
        assert_eq!(cli.ok(&["cat", run]), "#!/bin/sh\n");
        assert_eq!(run.starts_with("blake3/"), function == "blake3", "{run}");
        let (sub, path) = sub.trim_end().split_once("  ").unwrap();
        assert_eq!(path, "sub");
        let copy = folder.path().with_extension(function);
        cli.ok(&["download", sub, copy.to_str().unwrap()]);
        assert!(matches!(&snapshot(&copy)["text"], Entry::File(data, false) if data == b"text"));
        std::fs::remove_dir_all(copy).unwrap();
    }
    let digest = Blob::new("blob").digest.to_string();
    for wrong in ["abc", &digest.to_uppercase(), &format!("blob:{digest}"), &digest[..64]] {
        for command in [vec!["stage", wrong, "x"], vec!["fetch", wrong]] {
            let (code, text, errors) = cli.run(&command);
            assert_eq!((code, text.as_str()), (Some(64), ""), "{command:?}: {errors}");
            assert!(errors.starts_with("error: DIGEST: "), "{command:?}: {errors}");
        }
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_an_output_is_captured() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let base = worker.root().join("job");
    make_file(&base.join("file"), b"file", false);
    make_file(&base.join("folder/below"), b"below", true);
    std::fs::create_dir(base.join("empty")).unwrap();
    symlink("file", base.join("link")).unwrap();
    let paths = ["folder", "file", "nothing", "link", "empty"];
    let captured = cli.json(&[&["capture", "job"], &paths[..]].concat());
    let path_of = |name: &str| -> Vec<&Value> {
        captured[name].as_array().unwrap().iter().map(|it| &it["path"]).collect()
    };
    assert_eq!(path_of("directories"), ["folder", "empty"]);
    assert_eq!(path_of("files"), ["file"]);
    assert_eq!(captured["symlinks"], json!([{ "path": "link", "target": "file" }]));
    let lines = cli.ok(&[&["capture", "job"], &paths[..]].concat());
    assert_eq!(lines.lines().count(), 4, "{lines}");
    assert!(lines.contains(&format!("{}  file\n", Blob::new("file").digest)), "{lines}");
    let nothing = json!({ "files": [], "symlinks": [], "directories": [] });
    assert_eq!(cli.json(&["capture", "job"]), nothing);
    assert_eq!(cli.json(&["capture", "job", "nothing"]), nothing);
    assert_eq!(cli.ok(&["capture", "job"]), "");
    assert_eq!(cli.run(&["capture", "nowhere", "file"]).0, Some(1));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_belongs_to_whom_it_is_said_to() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let own = worker.root().metadata().unwrap();
    // Who is not root gives to himself only.
    let (uid, gid) = if own.uid() == 0 { (12_345, 23_456) } else { (own.uid(), own.gid()) };
    let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
    let root = tree[0].digest.to_string();
    let stage = ["stage", "--quiet", &root, "a", "--link-mode", "copy"];
    cli.ok(&[&stage[..], &["--uid", &uid_text, "--gid", &gid_text, "--umask", "027"]].concat());
    for (path, expected) in [("bin", 0o750), ("text", 0o440), ("bin/tool", 0o550)] {
        let path = worker.root().join("a").join(path);
        let metadata = path.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{path:?}");
        assert_eq!(mode(&path), expected, "{path:?}");
    }
    for umask in ["8", "1000", "-1", "u=rwx"] {
        let (code, _, errors) = cli.run(&["stage", &root, "b", &format!("--umask={umask}")]);
        assert!(code == Some(64) && errors.contains("--umask"), "{umask}: {errors}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_looks_like_a_staged_tree() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let folder = tempfile::tempdir().unwrap();
    let blob = Blob::new("bytes");
    let properties = |unix_mode: Option<u32>| {
        let unix_mode = unix_mode.map(|value| UInt32Value { value });
        let mtime = Some(Timestamp { seconds: 1_000_000_000, nanos: 0 });
        Some(v2::NodeProperties { mtime, unix_mode, ..v2::NodeProperties::default() })
    };
    let file = |name: &str, is_executable, unix_mode| v2::FileNode {
        name: name.to_owned(),
        digest: Some(blob.v2()),
        is_executable,
        node_properties: properties(unix_mode),
    };
    let link = v2::SymlinkNode {
        name: "link".to_owned(),
        target: "nowhere".to_owned(),
        node_properties: properties(None),
    };
    let tree = v2::Directory {
        files: vec![
            file("a", true, Some(0o644)),
            file("b", false, Some(0o4777)),
            file("c", false, Some(0o600)),
            file("d", true, Some(0o400)),
        ],
        symlinks: vec![link],
        ..v2::Directory::default()
    };
    let tree = Blob::new(tree.encode_to_vec());
    put(&worker.server, &[tree.clone(), blob.clone()]).await;
    std::fs::create_dir(folder.path().join("made")).unwrap();
    let umask = 0o777 & !mode(&folder.path().join("made"));
    let digest = format!("dir:{}", tree.digest);
    cli.ok(&["stage", "--quiet", &digest, "a", "--umask", &format!("{umask:o}")]);
    let target = folder.path().join("target");
    cli.ok(&["download", &digest, target.to_str().unwrap()]);
    for name in ["a", "b", "c", "d", "link"] {
        let (staged, downloaded) = (worker.root().join("a").join(name), target.join(name));
        assert_eq!(mode(&staged), mode(&downloaded), "{name}");
        let mtime = downloaded.symlink_metadata().unwrap().mtime();
        assert_eq!(staged.symlink_metadata().unwrap().mtime(), mtime, "{name}");
        assert_eq!(mtime, 1_000_000_000, "{name}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_deep_to_be_staged_is_too_deep_to_be_downloaded() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let folder = tempfile::tempdir().unwrap();
    let mut chain = vec![directory(&[], &[])];
    for _ in 0..512 {
        let above = directory(&[], &[("d", chain.last().unwrap())]);
        chain.push(above);
    }
    put(&worker.server, &chain[1..]).await;
    for (root, expected) in [(&chain[511], 0), (&chain[512], 1)] {
        let (digest, name) = (format!("dir:{}", root.digest), expected.to_string());
        let to = folder.path().join(&name);
        let download = cli.run(&["download", &digest, to.to_str().unwrap()]);
        for (code, _, errors) in [cli.run(&["stage", &digest, &name]), download] {
            assert_eq!(code, Some(expected), "{errors}");
            assert!(errors.contains("512 levels") == (expected == 1), "{errors}");
        }
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_held_is_said() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let (first, second) = (Blob::new("first"), Blob::new("second"));
    let root = directory(&[("a", &first), ("b", &second)], &[]);
    worker.server.put(&[&root]).await;
    let digest = root.digest.to_string();
    for command in [vec!["stage", &digest, "x"], vec!["fetch", &digest]] {
        let (code, text, errors) = cli.run(&command);
        assert_eq!((code, text.as_str()), (Some(1), ""), "{command:?}: {errors}");
        assert!(errors.starts_with("error: 2 blobs are missing:"), "{command:?}: {errors}");
        for blob in [&first, &second] {
            assert!(errors.contains(&blob.digest.to_string()), "{command:?}: {errors}");
        }
    }
    worker.server.put(&[&first, &second]).await;
    assert_eq!(cli.ok(&["fetch", &digest]), "");
    assert_eq!(cli.json(&["disk-usage"])["leases"], 0);
    cli.ok(&["stage", "--quiet", &digest, "x"]);
    let usage = cli.json(&["disk-usage"]);
    assert_eq!(usage["leases"], 1, "{usage}");
    assert!(usage["pinned_bytes"].as_u64() >= Some(11), "{usage}");
    let table = cli.ok(&["disk-usage"]);
    assert!(table.contains("leases of staged trees"), "{table}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_workers_is_told_from_no_server() {
    let worker = Worker::start().await;
    let cli = Cli::of_worker(&worker);
    let digest = Blob::new("blob").digest.to_string();
    let port = worker.server.server.grpc_address().unwrap().to_string();
    let commands = [
        vec!["stage", &digest, "x"],
        vec!["release", "x"],
        vec!["capture", "x"],
        vec!["fetch", &digest],
        vec!["disk-usage"],
    ];
    for command in &commands {
        for (address, problem) in [
            (port.as_str(), "there is no worker API at this address"),
            ("unix:/nowhere/at-all", "no server answers on unix:/nowhere/at-all"),
        ] {
            let arguments = [&command[..], &["--worker", address]].concat();
            let (code, text, errors) = cli.run(&arguments);
            assert_eq!((code, text.as_str()), (Some(1), ""), "{arguments:?}: {errors}");
            assert!(errors.contains(problem), "{arguments:?}: {errors}");
        }
    }
    worker.stop().await;
}
