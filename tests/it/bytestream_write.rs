//! `ByteStream.Write`: the order of its messages, what it refuses, how it ends
//! (reapi 49-53, 63-72).

use bytes::Bytes;
use castellan::digest::{Digest, DigestFunction};
use castellan::grpc::GrpcOptions;
use castellan_proto::messages::{QueryWriteStatusRequest, WriteRequest};
use castellan_proto::v2::{RequestMetadata, ToolDetails};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::support::client::{finished, part, parts, rest, whole};
use crate::support::wait::{committed_reaches, stats_reach};
use crate::support::{Blob, Client, TestServer, assert_code, disk};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const HEADER: &str = "build.bazel.remote.execution.v2.resource-name";

fn random(function: DigestFunction, seed: u64, len: usize) -> Blob {
    Blob::with(function, Blob::random(seed, len).data)
}

/// Asserts that nothing of a blob can be seen, and that its upload goes through all the same.
async fn refused_without_a_trace(server: &TestServer, client: &Client, name: &str, blob: &Blob) {
    assert!(client.is_missing(blob).await, "{name}");
    assert_code(client.read(&blob.read_name()).await, Code::NotFound);
    let files = disk::blob_files(server.directory.path());
    let hash = blob.digest.hash_hex();
    assert!(!files.iter().any(|it| it.to_string_lossy().contains(hash.as_str())));
    let size = i64::try_from(blob.data.len()).unwrap();
    assert_eq!(client.write(whole(name, &blob.data)).await.unwrap(), size, "{name}");
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

/// Whatever follows the size is the client's own business, keywords included.
#[tokio::test]
async fn reapi_50_trailing_metadata_is_ignored() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        for (seed, tail) in
            ["/foo/bar.cc", "/blobs/x/1", "/uploads/u/blobs/x/1", "/compressed-blobs/zstd", "/", ""]
                .iter()
                .enumerate()
        {
            let blob = random(function, seed as u64, 1000);
            for instance in ["", "a/b/c/"] {
                let name = format!("{instance}{}{tail}", blob.write_name());
                assert_eq!(client.write(whole(&name, &blob.data)).await.unwrap(), 1000);
                assert_eq!(client.query(&name).await.unwrap(), (1000, true), "{name}");
            }
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
}

#[tokio::test]
async fn reapi_51_any_form_of_uuid() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let forms = ["x", "0", "UPPER", "{a-b}", "with space", "123e4567-e89b-12d3-a456-426614174000"];
    for (seed, uuid) in forms.iter().enumerate() {
        let blob = Blob::random(seed as u64, 300 * KIB);
        let name = format!("uploads/{uuid}/blobs/{}", blob.digest);
        assert_eq!(client.write(whole(&name, &blob.data)).await.unwrap(), 300 * KIB as i64);
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
}

/// One uuid for two blobs at once: two uploads that know nothing of each other.
#[tokio::test]
async fn reapi_51_two_blobs_under_one_uuid_at_once() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blobs = [1, 2].map(|seed| random(function, seed, MIB));
        let names = blobs.each_ref().map(|blob| format!("uploads/same/blobs/{}", blob.digest));
        let writes = [client.open_write(), client.open_write()];
        for (range, end) in [(0..500_000, 500_000), (500_000..MIB, MIB)] {
            for ((blob, name), write) in blobs.iter().zip(&names).zip(&writes) {
                let mut message = part(name, &blob.data, range.clone());
                message.finish_write = end == MIB;
                write.send(message).await;
                committed_reaches(&client, name, end).await;
            }
        }
        for (write, blob) in writes.into_iter().zip(&blobs) {
            assert_eq!(write.half_close().await.unwrap(), MIB as i64);
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
}

fn malformed_write_names(blob: &Blob) -> Vec<String> {
    let hash = blob.digest.hash_hex().as_str().to_owned();
    let size = blob.digest.size_bytes;
    let upper = hash.to_uppercase();
    vec![
        blob.read_name(),
        "uploads".to_owned(),
        "uploads/u".to_owned(),
        format!("uploads/u/blobs/{hash}"),
        format!("uploads/u/{hash}/{size}"),
        format!("uploads/blobs/{hash}/{size}"),
        format!("uploads//blobs/{hash}/{size}"),
        format!("/uploads/u/blobs/{hash}/{size}"),
        format!("a//uploads/u/blobs/{hash}/{size}"),
        format!("a/blobs/uploads/u/blobs/{hash}/{size}"),
        format!("uploads/u/v/blobs/{hash}/{size}"),
        format!("uploads/{}/blobs/{hash}/{size}", "u".repeat(300)),
        format!("uploads/u/blobs/{upper}/{size}"),
        format!("uploads/u/blobs/{}/{size}", &hash[..40]),
        format!("uploads/u/blobs/{hash}/-1"),
        format!("uploads/u/blobs/{hash}/0{size}"),
        format!("uploads/u/blobs/{hash}/0"),
        format!("uploads/u/blobs/sha256/{hash}/{size}"),
        format!("uploads/u/blobs/sha1/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/zstd/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/deflate/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/brotli/blake3/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/identity/{hash}/{size}"),
        format!("uploads/u/compressed-blobs/lz4/{hash}/{size}"),
    ]
}

/// Malformed names, read names and encodings that are not announced, for writes and queries.
#[tokio::test]
async fn reapi_49_50_52_78_names_that_cannot_be_written() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(3, 1000);
    for name in malformed_write_names(&blob) {
        assert_code(client.write(whole(&name, &blob.data)).await, Code::InvalidArgument);
        assert_code(client.query(&name).await, Code::InvalidArgument);
    }
    assert!(disk::blob_files(server.directory.path()).is_empty());
    refused_without_a_trace(&server, &client, &blob.write_name(), &blob).await;
}

