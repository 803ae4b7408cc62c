//! `ByteStream.Read` and the names it takes (reapi 49-57, 60-62, 74).

use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan_proto::messages::ReadRequest;
use tonic::{Code, Request};

use crate::support::client::{drain, whole};
use crate::support::wait::stats_reach;
use crate::support::{Blob, Client, Process, TestServer, assert_code, disk};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const HEADER: &str = "build.bazel.remote.execution.v2.resource-name";

fn random(function: DigestFunction, seed: u64, len: usize) -> Blob {
    Blob::with(function, Blob::random(seed, len).data)
}

/// Blobs are shared by all instances; the name may be empty or span several segments.
#[tokio::test]
async fn reapi_11_49_names_with_any_instance_and_function() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 1, 100 * KIB);
        let instance = "projects/p/instances/default_instance";
        let name = format!("{instance}/{}", blob.write_name());
        assert_eq!(client.write(whole(&name, &blob.data)).await.unwrap(), 100 * KIB as i64);
        for instance in ["", "main/", "projects/p/instances/default_instance/", "a b/c%2F/"] {
            let name = format!("{instance}{}", blob.read_name());
            assert_eq!(client.read(&name).await.unwrap(), blob.data, "{name}");
        }
    }
}

#[tokio::test]
async fn reapi_10_13_49_52_malformed_read_names_are_refused() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(2, 100);
    client.put(&blob).await.unwrap();
    let hash = blob.digest.hash_hex().as_str().to_owned();
    let upper = hash.to_uppercase();
    for name in [
        String::new(),
        "/".to_owned(),
        "blobs".to_owned(),
        format!("blobs/{hash}"),
        format!("blobs/{hash}/"),
        format!("/blobs/{hash}/100"),
        format!("//blobs/{hash}/100"),
        format!("a//blobs/{hash}/100"),
        format!("a/blobs/blobs/{hash}/100"),
        format!("actions/blobs/{hash}/100"),
        format!("blobs/{hash}/100/"),
        format!("blobs/{hash}/100/metadata"),
        format!("blobs/{upper}/100"),
        format!("blobs/{}/100", &hash[..63]),
        format!("blobs/{hash}0/100"),
        format!("blobs/{hash}/-1"),
        format!("blobs/{hash}/+100"),
        format!("blobs/{hash}/0100"),
        format!("blobs/{hash}/1e2"),
        format!("blobs/{hash}/0"),
        format!("blobs/{hash}/99999999999999999999"),
        format!("blobs/sha256/{hash}/100"),
        format!("blobs/BLAKE3/{hash}/100"),
        format!("blobs/md5/{hash}/100"),
        format!("blob/{hash}/100"),
        "x".repeat(20_000),
    ] {
        assert_code(client.read(&name).await, Code::InvalidArgument);
    }
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn reapi_49_52_unannounced_compressors_are_refused() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(3, 100);
    client.put(&blob).await.unwrap();
    assert!(client.capabilities("").await.unwrap().supported_compressors.is_empty());
    for compressor in ["zstd", "deflate", "brotli", "identity", "ZSTD", "gzip", ""] {
        let name = format!("compressed-blobs/{compressor}/{}", blob.digest);
        assert_code(client.read(&name).await, Code::InvalidArgument);
    }
}

#[tokio::test]
async fn reapi_52_a_write_name_is_no_read_name() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(4, 100);
    client.put(&blob).await.unwrap();
    assert_code(client.read(&blob.write_name()).await, Code::InvalidArgument);
    let name = format!("main/{}", blob.write_name());
    assert_code(client.read(&name).await, Code::InvalidArgument);
}

#[tokio::test]
async fn reapi_53_a_read_whose_header_differs_is_refused() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let [blob, other] = [5, 6].map(|seed| Blob::random(seed, 100));
    client.put(&blob).await.unwrap();
    let request = |header: &str| {
        let resource_name = blob.read_name();
        let mut request = Request::new(ReadRequest { resource_name, ..ReadRequest::default() });
        request.metadata_mut().insert(HEADER, header.parse().unwrap());
        request
    };
    let read = client.byte_stream().read(request(&blob.read_name())).await.unwrap();
    assert_eq!(drain(read.into_inner()).await.unwrap(), blob.data);
    for header in [other.read_name(), format!("{}/", blob.read_name()), String::new()] {
        let refused = client.byte_stream().read(request(&header)).await;
        assert_code(refused, Code::InvalidArgument);
    }
}

