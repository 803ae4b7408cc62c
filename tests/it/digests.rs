//! Digests, digest functions and instance names, on every method that takes them (reapi 1-13).
//!
//! Method: one blob, one call of each method about it, with one thing wrong. The blob is an encoded
//! `Directory`, so that it is good for `GetTree` too.

use std::collections::HashMap;

use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::messages;
use tonic::Code;

use crate::support::{
    Blob, Subject, TestServer, assert_all_invalid, assert_all_present, assert_code, directory, wire,
};

const MAIN: &str = "projects/p/instances/default_instance";
const RESERVED: [&str; 7] = [
    "blobs",
    "uploads",
    "actions",
    "actionResults",
    "operations",
    "capabilities",
    "compressed-blobs",
];

/// A blob of a function that is also a `Directory`.
fn directory_blob(function: DigestFunction, name: &str) -> Blob {
    let file = Blob::new("content");
    Blob::with(function, directory(&[(name, &file)], &[]).data)
}

/// Stores a blob and a result by every method that can.
async fn stored(server: &TestServer, blob: &Blob) -> Subject {
    let subject = Subject::of(blob);
    assert_all_present(&subject.calls(server).await);
    subject
}

/// A hash has one spelling: lower case, every digit.
#[tokio::test]
async fn reapi_1_a_hash_that_is_not_64_lower_case_digits_is_refused_by_every_method() {
    let server = TestServer::start_on_files().await;
    for function in DigestFunction::ALL {
        let good = stored(&server, &directory_blob(function, "reapi 1")).await;
        let hash = &good.hash;
        for bad in [
            hash.to_uppercase(),
            hash.replacen(|c: char| c.is_ascii_lowercase(), "A", 1),
            hash[..62].to_owned(),
            hash[..63].to_owned(),
            hash[..40].to_owned(),
            format!("{hash}0"),
            format!("{hash}{hash}"),
            format!("g{}", &hash[1..]),
            format!(" {}", &hash[1..]),
            format!("{} ", &hash[..63]),
            format!("0x{}", &hash[2..]),
            format!("{}\u{e9}", &hash[..62]),
            String::new(),
        ] {
            let subject = Subject { hash: bad, ..good.clone() };
            assert_all_invalid(&subject.calls(&server).await, &subject.hash);
        }
    }
    // None of them made a second copy.
    assert_eq!(server.store().stats().entries, 4);
}

/// The size is part of the digest of a blob.
#[tokio::test]
async fn reapi_2_a_right_hash_with_another_size_is_another_blob() {
    let server = TestServer::start().await;
    let good = stored(&server, &directory_blob(DigestFunction::Sha256, "reapi 2")).await;
    for wrong in [good.size_bytes - 1, good.size_bytes + 1, 1, i64::from(i32::MAX)] {
        let subject = Subject { size_bytes: wrong, ..good.clone() };
        for (method, outcome) in subject.read_calls(&server).await {
            let has_limit = matches!(method, "GetTree" | "BatchReadBlobs");
            if has_limit && wrong > 4 << 20 {
                assert_code(outcome, Code::InvalidArgument);
            } else if method == "GetActionResult" {
                // The hash of an action says enough, and is all that is said over HTTP.
                assert!(matches!(outcome, Ok(true)), "{method}: {outcome:?} for {wrong}");
            } else {
                assert!(matches!(outcome, Ok(false)), "{method}: {outcome:?} for {wrong}");
            }
        }
        for (method, outcome) in subject.write_calls(&server).await {
            // The key of a result is not the digest of what is sent.
            if method != "UpdateActionResult" {
                assert_code(outcome, Code::InvalidArgument);
            }
        }
    }
    assert_all_present(&good.read_calls(&server).await);
}

#[tokio::test]
async fn reapi_2_a_negative_size_is_refused_by_every_method() {
    let server = TestServer::start().await;
    let good = stored(&server, &directory_blob(DigestFunction::Sha256, "negative")).await;
    for size_bytes in [-1, -good.size_bytes, i64::MIN] {
        let subject = Subject { size_bytes, ..good.clone() };
        assert_all_invalid(&subject.calls(&server).await, &size_bytes);
    }
}

/// A request without `digest_function` means SHA-256, also where BLAKE3 is announced.
#[tokio::test]
async fn reapi_3_no_digest_function_means_sha256_on_every_method() {
    let server = TestServer::start().await;
    let blob = directory_blob(DigestFunction::Sha256, "inferred");
    let unset = Subject { digest_function: 0, ..Subject::of(&blob) };
    assert_all_present(&unset.calls(&server).await);
    assert_all_present(&Subject::of(&blob).read_calls(&server).await);
}

