//! Values that are no action results: what ccache, Gradle and sccache see, and that they can
//! neither weaken the action cache nor take its room.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions, SetAside, VALUES_DIR};
use prost::Message as _;
use tonic::Code;

use crate::support::http::{Http, http};
use crate::support::wait::eventually;
use crate::support::{Blob, FullResult, Process, TestServer, assert_code, disk, get};

const CAP_BYTES: u64 = 64 << 20;
const VALUES_BYTES: u64 = 8 << 20;
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn start() -> TestServer {
    start_in(tempfile::tempdir().unwrap()).await
}

async fn start_in(directory: tempfile::TempDir) -> TestServer {
    let store = FilesystemOptions {
        set_aside: Some(SetAside::Bytes(VALUES_BYTES)),
        scrub_bytes_per_second: 0,
        ..FilesystemOptions::new(directory.path(), Cap::Bytes(CAP_BYTES))
    };
    let settings = InstanceSettings::new(0, 0);
    let instances = Instances::Any(settings);
    TestServer::start_settings(directory, store, instances, GrpcOptions::default()).await
}

async fn status_of(server: &TestServer, method: &str, path: &str) -> u16 {
    http(server, method, path, &[], b"").await.status
}

/// The paths of ccache's layouts, of Gradle and of sccache.
fn paths() -> [String; 5] {
    [
        format!("/ccache/ac/{HASH}"),
        "/ccache/0ba1r9f1mtd9qn0vljsl4r7fmbbvc8spm".to_owned(),
        "/ccache/0b/a1r9f1mtd9qn0vljsl4r7fmbbvc8spm".to_owned(),
        "/gradle/9f86d081884c7d65".to_owned(),
        format!("/webdav/0/1/2/{HASH}"),
    ]
}

#[tokio::test]
async fn i23_writes_that_have_stopped_give_way_to_who_waits() {
    let server = start().await;
    let data = Blob::random(1, 3_000_000).data;
    let values = server.server.values_store().unwrap();
    let mut stopped = Vec::new();
    for name in ["/gradle/1", "/gradle/2"] {
        let mut client = Http::connect(&server).await;
        client.head("PUT", name, &[("Content-Length", "3000000")]).await;
        client.send(&data[..1_000_000]).await;
        stopped.push(client);
    }
    let have_room = || std::future::ready(values.stats().reserved_bytes >= 6_000_000);
    eventually("they have room", have_room).await;
    // There is none for a third.
    assert_eq!(http(&server, "PUT", "/gradle/3", &[], &data).await.status, 200);
    assert_eq!(http(&server, "GET", "/gradle/3", &[], b"").await.body, data);
}

#[tokio::test]
async fn what_is_not_kept_beside_a_value_is_refused() {
    let server = start().await;
    for (header, status) in [
        (("Content-Encoding", "zstd"), 415),
        (("Content-Range", "bytes 0-3/8"), 400),
        (("Content-Encoding", "identity"), 200),
    ] {
        let reply = http(&server, "PUT", "/ccache/key", &[header], b"data").await;
        assert_eq!(reply.status, status, "{header:?}");
        let expected = if status == 200 { 200 } else { 404 };
        assert_eq!(status_of(&server, "GET", "/ccache/key").await, expected, "{header:?}");
    }
}

#[tokio::test]
async fn every_layout_reads_what_it_has_written() {
    let server = start().await;
    let mut client = Http::connect(&server).await;
    for (seed, path) in paths().iter().enumerate() {
        // One that is a single chunk, and one that is streamed in its place.
        for len in [1_000, 1_000_000] {
            let data = Blob::random(seed as u64, len).data;
            let reply = client.call("PUT", path, &[], &data).await;
            assert!((200..300).contains(&reply.status), "{path}: {reply:?}");
            let reply = client.call("GET", path, &[], &[]).await;
            assert_eq!((reply.status, reply.is_whole), (200, true), "{path}");
            assert_eq!(reply.body, data);
            let reply = client.call("HEAD", path, &[], &[]).await;
            assert_eq!(
                (reply.status, reply.header("content-length")),
                (200, Some(&*len.to_string()))
            );
            let reply = client.call("GET", path, &[("Range", "bytes=10-19")], &[]).await;
            assert_eq!((reply.status, &reply.body[..]), (206, &data[10..20]));
        }
    }
    assert_eq!(server.server.values_store().unwrap().stats().entries, 5);
    for path in paths() {
        assert_eq!(client.call("DELETE", &path, &[], &[]).await.status, 204);
        assert_eq!(client.call("GET", &path, &[], &[]).await.status, 404);
        assert_eq!(client.call("DELETE", &path, &[], &[]).await.status, 404);
    }
}

#[tokio::test]
async fn i18_values_outlive_a_restart() {
    let server = start().await;
    let data = Blob::random(7, 300_000).data;
    for path in paths() {
        assert!(http(&server, "PUT", &path, &[], b"replaced").await.status < 300);
        assert!(http(&server, "PUT", &path, &[], &data).await.status < 300);
    }
    let server = start_in(server.stop().await).await;
    for path in paths() {
        assert_eq!(http(&server, "GET", &path, &[], b"").await.body, data, "{path}");
    }
}

