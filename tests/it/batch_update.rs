//! `BatchUpdateBlobs`: each blob has a status of its own, the sum has a limit (reapi 19-25).

use bytes::Bytes;
use castellan::digest::Digest;
use castellan::grpc::GrpcOptions;
use castellan::store::filesystem::FilesystemOptions;
use castellan_proto::messages::{
    BatchUpdateBlob, BatchUpdateBlobsRequest, BatchUpdateBlobsResponse, Digest as WireDigest,
};
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::{Blob, TestServer, assert_code, hold_space, start_tight, wire};

const LIMIT: usize = (4 << 20) - (128 << 10);

fn entry(blob: &Blob) -> BatchUpdateBlob {
    BatchUpdateBlob { digest: Some(blob.wire()), data: blob.data.clone(), compressor: 0 }
}

async fn update(
    server: &TestServer,
    requests: Vec<BatchUpdateBlob>,
) -> Result<BatchUpdateBlobsResponse, Status> {
    let request = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    Ok(server.cas().batch_update_blobs(request).await?.into_inner())
}

fn codes(response: &BatchUpdateBlobsResponse) -> Vec<i32> {
    response.responses.iter().map(|one| one.status.as_ref().unwrap().code).collect()
}

#[tokio::test]
async fn reapi_19_a_bad_blob_fails_alone() {
    let server = TestServer::start().await;
    let [good, other] = ["good", "other"].map(Blob::new);
    let bad = BatchUpdateBlob { data: "what".into(), ..entry(&other) };
    for (batch, expected) in [
        (vec![entry(&good), bad.clone()], vec![0, 3]),
        (vec![bad.clone(), entry(&good)], vec![3, 0]),
        (vec![bad.clone()], vec![3]),
        (vec![bad.clone(), bad.clone(), entry(&good), bad], vec![3, 3, 0, 3]),
    ] {
        let response = update(&server, batch.clone()).await.unwrap();
        assert_eq!(codes(&response), expected);
        let digests: Vec<_> = response.responses.into_iter().map(|it| it.digest).collect();
        assert_eq!(digests, batch.into_iter().map(|it| it.digest).collect::<Vec<_>>());
    }
    assert_eq!(server.missing(&[&good, &other]).await, [other.digest.hash_hex().as_str()]);
    assert_eq!(server.read(&good.read_name()).await.unwrap(), good.data);
}

/// The bytes must be those of the digest, in length and in hash; the message says which is wrong.
#[tokio::test]
async fn reapi_20_data_that_is_not_the_digests_is_refused() {
    let server = TestServer::start_on_files().await;
    let blob = Blob::random(20, 1000);
    let wrong_hash = Blob::random(21, 1000);
    let with = |data: Bytes| BatchUpdateBlob { data, ..entry(&blob) };
    let mut long = blob.data.to_vec();
    long.push(0);
    let mut flipped = blob.data.to_vec();
    flipped[999] ^= 1;
    for (data, problem) in [
        (wrong_hash.data.clone(), "hashes to"),
        (flipped.into(), "hashes to"),
        (blob.data.slice(..999), "received 999 bytes"),
        (long.into(), "received 1001 bytes"),
        (Bytes::new(), "received 0 bytes"),
    ] {
        let response = update(&server, vec![with(data)]).await.unwrap();
        assert_eq!(codes(&response), [3]);
        let message = &response.responses[0].status.as_ref().unwrap().message;
        assert!(message.contains(problem), "{message}");
        assert!(message.contains(blob.digest.hash_hex().as_str()), "{message}");
    }
    assert_eq!(server.store().stats().entries, 0);
    assert_eq!(server.store().stats().reserved_bytes, 0);
}