#[tokio::test]
async fn reapi_53_a_write_whose_header_differs_is_refused() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(4, 1000);
    let [name, other] = [blob.write_name(), blob.write_name()];
    for (header, is_right) in [(&other, false), (&name, true)] {
        let mut query = Request::new(QueryWriteStatusRequest { resource_name: name.clone() });
        query.metadata_mut().insert(HEADER, header.parse().unwrap());
        let queried = client.byte_stream().query_write_status(query).await;
        let mut write = Request::new(tokio_stream::iter(whole(&name, &blob.data)));
        write.metadata_mut().insert(HEADER, header.parse().unwrap());
        let written = client.byte_stream().write(write).await;
        if is_right {
            assert_eq!(queried.unwrap().into_inner().committed_size, 0);
            assert_eq!(written.unwrap().into_inner().committed_size, 1000);
        } else {
            assert_code(queried, Code::InvalidArgument);
            assert_code(written, Code::InvalidArgument);
            assert!(client.is_missing(&blob).await);
        }
    }
}

#[tokio::test]
async fn reapi_63_the_name_comes_first_and_stays() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(5, 3000);
    let name = blob.write_name();
    let good = rest(&name, &blob.data, 0, 1000);
    let nameless = WriteRequest { resource_name: String::new(), ..good[0].clone() };
    let renamed = |name: String| WriteRequest { resource_name: name, ..good[1].clone() };
    let other = Blob::random(6, 3000).write_name();
    for bad in [
        vec![],
        vec![WriteRequest::default()],
        vec![nameless, good[1].clone(), good[2].clone()],
        vec![good[0].clone(), renamed(blob.write_name()), good[2].clone()],
        vec![good[0].clone(), renamed(other), good[2].clone()],
        vec![good[0].clone(), renamed(blob.read_name()), good[2].clone()],
        vec![good[0].clone(), renamed(format!("{name}/x")), good[2].clone()],
    ] {
        assert_code(client.write(bad).await, Code::InvalidArgument);
        assert!(client.is_missing(&blob).await);
    }
    let repeated = good.into_iter().map(|it| WriteRequest { resource_name: name.clone(), ..it });
    assert_eq!(client.write(repeated.collect()).await.unwrap(), 3000);
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn reapi_64_every_offset_follows_from_the_one_before() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 7, 3000);
        let good = rest(&blob.write_name(), &blob.data, 0, 1000);
        for (index, offset) in [
            (0, -1),
            (0, i64::MIN),
            (0, 1),
            (0, 3000),
            (0, i64::MAX),
            (1, 0),
            (1, 999),
            (1, 1001),
            (1, -1000),
            (2, 1000),
            (2, i64::MAX),
        ] {
            let mut bad = good.clone();
            bad[index].write_offset = offset;
            bad[0].resource_name = blob.write_name();
            let refused = assert_code(client.write(bad).await, Code::InvalidArgument);
            let named =
                ["write_offset", "received"].iter().any(|it| refused.message().contains(it));
            assert!(named, "{refused:?}");
            assert!(client.is_missing(&blob).await);
        }
        let skipped = vec![good[0].clone(), good[2].clone()];
        assert_code(client.write(skipped).await, Code::InvalidArgument);
        let twice = vec![good[0].clone(), good[1].clone(), good[1].clone(), good[2].clone()];
        assert_code(client.write(twice).await, Code::InvalidArgument);
        refused_without_a_trace(&server, &client, &blob.write_name(), &blob).await;
    }
}