#[tokio::test]
async fn reapi_4_blake3_is_served_by_every_method_that_names_it() {
    let server = TestServer::start().await;
    let blob = directory_blob(DigestFunction::Blake3, "named");
    let named = stored(&server, &blob).await;

    // The same hash without its function is a SHA-256 hash, and of something else.
    let unnamed = Subject { digest_function: 0, segment: "", ..named.clone() };
    for (method, outcome) in unnamed.read_calls(&server).await {
        assert!(matches!(outcome, Ok(false)), "{method}: {outcome:?}");
    }
    for (method, outcome) in unnamed.write_calls(&server).await {
        if method != "UpdateActionResult" {
            let status = assert_code(outcome, Code::InvalidArgument);
            assert!(status.message().contains("hashes to"), "{method}: {status:?}");
        }
    }
    assert_all_present(&named.read_calls(&server).await);
}

/// One data, two functions: two blobs, neither of which stands in for the other.
#[tokio::test]
async fn reapi_4_blobs_of_two_functions_are_apart() {
    let server = TestServer::start().await;
    let [sha256, blake3] = DigestFunction::ALL.map(|it| directory_blob(it, "both"));
    assert_eq!(sha256.data, blake3.data);
    let sha256 = stored(&server, &sha256).await;
    for (method, outcome) in Subject::of(&blake3).read_calls(&server).await {
        assert!(matches!(outcome, Ok(false)), "{method}: {outcome:?}");
    }
    stored(&server, &blake3).await;
    assert_all_present(&sha256.read_calls(&server).await);
}

#[tokio::test]
async fn reapi_5_digests_of_mixed_lengths_are_refused() {
    let server = TestServer::start().await;
    let good = Blob::new("good");
    server.put(&[&good]).await;
    let sha1 =
        messages::Digest { hash: "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d".into(), size_bytes: 5 };
    for digests in [vec![good.wire(), sha1.clone()], vec![sha1.clone(), good.wire()]] {
        let at = digests.iter().position(|it| *it == sha1).unwrap();
        let request = messages::FindMissingBlobsRequest {
            blob_digests: digests.clone(),
            ..messages::FindMissingBlobsRequest::default()
        };
        let outcome = server.cas().find_missing_blobs(request).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains(&format!("blob_digests[{at}]")), "{status:?}");
        assert!(status.message().contains("SHA256, BLAKE3"), "{status:?}");

        let request = messages::BatchReadBlobsRequest {
            digests,
            ..messages::BatchReadBlobsRequest::default()
        };
        let reply = server.cas().batch_read_blobs(request).await.unwrap().into_inner();
        let codes = reply.responses.iter().map(|it| it.status.as_ref().unwrap().code);
        let expected = [3, 0].map(|code| if at == 0 { code } else { 3 - code });
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    }
}

/// The functions that are told apart by length have no segment in resource names.
#[tokio::test]
async fn reapi_6_sha256_has_no_segment_in_resource_names() {
    let server = TestServer::start().await;
    let good = stored(&server, &directory_blob(DigestFunction::Sha256, "segment")).await;
    for segment in ["sha256/", "SHA256/", "BLAKE3/", "/", "blake3/blake3/"] {
        let subject = Subject { segment, ..good.clone() };
        let outcomes = subject.calls(&server).await;
        let named = |method: &str| matches!(method, "Read" | "Write" | "QueryWriteStatus");
        let outcomes: Vec<_> = outcomes.into_iter().filter(|(method, _)| named(method)).collect();
        assert_eq!(outcomes.len(), 3);
        assert_all_invalid(&outcomes, &segment);
    }
}

/// SHA256TREE, which nothing here computes, is among them.
#[tokio::test]
async fn reapi_7_8_an_unannounced_function_is_refused_with_the_supported_ones() {
    let server = TestServer::start().await;
    let good = stored(&server, &directory_blob(DigestFunction::Sha256, "function")).await;
    for function in [2, 3, 4, 5, 6, 7, 8, 10, 11, -1, i32::MAX, i32::MIN] {
        let segment = if function == 8 { "sha256tree/" } else { "gitsha1/" };
        let subject = Subject { digest_function: function, segment, ..good.clone() };
        for (method, outcome) in subject.calls(&server).await {
            let status = assert_code(outcome, Code::InvalidArgument);
            if !matches!(method, "Read" | "Write" | "QueryWriteStatus") {
                let message = status.message();
                assert!(message.contains("SHA256 = 1, BLAKE3 = 9"), "{method}: {status:?}");
            }
        }
    }
}

/// Nobody uploads the empty blob; clients take its presence for granted.
#[tokio::test]
async fn reapi_9_the_empty_blob_is_present_on_a_fresh_server_for_every_method() {
    for function in DigestFunction::ALL {
        let server = TestServer::start_on_files().await;
        let subject = Subject::of(&Blob::with(function, ""));
        for (method, outcome) in subject.read_calls(&server).await {
            let expected = method != "GetActionResult";
            assert_eq!(outcome.ok(), Some(expected), "{method} of {function}");
        }
        assert_all_present(&subject.calls(&server).await);
        // The result alone is stored.
        assert_eq!(server.store().stats().entries, 1);
    }
}

