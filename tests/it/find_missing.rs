//! `FindMissingBlobs`: what is present, and for how long it stays so (reapi 14-17).

use std::path::{Path, PathBuf};

use castellan::digest::DigestFunction;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, Digest,
    FindMissingBlobsRequest, FindMissingBlobsResponse,
};
use prost::Message as _;
use tonic::Code;

use crate::support::wait::eventually;
use crate::support::{
    Blob, TestServer, assert_code, directory, output_file, start_small, turn_over,
};

async fn find(server: &TestServer, digests: Vec<Digest>) -> FindMissingBlobsResponse {
    let request =
        FindMissingBlobsRequest { blob_digests: digests, ..FindMissingBlobsRequest::default() };
    server.cas().find_missing_blobs(request).await.unwrap().into_inner()
}

/// The one file that holds a blob.
fn backing_file(root: &Path, blob: &Blob) -> PathBuf {
    let hash = blob.digest.hash_hex();
    let hash = hash.as_str();
    let shard = root.join("blobs").join(blob.digest.function.name()).join(&hash[..2]);
    let mut files: Vec<_> = std::fs::read_dir(shard)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(hash))
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.pop().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "behind the server's back is the point")]
fn delete_behind_the_server(server: &TestServer, blob: &Blob) {
    std::fs::remove_file(backing_file(server.directory.path(), blob)).unwrap();
}

#[tokio::test]
async fn reapi_14_each_absent_blob_is_named_once_in_the_order_of_the_request() {
    let server = TestServer::start().await;
    let present = [1, 2, 3].map(|seed| Blob::random(seed, 100));
    let absent = [4, 5].map(|seed| Blob::random(seed, 100));
    server.put(&present.each_ref()).await;
    let asked = [
        &absent[1],
        &present[0],
        &absent[0],
        &present[1],
        &absent[1],
        &present[2],
        &present[0],
        &absent[0],
    ];
    let reply = find(&server, asked.map(Blob::wire).to_vec()).await;
    assert_eq!(reply.missing_blob_digests, [absent[1].wire(), absent[0].wire()]);
}

#[tokio::test]
async fn reapi_14_an_empty_request_has_an_empty_answer() {
    let server = TestServer::start().await;
    assert_eq!(find(&server, Vec::new()).await, FindMissingBlobsResponse::default());
}

#[tokio::test]
async fn reapi_14_a_blob_is_missing_until_its_upload_is_complete() {
    let server = TestServer::start().await;
    let blob = Blob::random(6, 300_000);
    assert_eq!(server.missing(&[&blob]).await.len(), 1);
    let short = blob.data.slice(..299_999);
    assert_code(server.write(&blob.write_name(), &short).await, Code::InvalidArgument);
    assert_eq!(server.missing(&[&blob]).await.len(), 1);
    server.put(&[&blob]).await;
    assert_eq!(server.missing(&[&blob]).await.len(), 0);
}

/// What Bazel's lease extension relies on.
#[tokio::test]
async fn reapi_15_find_missing_keeps_what_it_finds() {
    let server = start_small().await;
    let kept = Blob::random(1, 60_000);
    let other = Blob::random(2, 60_000);
    server.put(&[&kept, &other]).await;
    turn_over(&server, async || assert_eq!(server.missing(&[&kept]).await.len(), 0)).await;
    assert_eq!(server.missing(&[&other, &kept]).await, [other.digest.hash_hex().as_str()]);
    assert_eq!(server.read(&kept.read_name()).await.unwrap(), kept.data);
    assert_code(server.read(&other.read_name()).await, Code::NotFound);
}

/// Asking for a blob that is absent must not push out one that is there.
#[tokio::test]
async fn reapi_15_asking_in_vain_evicts_nothing() {
    let server = start_small().await;
    let kept = Blob::random(1, 60_000);
    server.put(&[&kept]).await;
    let absent: Vec<_> = (0..2000).map(|seed| Blob::random(seed, 5000)).collect();
    let absent: Vec<&Blob> = absent.iter().collect();
    assert_eq!(server.missing(&absent).await.len(), 2000);
    assert_eq!(server.missing(&[&kept]).await.len(), 0);
    assert_eq!(server.store().stats().evictions, 0);
}