/// The size is part of the digest: the right hash with another size names another blob (reapi 2).
#[tokio::test]
async fn reapi_2_54_absent_blobs_are_not_found() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let (blob, absent) = (random(function, 7, 100), random(function, 8, 100));
        client.put(&blob).await.unwrap();
        assert_code(client.read(&absent.read_name()).await, Code::NotFound);
        for size_bytes in [99, 101, 1 << 40] {
            let digest = castellan::digest::Digest { size_bytes, ..blob.digest };
            assert_code(client.read(&format!("blobs/{digest}")).await, Code::NotFound);
        }
    }
    // The same 64 digits under another function are another blob.
    let blob = random(DigestFunction::Blake3, 7, 100);
    let hash = blob.digest.hash_hex();
    let name = format!("blobs/{}/100", hash.as_str());
    assert_code(client.read(&name).await, Code::NotFound);
}

#[tokio::test]
async fn reapi_55_offsets() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 9, 300_000);
        client.put(&blob).await.unwrap();
        let name = blob.read_name();
        for offset in [0, 1, 65_535, 65_536, 262_145, 299_999] {
            let data = client.read_range(&name, offset as i64, 0).await.unwrap();
            assert_eq!(data, blob.data.slice(offset..), "offset {offset}");
        }
        assert!(client.read_range(&name, 300_000, 0).await.unwrap().is_empty());
        for offset in [-1, i64::MIN, 300_001, i64::MAX] {
            let refused = client.read_range(&name, offset, 0).await;
            assert_code(refused, Code::OutOfRange);
        }
        // The size is in the name, so a wrong offset needs no blob to be wrong.
        let absent = random(function, 10, 100).read_name();
        assert_code(client.read_range(&absent, 101, 0).await, Code::OutOfRange);
        assert_code(client.read_range(&absent, 100, 0).await, Code::NotFound);
    }
}

#[tokio::test]
async fn reapi_56_limits() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 11, 300_000);
        client.put(&blob).await.unwrap();
        let name = blob.read_name();
        for (offset, limit) in
            [(0, 1), (0, 65_536), (10, 65_537), (0, 300_000), (299_999, 1), (100_000, 199_999)]
        {
            let data = client.read_range(&name, offset as i64, limit as i64).await.unwrap();
            assert_eq!(data, blob.data.slice(offset..offset + limit), "{offset} {limit}");
        }
        for (offset, limit) in [(0, i64::MAX), (1, 300_000), (299_999, 2), (300_000, 5)] {
            let start = usize::try_from(offset).unwrap();
            let data = client.read_range(&name, offset, limit).await.unwrap();
            assert_eq!(data, blob.data.slice(start..), "past the end is the end");
        }
        for limit in [-1, i64::MIN] {
            assert_code(client.read_range(&name, 0, limit).await, Code::InvalidArgument);
        }
    }
}

/// The empty blob is always there, and reads of nothing are OK with no bytes at all.
#[tokio::test]
async fn reapi_9_57_reads_of_nothing() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let empty = Blob::with(function, "");
        assert!(client.read(&empty.read_name()).await.unwrap().is_empty());
        assert!(client.read_range(&empty.read_name(), 0, 10).await.unwrap().is_empty());
        assert_code(client.read_range(&empty.read_name(), 1, 0).await, Code::OutOfRange);
    }
    assert!(disk::blob_files(server.directory.path()).is_empty());
}

/// What fits into the messages that every client decodes.
const LARGEST: usize = (4 << 20) - (64 << 10);

#[tokio::test]
async fn reapi_60_messages_of_a_read_stay_small() {
    let chunks = [(1, 4 << 10), (4 << 10, 4 << 10), (64 << 10, 64 << 10), (64 << 20, LARGEST)];
    for (read_chunk_bytes, most_bytes) in chunks {
        let options = GrpcOptions { read_chunk_bytes, ..GrpcOptions::default() };
        let server = TestServer::start_with(256 << 20, options).await;
        let client = Client::of(&server).await;
        let blob = Blob::random(12, 5 * MIB + 1);
        client.put(&blob).await.unwrap();
        let mut stream = client.open_read(&blob.read_name(), 0, 0).await.unwrap();
        let mut data = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            let bytes = message.data.len();
            assert!(bytes <= most_bytes, "{bytes} bytes in one message of {read_chunk_bytes}");
            data.extend_from_slice(&message.data);
        }
        assert_eq!(data, blob.data);
    }
}

#[tokio::test]
async fn reapi_61_corrupted_bytes_never_end_in_ok() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    let mut blobs = Vec::new();
    for function in DigestFunction::ALL {
        for (seed, len) in [(1, 10), (2, 70_000), (3, 3 * MIB)] {
            blobs.push(random(function, seed, len));
        }
    }
    for blob in &blobs {
        client.put(blob).await.unwrap();
    }
    drop(client);
    let directory = server.stop().await;
    for blob in &blobs {
        disk::corrupt(directory.path(), blob);
    }
    let server = TestServer::start_in(directory, 256 << 20, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    for (index, blob) in blobs.iter().enumerate() {
        let name = blob.read_name();
        // Whole reads are checked on the way, parts before their first byte.
        let read = match index % 2 {
            0 => client.read(&name).await,
            _ => client.read_range(&name, 1, 2).await,
        };
        assert_code(read, Code::DataLoss);
        assert!(client.is_missing(blob).await, "the entry is removed");
        assert_code(client.read(&name).await, Code::NotFound);
        client.put(blob).await.unwrap();
        assert_eq!(client.read(&name).await.unwrap(), blob.data, "the next upload heals it");
    }
    assert_eq!(server.store().stats().corrupt_blobs, blobs.len() as u64);
    let charged = server.store().stats().charged_bytes();
    assert_eq!(disk::du(server.directory.path()), charged);
}

