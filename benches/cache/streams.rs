//! `ByteStream`, eight streams at once on one connection.

use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::messages::{ReadRequest, WriteRequest};
use futures_util::stream::{self, StreamExt as _};
use tonic::transport::Channel;

use super::data::{Blob, Data, Group};
use super::measure::{Amount, Bench};

const CONCURRENCY: usize = 8;
const MESSAGE_BYTES: usize = 64 << 20;
/// Reading is cheap: small groups are read more than once.
const LEAST_READ_BYTES: u64 = 256 << 20;

pub(crate) async fn run(bench: &mut Bench<'_>, data: &Data) {
    for group in &data.large {
        let bytes = Amount::Bytes(group.total_bytes());
        let name = format!("write {}", group.name);
        if bench.wants(&name) || is_read(bench, group) {
            bench.necessary_case(&name, bytes, |channel| write_all(channel, group)).await;
        }
    }
    for group in &data.large {
        if !is_read(bench, group) {
            continue;
        }
        let times = LEAST_READ_BYTES.div_ceil(group.total_bytes());
        let bytes = Amount::Bytes(group.total_bytes() * times);
        bench.case(&read_name(group), bytes, |channel| read_all(channel, group, times)).await;
    }
}

fn read_name(group: &Group) -> String {
    format!("read {}", group.name)
}

/// One group of each size is enough: a read neither hashes nor sees how the blob was sent.
fn is_read(bench: &Bench<'_>, group: &Group) -> bool {
    matches!(group.name, "64 KiB" | "1 MiB" | "64 MiB") && bench.wants(&read_name(group))
}

fn client(channel: Channel) -> ByteStreamClient<Channel> {
    ByteStreamClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

async fn write_all(channel: Channel, group: &Group) {
    let calls = stream::iter(&group.blobs).map(|blob| {
        let mut client = client(channel.clone());
        async move {
            let reply = client.write(stream::iter(write_requests(blob))).await.unwrap();
            assert_eq!(reply.into_inner().committed_size.cast_unsigned(), blob.digest.size_bytes);
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}

fn write_requests(blob: &Blob) -> Vec<WriteRequest> {
    let mut offset = 0;
    let mut requests = Vec::with_capacity(blob.messages.len());
    for data in &blob.messages {
        requests.push(WriteRequest {
            write_offset: offset,
            data: data.clone(),
            ..WriteRequest::default()
        });
        offset += data.len() as i64;
    }
    let uuid = uuid::Uuid::new_v4();
    requests[0].resource_name = format!("uploads/{uuid}/blobs/{}", blob.digest);
    requests[blob.messages.len() - 1].finish_write = true;
    requests
}

async fn read_all(channel: Channel, group: &Group, times: u64) {
    let blobs = (0..times).flat_map(|_| &group.blobs);
    let calls = stream::iter(blobs).map(|blob| {
        let mut client = client(channel.clone());
        let resource_name = format!("blobs/{}", blob.digest);
        async move {
            let request = ReadRequest { resource_name, ..ReadRequest::default() };
            let mut messages = client.read(request).await.unwrap().into_inner();
            let mut received = 0;
            while let Some(message) = messages.message().await.unwrap() {
                received += message.data.len() as u64;
            }
            assert_eq!(received, blob.digest.size_bytes);
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}