#[tokio::test]
async fn reapi_65_nothing_follows_finish_write() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(8, 3000);
    let name = blob.write_name();
    for mut bad in [whole(&name, &blob.data), rest(&name, &blob.data, 0, 1000)] {
        let empty = WriteRequest { write_offset: 3000, ..WriteRequest::default() };
        let again = bad.last().unwrap().clone();
        for extra in [empty, again] {
            bad.push(extra);
            assert_code(client.write(bad.clone()).await, Code::InvalidArgument);
            assert!(client.is_missing(&blob).await);
            bad.pop();
        }
    }
    // Not even when the first of them ended a blob that is too short.
    let early = finished(parts(&name, &blob.data, 0..1000, 1000));
    let late = parts("", &blob.data, 1000..2000, 1000);
    assert_code(client.write([early, late].concat()).await, Code::InvalidArgument);
    refused_without_a_trace(&server, &client, &name, &blob).await;
}

#[tokio::test]
async fn reapi_66_half_closed_without_finish_write_is_incomplete() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 9, 2 * MIB);
        let name = blob.write_name();
        let half = parts(&name, &blob.data, 0..MIB, 300_000);
        assert_eq!(client.write(half).await.unwrap(), MIB as i64);
        assert_eq!(client.query(&name).await.unwrap(), (MIB as i64, false));
        assert!(client.is_missing(&blob).await);
        assert_code(client.read(&blob.read_name()).await, Code::NotFound);
        // All of its bytes, but still nobody has said that this is all.
        let all = parts(&name, &blob.data, MIB..2 * MIB, 300_000);
        assert_eq!(client.write(all).await.unwrap(), 2 * MIB as i64);
        assert_eq!(client.query(&name).await.unwrap(), (2 * MIB as i64, false));
        assert!(client.is_missing(&blob).await);
        let finish = rest(&name, &blob.data, 2 * MIB, 1);
        assert_eq!(client.write(finish).await.unwrap(), 2 * MIB as i64);
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