#[tokio::test]
async fn reapi_61_files_that_are_gone_or_torn_are_never_ok() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    let [gone, torn, grown] = [1, 2, 3].map(|seed| Blob::random(seed, 100_000));
    for blob in [&gone, &torn, &grown] {
        client.put(blob).await.unwrap();
    }
    let root = server.directory.path().to_owned();
    #[expect(clippy::disallowed_methods, reason = "stands for somebody who deletes files")]
    std::fs::remove_file(disk::file_of(&root, &gone)).unwrap();
    for (blob, len) in [(&torn, 50_000), (&grown, 100_001)] {
        let path = disk::file_of(&root, blob);
        let mut permissions = path.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(&path, permissions).unwrap();
        std::fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
    }
    for blob in [&gone, &torn, &grown] {
        assert_code(client.read(&blob.read_name()).await, Code::NotFound);
        assert!(client.is_missing(blob).await);
        client.put(blob).await.unwrap();
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
}

#[tokio::test]
async fn reapi_62_a_read_makes_a_blob_young() {
    let server = TestServer::start_with(8 << 20, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    let [read, ranged, idle] = [1, 2, 3].map(|seed| Blob::random(seed, 256 * KIB));
    for blob in [&read, &ranged, &idle] {
        client.put(blob).await.unwrap();
    }
    // Three times the cap, and the two are touched again before they can be the oldest.
    for seed in 100..196 {
        client.put(&Blob::random(seed, 256 * KIB)).await.unwrap();
        assert_eq!(client.read(&read.read_name()).await.unwrap(), read.data);
        let range = client.read_range(&ranged.read_name(), 1000, 10).await.unwrap();
        assert_eq!(range, ranged.data.slice(1000..1010));
    }
    assert_code(client.read(&idle.read_name()).await, Code::NotFound);
}

#[tokio::test]
async fn reapi_61_62_a_read_under_way_survives_the_eviction_of_its_blob() {
    let server = TestServer::start_on_files_with(16 << 20, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    let blob = Blob::random(13, 4 * MIB);
    client.put(&blob).await.unwrap();
    let address = server.server.grpc_address().unwrap().to_string();
    let slow = Client::with_window(&address, 65_535).await;
    let stream = slow.open_read(&blob.read_name(), 0, 0).await.unwrap();
    for seed in 200..240 {
        client.put(&Blob::random(seed, MIB)).await.unwrap();
    }
    assert!(client.is_missing(&blob).await);
    // Its bytes are on the disk until the reader is done, and the books say so.
    let stats = server.store().stats();
    assert_eq!(stats.held_bytes, 4 * MIB as u64);
    assert!(stats.charged_bytes() <= stats.max_bytes, "{stats:?}");
    assert_eq!(drain(stream).await.unwrap(), blob.data);
    stats_reach(&server, "the reader's bytes are free", |it| it.held_bytes == 0).await;
}

/// The peak of a process's memory so far, in bytes.
fn peak_memory_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// I22: what the server holds for readers that do not read is bounded, and others go on.
#[tokio::test]
async fn reapi_74_i22_a_reader_that_stalls_costs_no_memory_and_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &["--max-size", "256MiB", "--log", "warn"]);
    let client = Client::connect(&process.grpc).await;
    let blob = Blob::random(14, 100 * MIB);
    client.put(&blob).await.unwrap();
    let before = peak_memory_bytes(&process);
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let slow = Client::with_window(&process.grpc, 65_535).await;
        let stream = slow.open_read(&blob.read_name(), 0, 0).await.unwrap();
        stalled.push((slow, stream));
    }
    // Long enough for a server that reads ahead to have all sixteen in memory.
    for _ in 0..2 {
        assert_eq!(client.read(&blob.read_name()).await.unwrap().len(), 100 * MIB);
    }
    let other = Blob::random(15, MIB);
    client.put(&other).await.unwrap();
    assert_eq!(client.read(&other.read_name()).await.unwrap(), other.data);
    // The kernel counts in batches, so its peak may fall by a few pages.
    let grown = peak_memory_bytes(&process).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for readers that do not read 16 times 100 MiB");
    let (_slow, stream) = stalled.pop().unwrap();
    assert_eq!(drain(stream).await.unwrap(), blob.data);
}