#[tokio::test]
async fn reapi_10_size_0_and_the_empty_hash_belong_together() {
    let server = TestServer::start_on_files().await;
    for function in DigestFunction::ALL {
        let blob = directory_blob(function, "not empty");
        let no_size = Subject { size_bytes: 0, ..Subject::of(&blob) };
        assert_all_invalid(&no_size.calls(&server).await, &no_size);
        let no_hash =
            Subject { hash: Subject::of(&Blob::with(function, "")).hash, ..Subject::of(&blob) };
        assert_all_invalid(&no_hash.calls(&server).await, &no_hash);
    }
    assert_eq!(server.store().stats().entries, 0);
}

#[tokio::test]
async fn reapi_11_instance_names_of_several_segments_work_on_every_method() {
    let server = TestServer::start().await;
    let file = directory_blob(DigestFunction::Sha256, "segments");
    for instance in ["", "main", MAIN, "a/b/c/d/e/f", "blob/upload", "Blobs", "with space/\u{e9}"] {
        let subject = Subject::in_instance(&file, instance);
        assert_all_present(&[subject.capabilities(&server).await]);
        assert_all_present(&subject.calls(&server).await);
    }
}

#[tokio::test]
async fn reapi_11_reserved_words_in_an_instance_name_are_refused_by_every_method() {
    let server = TestServer::start().await;
    let blob = directory_blob(DigestFunction::Sha256, "reserved");
    stored(&server, &blob).await;
    for word in RESERVED {
        for instance in [word.to_owned(), format!("a/{word}"), format!("{word}/a")] {
            let subject = Subject::in_instance(&blob, &instance);
            let mut outcomes = subject.calls(&server).await;
            outcomes.push(subject.capabilities(&server).await);
            assert_all_invalid(&outcomes, &instance);
        }
    }
}

/// The protocol lets a server know only some names; then every method says the same.
#[tokio::test]
async fn reapi_12_an_unknown_instance_has_one_code_on_every_method() {
    let settings = InstanceSettings::new(0, 0);
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    let named = Instances::Named(HashMap::from([(MAIN.to_owned(), settings)]));
    let options = GrpcOptions::default();
    let server = TestServer::start_settings(directory, store, named, options).await;
    let blob = directory_blob(DigestFunction::Sha256, "known");
    let known = Subject::in_instance(&blob, MAIN);
    assert_all_present(&known.calls(&server).await);
    assert_all_present(&[known.capabilities(&server).await]);
    for instance in ["", "unknown", "projects/p/instances", "projects/p/instances/default_instanc"]
    {
        let subject = Subject::in_instance(&blob, instance);
        let mut outcomes = subject.calls(&server).await;
        outcomes.push(subject.capabilities(&server).await);
        assert_all_invalid(&outcomes, &instance);
    }
}

/// The design shares blobs between instances and keeps results apart.
#[tokio::test]
async fn reapi_12_instances_share_blobs_and_not_results() {
    let server = TestServer::start().await;
    let blob = directory_blob(DigestFunction::Sha256, "shared");
    assert_all_present(&Subject::in_instance(&blob, "a").calls(&server).await);
    for instance in ["", "b", "a/b", "A"] {
        let subject = Subject::in_instance(&blob, instance);
        for (method, outcome) in subject.read_calls(&server).await {
            let expected = method != "GetActionResult";
            assert_eq!(outcome.ok(), Some(expected), "{method} in {instance:?}");
        }
    }
}

/// The empty instance has no slash of its own, and no other spelling.
#[tokio::test]
async fn reapi_13_empty_segments_in_an_instance_name_are_refused_by_every_method() {
    let server = TestServer::start().await;
    let blob = directory_blob(DigestFunction::Sha256, "slashes");
    stored(&server, &blob).await;
    for instance in ["/", "/a", "a/", "a//b", "//", "a\nb", &"a".repeat(1025)] {
        let subject = Subject::in_instance(&blob, instance);
        let mut outcomes = subject.calls(&server).await;
        outcomes.push(subject.capabilities(&server).await);
        assert_all_invalid(&outcomes, &instance);
    }
    let status =
        assert_code(server.read(&format!("/blobs/{}", blob.digest)).await, Code::InvalidArgument);
    assert!(status.message().contains("empty segment"), "{status:?}");
}

/// The text of a refusal never repeats a hostile payload at length.
#[tokio::test]
async fn reapi_1_a_huge_hash_is_refused_with_a_short_message() {
    let server = TestServer::start().await;
    let request = messages::FindMissingBlobsRequest {
        blob_digests: vec![
            wire(&Blob::new("x").digest),
            messages::Digest { hash: "f".repeat(1 << 20).into(), size_bytes: 1 },
        ],
        ..messages::FindMissingBlobsRequest::default()
    };
    let outcome = server.cas().find_missing_blobs(request).await;
    let status = assert_code(outcome, Code::InvalidArgument);
    assert!(status.message().contains("blob_digests[1]"), "{status:?}");
    assert!(status.message().len() < 400, "{} bytes", status.message().len());
}
