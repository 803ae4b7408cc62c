//! Addresses of caches over HTTP, and what ends an import.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::digest::DigestFunction;
use crate::shutdown;

#[test]
fn caches_over_http_are_named_by_host_and_prefix() {
    let read = |text: &str| HttpCache::parse(text, &[]).map(|it| format!("{it:?}"));
    assert_eq!(read("http://host").unwrap(), "http://host:80");
    assert_eq!(read("http://host:8080/").unwrap(), "http://host:8080");
    assert_eq!(read("http://[::1]:8080/a/b/").unwrap(), "http://[::1]:8080/a/b");
    for text in ["", "host", "ftp://host", "http://", "http:///a", "http://a b", "http://u@host"] {
        assert!(matches!(read(text), Err(InvalidHttpCache::Form(_))), "{text}");
    }
    let header = [("bad name".to_owned(), "x".to_owned())];
    assert!(matches!(HttpCache::parse("http://h", &header), Err(InvalidHttpCache::Header(_))));
}

#[test]
fn what_is_not_about_one_thing_ends_the_import() {
    let unavailable = ClientError::Store(StoreError::Unavailable { what: String::new() });
    let full = ClientError::Store(StoreError::NoSpace { size_bytes: 1, reason: "" });
    for error in [unavailable, full, ClientError::Store(StoreError::ShuttingDown)] {
        assert_eq!(Reason::of_blob(&error), None, "{error}");
        assert_eq!(Reason::of_result(&error), None, "{error}");
    }
    let digest = Digest::of(crate::digest::DigestFunction::Sha256, b"blob");
    let absent = ClientError::Absent(digest);
    assert_eq!(Reason::of_blob(&absent), Some(Reason::Absent));
    assert_eq!(Reason::of_result(&absent), Some(Reason::IncompleteResult));
}

/// A cache over HTTP that has nothing; where it is, and how many connections it has seen.
async fn empty_cache(closes_after_each: bool) -> (HttpCache, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    drop(shutdown::spawn("cache of a test", async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            drop(shutdown::spawn("connection of a test", answer(stream, closes_after_each)));
        }
    }));
    (HttpCache::parse(&format!("http://{address}"), &[]).unwrap(), connections)
}

async fn answer(mut stream: TcpStream, closes_after_each: bool) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let body = if head.starts_with(b"HEAD") { "" } else { "nothing is here" };
        let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).await.is_err() || closes_after_each {
            return;
        }
        head.clear();
    }
}

fn digests(count: u8) -> impl Iterator<Item = Digest> {
    // Nobody knows how long they are.
    (0..count)
        .map(|number| Digest { size_bytes: 0, ..Digest::of(DigestFunction::Sha256, &[number]) })
}

#[tokio::test]
async fn what_is_absent_over_http_costs_no_connection() {
    let (cache, connections) = empty_cache(false).await;
    for digest in digests(50) {
        assert_eq!(cache.sized(digest).await.unwrap(), None);
        assert_eq!(cache.result(digest).await.unwrap(), None);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn connections_that_a_cache_has_closed_are_no_failure() {
    let (cache, connections) = empty_cache(true).await;
    for digest in digests(50) {
        assert_eq!(cache.sized(digest).await.unwrap(), None);
        assert_eq!(cache.result(digest).await.unwrap(), None);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 100);
}

#[tokio::test(start_paused = true)]
async fn a_low_rate_lets_no_upload_stand_still() {
    const MIB: u64 = 1 << 20;
    for rate in [1, 16 << 10, 256 << 10, MIB, 8 * MIB] {
        let (pace, jobs) = (Pace::new(rate), Pace::jobs(rate, 64));
        let part_bytes = pace.part_bytes() as u64;
        let upload = || async {
            pace.wait(0).await;
            for _ in 0..8 {
                let begun = tokio::time::Instant::now();
                pace.wait(part_bytes).await;
                assert!(begun.elapsed().as_secs() <= 10, "{rate}");
            }
        };
        futures_util::future::join_all((0..jobs).map(|_| upload())).await;
    }
    assert_eq!([256 << 10, MIB, 100 * MIB].map(|rate| Pace::jobs(rate, 64)), [1, 5, 64]);
    assert_eq!(Pace::jobs(100 * MIB, 3), 3);
}
