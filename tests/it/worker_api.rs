//! The worker API over a socket: trees become directories, what is made there goes to the store.

#![expect(clippy::disallowed_methods, reason = "the tests do what a worker does")]

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use castellan::grpc::worker::WorkerOptions;
use castellan::server::{InstanceSettings, Instances, StoreKind};
use castellan::store::BlobStore as _;
use castellan::store::Key;
use castellan::store::memory::MemoryOptions;
use castellan::store::tiered::TieredOptions;
use castellan_proto::worker::stage_tree_request::Root;
use castellan_proto::worker::worker_client::WorkerClient;
use castellan_proto::worker::{
    CaptureFilesRequest, CaptureTreeRequest, FetchTreeRequest, GetDiskUsageRequest, LinkMode,
    StageTreeRequest, StagedTree, fetch_tree_request,
};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use crate::support::worker::{Worker, digest, files, put, request, small_tree};
use crate::support::{Blob, TestServer, assert_code, directory, write_requests};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_tree_becomes_a_directory_of_hard_links() {
    let worker = Worker::start().await;
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let (staged, _held) = worker.stage(request(&tree[0], "a")).await.unwrap();
    let StagedTree { files, directories, symlinks, bytes, copied_files, .. } = staged;
    assert_eq!((files, directories, symlinks), (3, 3, 1));
    assert_eq!(bytes, tree[2].digest.size_bytes + tree[3].digest.size_bytes);
    assert!(copied_files <= 1, "{copied_files}");
    let at = |path: &str| worker.root().join("a").join(path);
    assert_eq!(std::fs::read(at("text")).unwrap(), tree[2].data);
    assert_eq!(std::fs::read(at("bin/tool")).unwrap(), tree[3].data);
    assert_eq!(std::fs::read(at("bin/nothing")).unwrap(), b"");
    assert_eq!(std::fs::read_link(at("bin/link")).unwrap(), Path::new("../text"));
    assert!(at("empty").is_dir());
    assert_eq!((mode(&at("text")), mode(&at("bin/tool"))), (0o444, 0o555));
    assert_eq!(mode(&worker.server.directory.path().join("worker.sock")), 0o600);
    assert_eq!(at("text").metadata().unwrap().nlink(), 2);
    let usage = worker.usage().await;
    assert_eq!(usage.leases, 1);
    assert!(usage.pinned_bytes >= bytes && usage.pinned_bytes <= usage.charged_bytes, "{usage:?}");
    worker.stop().await;
}

