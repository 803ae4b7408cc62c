//! What options of a listener do: HTTP/2, compressed messages, digests without a function.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use castellan::digest::DigestFunction;
use castellan::grpc::{GrpcOptions, Http2Options};
use castellan::http::HttpOptions;
use castellan::server::{GrpcListener, InstanceSettings, Instances, Server};
use castellan_proto::byte_stream::byte_stream_client::ByteStreamClient;
use castellan_proto::cas::content_addressable_storage_client::ContentAddressableStorageClient;
use castellan_proto::messages::{BatchUpdateBlob, BatchUpdateBlobsRequest, ReadRequest};
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::http::http;
use crate::support::listeners::{channels, on_free_port, start_listeners, start_listeners_with};
use crate::support::{Blob, Subject, TestServer, assert_all_present, assert_code, directory};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;

fn any() -> GrpcListener {
    on_free_port(Instances::Any(InstanceSettings::new(0, 0)))
}

/// A server whose options last as long as its directory.
async fn start(http2: Http2Options, options: GrpcOptions) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let listener = GrpcListener { http2, options, ..any() };
    (start_listeners(directory.path(), 1, vec![listener]).await.unwrap(), directory)
}

/// A connection that has sent its own settings.
fn connect(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.grpc_address().unwrap()).unwrap();
    // A bound on the test, not a measure of anything.
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    socket.write_all(&[PREFACE, &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]].concat()).unwrap();
    socket
}

/// The next frame: its kind and its payload.
fn read_frame(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).unwrap();
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(len).unwrap()];
    socket.read_exact(&mut payload).unwrap();
    (head[3], payload)
}

