//! Uploads whose client vanishes, comes back, stalls or competes, and `QueryWriteStatus`
//! (reapi 69, 73-79; reliability T6, T8).

use std::future::ready;
use std::time::Duration;

use castellan::digest::DigestFunction;
use castellan::grpc::GrpcOptions;
use castellan::server::{InstanceSettings, Instances};
use castellan::store::filesystem::{Cap, FilesystemOptions};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::client::{OpenWrite, part, parts, rest, whole};
use crate::support::wait::{committed_reaches, eventually, stats_reach};
use crate::support::{Blob, Client, TestServer, assert_code, disk};

const MIB: usize = 1 << 20;

fn random(function: DigestFunction, seed: u64, len: usize) -> Blob {
    Blob::with(function, Blob::random(seed, len).data)
}

fn options(parked_ttl: Duration) -> GrpcOptions {
    GrpcOptions { parked_upload_ttl: parked_ttl, ..GrpcOptions::default() }
}

/// Sends the first `end` bytes on an open write and waits until the server has them.
async fn send_up_to(client: &Client, name: &str, blob: &Blob, end: usize) -> OpenWrite {
    let write = client.open_write();
    for message in parts(name, &blob.data, 0..end, 256 << 10) {
        write.send(message).await;
    }
    committed_reaches(client, name, end).await;
    write
}

/// Bytes on the disk: with a name, and open without one.
fn disk_bytes(server: &TestServer) -> (u64, u64) {
    let root = server.directory.path();
    (disk::du(root), disk::nameless_bytes(std::process::id(), root))
}

/// Nothing becomes visible, and when the time is over everything is as it was, to the byte.
#[tokio::test]
async fn reapi_73_a_client_that_vanishes_leaves_nothing() {
    let server =
        TestServer::start_on_files_with(64 << 20, options(Duration::from_millis(300))).await;
    let client = Client::of(&server).await;
    client.put(&Blob::random(1, 100_000)).await.unwrap();
    let before = (server.store().stats().charged_bytes(), disk_bytes(&server));
    for (seed, function) in DigestFunction::ALL.into_iter().enumerate() {
        for is_cut in [true, false] {
            let blob = random(function, seed as u64, 4 * MIB);
            let name = blob.write_name();
            let vanishing = Client::of(&server).await;
            let write = send_up_to(&vanishing, &name, &blob, MIB).await;
            assert!(server.store().stats().reserved_bytes >= 4 * MIB as u64);
            if is_cut {
                vanishing.cut();
                assert!(write.reply().await.is_err());
            } else {
                write.reset();
            }
            stats_reach(&server, "its room is free again", |it| it.reserved_bytes == 0).await;
            assert!(client.is_missing(&blob).await);
            assert_code(client.read(&blob.read_name()).await, Code::NotFound);
            assert_eq!(client.query(&name).await.unwrap(), (0, false));
            let is_as_before =
                || ready((server.store().stats().charged_bytes(), disk_bytes(&server)) == before);
            eventually("ledger and disk are as before", is_as_before).await;
        }
    }
    assert_eq!(disk::du(server.directory.path()), server.store().stats().charged_bytes());
}

