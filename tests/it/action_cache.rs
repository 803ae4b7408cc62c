//! `ActionCache`: the bytes that were sent, while everything they name is present (reapi 80-88).

use bytes::Bytes;
use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::messages::{GetActionResultRequest, UpdateActionResultRequest};
use castellan_proto::v2;
use prost::Message as _;
use tonic::Code;

use crate::support::{
    Blob, FullResult, METHODS, TestServer, assert_code, directory, hold_space, output_file,
    raw_call, start_small, start_tight, tree, turn_over,
};

/// A result that names nothing.
fn exit(exit_code: i32) -> Vec<u8> {
    v2::ActionResult { exit_code, ..v2::ActionResult::default() }.encode_to_vec()
}

#[tokio::test]
async fn reapi_80_a_miss_is_not_found_and_names_the_action() {
    let server = TestServer::start().await;
    let action = Blob::new("action");
    let status = assert_code(server.get_result(&action).await, Code::NotFound);
    assert!(status.message().contains(action.digest.hash_hex().as_str()), "{status:?}");
    // That the action's own blob is there does not make a result.
    server.put(&[&action]).await;
    assert_code(server.get_result(&action).await, Code::NotFound);
    server.update_result(&action, exit(1)).await.unwrap();
    assert_eq!(server.get_result(&action).await.unwrap(), exit(1));
}

#[tokio::test]
async fn reapi_81_a_result_is_withheld_until_each_blob_it_names_is_present() {
    let server = TestServer::start().await;
    let kinds = FullResult::new("any").parts.len();
    for missing in 0..kinds {
        let full = FullResult::new(&format!("without part {missing}"));
        let mut others = full.blobs();
        let missing = full.parts[missing].clone();
        others.retain(|blob| blob.digest != missing.1.digest);
        server.put(&others).await;
        let encoded = full.result.encode_to_vec();
        server.update_result(&full.action, encoded.clone()).await.unwrap();
        let outcome = server.get_result(&full.action).await;
        assert!(outcome.is_err(), "a hit without its {}", missing.0);
        assert_code(outcome, Code::NotFound);
        server.put(&[&missing.1]).await;
        assert_eq!(server.get_result(&full.action).await.unwrap(), encoded, "{}", missing.0);
    }
}

