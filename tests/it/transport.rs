//! What clients rely on below gRPC: streams, pings, sockets (reapi 99).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use castellan_proto::messages::WriteRequest;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::wait::stats_reach;
use crate::support::{Blob, Process, TestServer, write_requests};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// An HTTP/2 frame of the connection itself.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
}

/// The next frame: its kind, its flags and its payload.
fn read_frame(socket: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).unwrap();
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    socket.read_exact(&mut payload).unwrap();
    (head[3], head[4], payload)
}

fn connect(server: &TestServer) -> TcpStream {
    let socket = TcpStream::connect(server.server.grpc_address().unwrap()).unwrap();
    // A bound on the test, not a measure of anything.
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    socket
}

/// Bazel opens a hundred streams on a connection without looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_99_the_settings_allow_a_hundred_streams_and_more() {
    let server = TestServer::start().await;
    let mut socket = connect(&server);
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, &[])].concat()).unwrap();
    let (kind, flags, payload) = read_frame(&mut socket);
    assert_eq!((kind, flags), (SETTINGS, 0));
    let streams = payload.chunks_exact(6).find_map(|setting| {
        let (name, value) = setting.split_at(2);
        let is_streams = name == MAX_CONCURRENT_STREAMS.to_be_bytes();
        is_streams.then(|| u32::from_be_bytes(value.try_into().unwrap()))
    });
    // Without the setting there is no limit.
    assert!(streams.is_none_or(|it| it >= 100), "{streams:?}");
}

/// Clients ping idle connections every ten seconds, for hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_99_pings_are_answered_and_never_too_many() {
    let server = TestServer::start().await;
    let mut socket = connect(&server);
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, &[])].concat()).unwrap();
    for number in 0..500_u64 {
        socket.write_all(&frame(PING, 0, &number.to_be_bytes())).unwrap();
        loop {
            let (kind, flags, payload) = read_frame(&mut socket);
            assert_ne!(kind, GO_AWAY, "after {number} pings: {payload:?}");
            if kind == PING && flags == ACK {
                assert_eq!(payload, number.to_be_bytes());
                break;
            }
        }
    }
}

/// All of them wait for their client at the same time, and all end well.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "every task is awaited")]
async fn reapi_99_200_streams_on_one_connection_are_served_at_once() {
    const STREAMS: usize = 200;
    let server = TestServer::start_on_files().await;
    let mut uploads = Vec::new();
    let mut bytes_of_one = 0;
    for number in 0..STREAMS {
        let blob = Blob::random(number as u64, 1000);
        let mut requests = write_requests(&blob.write_name(), &blob.data, 500);
        let last: WriteRequest = requests.pop().unwrap();
        let (messages, receiver) = mpsc::channel(1);
        let mut client = server.byte_stream();
        let reply = tokio::spawn(async move { client.write(ReceiverStream::new(receiver)).await });
        messages.send(requests.remove(0)).await.unwrap();
        uploads.push((blob, messages, last, reply));
        if number == 0 {
            stats_reach(&server, "the first has space", |it| it.reserved_bytes > 0).await;
            bytes_of_one = server.store().stats().reserved_bytes;
        }
    }
    let all = bytes_of_one * STREAMS as u64;
    stats_reach(&server, "all have space", |it| it.reserved_bytes == all).await;
    for (blob, messages, last, reply) in uploads {
        messages.send(last).await.unwrap();
        drop(messages);
        assert_eq!(reply.await.unwrap().unwrap().into_inner().committed_size, 1000);
        assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
    }
}

/// Whoever speaks another protocol loses the connection and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reapi_96_bytes_that_are_no_http2_end_their_connection_alone() {
    let server = TestServer::start().await;
    let blob = Blob::new("unharmed");
    server.put(&[&blob]).await;
    let huge = [PREFACE, &[0xff; 9]].concat();
    let stream_0 = [PREFACE, &frame(SETTINGS, 0, &[]), &frame(0, 0, b"data")].concat();
    let odd_settings = [PREFACE, &frame(SETTINGS, 0, &[1, 2, 3])].concat();
    for garbage in
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 4096], huge, stream_0, odd_settings, vec![]]
    {
        let mut socket = connect(&server);
        // The server may have closed it already.
        drop(socket.write_all(&garbage));
        drop(socket.shutdown(std::net::Shutdown::Write));
        let mut rest = Vec::new();
        drop(socket.read_to_end(&mut rest));
        assert_eq!(server.read(&blob.read_name()).await.unwrap(), blob.data);
    }
}

/// Without `TCP_NODELAY` small answers wait 40 ms for the peer's delayed acknowledgement, and
/// without `SO_KEEPALIVE` a peer that vanished before it said a word keeps its socket for ever.
///
/// The socket itself is asked, in the real program: a time would prove nothing on a busy machine.
/// A sandbox that forbids to look into another process leaves this untested.
#[tokio::test]
async fn tcp_nodelay_and_keepalive_are_set_on_accepted_connections() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::serve(directory.path(), &[]);
    let address = format!("http://{}", server.grpc);
    let channel = tonic::transport::Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut client = castellan_proto::v2::capabilities_client::CapabilitiesClient::new(channel);
    let request = castellan_proto::v2::GetCapabilitiesRequest::default();
    client.get_capabilities(request).await.unwrap();

    let pid = i32::try_from(server.id()).unwrap();
    let process = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
    let mut connections = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let descriptor = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let copy = match pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            Err(Errno::BADF) => continue,
            Err(error @ (Errno::PERM | Errno::NOSYS)) => {
                println!("not tested: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let socket = TcpStream::from(copy);
        let local = socket.local_addr().map(|it| it.to_string());
        if socket.peer_addr().is_ok() && local.is_ok_and(|it| it == server.grpc) {
            connections += 1;
            assert!(socket.nodelay().unwrap());
            assert!(socket2::SockRef::from(&socket).keepalive().unwrap());
        }
    }
    assert_eq!(connections, 1);
}
