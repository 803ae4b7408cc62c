//! Uploads: whole, in pieces, interrupted, continued, overtaken and refused.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use castellan_proto::messages::WriteRequest;
use tonic::Code;

use super::support::{
    INSTANCE, SlowWrite, TestServer, assert_code, pattern, sha256, split, unfinished, write_name,
};
use crate::digest::{Digest, DigestFunction};
use crate::grpc::GrpcOptions;

const MIB: usize = 1 << 20;

/// Asks again and again until `condition` holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let asking = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_mins(1), asking).await;
    assert!(outcome.is_ok(), "never happened: {what}");
}

/// Waits until the server has committed `bytes` of an upload.
async fn reaches(server: &TestServer, name: &str, bytes: i64) {
    let is_there = || async { server.query(name).await.unwrap().committed_size == bytes };
    eventually("the committed size is reached", is_there).await;
}

/// Waits until nothing of any upload is held.
async fn nothing_reserved(server: &TestServer) {
    let is_quiet = || async {
        server.handle.sessions.counts() == (0, 0, 0) && server.store.stats().reserved_bytes == 0
    };
    eventually("nothing is reserved", is_quiet).await;
}

#[tokio::test]
async fn blobs_of_both_functions_arrive_in_pieces_and_whole() {
    let server = TestServer::start().await;
    for function in DigestFunction::ALL {
        for (seed, len, chunk) in [(1, 3 * MIB + 17, 100_000), (2, 70_000, MIB), (3, 1, 1)] {
            let data = pattern(seed, len);
            let digest = Digest::of(function, &data);
            let name = format!("{}/trailing/blobs/x/1", write_name("u", digest));
            let committed = server.write(split(&name, &data, 0, chunk)).await.unwrap();
            assert_eq!(committed, len as i64);
            assert_eq!(server.read(digest).await.unwrap(), data);
            let status = server.query(&name).await.unwrap();
            assert_eq!((status.committed_size, status.complete), (len as i64, true));
        }
    }
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn reapi_67_empty_messages_and_the_empty_blob() {
    let server = TestServer::start().await;
    let empty = sha256(b"");
    let name = write_name("u", empty);
    assert_eq!(server.write(split(&name, b"", 0, 1)).await.unwrap(), 0);
    let data = pattern(4, 1000);
    let digest = sha256(&data);
    let mut messages = unfinished(&write_name("u", digest), &data, 0, 500);
    messages.insert(1, WriteRequest { write_offset: 500, ..WriteRequest::default() });
    messages.push(WriteRequest {
        write_offset: 1000,
        finish_write: true,
        ..WriteRequest::default()
    });
    assert_eq!(server.write(messages).await.unwrap(), 1000);
    assert_eq!(server.read(digest).await.unwrap(), data);
}

#[tokio::test]
async fn reapi_68_refused_bytes_do_not_poison_the_uuid() {
    let server = TestServer::start().await;
    let data = pattern(5, 300_000);
    let digest = sha256(&data);
    let name = write_name("u", digest);
    let wrong = pattern(6, 300_000);
    let long = [data.clone(), vec![0]].concat();
    for bad in [&wrong[..], &data[..299_999], &long] {
        for chunk in [MIB, 100_000] {
            let refused = server.write(split(&name, bad, 0, chunk)).await;
            assert_code(refused, Code::InvalidArgument);
            let status = server.query(&name).await.unwrap();
            assert_eq!((status.committed_size, status.complete), (0, false));
        }
    }
    nothing_reserved(&server).await;
    assert_eq!(server.write(split(&name, &data, 0, 100_000)).await.unwrap(), 300_000);
    assert_eq!(server.read(digest).await.unwrap(), data);
}

#[tokio::test]
async fn reapi_63_64_65_messages_must_keep_their_order() {
    let server = TestServer::start().await;
    let data = pattern(8, 3000);
    let name = write_name("u", sha256(&data));
    let good = split(&name, &data, 0, 1000);
    let negative = WriteRequest { write_offset: -1, ..good[0].clone() };
    let renamed = WriteRequest { resource_name: write_name("v", sha256(&data)), ..good[1].clone() };
    let gap = WriteRequest { write_offset: 1001, ..good[1].clone() };
    let whole = split(&name, &data, 0, MIB);
    let nameless = WriteRequest { resource_name: String::new(), ..good[0].clone() };
    for bad in [
        vec![],
        vec![nameless],
        vec![negative],
        vec![good[0].clone(), renamed, good[2].clone()],
        vec![good[0].clone(), gap, good[2].clone()],
        vec![good[0].clone(), good[2].clone()],
        vec![good[0].clone(), good[1].clone(), good[2].clone(), good[2].clone()],
        vec![whole[0].clone(), whole[0].clone()],
    ] {
        assert_code(server.write(bad).await, Code::InvalidArgument);
    }
    assert_eq!(server.write(good).await.unwrap(), 3000);
}

#[tokio::test]
async fn reapi_69_too_large_is_refused_on_the_first_message() {
    let server = TestServer::with(GrpcOptions::default(), 8 << 20).await;
    let digest = Digest { size_bytes: 1 << 40, ..sha256(b"huge") };
    let write = SlowWrite::start(server.channel());
    let resource_name = write_name("u", digest);
    let data = Bytes::from_static(b"first");
    write.send(WriteRequest { resource_name, data, ..WriteRequest::default() }).await;
    let status = assert_code(write.reply.await.unwrap(), Code::InvalidArgument);
    assert!(status.message().contains("limit"), "{status:?}");
}

#[tokio::test]
async fn reapi_70_a_blob_that_is_there_ends_its_upload_early() {
    let server = TestServer::start().await;
    let data = pattern(9, 5 * MIB);
    let digest = server.put(&data).await;
    let write = SlowWrite::start(server.channel());
    let messages = unfinished(&write_name("early", digest), &data, 0, 1000);
    write.send(messages[0].clone()).await;
    assert_eq!(write.reply.await.unwrap().unwrap(), 5 * MIB as i64);
}

#[tokio::test]
async fn reapi_70_an_upload_that_is_overtaken_ends_early() {
    let server = TestServer::start().await;
    let data = pattern(10, 5 * MIB);
    let digest = sha256(&data);
    let name = write_name("slow", digest);
    let messages = unfinished(&name, &data, 0, MIB);
    let slow = SlowWrite::start(server.channel());
    slow.send(messages[0].clone()).await;
    reaches(&server, &name, MIB as i64).await;
    server.put(&data).await;
    slow.send(messages[1].clone()).await;
    assert_eq!(slow.reply.await.unwrap().unwrap(), 5 * MIB as i64);
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn reapi_66_half_closed_without_finish_is_kept_but_not_visible() {
    let server = TestServer::start().await;
    let data = pattern(11, 2 * MIB);
    let digest = sha256(&data);
    let name = write_name("u", digest);
    let first_half = unfinished(&name, &data[..MIB], 0, 300_000);
    assert_eq!(server.write(first_half).await.unwrap(), MIB as i64);
    let status = server.query(&name).await.unwrap();
    assert_eq!((status.committed_size, status.complete), (MIB as i64, false));
    assert_code(server.read(digest).await, Code::NotFound);
    assert_eq!(server.write(split(&name, &data, MIB, MIB)).await.unwrap(), 2 * MIB as i64);
    assert_eq!(server.read(digest).await.unwrap(), data);
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn reapi_79_an_upload_goes_on_after_its_connection_was_lost() {
    let server = TestServer::start().await;
    let data = pattern(12, 10 * MIB);
    let digest = sha256(&data);
    let name = write_name("u", digest);
    let query = server.query(&name).await.unwrap();
    assert_eq!((query.committed_size, query.complete), (0, false));
    for (from, to) in [(0, 3), (3, 5)] {
        let lost = SlowWrite::start(server.other_connection().await);
        for message in unfinished(&name, &data[..to * MIB], from * MIB, MIB) {
            lost.send(message).await;
        }
        reaches(&server, &name, (to * MIB) as i64).await;
        lost.vanish();
    }
    // The overlap is skipped, whatever is in it is hashed only once.
    assert_eq!(server.write(split(&name, &data, 4 * MIB, MIB)).await.unwrap(), 10 * MIB as i64);
    assert_eq!(server.read(digest).await.unwrap(), data);
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn a_client_that_comes_back_takes_over_from_its_living_connection() {
    let server = TestServer::start().await;
    let data = pattern(13, 4 * MIB);
    let digest = sha256(&data);
    let name = write_name("u", digest);
    let old = SlowWrite::start(server.other_connection().await);
    for message in unfinished(&name, &data[..2 * MIB], 0, MIB) {
        old.send(message).await;
    }
    reaches(&server, &name, 2 * MIB as i64).await;
    assert_eq!(server.write(split(&name, &data, 2 * MIB, MIB)).await.unwrap(), 4 * MIB as i64);
    assert_code(old.reply.await.unwrap(), Code::Aborted);
    assert_eq!(server.read(digest).await.unwrap(), data);
}

#[tokio::test]
async fn starting_over_from_zero_never_makes_the_status_go_back() {
    let server = TestServer::start().await;
    let data = pattern(14, 4 * MIB);
    let digest = sha256(&data);
    let name = write_name("u", digest);
    server.write(unfinished(&name, &data[..2 * MIB], 0, MIB)).await.unwrap();
    let again = SlowWrite::start(server.channel());
    let messages = split(&name, &data, 0, MIB);
    again.send(messages[0].clone()).await;
    let is_under_way = || async { server.handle.sessions.counts().0 == 1 };
    eventually("the second attempt is under way", is_under_way).await;
    reaches(&server, &name, 2 * MIB as i64).await;
    again.send(messages[1].clone()).await;
    again.send(messages[2].clone()).await;
    reaches(&server, &name, 3 * MIB as i64).await;
    again.send(messages[3].clone()).await;
    let mut again = again;
    again.half_close();
    assert_eq!(again.reply.await.unwrap().unwrap(), 4 * MIB as i64);
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn an_offset_beyond_what_came_names_both_numbers() {
    let server = TestServer::start().await;
    let data = pattern(15, 2000);
    let name = write_name("u", sha256(&data));
    server.write(unfinished(&name, &data[..1000], 0, 1000)).await.unwrap();
    let refused = server.write(split(&name, &data, 1500, 1000)).await;
    let status = assert_code(refused, Code::InvalidArgument);
    assert!(status.message().contains("1500"), "{status:?}");
    assert!(status.message().contains("1000"), "{status:?}");
    assert_eq!(server.query(&name).await.unwrap().committed_size, 1000);
}

#[tokio::test]
async fn reapi_51_one_uuid_serves_two_blobs_at_once() {
    let server = TestServer::start().await;
    let (one, two) = (pattern(16, 2 * MIB), pattern(17, 2 * MIB));
    let names = [write_name("same", sha256(&one)), write_name("same", sha256(&two))];
    let mut writes = [SlowWrite::start(server.channel()), SlowWrite::start(server.channel())];
    let messages = [split(&names[0], &one, 0, MIB), split(&names[1], &two, 0, MIB)];
    for round in 0..2 {
        for (write, messages) in writes.iter().zip(&messages) {
            write.send(messages[round].clone()).await;
        }
    }
    for write in &mut writes {
        write.half_close();
        assert_eq!((&mut write.reply).await.unwrap().unwrap(), 2 * MIB as i64);
    }
    assert_eq!(server.read(sha256(&one)).await.unwrap(), one);
    assert_eq!(server.read(sha256(&two)).await.unwrap(), two);
}

#[tokio::test]
async fn reapi_72_eight_parallel_uploads_of_one_blob_all_end_well() {
    let server = TestServer::start().await;
    let data = pattern(18, 3 * MIB);
    let digest = sha256(&data);
    for uuids in [["a", "b", "c", "d", "e", "f", "g", "h"], ["same"; 8]] {
        let writes =
            uuids.map(|uuid| server.write(split(&write_name(uuid, digest), &data, 0, 100_000)));
        for outcome in futures_util::future::join_all(writes).await {
            assert_eq!(outcome.unwrap(), 3 * MIB as i64);
        }
    }
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn an_idle_client_loses_its_call_and_keeps_its_upload_for_a_while() {
    let options = GrpcOptions {
        upload_idle_timeout: Duration::from_millis(200),
        parked_upload_ttl: Duration::from_millis(400),
        ..GrpcOptions::default()
    };
    let server = TestServer::with(options, 64 << 20).await;
    let data = pattern(19, 2 * MIB);
    let name = write_name("u", sha256(&data));
    let write = SlowWrite::start(server.channel());
    write.send(unfinished(&name, &data, 0, MIB)[0].clone()).await;
    reaches(&server, &name, MIB as i64).await;
    assert_code(write.reply.await.unwrap(), Code::DeadlineExceeded);
    assert_eq!(server.query(&name).await.unwrap().committed_size, MIB as i64);
    assert!(server.store.stats().reserved_bytes > 0);
    nothing_reserved(&server).await;
    assert_eq!(server.query(&name).await.unwrap().committed_size, 0);
}

#[tokio::test]
async fn interrupted_uploads_are_bounded_in_number_and_gone_after_the_drain() {
    let options = GrpcOptions { max_parked_uploads: 2, ..GrpcOptions::default() };
    let server = TestServer::with(options, 64 << 20).await;
    let data = pattern(20, 2 * MIB);
    let names: Vec<_> = (0..4).map(|n| write_name(&format!("u{n}"), sha256(&data))).collect();
    for name in &names {
        server.write(unfinished(name, &data[..MIB], 0, MIB)).await.unwrap();
    }
    let mut kept = Vec::new();
    for name in &names {
        kept.push(server.query(name).await.unwrap().committed_size > 0);
    }
    assert_eq!(kept, [false, false, true, true]);
    server.handle.start_draining().await;
    nothing_reserved(&server).await;
    server.write(unfinished(&names[0], &data[..MIB], 0, MIB)).await.unwrap();
    nothing_reserved(&server).await;
}

#[tokio::test]
async fn waiting_uploads_make_room_for_one_that_is_here() {
    let server = TestServer::with(GrpcOptions::default(), 16 << 20).await;
    let data = pattern(21, 6 * MIB);
    for n in 0..2 {
        let name = write_name(&format!("u{n}"), sha256(&data));
        server.write(unfinished(&name, &data[..MIB], 0, MIB)).await.unwrap();
    }
    let other = pattern(22, 6 * MIB);
    let name = write_name("here", sha256(&other));
    assert_eq!(server.write(split(&name, &other, 0, MIB)).await.unwrap(), 6 * MIB as i64);
}

#[tokio::test]
async fn silent_clients_give_way_to_one_that_is_here() {
    let server = TestServer::with(GrpcOptions::default(), 16 << 20).await;
    let mut silent = Vec::new();
    for n in 0..2 {
        let data = pattern(30 + n, 6 * MIB);
        let name = write_name(&format!("u{n}"), sha256(&data));
        let write = SlowWrite::start(server.channel());
        write.send(unfinished(&name, &data, 0, MIB)[0].clone()).await;
        reaches(&server, &name, MIB as i64).await;
        silent.push(write);
    }
    let other = pattern(32, 6 * MIB);
    let name = write_name("here", sha256(&other));
    assert_eq!(server.write(split(&name, &other, 0, MIB)).await.unwrap(), 6 * MIB as i64);
}

#[tokio::test]
async fn too_many_uploads_are_told_to_come_later() {
    use tonic_types::StatusExt as _;
    let options = GrpcOptions { max_upload_sessions: 1, ..GrpcOptions::default() };
    let server = TestServer::with(options, 64 << 20).await;
    let data = pattern(23, 2 * MIB);
    let name = write_name("u", sha256(&data));
    let first = SlowWrite::start(server.channel());
    first.send(unfinished(&name, &data, 0, MIB)[0].clone()).await;
    reaches(&server, &name, MIB as i64).await;
    let other = pattern(24, 2 * MIB);
    let refused = server.write(split(&write_name("v", sha256(&other)), &other, 0, MIB)).await;
    let status = assert_code(refused, Code::ResourceExhausted);
    assert!(status.get_details_retry_info().is_some());
    first.vanish();
    let name = format!("{INSTANCE}/uploads/w/blobs/{}", sha256(&other));
    let is_admitted = || async { server.write(split(&name, &other, 0, MIB)).await.is_ok() };
    eventually("the place of a client that vanished is given back", is_admitted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_vanish_at_any_moment_lose_nothing() {
    let server = TestServer::start().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..20 {
        let data = pattern(seed ^ round, 8 * MIB);
        let digest = sha256(&data);
        let name = write_name(&format!("u{round}"), digest);
        let mut known = 0;
        for _ in 0..4 {
            let messages = unfinished(&name, &data, known, random.usize(1000..2 * MIB));
            let write = SlowWrite::start(server.other_connection().await);
            let sending = async {
                for message in messages {
                    write.send(message).await;
                }
            };
            let patience = Duration::from_micros(random.u64(100..20_000));
            let _ = tokio::time::timeout(patience, sending).await;
            write.vanish();
            let status = server.query(&name).await.unwrap();
            let committed = usize::try_from(status.committed_size).unwrap();
            assert!(committed >= known && committed <= data.len(), "{committed} {known}");
            known = committed;
        }
        // A request of a vanished connection may be read late and take the upload over once more;
        // a client that is told so asks again where to go on.
        let mut takeovers = 0;
        while let Err(status) = server.write(split(&name, &data, known, MIB)).await {
            takeovers += 1;
            assert!(status.code() == Code::Aborted && takeovers <= 4, "{status}");
            let status = server.query(&name).await.unwrap();
            known = usize::try_from(status.committed_size).unwrap();
        }
        assert_eq!(server.read(digest).await.unwrap(), data);
    }
    nothing_reserved(&server).await;
}