#[tokio::test]
async fn reapi_67_empty_messages_and_the_empty_blob() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 10, 2000);
        let name = blob.write_name();
        let range = |range| part("", &blob.data, range);
        let messages = vec![
            part(&name, &blob.data, 0..0),
            range(0..0),
            range(0..1000),
            range(1000..1000),
            range(1000..2000),
            range(2000..2000),
            WriteRequest { finish_write: true, ..range(2000..2000) },
        ];
        assert_eq!(client.write(messages).await.unwrap(), 2000);
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);

        let empty = Blob::with(function, "");
        let name = empty.write_name();
        assert_eq!(client.query(&name).await.unwrap(), (0, true));
        assert_eq!(client.put(&empty).await.unwrap(), 0);
        let in_two = finished(vec![part(&name, &empty.data, 0..0), WriteRequest::default()]);
        assert_eq!(client.write(in_two).await.unwrap(), 0);
        let bytes_for_nothing = finished(parts(&name, &blob.data, 0..1, 1));
        assert_code(client.write(bytes_for_nothing).await, Code::InvalidArgument);
    }
    assert_eq!(disk::blob_files(server.directory.path()).len(), 2);
}

/// The client holds its side open: the refusal comes before the rest would have.
#[tokio::test]
async fn reapi_68_too_long_is_refused_at_once() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 11, 100_000);
        let long = Bytes::from([&blob.data[..], &[0]].concat());
        let name = blob.write_name();
        for chunk in [200_000, 60_000] {
            let write = client.open_write();
            for message in parts(&name, &long, 0..long.len(), chunk) {
                write.send(message).await;
            }
            let refused = assert_code(write.reply().await, Code::InvalidArgument);
            assert!(refused.message().contains("100001"), "{refused:?}");
        }
        refused_without_a_trace(&server, &client, &name, &blob).await;
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

/// The same uuid works afterwards: nothing of the refused bytes is kept (clients.md 8).
#[tokio::test]
async fn reapi_68_short_or_wrong_bytes_are_refused_and_do_not_poison_the_uuid() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        for (seed, len, chunk) in
            [(12, 10, MIB), (13, 10, 6), (14, 300_000, MIB), (15, 300_000, 100_003)]
        {
            let blob = random(function, seed, len);
            let name = blob.write_name();
            let mut last_bit = blob.data.to_vec();
            *last_bit.last_mut().unwrap() ^= 1;
            for bad in [
                blob.data.slice(..len - 1),
                random(function, seed + 100, len).data,
                Bytes::from(last_bit),
                Bytes::new(),
            ] {
                let refused = client.write(rest(&name, &bad, 0, chunk)).await;
                assert_code(refused, Code::InvalidArgument);
                assert_eq!(client.query(&name).await.unwrap(), (0, false));
            }
            refused_without_a_trace(&server, &client, &name, &blob).await;
        }
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

/// On the first message, before the rest is sent; what is there stays there (pitfalls 7.4).
#[tokio::test]
async fn reapi_69_over_the_announced_limit_is_refused_on_the_first_message() {
    let server = TestServer::start_on_files_with(8 << 20, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    let kept: Vec<Blob> = (0..20).map(|seed| Blob::random(seed, 100 * KIB)).collect();
    for blob in &kept {
        client.put(blob).await.unwrap();
    }
    let limit = client.capabilities("").await.unwrap().max_cas_blob_size_bytes;
    let limit = u64::try_from(limit).unwrap();
    assert!((4 << 20..8 << 20).contains(&limit), "{limit}");
    for size_bytes in [limit + 1, 8 << 20, 1 << 40] {
        let digest = Digest { size_bytes, ..Blob::random(100, 10).digest };
        let write = client.open_write();
        let name = format!("uploads/u/blobs/{digest}");
        write.send(part(&name, &Bytes::from_static(b"first"), 0..5)).await;
        let refused = assert_code(write.reply().await, Code::InvalidArgument);
        assert!(refused.message().contains(&limit.to_string()), "{refused:?}");
    }
    assert_eq!(server.store().stats().evictions, 0);
    for blob in &kept {
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    // The limit itself is kept: a blob of exactly that size is taken.
    let largest = Blob::random(101, usize::try_from(limit).unwrap());
    client.put(&largest).await.unwrap();
    assert_eq!(client.read(&largest.read_name()).await.unwrap(), largest.data);
}

/// The client sends one message of 100 MB and learns that the blob is there.
#[tokio::test]
async fn reapi_70_early_finish_of_a_blob_that_is_there() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(14, 100 * MIB);
    client.put(&blob).await.unwrap();
    for first in [0..0, 0..1, 0..256 * KIB] {
        let write = client.open_write();
        write.send(part(&blob.write_name(), &blob.data, first)).await;
        assert_eq!(write.reply().await.unwrap(), 100 * MIB as i64);
    }
    // Nor is it received when the client does not wait for the answer.
    assert_eq!(client.put(&blob).await.unwrap(), 100 * MIB as i64);
    assert_eq!(server.store().stats().lost_publications, 0);
    assert_eq!(disk::blob_files(server.directory.path()).len(), 1);
}

#[tokio::test]
async fn reapi_70_early_finish_of_an_upload_that_is_overtaken() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 15, 5 * MIB);
        let name = blob.write_name();
        let slow = client.open_write();
        slow.send(part(&name, &blob.data, 0..MIB)).await;
        committed_reaches(&client, &name, MIB).await;
        client.put(&blob).await.unwrap();
        slow.send(part(&name, &blob.data, MIB..2 * MIB)).await;
        assert_eq!(slow.reply().await.unwrap(), 5 * MIB as i64);
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
    assert_eq!(disk::blob_files(server.directory.path()).len(), 2);
}

