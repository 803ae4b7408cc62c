//! Presence and batches of small blobs.

use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, Digest,
    FindMissingBlobsRequest,
};
use futures_util::stream::{self, StreamExt as _};
use tonic::transport::Channel;

use super::data::{self, Data, Group};
use super::measure::{Amount, Bench};

const CONCURRENCY: usize = 8;
const BATCH: usize = 100;
const MESSAGE_BYTES: usize = 64 << 20;

/// Digests of one request, and requests.
const PRESENCE: [(usize, usize); 3] = [(1, 4000), (100, 1000), (10_000, 100)];

pub(crate) async fn run(bench: &mut Bench<'_>, data: &Data) {
    for group in &data.small {
        let requests: Vec<_> = group.blobs.chunks(BATCH).map(|it| update(group, it)).collect();
        let name = format!("batch update, 100 of 4 KiB, {}", group.name);
        let bytes = Amount::Bytes(group.total_bytes());
        bench.necessary_case(&name, bytes, |channel| update_all(channel, &requests)).await;
    }
    let stored = &data.small[0];
    let requests: Vec<_> = stored.blobs.chunks(BATCH).map(|it| read(stored, it)).collect();
    let bytes = Amount::Bytes(stored.total_bytes());
    bench.case("batch read, 100 of 4 KiB", bytes, |channel| read_all(channel, &requests)).await;
    let present: Vec<Digest> = stored.blobs.iter().map(data::Blob::wire).collect();
    let absent: Vec<Digest> = data.absent.iter().map(data::wire).collect();
    for (digests, kind) in [(present, "present"), (absent, "absent")] {
        for (size, count) in PRESENCE {
            let name = format!("find missing, {size} {kind}");
            let requests = questions(&digests, size);
            let steps = Amount::Steps(count as u64);
            bench.case(&name, steps, |channel| find_all(channel, &requests, count)).await;
        }
    }
}

fn client(channel: Channel) -> ContentAddressableStorageClient<Channel> {
    ContentAddressableStorageClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

fn update(group: &Group, blobs: &[data::Blob]) -> BatchUpdateBlobsRequest {
    let requests = blobs.iter().map(|blob| BatchUpdateBlob {
        digest: Some(blob.wire()),
        data: blob.messages[0].clone(),
        compressor: 0,
    });
    BatchUpdateBlobsRequest {
        requests: requests.collect(),
        digest_function: group.function.to_wire(),
        ..BatchUpdateBlobsRequest::default()
    }
}

async fn update_all(channel: Channel, requests: &[BatchUpdateBlobsRequest]) {
    let calls = stream::iter(requests).map(|request| {
        let mut client = client(channel.clone());
        async move {
            let reply = client.batch_update_blobs(request.clone()).await.unwrap().into_inner();
            for outcome in reply.responses {
                assert_eq!(outcome.status.unwrap_or_default().code, 0);
            }
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}

fn read(group: &Group, blobs: &[data::Blob]) -> BatchReadBlobsRequest {
    BatchReadBlobsRequest {
        digests: blobs.iter().map(data::Blob::wire).collect(),
        digest_function: group.function.to_wire(),
        ..BatchReadBlobsRequest::default()
    }
}

async fn read_all(channel: Channel, requests: &[BatchReadBlobsRequest]) {
    let calls = stream::iter(requests).map(|request| {
        let mut client = client(channel.clone());
        async move {
            let reply = client.batch_read_blobs(request.clone()).await.unwrap().into_inner();
            let read: usize = reply.responses.iter().map(|outcome| outcome.data.len()).sum();
            assert_eq!(read, 4096 * request.digests.len());
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}

/// Requests about different digests as far as there are some.
fn questions(digests: &[Digest], size: usize) -> Vec<FindMissingBlobsRequest> {
    let requests = digests.chunks_exact(size).take(1000).map(|some| FindMissingBlobsRequest {
        blob_digests: some.to_vec(),
        ..FindMissingBlobsRequest::default()
    });
    requests.collect()
}

async fn find_all(channel: Channel, requests: &[FindMissingBlobsRequest], count: usize) {
    let calls = stream::iter(requests.iter().cycle().take(count)).map(|request| {
        let mut client = client(channel.clone());
        async move {
            client.find_missing_blobs(request.clone()).await.unwrap();
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}
