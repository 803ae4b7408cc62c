//! `BatchReadBlobs`: each blob has a status of its own, and the reply fits its client (reapi
//! 26-29).

use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchReadBlobsResponse, BatchUpdateBlob, BatchUpdateBlobsRequest,
    Digest as WireDigest,
};
use tonic::{Code, Status};

use crate::support::{Blob, TestServer, assert_code, start_small, turn_over};

const LIMIT: usize = (4 << 20) - (128 << 10);

async fn put(server: &TestServer, blobs: &[Blob]) {
    let requests = blobs.iter().map(|blob| BatchUpdateBlob {
        digest: Some(blob.wire()),
        data: blob.data.clone(),
        compressor: 0,
    });
    let requests = requests.collect();
    let request = BatchUpdateBlobsRequest { requests, ..BatchUpdateBlobsRequest::default() };
    let reply = server.cas().batch_update_blobs(request).await.unwrap().into_inner();
    assert!(reply.responses.iter().all(|it| it.status.as_ref().unwrap().code == 0));
}

/// Reads with a client that decodes 4 MiB, as clients do.
async fn read(
    server: &TestServer,
    digests: Vec<WireDigest>,
) -> Result<BatchReadBlobsResponse, Status> {
    let mut client = ContentAddressableStorageClient::new(server.channel.clone());
    let request = BatchReadBlobsRequest { digests, ..BatchReadBlobsRequest::default() };
    Ok(client.batch_read_blobs(request).await?.into_inner())
}

fn codes(response: &BatchReadBlobsResponse) -> Vec<i32> {
    response.responses.iter().map(|one| one.status.as_ref().unwrap().code).collect()
}

#[tokio::test]
async fn reapi_26_an_absent_blob_fails_alone() {
    let server = TestServer::start().await;
    let [first, second, absent] = ["first", "second", "absent"].map(Blob::new);
    put(&server, &[first.clone(), second.clone()]).await;
    let asked = [&first, &absent, &second, &first].map(Blob::wire).to_vec();
    let response = read(&server, asked.clone()).await.unwrap();
    assert_eq!(codes(&response), [0, 5, 0, 0]);
    for (outcome, (digest, data)) in
        response.responses.iter().zip(asked.iter().zip(["first", "", "second", "first"]))
    {
        assert_eq!(outcome.digest.as_ref(), Some(digest));
        assert_eq!(outcome.data, data);
    }
    let message = &response.responses[1].status.as_ref().unwrap().message;
    assert!(message.contains(absent.digest.hash_hex().as_str()), "{message}");
}

#[tokio::test]
async fn reapi_26_a_malformed_digest_fails_alone_and_an_empty_request_is_fine() {
    let server = TestServer::start().await;
    let good = Blob::new("good");
    put(&server, std::slice::from_ref(&good)).await;
    let hash = good.digest.hash_hex();
    let hash = hash.as_str();
    let bad = [(&hash[..63], 4), (hash, -4), (hash, 0), (hash, 5)];
    let bad = bad.map(|(hash, size_bytes)| WireDigest { hash: hash.to_owned().into(), size_bytes });
    let mut asked = bad.to_vec();
    asked.extend([good.wire(), Blob::new("").wire()]);
    let response = read(&server, asked).await.unwrap();
    assert_eq!(codes(&response), [3, 3, 3, 5, 0, 0]);
    assert_eq!(read(&server, Vec::new()).await.unwrap(), BatchReadBlobsResponse::default());
}

#[tokio::test]
async fn reapi_27_a_batch_over_the_limit_is_refused_as_a_whole() {
    let server = TestServer::start().await;
    let blobs = [Blob::random(1, LIMIT - 1000), Blob::random(2, 1000), Blob::random(3, 1001)];
    server.put(&blobs.each_ref()).await;
    let full = vec![blobs[0].wire(), blobs[1].wire()];
    assert_eq!(codes(&read(&server, full.clone()).await.unwrap()), [0, 0]);
    let over = [
        vec![blobs[0].wire(), blobs[2].wire()],
        // A duplicate counts again, and so does what is absent.
        [full.clone(), vec![blobs[1].wire()]].concat(),
        [full, vec![Blob::new("absent").wire()]].concat(),
        vec![WireDigest { size_bytes: i64::MAX, ..blobs[0].wire() }; 3],
    ];
    for asked in over {
        let status = assert_code(read(&server, asked).await, Code::InvalidArgument);
        assert!(status.message().contains("max_batch_total_size_bytes"), "{status:?}");
        assert!(status.message().contains(&LIMIT.to_string()), "{status:?}");
    }
}