/// Trees of tens of megabytes exist; nothing in a big one may be overlooked.
#[tokio::test]
async fn reapi_81_the_last_file_of_a_tree_of_12_mib_counts() {
    let server = TestServer::start().await;
    let [common, last] = ["common", "last"].map(Blob::new);
    let names: Vec<String> = (0..12_000).map(|n| format!("{n:0>1000}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), &common)).collect();
    let leaf = directory(&[("last", &last)], &[]);
    let root = directory(&files, &[("leaf", &leaf)]);
    let tree = tree(&[&root, &leaf]);
    assert!(tree.data.len() > 12 << 20);
    server.put(&[&common, &tree]).await;
    let output = v2::OutputDirectory {
        path: "out".to_owned(),
        tree_digest: Some(tree.v2()),
        ..v2::OutputDirectory::default()
    };
    let result =
        v2::ActionResult { output_directories: vec![output], ..v2::ActionResult::default() };
    let action = Blob::new("action");
    server.update_result(&action, result.encode_to_vec()).await.unwrap();
    assert_code(server.get_result(&action).await, Code::NotFound);
    server.put(&[&last]).await;
    assert_eq!(server.get_result(&action).await.unwrap(), result.encode_to_vec());
}

/// The empty blob is never uploaded, so a result may name it anywhere.
#[tokio::test]
async fn reapi_81_9_empty_blobs_need_not_be_present() {
    let server = TestServer::start().await;
    let empty = Blob::new("");
    let root = directory(&[("empty", &empty)], &[("empty", &empty)]);
    let tree = tree(&[&root, &empty]);
    server.put(&[&root, &tree]).await;
    let outputs = [
        (Some(tree.v2()), None),
        (Some(empty.v2()), None),
        (None, Some(empty.v2())),
        (None, Some(root.v2())),
        (Some(tree.v2()), Some(root.v2())),
    ];
    let outputs =
        outputs.into_iter().enumerate().map(|(at, (tree_digest, root))| v2::OutputDirectory {
            path: format!("out{at}"),
            tree_digest,
            root_directory_digest: root,
            ..v2::OutputDirectory::default()
        });
    let result = v2::ActionResult {
        output_files: vec![output_file("empty", &empty)],
        output_directories: outputs.collect(),
        stdout_digest: Some(empty.v2()),
        stderr_digest: Some(empty.v2()),
        ..v2::ActionResult::default()
    };
    let encoded = result.encode_to_vec();
    server.update_result(&empty, encoded.clone()).await.unwrap();
    assert_eq!(server.get_result(&empty).await.unwrap(), encoded);
    let inlined = server.inlined_result(&empty, [true, true], &["empty"]).await.unwrap();
    assert_eq!(inlined, encoded);
}

/// A client downloads what a hit names minutes later.
#[tokio::test]
async fn reapi_81_a_hit_keeps_everything_it_names() {
    let server = start_small().await;
    let [kept, other] = ["kept", "other"].map(FullResult::new);
    for full in [&kept, &other] {
        server.put(&full.blobs()).await;
        server.update_result(&full.action, full.result.encode_to_vec()).await.unwrap();
    }
    turn_over(&server, async || {
        server.get_result(&kept.action).await.unwrap();
    })
    .await;
    assert_eq!(server.missing(&kept.blobs()).await.len(), 0);
    assert_eq!(server.missing(&other.blobs()).await.len(), other.parts.len());
    assert_code(server.get_result(&other.action).await, Code::NotFound);
}

/// What evicts outputs, and not the result that names them, makes a miss.
#[tokio::test]
async fn reapi_81_a_result_whose_outputs_were_evicted_is_a_miss() {
    let server = start_small().await;
    let full = FullResult::new("evicted");
    server.put(&full.blobs()).await;
    let encoded = full.result.encode_to_vec();
    turn_over(&server, async || {
        server.update_result(&full.action, encoded.clone()).await.unwrap();
    })
    .await;
    assert_code(server.get_result(&full.action).await, Code::NotFound);
    server.put(&full.blobs()).await;
    assert_eq!(server.get_result(&full.action).await.unwrap(), encoded);
}

#[tokio::test]
async fn reapi_82_inlining_happens_on_request_only_and_keeps_the_digests() {
    let server = TestServer::start().await;
    let [stdout, stderr] = ["to stdout", "to stderr"].map(Blob::new);
    let files = [Blob::random(1, 10_000), Blob::random(2, 10_000)];
    server.put(&[&stdout, &stderr, &files[0], &files[1]]).await;
    let plain = v2::ActionResult {
        output_files: vec![output_file("a/b", &files[0]), output_file("a", &files[1])],
        stdout_digest: Some(stdout.v2()),
        stderr_digest: Some(stderr.v2()),
        ..v2::ActionResult::default()
    };
    let action = Blob::new("action");
    server.update_result(&action, plain.encode_to_vec()).await.unwrap();
    assert_eq!(server.get_result(&action).await.unwrap(), plain.encode_to_vec());

    for (streams, paths) in [
        ([true, false], &[][..]),
        ([false, true], &[]),
        ([true, true], &["a"]),
        ([false, false], &["a/b", "absent", "a/"]),
        ([true, true], &["a", "a/b", "a"]),
    ] {
        let mut expected = plain.clone();
        if streams[0] {
            expected.stdout_raw = stdout.data.to_vec();
        }
        if streams[1] {
            expected.stderr_raw = stderr.data.to_vec();
        }
        for (file, blob) in expected.output_files.iter_mut().zip(&files) {
            if paths.contains(&file.path.as_str()) {
                file.contents = blob.data.to_vec();
            }
        }
        let encoded = server.inlined_result(&action, streams, paths).await.unwrap();
        assert_eq!(v2::ActionResult::decode(encoded).unwrap(), expected, "{streams:?} {paths:?}");
    }
    // What was stored is unchanged.
    assert_eq!(server.get_result(&action).await.unwrap(), plain.encode_to_vec());
}

/// Whatever is asked for, the result stays below the 4 MiB that clients decode.
#[tokio::test]
async fn reapi_82_what_does_not_fit_stays_a_digest() {
    let server = TestServer::start().await;
    let huge = Blob::random(1, 10 << 20);
    let files: Vec<_> = (2..10).map(|seed| Blob::random(seed, 900_000)).collect();
    server.put(&files.iter().chain([&huge]).collect::<Vec<_>>()).await;
    let paths: Vec<String> = (0..files.len()).map(|at| format!("file{at}")).collect();
    let mut outputs: Vec<_> =
        paths.iter().zip(&files).map(|(path, blob)| output_file(path, blob)).collect();
    outputs.push(output_file("huge", &huge));
    let plain = v2::ActionResult {
        output_files: outputs,
        stdout_digest: Some(huge.v2()),
        ..v2::ActionResult::default()
    };
    let action = Blob::new("action");
    server.update_result(&action, plain.encode_to_vec()).await.unwrap();
    let mut asked: Vec<&str> = paths.iter().map(String::as_str).collect();
    asked.push("huge");
    let encoded = server.inlined_result(&action, [true, true], &asked).await.unwrap();
    assert!(encoded.len() < 4 << 20, "{} bytes", encoded.len());
    let mut result = v2::ActionResult::decode(encoded).unwrap();
    assert!(result.stdout_raw.is_empty());
    let inlined = result.output_files.iter().filter(|it| !it.contents.is_empty()).count();
    assert!((1..files.len()).contains(&inlined), "{inlined} inlined");
    for (file, blob) in result.output_files.iter_mut().zip(&files) {
        assert!(file.contents.is_empty() || file.contents == blob.data);
        file.contents.clear();
    }
    assert_eq!(result, plain);
}

/// Clients should not send inlined data. If they do, it is kept beside the digests, and the digests
/// count as ever.
#[tokio::test]
async fn reapi_83_inlined_data_in_an_update_is_kept_and_replaces_no_blob() {
    let server = TestServer::start().await;
    let [file, stdout] = ["file", "stdout"].map(Blob::new);
    let result = v2::ActionResult {
        output_files: vec![v2::OutputFile {
            contents: file.data.to_vec(),
            ..output_file("file", &file)
        }],
        stdout_raw: stdout.data.to_vec(),
        stdout_digest: Some(stdout.v2()),
        stderr_raw: b"has no digest".to_vec(),
        ..v2::ActionResult::default()
    };
    let action = Blob::new("action");
    server.update_result(&action, result.encode_to_vec()).await.unwrap();
    assert_code(server.get_result(&action).await, Code::NotFound);
    server.put(&[&file, &stdout]).await;
    assert_eq!(server.get_result(&action).await.unwrap(), result.encode_to_vec());
}

#[tokio::test]
async fn reapi_84_the_later_result_wins_whatever_its_length() {
    let server = TestServer::start_on_files().await;
    let action = Blob::new("action");
    // 16385 bytes that differ in the last only are what another server loses.
    let of = |last: u8, len: usize| v2::ActionResult {
        stdout_raw: [vec![7; len - 1], vec![last]].concat(),
        ..v2::ActionResult::default()
    };
    for len in [1, 1, 100, 16_381, 16_381, 100_000, 2, 16_380] {
        for last in [1, 2, 1] {
            let encoded = of(last, len).encode_to_vec();
            let echoed = server.update_result(&action, encoded.clone()).await.unwrap();
            assert_eq!(echoed, encoded);
            assert_eq!(server.get_result(&action).await.unwrap(), encoded);
        }
    }
    assert_eq!(server.store().stats().entries, 1);
}

#[tokio::test]
async fn reapi_84_a_read_only_action_cache_says_so_and_denies_updates() {
    let settings = InstanceSettings::new(0, 0).read_only();
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    let instances = Instances::Any(settings);
    let options = GrpcOptions::default();
    let server = TestServer::start_settings(directory, store, instances, options).await;
    let request = v2::GetCapabilitiesRequest::default();
    let reply = server.capabilities().get_capabilities(request).await.unwrap().into_inner();
    let cache = reply.cache_capabilities.unwrap();
    assert!(!cache.action_cache_update_capabilities.unwrap().update_enabled);
    let action = Blob::new("action");
    let outcome = server.update_result(&action, exit(1)).await;
    let status = assert_code(outcome, Code::PermissionDenied);
    assert!(status.message().contains("read-only"), "{status:?}");
    assert_code(server.get_result(&action).await, Code::NotFound);
    // Blobs are another matter.
    server.put(&[&action]).await;
}

#[tokio::test]
async fn reapi_84_95_no_space_for_a_result_is_resource_exhausted_and_retryable() {
    use tonic_types::StatusExt as _;
    let server = start_tight().await;
    let action = Blob::new("action");
    server.update_result(&action, exit(1)).await.unwrap();
    let held = hold_space(&server, 2_200_000).await;
    let big = v2::ActionResult { stdout_raw: vec![7; 2_000_000], ..v2::ActionResult::default() };
    let outcome = server.update_result(&action, big.encode_to_vec()).await;
    let status = assert_code(outcome, Code::ResourceExhausted);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    held.finish().await;
    server.update_result(&action, big.encode_to_vec()).await.unwrap();
    assert_eq!(server.get_result(&action).await.unwrap(), big.encode_to_vec());
}

/// It encodes to no bytes at all.
#[tokio::test]
async fn reapi_85_an_empty_result_is_a_result() {
    let server = TestServer::start().await;
    let action = Blob::new("action");
    for _ in 0..3 {
        assert_eq!(server.update_result(&action, Bytes::new()).await.unwrap(), "");
        assert_eq!(server.get_result(&action).await.unwrap(), "");
        assert_eq!(server.inlined_result(&action, [true; 2], &["x"]).await.unwrap(), "");
    }
    // And it can be replaced by one that says more.
    server.update_result(&action, exit(1)).await.unwrap();
    assert_eq!(server.get_result(&action).await.unwrap(), exit(1));
}

#[tokio::test]
async fn reapi_86_the_key_is_instance_function_and_hash() {
    let server = TestServer::start().await;
    let digest = Blob::new("action").wire();
    let other_size = castellan_proto::messages::Digest { size_bytes: 7, ..digest.clone() };
    let mut keys = Vec::new();
    for instance_name in ["", "a", "b", "a/b", "a/b/c"] {
        for digest_function in [1, 9] {
            keys.push((instance_name, digest_function, Some(digest.clone())));
        }
    }
    for (stored, (instance_name, digest_function, action_digest)) in keys.iter().enumerate() {
        let mut client = server.action_cache();
        for (at, (instance_name, digest_function, action_digest)) in keys.iter().enumerate() {
            let request = GetActionResultRequest {
                instance_name: (*instance_name).to_owned(),
                action_digest: action_digest.clone(),
                digest_function: *digest_function,
                ..GetActionResultRequest::default()
            };
            let outcome = client.get_action_result(request).await;
            if at < stored {
                let expected = exit(i32::try_from(at).unwrap() + 1);
                assert_eq!(outcome.unwrap().into_inner().encoded, expected);
            } else {
                assert_code(outcome, Code::NotFound);
            }
        }
        let request = UpdateActionResultRequest {
            instance_name: (*instance_name).to_owned(),
            action_digest: action_digest.clone(),
            action_result: Some(exit(i32::try_from(stored).unwrap() + 1).into()),
            digest_function: *digest_function,
        };
        client.update_action_result(request).await.unwrap();
    }
    // Clients that speak HTTP know no sizes: that of the action is no part of it.
    let request = GetActionResultRequest {
        action_digest: Some(other_size),
        ..GetActionResultRequest::default()
    };
    let found = server.action_cache().get_action_result(request).await.unwrap();
    assert_eq!(found.into_inner().encoded, exit(1));
}

#[tokio::test]
async fn reapi_86_a_result_of_the_limit_fits_a_4_mib_client_and_one_byte_more_is_refused() {
    const LIMIT: usize = (4 << 20) - (64 << 10);
    let server = TestServer::start().await;
    let action = Blob::new("action");
    let of = |len: usize| {
        let framing = 5;
        let stdout_raw = vec![7; len - framing];
        let encoded = v2::ActionResult { stdout_raw, ..v2::ActionResult::default() };
        let encoded = encoded.encode_to_vec();
        assert_eq!(encoded.len(), len);
        encoded
    };
    server.update_result(&action, of(LIMIT)).await.unwrap();
    let request = GetActionResultRequest {
        action_digest: Some(action.wire()),
        inline_stdout: true,
        ..GetActionResultRequest::default()
    };
    let reply = server.action_cache().get_action_result(request).await.unwrap();
    assert_eq!(reply.into_inner().encoded, of(LIMIT));

    let outcome = server.update_result(&action, of(LIMIT + 1)).await;
    let status = assert_code(outcome, Code::InvalidArgument);
    assert!(status.message().contains("action_result"), "{status:?}");
    assert!(status.message().contains(&LIMIT.to_string()), "{status:?}");
    assert_eq!(server.get_result(&action).await.unwrap(), of(LIMIT));
}

/// Fields of later versions of the protocol, at every level, in any order.
#[tokio::test]
async fn reapi_87_a_hit_is_the_bytes_that_were_sent() {
    let server = TestServer::start().await;
    let full = FullResult::new("unknown fields");
    server.put(&full.blobs()).await;
    let plain = full.result.encode_to_vec();
    let unknown: [&[u8]; 6] = [
        b"\xfa\x3f\x05hello",
        b"\xf8\x3f\x2a",
        b"\xf5\x3f\x01\x02\x03\x04",
        b"\xf1\x3f\x01\x02\x03\x04\x05\x06\x07\x08",
        // A varint in more bytes than it needs.
        b"\xf8\x3f\xaa\x80\x00",
        // A group, which no new message has.
        b"\xfb\x3f\xfc\x3f",
    ];
    for unknown in unknown {
        for encoded in [[&plain, unknown].concat(), [unknown, &plain].concat()] {
            server.update_result(&full.action, encoded.clone()).await.unwrap();
            assert_eq!(server.get_result(&full.action).await.unwrap(), encoded);
        }
        let inlined = server.update_result(&full.action, [&plain, unknown].concat()).await;
        inlined.unwrap();
        let inlined = server.inlined_result(&full.action, [true; 2], &["out/file"]).await.unwrap();
        let found = inlined.windows(unknown.len()).any(|window| window == unknown);
        assert!(found, "inlining lost {unknown:?}");
        let result = v2::ActionResult::decode(inlined).unwrap();
        assert_eq!(result.output_files[0].contents, full.parts[0].1.data);
    }
    let auxiliary = v2::ExecutedActionMetadata {
        worker: "w".to_owned(),
        auxiliary_metadata: vec![castellan_proto::protobuf::Any {
            type_url: "type.example/Unknown".to_owned(),
            value: vec![0xff, 0, 1],
        }],
        ..v2::ExecutedActionMetadata::default()
    };
    let result = v2::ActionResult { execution_metadata: Some(auxiliary), ..full.result.clone() };
    server.update_result(&full.action, result.encode_to_vec()).await.unwrap();
    assert_eq!(server.get_result(&full.action).await.unwrap(), result.encode_to_vec());
}

#[tokio::test]
async fn reapi_88_trees_are_kept_as_they_are_and_both_digests_count() {
    let server = TestServer::start().await;
    let file = Blob::new("file");
    let leaf = directory(&[("file", &file)], &[]);
    let root = directory(&[], &[("leaf", &leaf)]);
    let tree = tree(&[&root, &leaf]);
    // The fixed encoding of a topologically sorted tree: the root, then the children.
    assert_eq!(tree.data[0], 0x0a);
    let output = v2::OutputDirectory {
        path: "out".to_owned(),
        tree_digest: Some(tree.v2()),
        is_topologically_sorted: true,
        root_directory_digest: Some(root.v2()),
    };
    let result =
        v2::ActionResult { output_directories: vec![output], ..v2::ActionResult::default() };
    let action = Blob::new("action");
    server.update_result(&action, result.encode_to_vec()).await.unwrap();
    let mut missing = vec![&file, &leaf, &root, &tree];
    while let Some(blob) = missing.pop() {
        assert_code(server.get_result(&action).await, Code::NotFound);
        server.put(&[blob]).await;
    }
    assert_eq!(server.get_result(&action).await.unwrap(), result.encode_to_vec());
    assert_eq!(server.read(&tree.read_name()).await.unwrap(), tree.data);
}

/// No range is announced, so whatever priority a client gives is fine.
#[tokio::test]
async fn reapi_89_a_priority_is_accepted() {
    let server = TestServer::start().await;
    for priority in [0, -1, 7, i32::MIN, i32::MAX] {
        let action = Blob::new(format!("priority {priority}"));
        let request = v2::UpdateActionResultRequest {
            action_digest: Some(action.v2()),
            action_result: Some(v2::ActionResult { exit_code: 1, ..Default::default() }),
            results_cache_policy: Some(v2::ResultsCachePolicy { priority }),
            ..v2::UpdateActionResultRequest::default()
        };
        let request = vec![request.encode_to_vec().into()];
        raw_call(&server.channel, METHODS[6], request).await.unwrap();
        assert_eq!(server.get_result(&action).await.unwrap(), exit(1));
    }
}

/// Completeness is that of the action's digest function.
#[tokio::test]
async fn reapi_81_4_a_blake3_result_names_blake3_blobs() {
    let server = TestServer::start().await;
    let [action, output] =
        ["action", "output"].map(|text| Blob::with(DigestFunction::Blake3, text));
    let result = v2::ActionResult {
        output_files: vec![output_file("out", &output)],
        ..v2::ActionResult::default()
    };
    server.update_result(&action, result.encode_to_vec()).await.unwrap();
    server.put(&[&Blob::new("output")]).await;
    assert_code(server.get_result(&action).await, Code::NotFound);
    server.put(&[&output]).await;
    assert_eq!(server.get_result(&action).await.unwrap(), result.encode_to_vec());
}