/// Until its time is over an interrupted upload keeps its room; a drain gives it back at once.
#[tokio::test]
async fn reapi_73_79_an_interrupted_upload_waits_for_its_client() {
    let server = TestServer::start_on_files_with(64 << 20, options(Duration::from_hours(1))).await;
    let client = Client::of(&server).await;
    let blob = Blob::random(2, 4 * MIB);
    let name = blob.write_name();
    let vanishing = Client::of(&server).await;
    let write = send_up_to(&vanishing, &name, &blob, MIB).await;
    vanishing.cut();
    assert!(write.reply().await.is_err());
    assert_eq!(client.query(&name).await.unwrap(), (MIB as i64, false));
    assert!(server.store().stats().reserved_bytes >= 4 * MIB as u64);
    assert!(client.is_missing(&blob).await);
    drop(client);
    let directory = server.stop().await;
    let server = TestServer::start_in(directory, 64 << 20, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    assert_eq!(client.query(&name).await.unwrap(), (0, false));
    assert_eq!(disk_bytes(&server), (server.store().stats().charged_bytes(), 0));
    assert_eq!(client.write(whole(&name, &blob.data)).await.unwrap(), 4 * MIB as i64);
}

/// An upload that waits for its client does not refuse one that is here.
#[tokio::test]
async fn reapi_69_73_waiting_uploads_make_room_for_present_ones() {
    let server = TestServer::start_with(16 << 20, options(Duration::from_hours(1))).await;
    let client = Client::of(&server).await;
    let gone = Blob::random(3, 10 * MIB);
    let vanishing = Client::of(&server).await;
    let write = send_up_to(&vanishing, &gone.write_name(), &gone, MIB).await;
    vanishing.cut();
    assert!(write.reply().await.is_err());
    let here = Blob::random(4, 10 * MIB);
    client.put(&here).await.unwrap();
    assert_eq!(client.read(&here.read_name()).await.unwrap(), here.data);
}

/// All room is taken by an upload that is here: the next one waits its time, then is told to come
/// again, which is not its mistake.
#[tokio::test]
async fn reapi_69_no_room_is_resource_exhausted() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemOptions {
        reserve_timeout: Duration::from_millis(100),
        ..FilesystemOptions::new(directory.path(), Cap::Bytes(16 << 20))
    };
    let instances = Instances::Any(InstanceSettings::new(0, 0));
    let server =
        TestServer::start_settings(directory, store, instances, GrpcOptions::default()).await;
    let client = Client::of(&server).await;
    let [first, second] = [5, 6].map(|seed| Blob::random(seed, 10 * MIB));
    let name = first.write_name();
    let write = send_up_to(&client, &name, &first, MIB).await;
    let refused = assert_code(client.put(&second).await, Code::ResourceExhausted);
    assert!(!refused.details().is_empty(), "says when to come again: {refused:?}");
    for message in rest("", &first.data, MIB, MIB) {
        write.send(message).await;
    }
    assert_eq!(write.half_close().await.unwrap(), 10 * MIB as i64);
    assert_eq!(client.read(&first.read_name()).await.unwrap(), first.data);
    client.put(&second).await.unwrap();
    assert_eq!(client.read(&second.read_name()).await.unwrap(), second.data);
    assert_eq!(server.store().stats().reserve_timeouts, 1);
}

#[tokio::test]
async fn reapi_75_complete_for_any_uuid() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let blob = random(function, 7, 300_000);
        client.put(&blob).await.unwrap();
        for name in [blob.write_name(), format!("a/b/{}/x/blobs/y", blob.write_name())] {
            assert_eq!(client.query(&name).await.unwrap(), (300_000, true));
        }
    }
}

#[tokio::test]
async fn reapi_77_an_unknown_upload_is_at_zero() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        let [blob, other] = [8, 9].map(|seed| random(function, seed, 2 * MIB));
        let name = blob.write_name();
        assert_eq!(client.query(&name).await.unwrap(), (0, false));
        // What other uploads have is not told: other uuid, other blob, other instance (T8).
        let write = send_up_to(&client, &name, &blob, MIB).await;
        let other_blob = name.replace(&blob.digest.to_string(), &other.digest.to_string());
        let other_instance = format!("main/{name}");
        for name in [blob.write_name(), other_blob, other_instance] {
            assert_eq!(client.query(&name).await.unwrap(), (0, false));
            let stolen = client.write(rest(&name, &blob.data, MIB, MIB)).await;
            assert_code(stolen, Code::InvalidArgument);
        }
        for message in rest("", &blob.data, MIB, MIB) {
            write.send(message).await;
        }
        assert_eq!(write.half_close().await.unwrap(), 2 * MIB as i64);
    }
}