/// The bytes are checked even when the blob is there: the client has a bug it should hear of.
#[tokio::test]
async fn reapi_20_wrong_data_for_a_present_blob_is_refused_and_changes_nothing() {
    let server = TestServer::start().await;
    let blob = Blob::new("present");
    server.put(&[&blob]).await;
    let wrong = BatchUpdateBlob { data: "another".into(), ..entry(&blob) };
    assert_eq!(codes(&update(&server, vec![wrong]).await.unwrap()), [3]);
    assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn reapi_20_a_malformed_or_missing_digest_fails_its_blob_alone() {
    let server = TestServer::start().await;
    let good = Blob::new("good");
    let with = |hash: &str, size_bytes| BatchUpdateBlob {
        digest: Some(WireDigest { hash: hash.to_owned().into(), size_bytes }),
        ..entry(&good)
    };
    let hash = good.digest.hash_hex();
    let hash = hash.as_str();
    let batch = vec![
        BatchUpdateBlob { digest: None, ..entry(&good) },
        with(&hash.to_uppercase(), 4),
        with(&hash[..63], 4),
        with(hash, -4),
        with(hash, 0),
        entry(&good),
    ];
    let response = update(&server, batch).await.unwrap();
    assert_eq!(codes(&response), [3, 3, 3, 3, 3, 0]);
    let message = &response.responses[0].status.as_ref().unwrap().message;
    assert!(message.contains("digest: is required"), "{message}");
}

/// An upload under way holds nearly all space, so a big blob finds none, and a small one does.
#[tokio::test]
async fn reapi_21_95_no_space_is_resource_exhausted_for_its_blob_alone() {
    let server = start_tight().await;
    let held = hold_space(&server, 2_200_000).await;
    let [small, big] = [Blob::new("small"), Blob::random(21, 2_000_000)];
    let response = update(&server, vec![entry(&small), entry(&big)]).await.unwrap();
    assert_eq!(codes(&response), [0, 8]);
    let status = response.responses[1].status.as_ref().unwrap();
    assert!(status.message.contains("no space"), "{status:?}");
    let detail = &status.details[0];
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let retry = tonic_types::pb::RetryInfo::decode(&*detail.value).unwrap();
    assert!(retry.retry_delay.unwrap().seconds > 0);
    // The space comes back, and the same request is served.
    held.finish().await;
    assert_eq!(codes(&update(&server, vec![entry(&big)]).await.unwrap()), [0]);
}

#[tokio::test]
async fn reapi_22_a_batch_of_exactly_the_limit_is_stored_and_one_byte_more_refused() {
    let server = TestServer::start().await;
    let blobs = [Blob::random(1, LIMIT - 1000), Blob::random(2, 1000)];
    let full = blobs.each_ref().map(entry).to_vec();
    assert_eq!(codes(&update(&server, full).await.unwrap()), [0, 0]);

    let others = [Blob::random(3, LIMIT - 1000), Blob::random(4, 1001)];
    let over = others.each_ref().map(entry).to_vec();
    let status = assert_code(update(&server, over).await, Code::InvalidArgument);
    assert!(status.message().contains("max_batch_total_size_bytes"), "{status:?}");
    assert!(status.message().contains(&LIMIT.to_string()), "{status:?}");
    assert_eq!(server.missing(&others.each_ref()).await.len(), 2);
    // One blob of the limit alone, and of one byte more.
    let (whole, too_long) = (Blob::random(5, LIMIT), Blob::random(6, LIMIT + 1));
    assert_eq!(codes(&update(&server, vec![entry(&whole)]).await.unwrap()), [0]);
    assert_code(update(&server, vec![entry(&too_long)]).await, Code::InvalidArgument);
}

/// The names are `Compressor.Value`s that are not announced.
#[tokio::test]
async fn reapi_23_an_unannounced_compressor_fails_its_blob_alone() {
    let server = TestServer::start().await;
    let blobs: Vec<_> = (0..6).map(|seed| Blob::random(seed, 10)).collect();
    let batch = blobs.iter().zip([1, 2, 3, 4, -1, 0]);
    let batch = batch.map(|(blob, compressor)| BatchUpdateBlob { compressor, ..entry(blob) });
    let response = update(&server, batch.collect()).await.unwrap();
    assert_eq!(codes(&response), [3, 3, 3, 3, 3, 0]);
    let message = &response.responses[0].status.as_ref().unwrap().message;
    assert!(message.contains("compressor"), "{message}");
    assert_eq!(server.missing(&blobs.iter().collect::<Vec<_>>()).await.len(), 5);
}

/// 36,000 digests weigh more than their data; the message is far over the limit and is served.
#[tokio::test]
async fn reapi_24_the_limit_counts_blobs_and_not_the_message() {
    let server = TestServer::start().await;
    let blobs: Vec<_> = (0..100).map(|seed| Blob::random(seed, 112)).collect();
    let batch: Vec<_> = blobs.iter().cycle().take(LIMIT / 112).map(entry).collect();
    let request = BatchUpdateBlobsRequest { requests: batch, ..BatchUpdateBlobsRequest::default() };
    assert!(request.encoded_len() > 6 << 20);
    let count = request.requests.len();
    let response = server.cas().batch_update_blobs(request).await.unwrap().into_inner();
    assert_eq!(codes(&response), vec![0; count]);
}

/// 30,000 refusals with their messages would be more than a client decodes.
#[tokio::test]
async fn reapi_24_a_reply_of_many_refusals_stays_within_4_mib() {
    let server = TestServer::start().await;
    let bad = BatchUpdateBlob { data: "no".into(), ..entry(&Blob::new("ok")) };
    let batch = vec![bad; 30_000];
    let response = update(&server, batch).await.unwrap();
    assert!(response.encoded_len() <= 4 << 20, "{} bytes", response.encoded_len());
    assert_eq!(codes(&response), vec![3; 30_000]);
    let message = &response.responses[0].status.as_ref().unwrap().message;
    assert!(message.contains("hashes to"), "{message}");
}

#[tokio::test]
async fn reapi_25_empty_blobs_duplicates_and_empty_batches_are_fine() {
    let server = TestServer::start_on_files().await;
    let [empty, twice] = ["", "twice"].map(Blob::new);
    let batch = [&twice, &empty, &twice, &empty, &twice].map(entry).to_vec();
    assert_eq!(codes(&update(&server, batch).await.unwrap()), [0; 5]);
    assert_eq!(server.store().stats().entries, 1);
    assert_eq!(codes(&update(&server, Vec::new()).await.unwrap()), [0; 0]);
    let not_empty = BatchUpdateBlob { data: "x".into(), ..entry(&empty) };
    assert_eq!(codes(&update(&server, vec![not_empty]).await.unwrap()), [3]);
}

#[tokio::test]
async fn reapi_22_a_batch_over_the_limit_of_entries_names_field_and_limit() {
    let options = GrpcOptions { max_digests_per_request: 10, ..GrpcOptions::default() };
    let server = TestServer::start_with(64 << 20, options).await;
    let batch = vec![entry(&Blob::new("x")); 11];
    let status = assert_code(update(&server, batch).await, Code::InvalidArgument);
    assert!(status.message().contains("requests"), "{status:?}");
    assert!(status.message().contains("10"), "{status:?}");
}

/// A blob over the limit of the store is refused before a byte is written, and evicts nothing.
#[tokio::test]
async fn reapi_20_a_blob_over_the_stores_limit_fails_alone_and_evicts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FilesystemOptions::new(
        directory.path(),
        castellan::store::filesystem::Cap::Bytes(64 << 20),
    );
    store.max_blob_bytes = Some(1000);
    let server = crate::support::start_store(directory, store).await;
    let blobs = [1000, 1001].map(|len| Blob::random(7, len));
    let response = update(&server, blobs.each_ref().map(entry).to_vec()).await.unwrap();
    assert_eq!(codes(&response), [0, 3]);
    let message = &response.responses[1].status.as_ref().unwrap().message;
    assert!(message.contains("1000"), "{message}");
    assert_eq!(server.store().stats().evictions, 0);
    let digest = wire(&Digest { size_bytes: 1, ..blobs[0].digest });
    let lies = BatchUpdateBlob { digest: Some(digest), ..entry(&blobs[0]) };
    assert_eq!(codes(&update(&server, vec![lies]).await.unwrap()), [3]);
}