/// A client that waits to be told to go on is told no before it has sent anything.
#[tokio::test]
async fn a_value_over_the_limit_is_refused_before_its_body() {
    let server = start().await;
    for path in paths() {
        let mut client = Http::connect(&server).await;
        let headers = [("Content-Length", "3145729"), ("Expect", "100-continue")];
        client.head("PUT", &path, &headers).await;
        assert_eq!(client.reply("PUT").await.unwrap().status, 413, "{path}");
        // One that sends all the same gets to see the answer.
        let data = Blob::random(8, 3_145_729).data;
        assert_eq!(http(&server, "PUT", &path, &[], &data).await.status, 413, "{path}");
        assert_eq!(http(&server, "PUT", &path, &[], &data[1..]).await.status / 100, 2, "{path}");
    }
    let mut client = Http::connect(&server).await;
    let headers = [("Content-Length", "4"), ("Expect", "100-continue")];
    client.head("PUT", "/gradle/expected", &headers).await;
    assert_eq!(client.reply("PUT").await.unwrap().status, 100);
    client.send(b"data").await;
    assert_eq!(client.reply("PUT").await.unwrap().status, 200);
}

#[tokio::test]
async fn i2_a_flood_of_values_takes_nothing_from_blobs_and_results() {
    let server = start().await;
    let full = FullResult::new("kept");
    server.put(&full.blobs()).await;
    let encoded = Bytes::from(full.result.encode_to_vec());
    server.update_result(&full.action, encoded.clone()).await.unwrap();
    let blobs: Vec<Blob> = (0..40).map(|seed| Blob::random(seed, 1 << 20)).collect();
    let blobs: Vec<&Blob> = blobs.iter().collect();
    server.put(&blobs).await;
    let before = server.store().stats();

    let mut client = Http::connect(&server).await;
    for number in 0..60_u64 {
        let data = Blob::random(1_000 + number, 500_000).data;
        let path = format!("/ccache/ac/{number:064x}");
        assert_eq!(client.call("PUT", &path, &[], &data).await.status, 200, "{number}");
        assert_eq!(client.call("GET", &path, &[], &[]).await.body, data);
    }
    let values = server.server.values_store().unwrap().stats();
    assert!(values.evictions >= 40 && values.entries >= 5, "{values:?}");
    assert!(values.charged_bytes() <= VALUES_BYTES, "{values:?}");
    let after = server.store().stats();
    assert_eq!(after.evictions, 0);
    assert_eq!(after.entries, before.entries);
    assert!(server.missing(&blobs).await.is_empty());
    assert_eq!(server.get_result(&full.action).await.unwrap(), encoded);
    assert!(disk::du(server.directory.path()) <= CAP_BYTES);
}

#[tokio::test]
async fn a_value_is_never_an_action_result_nor_a_result_a_value() {
    let server = start().await;
    let full = FullResult::new("result");
    server.put(&full.blobs()).await;
    let encoded = full.result.encode_to_vec();
    let hash = full.action.digest.hash_hex();
    for prefix in ["/ccache", "/gradle", "/webdav"] {
        // A valid result, and what ccache writes.
        for data in [&encoded[..], b"\xcc\xac value"] {
            let path = format!("{prefix}/ac/{}", hash.as_str());
            assert!(http(&server, "PUT", &path, &[], data).await.status < 300);
        }
    }
    assert_eq!(status_of(&server, "GET", &format!("/ac/{}", hash.as_str())).await, 404);
    assert_code(server.get_result(&full.action).await, Code::NotFound);
    assert_eq!(server.store().stats().entries, full.blobs().len() as u64);

    server.update_result(&full.action, Bytes::from(encoded)).await.unwrap();
    for prefix in ["/ccache", "/gradle", "/webdav"] {
        let path = format!("{prefix}/ac/{}", hash.as_str());
        assert_eq!(http(&server, "GET", &path, &[], b"").await.body, b"\xcc\xac value");
        assert_eq!(status_of(&server, "DELETE", &path).await, 204);
    }
    server.get_result(&full.action).await.unwrap();
}