/// Whichever read finds out that a file is gone, from then on the blob is missing, and the next
/// upload heals it.
#[tokio::test]
async fn reapi_16_a_blob_whose_file_is_gone_is_missing_once_a_read_has_found_out() {
    let server = TestServer::start_on_files().await;
    let blob = directory(&[("reapi 16", &Blob::new("x"))], &[]);
    for method in ["Read", "Read of a part", "BatchReadBlobs", "GetTree"] {
        server.put(&[&blob]).await;
        delete_behind_the_server(&server, &blob);
        match method {
            "Read" => drop(assert_code(server.read(&blob.read_name()).await, Code::NotFound)),
            "Read of a part" => {
                let part = server.read_range(&blob.read_name(), 1, 2).await;
                assert_code(part, Code::NotFound);
            }
            "BatchReadBlobs" => {
                let digests = vec![blob.wire()];
                let request = BatchReadBlobsRequest { digests, ..BatchReadBlobsRequest::default() };
                let reply = server.cas().batch_read_blobs(request).await.unwrap().into_inner();
                assert_eq!(reply.responses[0].status.as_ref().unwrap().code, 5);
            }
            _ => {
                let request = castellan_proto::messages::GetTreeRequest {
                    root_digest: Some(blob.wire()),
                    ..castellan_proto::messages::GetTreeRequest::default()
                };
                assert_code(server.cas().get_tree(request).await, Code::NotFound);
            }
        }
        assert_eq!(server.missing(&[&blob]).await.len(), 1, "{method}");
        server.put(&[&blob]).await;
        assert_eq!(server.missing(&[&blob]).await.len(), 0, "{method}");
        assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data, "{method}");
    }
}

/// Nobody reads: the server finds out by itself, and then nothing that names the blob is served.
#[tokio::test]
async fn reapi_16_81_a_deletion_behind_the_server_is_noticed_without_a_read() {
    let server = TestServer::start_on_files().await;
    let [action, blob] = ["action", "output"].map(Blob::new);
    server.put(&[&blob]).await;
    let result = castellan_proto::v2::ActionResult {
        output_files: vec![output_file("out", &blob)],
        ..castellan_proto::v2::ActionResult::default()
    };
    server.update_result(&action, result.encode_to_vec()).await.unwrap();
    server.get_result(&action).await.unwrap();
    delete_behind_the_server(&server, &blob);
    let is_missing = || async { server.missing(&[&blob]).await.len() == 1 };
    eventually("the deletion is noticed", is_missing).await;
    assert_code(server.get_result(&action).await, Code::NotFound);
    server.put(&[&blob]).await;
    assert_eq!(server.get_result(&action).await.unwrap(), result.encode_to_vec());
}

/// 14,000 is what Bazel packs; the answer must fit the 4 MiB that its client decodes.
#[tokio::test]
async fn reapi_17_find_missing_answers_20000_digests_within_4_mib() {
    let server = TestServer::start().await;
    let blobs: Vec<_> = (0..20_000_u32).map(|n| Blob::new(n.to_le_bytes().to_vec())).collect();
    let present: Vec<_> = blobs.iter().step_by(10).collect();
    let requests = present.iter().map(|blob| BatchUpdateBlob {
        digest: Some(blob.wire()),
        data: blob.data.clone(),
        compressor: 0,
    });
    let request = BatchUpdateBlobsRequest {
        requests: requests.collect(),
        ..BatchUpdateBlobsRequest::default()
    };
    server.cas().batch_update_blobs(request).await.unwrap();

    let reply = find(&server, blobs.iter().map(Blob::wire).collect()).await;
    let absent = blobs.iter().enumerate().filter(|(at, _)| at % 10 != 0);
    let absent: Vec<_> = absent.map(|(_, blob)| blob.wire()).collect();
    assert!(reply.encoded_len() < 4 << 20);
    assert_eq!(reply.missing_blob_digests, absent);
}

#[tokio::test]
async fn reapi_17_a_request_over_the_limit_of_digests_names_field_and_limit() {
    let server = TestServer::start().await;
    let digest = Blob::new("again").wire();
    let request = FindMissingBlobsRequest {
        blob_digests: vec![digest.clone(); 100_001],
        ..FindMissingBlobsRequest::default()
    };
    let outcome = server.cas().find_missing_blobs(request).await;
    let status = assert_code(outcome, Code::InvalidArgument);
    assert!(status.message().contains("blob_digests"), "{status:?}");
    assert!(status.message().contains("100000"), "{status:?}");
    let reply = find(&server, vec![digest.clone(); 100_000]).await;
    assert_eq!(reply.missing_blob_digests, [digest]);
}

/// Presence is per digest function.
#[tokio::test]
async fn reapi_14_find_missing_of_blake3_blobs() {
    let server = TestServer::start().await;
    let [present, absent] =
        ["present", "absent"].map(|text| Blob::with(DigestFunction::Blake3, text));
    let subject = crate::support::Subject::of(&present);
    crate::support::assert_all_present(&subject.write_calls(&server).await);
    assert_eq!(server.missing(&[&present, &absent]).await, [absent.digest.hash_hex().as_str()]);
}