/// No compressor is announced, so identity it is, which may always be sent.
#[tokio::test]
async fn reapi_28_the_reply_is_identity_whatever_is_acceptable() {
    let server = TestServer::start().await;
    let blob = Blob::new("compressible".repeat(100));
    put(&server, std::slice::from_ref(&blob)).await;
    for acceptable_compressors in [vec![], vec![0], vec![1], vec![3], vec![1, 2, 3, 99, -1]] {
        let request = BatchReadBlobsRequest {
            digests: vec![blob.wire()],
            acceptable_compressors,
            ..BatchReadBlobsRequest::default()
        };
        let reply = server.cas().batch_read_blobs(request).await.unwrap().into_inner();
        assert_eq!(codes(&reply), [0]);
        assert_eq!(reply.responses[0].compressor, 0);
        assert_eq!(reply.responses[0].data, blob.data);
    }
}

#[tokio::test]
async fn reapi_29_one_blob_of_the_announced_limit_fits_a_4_mib_client() {
    let server = TestServer::start().await;
    let blob = Blob::random(29, LIMIT);
    server.put(&[&blob]).await;
    let response = read(&server, vec![blob.wire()]).await.unwrap();
    assert_eq!(response.responses[0].data, blob.data);
}

/// Digests weigh as much as tiny blobs: what does not fit is refused blob by blob, and asking for
/// the rest gets all of it in the end.
#[tokio::test]
async fn reapi_29_many_tiny_blobs_of_the_announced_limit_fit_a_4_mib_client() {
    let server = TestServer::start().await;
    let blobs: Vec<_> = (0..400).map(|seed| Blob::random(seed, 160)).collect();
    put(&server, &blobs).await;
    let mut wanted: Vec<&Blob> = blobs.iter().cycle().take(LIMIT / 160).collect();
    assert!(wanted.len() > 25_000);
    let mut rounds = 0;
    while !wanted.is_empty() {
        let response = read(&server, wanted.iter().map(|blob| blob.wire()).collect()).await;
        let response = response.unwrap();
        assert_eq!(response.responses.len(), wanted.len());
        let mut refused = Vec::new();
        for (blob, outcome) in wanted.into_iter().zip(response.responses) {
            assert_eq!(outcome.digest, Some(blob.wire()));
            match Code::from_i32(outcome.status.unwrap().code) {
                Code::Ok => assert_eq!(outcome.data, blob.data),
                Code::ResourceExhausted => refused.push(blob),
                other => panic!("{other:?}"),
            }
        }
        wanted = refused;
        rounds += 1;
        assert!(rounds < 4, "{} are still refused", wanted.len());
    }
    assert!(rounds > 1, "the batch was too small to be a test");
}

/// 30,000 times "not found", each with its digest, would be 5 MiB.
#[tokio::test]
async fn reapi_29_many_absent_blobs_fit_a_4_mib_client() {
    let server = TestServer::start().await;
    let absent = Blob::random(29, 130);
    let response = read(&server, vec![absent.wire(); 30_000]).await.unwrap();
    assert_eq!(codes(&response), vec![5; 30_000]);
    let message = &response.responses[0].status.as_ref().unwrap().message;
    assert!(message.contains("not found"), "{message}");
}

/// A reply that could not even hold the digests is refused before it is made.
#[tokio::test]
async fn reapi_29_more_digests_than_a_reply_can_hold_are_refused_as_a_whole() {
    let server = TestServer::start().await;
    let blob = Blob::new("tiny");
    put(&server, std::slice::from_ref(&blob)).await;
    let asked = vec![blob.wire(); 80_000];
    let request = BatchReadBlobsRequest { digests: asked, ..BatchReadBlobsRequest::default() };
    let mut client = ContentAddressableStorageClient::new(server.channel.clone())
        .max_encoding_message_size(16 << 20);
    let status = assert_code(client.batch_read_blobs(request).await, Code::InvalidArgument);
    assert!(status.message().contains("digests"), "{status:?}");
    assert!(status.message().contains("4194304"), "{status:?}");
}

/// Reading is use: what is read stays.
#[tokio::test]
async fn reapi_26_a_batch_read_keeps_what_it_finds() {
    let server = start_small().await;
    let [kept, other] = [1, 2].map(|seed| Blob::random(seed, 60_000));
    server.put(&[&kept, &other]).await;
    turn_over(&server, async || {
        assert_eq!(codes(&read(&server, vec![kept.wire()]).await.unwrap()), [0]);
    })
    .await;
    let response = read(&server, vec![kept.wire(), other.wire()]).await.unwrap();
    assert_eq!(codes(&response), [0, 5]);
}