#[tokio::test]
async fn options_of_a_request_are_followed() {
    let worker = Worker::start().await;
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let parents = worker.root().join("deep/er");
    std::fs::create_dir_all(&parents).unwrap();
    let wanted = StageTreeRequest {
        link_mode: LinkMode::Copy.into(),
        writable_directories: vec!["out/obj".to_owned(), "empty".to_owned()],
        umask: Some(0o077),
        ..request(&tree[0], "deep/er/a")
    };
    let (staged, _held) = worker.stage(wanted).await.unwrap();
    // Nothing is copied for the empty file.
    assert_eq!((staged.files, staged.copied_files), (3, 2));
    let at = |path: &str| parents.join("a").join(path);
    assert!(at("out/obj").is_dir() && at("empty").is_dir());
    assert_eq!(mode(&at("out")), 0o700);
    assert_eq!(at("text").metadata().unwrap().nlink(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn all_that_is_missing_is_said_at_once() {
    let worker = Worker::start().await;
    let absent: Vec<Blob> = (0..2500).map(|number| Blob::new(format!("absent {number}"))).collect();
    let names: Vec<String> = (0..absent.len()).map(|number| format!("f{number:05}")).collect();
    let entries: Vec<_> = names.iter().map(String::as_str).zip(&absent).collect();
    let (many, few) = (directory(&entries, &[]), directory(&entries[..3], &[]));
    put(&worker.server, &[many.clone(), few.clone()]).await;

    for (root, count) in [(&few, 3), (&many, absent.len())] {
        let (missing, status) = worker.stage_missing(request(root, "a")).await;
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        let mut hashes: Vec<_> = missing.into_iter().map(|it| it.hash).collect();
        hashes.sort();
        let mut expected: Vec<_> = absent[..count].iter().map(Blob::digest_hash).collect();
        expected.sort();
        assert_eq!(hashes, expected);
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert!(violations.iter().all(|it| it.r#type == "MISSING"));
        let subjects: Vec<_> = violations.into_iter().map(|it| it.subject).collect();
        let all: Vec<_> = absent[..count].iter().map(Blob::read_name).collect();
        assert!(subjects.iter().all(|it| all.contains(it)), "{subjects:?}");
        let more = format!("{} more", count - subjects.len());
        assert_eq!(status.message().contains(&more), count > 3, "{status:?}");
        assert_eq!(subjects.len() == count, count == 3);
    }
    assert_eq!(worker.listing(), [""; 0]);
    // The root itself.
    let (missing, status) = worker.stage_missing(request(&Blob::new("no root"), "a")).await;
    assert_eq!((missing.len(), status.code()), (1, Code::FailedPrecondition));
    worker.stop().await;
}

#[tokio::test]
async fn hostile_paths_are_refused_and_touch_nothing() {
    let worker = Worker::start().await;
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let outside = worker.server.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, worker.root().join("away")).unwrap();
    std::fs::create_dir(worker.root().join("dir")).unwrap();
    symlink(worker.root().join("dir"), worker.root().join("home")).unwrap();
    std::fs::write(worker.root().join("file"), "").unwrap();
    let long = "x".repeat(300);
    for path in [
        "",
        "/a",
        "..",
        "../a",
        "dir/../../a",
        "dir/..",
        ".",
        "a/",
        "a//b",
        "a\0b",
        "away/a",
        "home/a",
        "file/a",
        &long,
    ] {
        let outcome = worker.stage(request(&tree[0], path)).await;
        assert_code(outcome.map(drop), Code::InvalidArgument);
        let capture = CaptureTreeRequest {
            base: path.to_owned(),
            paths: vec!["x".to_owned()],
            ..CaptureTreeRequest::default()
        };
        if !path.is_empty() {
            let outcome = worker.client.clone().capture_tree(capture).await;
            assert_code(outcome, Code::InvalidArgument);
        }
        let capture = CaptureFilesRequest {
            paths: vec![path.to_owned()],
            give_up_files: true,
            ..CaptureFilesRequest::default()
        };
        let outcome = worker.client.clone().capture_files(capture).await;
        // What is below a file is as good as not there, and the worker root is no file.
        if !["file/a", ""].contains(&path) || outcome.is_err() {
            assert_code(outcome, Code::InvalidArgument);
        }
        let wanted = StageTreeRequest {
            writable_directories: vec![path.to_owned()],
            ..request(&tree[0], "new")
        };
        if !["away/a", "home/a", "file/a"].contains(&path) {
            assert_code(worker.stage(wanted).await.map(drop), Code::InvalidArgument);
        }
    }
    // What is there already, and not empty, and what has no parent.
    std::fs::write(worker.root().join("dir/kept"), "").unwrap();
    let outcome = worker.stage(request(&tree[0], "dir")).await;
    assert_code(outcome.map(drop), Code::AlreadyExists);
    assert_code(worker.stage(request(&tree[0], "no/a")).await.map(drop), Code::NotFound);
    assert_eq!(worker.listing(), ["away", "dir", "file", "home"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    worker.stop().await;
}

#[tokio::test]
async fn requests_that_mean_nothing_are_refused() {
    let worker = Worker::start().await;
    let tree = small_tree();
    put(&worker.server, &tree).await;
    let good = request(&tree[0], "a");
    let mut bad_digest = digest(&tree[0]);
    bad_digest.hash.pop();
    for bad in [
        StageTreeRequest { root: None, ..good.clone() },
        StageTreeRequest { root: Some(Root::InputRootDigest(bad_digest)), ..good.clone() },
        StageTreeRequest { digest_function: 77, ..good.clone() },
        StageTreeRequest { link_mode: 77, ..good.clone() },
        StageTreeRequest { instance_name: "a//b".to_owned(), ..good.clone() },
        // A file is no directory.
        request(&tree[2], "a"),
    ] {
        let outcome = worker.stage(bad).await;
        assert_code(outcome.map(drop), Code::InvalidArgument);
    }
    assert_eq!(worker.listing(), [""; 0]);
    worker.stop().await;
}

async fn upload(channel: &Channel, instance_name: &str, blob: &Blob) {
    let name = format!("{instance_name}/{}", blob.write_name());
    let requests = write_requests(&name, &blob.data, 64 << 10);
    let mut client =
        castellan_proto::byte_stream::byte_stream_client::ByteStreamClient::new(channel.clone());
    client.write(tokio_stream::iter(requests)).await.unwrap();
}

fn named(instances: &[(&str, usize)]) -> Instances {
    let instances =
        instances.iter().map(|(name, at)| ((*name).to_owned(), InstanceSettings::new(*at, *at)));
    Instances::Named(instances.collect::<HashMap<_, _>>())
}

#[tokio::test]
async fn each_instance_stages_what_it_has() {
    let stores = |directory: &Path| {
        vec![
            files(directory, "one"),
            files(directory, "two"),
            StoreKind::Memory(MemoryOptions::new(64 << 20)),
        ]
    };
    let instances = named(&[("one", 0), ("two", 1), ("memory", 2)]);
    let worker = Worker::start_on(stores, instances, WorkerOptions::default()).await;
    let tree = small_tree();
    for blob in &tree {
        upload(&worker.server.channel, "one", blob).await;
    }
    let of = |instance_name: &str| StageTreeRequest {
        instance_name: instance_name.to_owned(),
        ..request(&tree[0], "a")
    };
    let (missing, status) = worker.stage_missing(of("two")).await;
    assert_eq!((missing.len(), status.code()), (1, Code::FailedPrecondition));
    let status = assert_code(worker.stage(of("memory")).await.map(drop), Code::Unimplemented);
    assert!(status.message().contains("its blobs are in memory"), "{status:?}");
    assert_code(worker.stage(of("three")).await.map(drop), Code::InvalidArgument);
    let (_, held) = worker.stage(of("one")).await.unwrap();
    let usage = async |instance_name: &str| {
        let request = GetDiskUsageRequest { instance_name: instance_name.to_owned() };
        worker.client.clone().get_disk_usage(request).await.map(|it| it.into_inner().leases)
    };
    assert_eq!((usage("one").await.unwrap(), usage("two").await.unwrap()), (1, 0));
    assert_code(usage("memory").await, Code::Unimplemented);
    drop(held);
    worker.stop().await;
}

#[tokio::test]
async fn what_a_worker_made_is_stored_and_staged_again() {
    let worker = Worker::start().await;
    let made = worker.root().join("made");
    std::fs::create_dir_all(made.join("out/sub/empty")).unwrap();
    std::fs::write(made.join("out/sub/text"), "made").unwrap();
    std::fs::write(made.join("out/tool"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(made.join("out/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("sub/text", made.join("out/link")).unwrap();
    let paths = |paths: &[&str]| paths.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let tree = CaptureTreeRequest {
        base: "made".to_owned(),
        paths: paths(&["out", "nothing"]),
        ..CaptureTreeRequest::default()
    };
    let captured = worker.client.clone().capture_tree(tree).await.unwrap().into_inner();
    let [out] = &captured.directories[..] else { panic!("{captured:?}") };
    assert_eq!((out.path.as_str(), out.files, out.bytes), ("out", 2, 14));

    let single = CaptureFilesRequest {
        base: "made".to_owned(),
        // Directories among them are left out, for CaptureTree.
        paths: paths(&["out/tool", "nothing", "out/sub", "out/link"]),
        give_up_files: true,
        ..CaptureFilesRequest::default()
    };
    let captured = worker.client.clone().capture_files(single).await.unwrap().into_inner();
    let [tool] = &captured.files[..] else { panic!("{captured:?}") };
    assert_eq!((tool.path.as_str(), tool.is_executable), ("out/tool", true));
    assert_eq!(tool.digest, Some(digest(&Blob::new("#!/bin/sh\n"))));
    let [link] = &captured.symlinks[..] else { panic!("{captured:?}") };
    assert_eq!((link.path.as_str(), link.target.as_str()), ("out/link", "sub/text"));

    let file = CaptureTreeRequest {
        base: "made".to_owned(),
        paths: paths(&["out/sub/text"]),
        ..CaptureTreeRequest::default()
    };
    assert_code(worker.client.clone().capture_tree(file).await, Code::InvalidArgument);

    let roots = [
        Root::InputRootDigest(out.root_directory_digest.clone().unwrap()),
        Root::TreeDigest(out.tree_digest.clone().unwrap()),
    ];
    for (path, root) in ["a", "b"].into_iter().zip(roots) {
        let request = StageTreeRequest {
            root: Some(root),
            path: path.to_owned(),
            ..StageTreeRequest::default()
        };
        let (_, _held) = worker.stage(request).await.unwrap();
        let again = worker.root().join(path);
        assert_eq!(std::fs::read(again.join("sub/text")).unwrap(), b"made");
        assert_eq!(mode(&again.join("tool")), 0o555);
        assert!(again.join("sub/empty").is_dir());
        assert_eq!(std::fs::read_link(again.join("link")).unwrap(), Path::new("sub/text"));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_tree_is_fetched_before_it_is_needed() {
    let stores = |directory: &Path| {
        vec![
            files(directory, "near"),
            StoreKind::Memory(MemoryOptions::new(64 << 20)),
            StoreKind::Tiered { fast: 0, slow: 1, options: TieredOptions::default() },
        ]
    };
    let instances = named(&[("far", 1), ("main", 2)]);
    let worker = Worker::start_on(stores, instances, WorkerOptions::default()).await;
    let tree = small_tree();
    let wanted = FetchTreeRequest {
        instance_name: "main".to_owned(),
        root: Some(fetch_tree_request::Root::InputRootDigest(digest(&tree[0]))),
        ..FetchTreeRequest::default()
    };
    let mut client = worker.client.clone();
    let mut stream = client.fetch_tree(wanted.clone()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().missing, [digest(&tree[0])]);
    assert_code(stream.message().await, Code::FailedPrecondition);

    for blob in &tree {
        upload(&worker.server.channel, "far", blob).await;
    }
    let mut stream = client.fetch_tree(wanted).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        last = Some(message);
    }
    let last = last.unwrap();
    assert!(last.is_done);
    assert_eq!(last.progress.unwrap().files_done, last.progress.unwrap().files_total);
    let keys: Vec<_> = tree.iter().map(|blob| Key::blob(blob.digest)).collect();
    assert_eq!(worker.server.store().find_missing(&keys).await.unwrap(), [false; 4]);
    worker.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_one_user_and_a_port_is_served_as_well() {
    let worker = Worker::start().await;
    let socket = worker.server.directory.path().join("worker.sock");
    assert_eq!(mode(&socket), 0o600);
    let addresses = worker.server.server.worker_addresses();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0].to_string(), format!("unix:{}", socket.display()));
    let channel = Channel::from_shared(format!("http://{}", addresses[1])).unwrap();
    let mut client = WorkerClient::new(channel.connect().await.unwrap());
    let usage = client.get_disk_usage(GetDiskUsageRequest::default()).await.unwrap().into_inner();
    assert_eq!((usage.max_bytes, usage.leases), (256 << 20, 0));
    // Workers have a listener of their own.
    let TestServer { channel, .. } = &worker.server;
    let mut elsewhere = WorkerClient::new(channel.clone());
    let outcome = elsewhere.get_disk_usage(GetDiskUsageRequest::default()).await;
    assert_code(outcome, Code::Unimplemented);
    drop(client);
    worker.stop().await;
    assert!(!socket.exists());
}