/// One client asks on and on while another sends, is cut, repeats, starts over and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_76_the_status_never_goes_back_nor_beyond_the_size() {
    let server = TestServer::start().await;
    let asking = Client::of(&server).await;
    let blob = Blob::random(10, 8 * MIB);
    let name = blob.write_name();
    let mut asked = JoinSet::new();
    asked.spawn({
        let name = name.clone();
        async move {
            let (mut last, mut answers) = (0, 0_u64);
            loop {
                let (committed, complete) = asking.query(&name).await.unwrap();
                assert!(committed >= last, "{committed} after {last}, answer {answers}");
                assert!(committed <= 8 * MIB as i64);
                (last, answers) = (committed, answers + 1);
                if complete {
                    return last;
                }
            }
        }
    });
    for (from, to) in [(0, 2), (2, 4), (1, 5), (0, 1), (0, 6), (6, 7)] {
        let vanishing = Client::of(&server).await;
        let write = vanishing.open_write();
        for message in parts(&name, &blob.data, from * MIB..to * MIB, 100_000) {
            write.send(message).await;
        }
        committed_reaches(&vanishing, &name, to * MIB).await;
        vanishing.cut();
        assert!(write.reply().await.is_err());
    }
    let client = Client::of(&server).await;
    client.write(rest(&name, &blob.data, 0, 100_000)).await.unwrap();
    assert_eq!(asked.join_next().await.unwrap().unwrap(), 8 * MIB as i64);
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn reapi_79_an_upload_goes_on_after_a_dropped_connection() {
    let server = TestServer::start_on_files().await;
    for function in DigestFunction::ALL {
        let blob = random(function, 11, 10 * MIB);
        let name = blob.write_name();
        let vanishing = Client::of(&server).await;
        let write = vanishing.open_write();
        for message in parts(&name, &blob.data, 0..3 * MIB, 256 << 10) {
            write.send(message).await;
        }
        vanishing.cut();
        assert!(write.reply().await.is_err());
        let client = Client::of(&server).await;
        let (committed, complete) = client.query(&name).await.unwrap();
        assert!((0..=3 * MIB as i64).contains(&committed) && !complete);
        let offset = usize::try_from(committed).unwrap();
        let written = client.write(rest(&name, &blob.data, offset, MIB)).await;
        assert_eq!(written.unwrap(), 10 * MIB as i64);
        assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

/// A client may repeat what the server has, from anywhere, and may start over.
#[tokio::test]
async fn reapi_64_79_resumed_with_overlap_and_from_zero() {
    let server = TestServer::start_on_files().await;
    let client = Client::of(&server).await;
    for function in DigestFunction::ALL {
        for (seed, offset) in [(12, 3 * MIB), (13, 2 * MIB), (14, 2 * MIB + 17), (15, 1), (16, 0)] {
            let blob = random(function, seed, 5 * MIB);
            let name = blob.write_name();
            let vanishing = Client::of(&server).await;
            let write = send_up_to(&vanishing, &name, &blob, 3 * MIB).await;
            vanishing.cut();
            assert!(write.reply().await.is_err());
            let written = client.write(rest(&name, &blob.data, offset, 300_000)).await;
            assert_eq!(written.unwrap(), 5 * MIB as i64, "from {offset}");
            assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
        }
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

/// Other bytes from the start are another attempt: they are hashed, not taken for a repetition.
#[tokio::test]
async fn reapi_68_79_wrong_bytes_that_are_resumed_never_become_visible() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let [blob, wrong] = [17, 18].map(|seed| Blob::random(seed, 2 * MIB));
    let name = blob.write_name();
    let half = parts(&name, &wrong.data, 0..MIB, MIB);
    assert_eq!(client.write(half).await.unwrap(), MIB as i64);
    let resumed = client.write(rest(&name, &blob.data, MIB, MIB)).await;
    assert_code(resumed, Code::InvalidArgument);
    assert!(client.is_missing(&blob).await);
    assert_eq!(client.query(&name).await.unwrap(), (0, false));
    assert_eq!(client.write(rest(&name, &blob.data, 0, MIB)).await.unwrap(), 2 * MIB as i64);
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

#[tokio::test]
async fn reapi_64_an_offset_beyond_what_is_committed_is_refused() {
    let server = TestServer::start().await;
    let client = Client::of(&server).await;
    let blob = Blob::random(19, 4 * MIB);
    let name = blob.write_name();
    assert_eq!(client.write(parts(&name, &blob.data, 0..MIB, MIB)).await.unwrap(), MIB as i64);
    for offset in [MIB + 1, 2 * MIB, 4 * MIB] {
        let refused = client.write(rest(&name, &blob.data, offset, MIB)).await;
        let refused = assert_code(refused, Code::InvalidArgument);
        assert!(refused.message().contains(&MIB.to_string()), "says how far: {refused:?}");
        assert_eq!(client.query(&name).await.unwrap(), (MIB as i64, false));
    }
    assert_eq!(client.write(rest(&name, &blob.data, MIB, MIB)).await.unwrap(), 4 * MIB as i64);
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

/// T8: the client's old connection looks alive to the server, and its upload is handed over.
#[tokio::test]
async fn reapi_79_a_second_connection_takes_an_upload_over() {
    let server = TestServer::start_on_files().await;
    for function in DigestFunction::ALL {
        let blob = random(function, 20, 4 * MIB);
        let name = blob.write_name();
        let old = Client::of(&server).await;
        let write = send_up_to(&old, &name, &blob, 2 * MIB).await;
        let new = Client::of(&server).await;
        let (committed, _) = new.query(&name).await.unwrap();
        let offset = usize::try_from(committed).unwrap();
        let written = new.write(rest(&name, &blob.data, offset, MIB)).await;
        assert_eq!(written.unwrap(), 4 * MIB as i64);
        assert_code(write.reply().await, Code::Aborted);
        assert_eq!(new.read(&blob.read_name()).await.unwrap(), blob.data);
    }
    stats_reach(&server, "no reservation is left", |it| it.reserved_bytes == 0).await;
}

/// T6: a client that sends nothing is cut, and its upload can be continued.
#[tokio::test]
async fn reapi_74_79_an_idle_client_is_cut_and_may_come_back() {
    let upload_idle_timeout = Duration::from_millis(200);
    let idle = GrpcOptions { upload_idle_timeout, ..GrpcOptions::default() };
    let server = TestServer::start_with(64 << 20, idle).await;
    let client = Client::of(&server).await;
    // Cut before its first message, and after it.
    assert_code(client.open_write().reply().await, Code::DeadlineExceeded);
    let blob = Blob::random(21, 2 * MIB);
    let name = blob.write_name();
    let write = client.open_write();
    write.send(part(&name, &blob.data, 0..MIB)).await;
    assert_code(write.reply().await, Code::DeadlineExceeded);
    assert_eq!(client.query(&name).await.unwrap(), (MIB as i64, false));
    assert_eq!(client.write(rest(&name, &blob.data, MIB, MIB)).await.unwrap(), 2 * MIB as i64);
    assert_eq!(client.read(&blob.read_name()).await.unwrap(), blob.data);
}

/// I22, T8: neither abandoned uploads nor open ones can take everything.
#[tokio::test]
async fn reapi_73_i22_abandoned_and_open_uploads_are_bounded() {
    let bounds = GrpcOptions {
        max_parked_uploads: 4,
        max_upload_sessions: 3,
        parked_upload_ttl: Duration::from_hours(1),
        ..GrpcOptions::default()
    };
    let server = TestServer::start_on_files_with(64 << 20, bounds).await;
    let client = Client::of(&server).await;
    for seed in 0..100 {
        let blob = Blob::random(seed, 200_000);
        let half = parts(&blob.write_name(), &blob.data, 0..100_000, MIB);
        assert_eq!(client.write(half).await.unwrap(), 100_000);
    }
    let four = 4 * 200_000..5 * 200_000;
    assert!(four.contains(&server.store().stats().reserved_bytes));
    let blobs: Vec<Blob> = (200..204).map(|seed| Blob::random(seed, MIB)).collect();
    let mut open = Vec::new();
    for blob in &blobs[..3] {
        let name = blob.write_name();
        open.push((blob, send_up_to(&client, &name, blob, MIB / 2).await));
    }
    let refused = client.write(rest(&blobs[3].write_name(), &blobs[3].data, 0, MIB / 2)).await;
    assert_code(refused, Code::ResourceExhausted);
    for (blob, write) in open {
        for message in rest("", &blob.data, MIB / 2, MIB) {
            write.send(message).await;
        }
        assert_eq!(write.half_close().await.unwrap(), MIB as i64);
    }
    client.write(rest(&blobs[3].write_name(), &blobs[3].data, 0, MIB / 2)).await.unwrap();
}
