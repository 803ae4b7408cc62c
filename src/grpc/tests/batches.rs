//! Presence and batches: one bad blob never fails its neighbours, a limit fails the whole.

use bytes::Bytes;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlob, BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse, Digest as WireDigest, FindMissingBlobsRequest,
};
use tonic::{Code, Status};

use super::support::{INSTANCE, TestServer, assert_code, pattern, sha256, wire};
use crate::digest::{Digest, DigestFunction};

async fn find_missing(
    server: &TestServer,
    blob_digests: Vec<WireDigest>,
    digest_function: i32,
) -> Result<Vec<WireDigest>, Status> {
    let instance_name = INSTANCE.to_owned();
    let request = FindMissingBlobsRequest { instance_name, blob_digests, digest_function };
    Ok(server.cas().find_missing_blobs(request).await?.into_inner().missing_blob_digests)
}

async fn update(
    server: &TestServer,
    requests: Vec<BatchUpdateBlob>,
    digest_function: i32,
) -> Result<BatchUpdateBlobsResponse, Status> {
    let instance_name = INSTANCE.to_owned();
    let request = BatchUpdateBlobsRequest { instance_name, requests, digest_function };
    Ok(server.cas().batch_update_blobs(request).await?.into_inner())
}

async fn read(
    server: &TestServer,
    digests: Vec<WireDigest>,
) -> Result<BatchReadBlobsResponse, Status> {
    let request = BatchReadBlobsRequest {
        instance_name: INSTANCE.to_owned(),
        digests,
        acceptable_compressors: vec![3],
        digest_function: 0,
    };
    Ok(server.cas().batch_read_blobs(request).await?.into_inner())
}

fn blob(digest: Digest, data: &[u8]) -> BatchUpdateBlob {
    let data = Bytes::copy_from_slice(data);
    BatchUpdateBlob { digest: Some(wire(digest)), data, compressor: 0 }
}

fn update_codes(response: &BatchUpdateBlobsResponse) -> Vec<i32> {
    response.responses.iter().map(|one| one.status.as_ref().unwrap().code).collect()
}

fn read_codes(response: &BatchReadBlobsResponse) -> Vec<i32> {
    response.responses.iter().map(|one| one.status.as_ref().unwrap().code).collect()
}

#[tokio::test]
async fn reapi_14_find_missing_reports_each_absent_digest_once() {
    let server = TestServer::start().await;
    let present = wire(server.put(b"present").await);
    let absent = wire(sha256(b"absent"));
    let wrong_size = WireDigest { size_bytes: 8, ..present.clone() };
    let empty = wire(sha256(b""));
    let asked = vec![absent.clone(), present, absent.clone(), wrong_size.clone(), empty];
    let missing = find_missing(&server, asked, 0).await.unwrap();
    assert_eq!(missing, [absent, wrong_size]);
    assert_eq!(find_missing(&server, Vec::new(), 0).await.unwrap(), []);
}

#[tokio::test]
async fn reapi_17_find_missing_takes_20000_digests_and_names_its_limit() {
    let server = TestServer::start().await;
    let digests: Vec<_> = (0..20_000_u32).map(|n| wire(sha256(&n.to_le_bytes()))).collect();
    let missing = find_missing(&server, digests.clone(), 0).await.unwrap();
    assert_eq!(missing, digests);
    let many = vec![wire(sha256(b"x")); 100_001];
    let status = assert_code(find_missing(&server, many, 0).await, Code::InvalidArgument);
    assert!(status.message().contains("blob_digests"), "{status:?}");
    assert!(status.message().contains("100000"), "{status:?}");
}

#[tokio::test]
async fn reapi_1_5_7_find_missing_refuses_what_is_no_digest() {
    let server = TestServer::start().await;
    let good = wire(sha256(b"x"));
    for (hash, size_bytes) in [
        ("da39a3ee5e6b4b0d3255bfef95601890afd80709", 1),
        ("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", 1),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b856", 0),
        ("aaaac44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b856", -1),
    ] {
        let bad = WireDigest { hash: Bytes::from_static(hash.as_bytes()), size_bytes };
        let result = find_missing(&server, vec![good.clone(), bad], 0).await;
        let status = assert_code(result, Code::InvalidArgument);
        assert!(status.message().contains("blob_digests[1]"), "{status:?}");
    }
    let status = assert_code(find_missing(&server, vec![good], 3).await, Code::InvalidArgument);
    assert!(status.message().contains("SHA256"), "{status:?}");
}