#[tokio::test]
async fn a_path_that_climbs_out_of_its_prefix_reaches_nothing() {
    let server = start().await;
    for prefix in ["/ccache", "/gradle", "/webdav"] {
        for path in [
            format!("{prefix}/../ac/{HASH}"),
            format!("{prefix}/%2e%2e/ac/{HASH}"),
            format!("{prefix}/..%2fac/{HASH}"),
            format!("{prefix}/a/../../cas/{HASH}"),
            format!("{prefix}//etc/passwd"),
            format!("{prefix}/a%00b"),
        ] {
            for method in ["GET", "PUT", "DELETE"] {
                assert_eq!(status_of(&server, method, &path).await, 400, "{method} {path}");
            }
        }
    }
    assert_eq!(server.server.values_store().unwrap().stats().entries, 0);
    assert_eq!(server.store().stats().entries, 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused() {
    let server = start().await;
    for headers in [&[][..], &[("Transfer-Encoding", "chunked")]] {
        let mut client = Http::connect(&server).await;
        client.head("PUT", "/ccache/key", headers).await;
        client.send(b"4\r\ndata\r\n0\r\n\r\n").await;
        assert_eq!(client.reply("PUT").await.unwrap().status, 411, "{headers:?}");
    }
    assert_eq!(status_of(&server, "GET", "/ccache/key").await, 404);
}

#[tokio::test]
async fn i5_an_upload_that_breaks_off_leaves_nothing() {
    let server = start().await;
    assert_eq!(http(&server, "PUT", "/ccache/key", &[], b"before").await.status, 200);
    let values = server.server.values_store().unwrap();
    let mut client = Http::connect(&server).await;
    client.head("PUT", "/ccache/key", &[("Content-Length", "2000000")]).await;
    client.send(&Blob::random(9, 1_000_000).data).await;
    let is_reserved = || std::future::ready(values.stats().reserved_bytes >= 2_000_000);
    eventually("the upload has begun", is_reserved).await;
    assert_eq!(http(&server, "GET", "/ccache/key", &[], b"").await.body, b"before");
    client.half_close().await;
    client.closed().await;
    let is_free = || std::future::ready(values.stats().reserved_bytes == 0);
    eventually("the room is given back", is_free).await;
    assert_eq!(values.stats().entries, 1);
    assert_eq!(http(&server, "GET", "/ccache/key", &[], b"").await.body, b"before");
}

/// The files of values below a server's directory.
fn value_files(server: &TestServer) -> Vec<PathBuf> {
    disk::files(&server.directory.path().join(VALUES_DIR).join("actions"))
}

#[tokio::test]
async fn i20_a_value_that_rots_is_missing_until_it_is_stored_again() {
    let server = start().await;
    for (len, status) in [(10_000, 404), (2_000_000, 200)] {
        let data = Blob::random(len as u64, len).data;
        assert_eq!(http(&server, "PUT", "/gradle/key", &[], &data).await.status, 200);
        let files = value_files(&server);
        let [file] = files.as_slice() else { panic!("{files:?}") };
        let mut permissions = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(file, permissions).unwrap();
        let mut file = std::fs::File::options().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(len as u64 / 2)).unwrap();
        file.write_all(&[!data[len / 2]]).unwrap();
        // One that is a single chunk is a miss; of a longer one the connection breaks.
        let reply = http(&server, "GET", "/gradle/key", &[], b"").await;
        assert_eq!((reply.status, reply.is_whole), (status, status == 404), "{len}");
        assert_eq!(status_of(&server, "GET", "/gradle/key").await, 404);
        assert_eq!(http(&server, "PUT", "/gradle/key", &[], &data).await.status, 200);
        assert_eq!(http(&server, "GET", "/gradle/key", &[], b"").await.body, data);
    }
}

/// What sccache does before it believes that it may write.
#[tokio::test]
async fn a_webdav_client_finds_every_collection_there() {
    let server = start().await;
    let mut client = Http::connect(&server).await;
    assert_eq!(client.call("GET", "/webdav/.sccache_check", &[], &[]).await.status, 404);
    let depth = [("Depth", "0"), ("Content-Length", "0")];
    for path in ["/webdav/", "/webdav/0/1/2/"] {
        let reply = client.call("PROPFIND", path, &depth, &[]).await;
        assert_eq!(reply.status, 207, "{path}");
        assert!(reply.text().contains("<D:collection/>"), "{}", reply.text());
    }
    assert_eq!(
        client.call("PUT", "/webdav/.sccache_check", &[], b"Hello, World!").await.status,
        201
    );
    let reply = client.call("PROPFIND", "/webdav/.sccache_check", &depth, &[]).await;
    assert_eq!(reply.status, 207);
    assert!(reply.text().contains("<D:getcontentlength>13</D:getcontentlength>"));
}

#[tokio::test]
async fn room_for_values_comes_out_of_the_cap_and_can_be_none() {
    for (flags, status, text) in [
        (&["--max-size", "64MiB"][..], "404", "--values-max-size"),
        (&["--max-size", "1GiB", "--values-max-size", "0"], "404", "--values-max-size"),
        (&["--max-size", "1GiB"], "404", "no value has this name"),
        (&["--max-size", "64MiB", "--values-max-size", "50%"], "404", "no value has this name"),
        (&["--max-size", "64MiB", "--values-max-size", "16MiB"], "404", "no value has this name"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::serve(directory.path(), flags);
        let (line, body) = get(&process.http, "/ccache/key");
        assert!(line.contains(status) && body.contains(text), "{flags:?}: {line} {body}");
        let has_store = directory.path().join(VALUES_DIR).join("LOCK").exists();
        assert_eq!(has_store, text.starts_with("no value"), "{flags:?}");
        assert_eq!(process.stop().await.code(), Some(0));
    }
}
