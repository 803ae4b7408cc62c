//! The end of a server, seen by a client whose call crosses it on the way.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Blob, TestServer, disk, write_requests};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Longer than a server that is about to end waits for connections without a call.
const LONG: Duration = Duration::from_secs(5);

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A message as gRPC frames it, in a frame of HTTP/2.
fn data_frame(flags: u8, message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    frame(DATA, flags, 1, &[&[0], &len[..], &message].concat())
}

/// Reads up to a frame of this kind and flags.
async fn read_until(socket: &mut TcpStream, kind: u8, flags: u8) {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.unwrap();
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).unwrap()];
        socket.read_exact(&mut payload).await.unwrap();
        if (head[3], head[4]) == (kind, flags) {
            return;
        }
    }
}

/// The start of a call of `Write`, its header fields spelt out.
fn call() -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let post_over_http = vec![0x83, 0x86];
    let path = [vec![4], text("/google.bytestream.ByteStream/Write")].concat();
    let content_type = [vec![0], text("content-type"), text("application/grpc")].concat();
    let te = [vec![0], text("te"), text("trailers")].concat();
    frame(HEADERS, END_HEADERS, 1, &[post_over_http, path, content_type, te].concat())
}

/// The client sends its call before it has heard that it should not. Nothing was under way until
/// then, so the server has begun to close connections.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "both tasks are awaited")]
async fn reapi_100_a_call_that_crosses_the_end_of_the_server_is_served() {
    let TestServer { server, channel, directory } = TestServer::start_on_files().await;
    drop(channel);
    let mut socket = TcpStream::connect(server.grpc_address().unwrap()).await.unwrap();
    socket.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    read_until(&mut socket, SETTINGS, ACK).await;
    // The clock stands still as long as this waits.
    tokio::time::pause();
    let (go_on, gate) = sync_channel::<()>(0);
    let clock = tokio::task::spawn_blocking(move || gate.recv().is_err());
    let mut stopped = tokio::spawn(server.shutdown());
    read_until(&mut socket, GO_AWAY, 0).await;
    let blob = Blob::random(7, 2000);
    let messages = write_requests(&blob.write_name(), &blob.data, 1000);
    let start = [call(), data_frame(0, &messages[0]), frame(PING, 0, 0, b"arrived?")].concat();
    socket.write_all(&start).await.unwrap();
    read_until(&mut socket, PING, ACK).await;
    drop(go_on);
    assert!(clock.await.unwrap());
    assert!(tokio::time::timeout(LONG, &mut stopped).await.is_err(), "the call was cut off");
    tokio::time::resume();
    socket.write_all(&data_frame(END_STREAM, &messages[1])).await.unwrap();
    // A refusal has no message.
    read_until(&mut socket, DATA, 0).await;
    stopped.await.unwrap().unwrap();
    assert_eq!(disk::blob_files(directory.path()).len(), 1);
}