/// Without compression every client wants the blob's size, whoever it says it is.
#[tokio::test]
async fn reapi_71_committed_size_is_the_size_whatever_the_tool() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for (seed, tool) in ["bazel", "siso", "reclient", "buck2", ""].into_iter().enumerate() {
        let blob = Blob::random(seed as u64, 300 * KIB);
        let tool_details =
            Some(ToolDetails { tool_name: tool.to_owned(), ..ToolDetails::default() });
        let metadata = RequestMetadata { tool_details, ..RequestMetadata::default() };
        let metadata = MetadataValue::from_bytes(&metadata.encode_to_vec());
        for _ in 0..2 {
            let requests = whole(&blob.write_name(), &blob.data);
            let mut request = Request::new(tokio_stream::iter(requests));
            let header = "build.bazel.remote.execution.v2.requestmetadata-bin";
            request.metadata_mut().insert_bin(header, metadata.clone());
            let response = client.byte_stream().write(request).await.unwrap().into_inner();
            assert_eq!(response.committed_size, 300 * KIB as i64, "{tool}");
        }
    }
}

/// A thousand clients have sent half of one blob each; all of them end well, and one file is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_72_a_thousand_uploads_of_one_blob() {
    const UPLOADS: u64 = 1000;
    let server = TestServer::start_on_files().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::of(&server).await);
    }
    let blob = Blob::random(16, 64 * KIB);
    let mut writes = Vec::new();
    for client in clients.iter().cycle().take(usize::try_from(UPLOADS).unwrap()) {
        let (name, write) = (blob.write_name(), client.open_write());
        write.send(part(&name, &blob.data, 0..32 * KIB)).await;
        writes.push(write);
    }
    let at_least = UPLOADS * blob.digest.size_bytes;
    stats_reach(&server, "all are under way", |it| it.reserved_bytes >= at_least).await;
    let mut tasks = JoinSet::new();
    for write in writes {
        let rest = part("", &blob.data, 32 * KIB..64 * KIB);
        tasks.spawn(async move {
            write.send(WriteRequest { finish_write: true, ..rest }).await;
            write.half_close().await
        });
    }
    while let Some(committed) = tasks.join_next().await {
        assert_eq!(committed.unwrap().unwrap(), 64 * KIB as i64);
    }
    assert_eq!(clients[0].read(&blob.read_name()).await.unwrap(), blob.data);
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
    let stats = server.store().stats();
    assert_eq!((stats.entries, stats.ledger_errors), (1, 0));
    assert_eq!(disk::blob_files(server.directory.path()).len(), 1);
    assert_eq!(disk::du(server.directory.path()), stats.charged_bytes());
}