#[tokio::test]
async fn reapi_19_20_25_one_bad_blob_fails_alone() {
    let server = TestServer::start().await;
    let good = sha256(b"good");
    let long = Digest { size_bytes: 3, ..sha256(b"long") };
    let mut compressed = blob(sha256(b"zstd"), b"zstd");
    compressed.compressor = 1;
    let nameless = BatchUpdateBlob { digest: None, ..blob(good, b"good") };
    let blobs = vec![
        blob(good, b"good"),
        blob(sha256(b"other"), b"bad"),
        blob(good, b"good"),
        blob(sha256(b""), b""),
        blob(long, b"long"),
        compressed,
        nameless,
    ];
    let response = update(&server, blobs, 0).await.unwrap();
    assert_eq!(update_codes(&response), [0, 3, 0, 0, 3, 3, 3]);
    assert_eq!(response.responses[1].digest, Some(wire(sha256(b"other"))));
    let asked = vec![wire(good), wire(sha256(b"other")), wire(sha256(b"")), wire(good)];
    let response = read(&server, asked).await.unwrap();
    assert_eq!(read_codes(&response), [0, 5, 0, 0]);
    assert_eq!(response.responses[3].data, "good");
}

#[tokio::test]
async fn reapi_4_blake3_needs_its_field() {
    let server = TestServer::start().await;
    let digest = Digest::of(DigestFunction::Blake3, b"blake");
    let blobs = vec![blob(digest, b"blake")];
    assert_eq!(update_codes(&update(&server, blobs.clone(), 0).await.unwrap()), [3]);
    assert_eq!(update_codes(&update(&server, blobs, 9).await.unwrap()), [0]);
    assert_eq!(find_missing(&server, vec![wire(digest)], 9).await.unwrap(), []);
    assert_eq!(find_missing(&server, vec![wire(digest)], 0).await.unwrap(), [wire(digest)]);
}

#[tokio::test]
async fn reapi_22_27_a_batch_over_the_announced_limit_fails_as_a_whole() {
    const LIMIT: usize = (4 << 20) - (128 << 10);
    let server = TestServer::start().await;
    let (first, second) = (pattern(1, LIMIT - 1000), pattern(2, 1000));
    let full = vec![blob(sha256(&first), &first), blob(sha256(&second), &second)];
    assert_eq!(update_codes(&update(&server, full.clone(), 0).await.unwrap()), [0, 0]);
    let over = [full, vec![blob(sha256(b"x"), b"x")]].concat();
    let status = assert_code(update(&server, over, 0).await, Code::InvalidArgument);
    assert!(status.message().contains(&LIMIT.to_string()), "{status:?}");

    let asked = vec![wire(sha256(&first)), wire(sha256(&second))];
    assert_eq!(read_codes(&read(&server, asked.clone()).await.unwrap()), [0, 0]);
    // Duplicates count each time.
    let twice = [asked, vec![wire(sha256(&second))]].concat();
    assert_code(read(&server, twice).await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_29_a_reply_of_many_tiny_blobs_stays_under_4_mib() {
    use prost::Message as _;
    let server = TestServer::start().await;
    let data = pattern(3, 90);
    let digest = server.put(&data).await;
    let response = read(&server, vec![wire(digest); 40_000]).await.unwrap();
    assert!(response.encoded_len() <= 4 << 20, "{}", response.encoded_len());
    assert_eq!(response.responses.len(), 40_000);
    assert_eq!(response.responses[0].data, data);
    assert_eq!(read_codes(&response).last(), Some(&8));
}

#[tokio::test]
async fn reapi_22_27_batches_of_more_entries_than_are_built_name_field_and_count() {
    let server = TestServer::start().await;
    let refused = update(&server, vec![BatchUpdateBlob::default(); 200_000], 0).await;
    let status = assert_code(refused, Code::InvalidArgument);
    assert!(status.message().contains("requests: 200000 entries"), "{status:?}");
    let refused = read(&server, vec![WireDigest::default(); 200_000]).await;
    let status = assert_code(refused, Code::InvalidArgument);
    assert!(status.message().contains("digests: 200000 entries"), "{status:?}");
    let refused = find_missing(&server, vec![WireDigest::default(); 200_000], 0).await;
    let status = assert_code(refused, Code::InvalidArgument);
    assert!(status.message().contains("blob_digests: 200000 entries"), "{status:?}");
}