/// What the server says of itself, by number.
fn settings(server: &Server) -> Vec<(u16, u32)> {
    let (kind, payload) = read_frame(&mut connect(server));
    assert_eq!(kind, SETTINGS);
    let setting = |it: &[u8]| {
        let (name, value) = it.split_at(2);
        (
            u16::from_be_bytes(name.try_into().unwrap()),
            u32::from_be_bytes(value.try_into().unwrap()),
        )
    };
    payload.chunks_exact(6).map(setting).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_http2_are_what_the_options_say() {
    let options = Http2Options {
        max_streams: 7,
        stream_window_bytes: 123_456,
        max_frame_bytes: 100_000,
        max_header_bytes: 30_000,
        connect_protocol: true,
        ..Http2Options::default()
    };
    let (server, _directory) = start(options, GrpcOptions::default()).await;
    let said = settings(&server);
    for expected in [(3, 7), (4, 123_456), (5, 100_000), (6, 30_000), (8, 1)] {
        assert!(said.contains(&expected), "{expected:?} in {said:?}");
    }
    let adaptive = Http2Options { adaptive_window: true, ..Http2Options::default() };
    let (server, _directory) = start(adaptive, GrpcOptions::default()).await;
    let said = settings(&server);
    let window = said.iter().find(|it| it.0 == 4).map_or(65_535, |it| it.1);
    assert_eq!(window, 65_535, "{said:?}");
}

/// Whatever an operator writes, transfers work.
#[tokio::test]
async fn options_out_of_bounds_are_moved_into_them() {
    for (small, large) in [(0, 0), (u32::MAX, usize::MAX)] {
        let options = Http2Options {
            keepalive_interval: Some(Duration::ZERO),
            keepalive_timeout: Duration::from_secs(u64::from(small)),
            stream_window_bytes: small,
            connection_window_bytes: small,
            adaptive_window: false,
            max_frame_bytes: small,
            max_streams: small,
            max_header_bytes: small,
            max_send_buffer_bytes: large,
            max_pending_resets: large,
            connect_protocol: false,
        };
        let (server, _directory) = start(options, GrpcOptions::default()).await;
        let channel = channels(&server).await.remove(0);
        let blob = Blob::random(3, 1_000_000);
        batch(&channel, &blob, false).await.unwrap();
        let request = ReadRequest { resource_name: blob.read_name(), ..ReadRequest::default() };
        let mut stream = ByteStreamClient::new(channel).read(request).await.unwrap().into_inner();
        let mut data = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            data.extend_from_slice(&message.data);
        }
        assert_eq!(data, blob.data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_asked_and_one_that_does_not_answer_is_cut_off() {
    let options = Http2Options {
        keepalive_interval: Some(Duration::from_millis(100)),
        keepalive_timeout: Duration::from_millis(100),
        ..Http2Options::default()
    };
    let (server, _directory) = start(options, GrpcOptions::default()).await;
    let mut socket = connect(&server);
    while read_frame(&mut socket).0 != PING {}
    let mut rest = Vec::new();
    // Up to the end of the connection.
    socket.read_to_end(&mut rest).unwrap();
}

/// Stores a blob with one call.
async fn batch(channel: &Channel, blob: &Blob, is_compressed: bool) -> Result<i32, Status> {
    let upload = BatchUpdateBlob {
        digest: Some(blob.wire()),
        data: blob.data.clone(),
        ..BatchUpdateBlob::default()
    };
    let request =
        BatchUpdateBlobsRequest { requests: vec![upload], ..BatchUpdateBlobsRequest::default() };
    let mut client = ContentAddressableStorageClient::new(channel.clone())
        .max_encoding_message_size(256 << 20)
        .accept_compressed(Gzip);
    if is_compressed {
        client = client.send_compressed(Gzip);
    }
    let reply = client.batch_update_blobs(request).await?.into_inner();
    Ok(reply.responses[0].status.as_ref().unwrap().code)
}

/// Reads a blob; says how its messages came.
async fn read_encoding(channel: &Channel, blob: &Blob) -> Option<String> {
    let request = ReadRequest { resource_name: blob.read_name(), ..ReadRequest::default() };
    let mut client = ByteStreamClient::new(channel.clone()).accept_compressed(Gzip);
    let reply = client.read(request).await.unwrap();
    let encoding = reply.metadata().get("grpc-encoding").cloned();
    let mut data = Vec::new();
    let mut stream = reply.into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        data.extend_from_slice(&message.data);
    }
    assert_eq!(data, blob.data);
    encoding.map(|it| it.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn messages_are_compressed_where_the_listener_says_so() {
    let blob = Blob::new(vec![b'x'; 1_000_000]);
    for (accept_gzip, send_gzip) in [(true, true), (true, false), (false, true), (false, false)] {
        let options = GrpcOptions { accept_gzip, send_gzip, ..GrpcOptions::default() };
        let (server, _directory) = start(Http2Options::default(), options).await;
        let channel = channels(&server).await.remove(0);
        let sent = batch(&channel, &blob, true).await;
        if accept_gzip {
            assert_eq!(sent.unwrap(), 0);
        } else {
            assert_code(sent, Code::Unimplemented);
            assert_eq!(batch(&channel, &blob, false).await.unwrap(), 0);
        }
        let encoding = read_encoding(&channel, &blob).await;
        assert_eq!(encoding.as_deref(), send_gzip.then_some("gzip"));
    }
}

/// 64 MiB of zeros are 64 KiB on the wire; as many as are allowed are a message like any other.
#[tokio::test]
async fn i22_what_a_message_is_decompressed_to_is_bounded() {
    let options = GrpcOptions { accept_gzip: true, ..GrpcOptions::default() };
    let limit = usize::try_from(options.max_decoding_message_size_bytes).unwrap();
    let (server, _directory) = start(Http2Options::default(), options).await;
    let channel = channels(&server).await.remove(0);
    let bomb = Blob::new(vec![0; 4 * limit]);
    assert_code(batch(&channel, &bomb, true).await, Code::ResourceExhausted);
    // Refused by what it says, not by the transport.
    let large = Blob::new(vec![0; limit - 1000]);
    assert_code(batch(&channel, &large, true).await, Code::InvalidArgument);
    let good = Blob::new(vec![0; 3 << 20]);
    assert_eq!(batch(&channel, &good, true).await.unwrap(), 0);
}

/// Every digest is equally long, so the client must say which it is, or the operator.
#[tokio::test]
async fn digests_without_a_function_have_the_one_of_the_operator() {
    let root = tempfile::tempdir().unwrap();
    let function = DigestFunction::Blake3;
    let options = GrpcOptions { default_digest_function: function, ..GrpcOptions::default() };
    let http_options = HttpOptions { default_digest_function: function, ..HttpOptions::default() };
    let listener = GrpcListener { options, ..any() };
    let server = start_listeners_with(root.path(), 1, vec![listener], http_options).await.unwrap();
    let channel = channels(&server).await.remove(0);
    let server = TestServer { server, channel, directory: root };

    let data = directory(&[("file", &Blob::new("file"))], &[]).data;
    let named = Subject::of(&Blob::with(function, data.clone()));
    let unnamed = Subject { digest_function: 0, segment: "", ..named.clone() };
    assert_all_present(&unnamed.calls(&server).await);
    assert_all_present(&named.read_calls(&server).await);
    let sha256 = Subject { digest_function: 0, ..Subject::of(&Blob::new(data.clone())) };
    assert_code(sha256.write_calls(&server).await.remove(1).1, Code::InvalidArgument);

    let path = format!("/cas/{}", named.hash);
    let reply = http(&server, "GET", &path, &[], &[]).await;
    assert_eq!((reply.status, reply.body), (200, data.to_vec()));
    let fresh = Blob::with(function, "over HTTP");
    let path = format!("/cas/{}", fresh.digest_hash());
    assert_eq!(http(&server, "PUT", &path, &[], &fresh.data).await.status, 200);
    assert_all_present(&[("Read", server.read(&fresh.read_name()).await.map(|_| true))]);
    let wrong = format!("/cas/{}", Blob::new("over HTTP").digest_hash());
    assert_eq!(http(&server, "PUT", &wrong, &[], &fresh.data).await.status, 400);
}
