//! Encoded bodies: streamed in bounded memory, whatever they say of themselves.

use std::io::Write as _;

use crate::support::http::{Http, Reply, http};
use crate::support::{Blob, Process, TestServer};
use castellan::http::HttpOptions;

const ZSTD: (&str, &str) = ("Content-Encoding", "zstd");

fn cas(blob: &Blob) -> String {
    format!("/cas/{}", blob.digest.hash_hex().as_str())
}

/// Half of it compresses.
fn blob(len: usize) -> Blob {
    let mut data = Blob::random(5, len).data.to_vec();
    data[len / 2..].fill(b'z');
    Blob::new(data)
}

fn encoder(window_log: u32) -> zstd::Encoder<'static, Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder
}

async fn put(server: &TestServer, blob: &Blob, encoded: &[u8], size: Option<u64>) -> Reply {
    let size = size.map(|it| it.to_string());
    let mut headers = vec![ZSTD];
    headers.extend(size.as_deref().map(|it| ("X-Digest-SizeBytes", it)));
    http(server, "PUT", &cas(blob), &headers, encoded).await
}

#[tokio::test]
async fn a_large_blob_goes_both_ways_as_zstd() {
    let server = TestServer::start().await;
    let blob = blob(20 << 20);
    let mut wide = encoder(23);
    wide.write_all(&blob.data).unwrap();
    let encoded = wide.finish().unwrap();
    let reply = put(&server, &blob, &encoded, Some(blob.digest.size_bytes)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
    let reply = http(&server, "GET", &cas(&blob), &[("Accept-Encoding", "zstd")], &[]).await;
    assert_eq!((reply.status, reply.is_whole), (200, true));
    assert_eq!(reply.header("content-encoding"), Some("zstd"));
    assert!(reply.body.len() < 11 << 20, "{} bytes", reply.body.len());
    assert_eq!(zstd::decode_all(&reply.body[..]).unwrap(), blob.data);
}

#[tokio::test]
async fn a_frame_may_say_the_size_that_the_header_does_not() {
    let server = TestServer::start().await;
    let blob = blob(3 << 20);
    let mut announcing = encoder(20);
    announcing.set_pledged_src_size(Some(blob.digest.size_bytes)).unwrap();
    announcing.write_all(&blob.data).unwrap();
    let reply = put(&server, &blob, &announcing.finish().unwrap(), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn without_any_size_only_a_small_body_is_taken() {
    let server = TestServer::start().await;
    for (len, status) in [(1 << 20, 200), ((1 << 20) + 1, 411)] {
        let blob = blob(len);
        let mut silent = encoder(20);
        silent.write_all(&blob.data).unwrap();
        let reply = put(&server, &blob, &silent.finish().unwrap(), None).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert_eq!(server.missing(&[&blob]).await.is_empty(), status == 200);
    }
}

#[tokio::test]
async fn i22_a_window_over_8_mib_is_refused() {
    let server = TestServer::start().await;
    let blob = blob(1_000_000);
    for (window_log, status) in [(23, 200), (24, 400), (27, 400)] {
        let mut wide = encoder(window_log);
        wide.write_all(&blob.data).unwrap();
        let reply = put(&server, &blob, &wide.finish().unwrap(), Some(1_000_000)).await;
        assert_eq!(reply.status, status, "window {window_log}: {}", reply.text());
    }
}

/// Zeros by the gigabyte in a few kilobytes, announced as whatever is worst.
#[tokio::test]
async fn i22_a_bomb_takes_no_memory() {
    const MOST_BYTES: u64 = 64 << 20;
    let mut bomb = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..2048 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let directory = tempfile::tempdir().unwrap();
    let process = Process::serve(directory.path(), &["--max-size", "64MiB"]);
    let before = peak_bytes(&process);
    let path = cas(&Blob::new("a bomb"));
    for (path, size, status) in [
        (&path, Some("10"), 400),
        (&path, Some("100000"), 400),
        (&path, Some("30000000"), 400),
        (&path, None, 411),
        (&path.replace("cas", "ac"), Some("10"), 400),
        (&path.replace("cas", "ac"), None, 413),
    ] {
        let mut headers = vec![ZSTD];
        headers.extend(size.map(|it| ("X-Digest-SizeBytes", it)));
        let mut client = Http::to(process.http.parse().unwrap()).await;
        let reply = client.call("PUT", path, &headers, &bomb).await;
        assert_eq!(reply.status, status, "{path} {size:?}: {}", reply.text());
    }
    let taken = peak_bytes(&process) - before;
    assert!(taken < MOST_BYTES, "{taken} bytes");
    assert!(process.stop().await.success());
}

/// The most memory that a process has ever had.
fn peak_bytes(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[tokio::test]
async fn i22_who_finds_no_codec_gets_the_bytes_as_they_are() {
    let none = HttpOptions { max_codecs: 0, ..HttpOptions::default() };
    let server = TestServer::start_http(none).await;
    let blob = blob(100_000);
    server.put(&[&blob]).await;
    let reply = http(&server, "GET", &cas(&blob), &[("Accept-Encoding", "zstd")], &[]).await;
    assert_eq!((reply.status, reply.header("content-encoding")), (200, None));
    assert_eq!(reply.body, blob.data);
    let encoded = zstd::encode_all(&blob.data[..], 1).unwrap();
    let reply = put(&server, &blob, &encoded, Some(100_000)).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
}
