//! Generates the services whose messages this crate writes by hand: everything that carries
//! payload bytes, and the action cache, whose values are kept as the raw bytes received.
//!
//! No .proto file and no protoc: the methods and tags are facts of the published API.

use std::path::PathBuf;

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "crate::codec::SizedCodec";

/// Which side of a call is a stream.
#[derive(Clone, Copy)]
enum Streams {
    Neither,
    Requests,
    Responses,
}

fn method(streams: Streams, name: &str, route: &str, input: &str, output: &str) -> Method {
    let builder = Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::messages::{input}"))
        .output_type(format!("crate::messages::{output}"))
        .codec_path(CODEC);
    match streams {
        Streams::Neither => builder.build(),
        Streams::Requests => builder.client_streaming().build(),
        Streams::Responses => builder.server_streaming().build(),
    }
}

fn unary(name: &str, route: &str, input: &str, output: &str) -> Method {
    method(Streams::Neither, name, route, input, output)
}

/// Which half of a service is generated. The server reads the messages of `FindMissingBlobs` in
/// place, and bounds what it builds of other requests.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Side {
    fn bounded(self, input: &str) -> String {
        match self {
            Self::Client => input.to_owned(),
            Self::Server => format!("Bounded<crate::messages::{input}>"),
        }
    }
}

fn cas(side: Side) -> Service {
    let (question, answer) = match side {
        Side::Client => ("FindMissingBlobsRequest", "FindMissingBlobsResponse"),
        Side::Server => ("RawMessage", "RawMessage"),
    };
    Service::builder()
        .name("ContentAddressableStorage")
        .package("build.bazel.remote.execution.v2")
        .method(unary("find_missing_blobs", "FindMissingBlobs", question, answer))
        .method(unary(
            "batch_update_blobs",
            "BatchUpdateBlobs",
            &side.bounded("BatchUpdateBlobsRequest"),
            "BatchUpdateBlobsResponse",
        ))
        .method(unary(
            "batch_read_blobs",
            "BatchReadBlobs",
            &side.bounded("BatchReadBlobsRequest"),
            "BatchReadBlobsResponse",
        ))
        .method(method(
            Streams::Responses,
            "get_tree",
            "GetTree",
            "GetTreeRequest",
            "GetTreeResponse",
        ))
        .build()
}

fn action_cache(side: Side) -> Service {
    Service::builder()
        .name("ActionCache")
        .package("build.bazel.remote.execution.v2")
        .method(unary(
            "get_action_result",
            "GetActionResult",
            &side.bounded("GetActionResultRequest"),
            "RawMessage",
        ))
        .method(unary(
            "update_action_result",
            "UpdateActionResult",
            "UpdateActionResultRequest",
            "RawMessage",
        ))
        .build()
}

/// The API of our own, from its .proto file.
fn worker() -> std::io::Result<()> {
    const FILE: &str = "castellan/worker/v1/worker.proto";
    println!("cargo:rerun-if-changed={FILE}");
    let files = protox::compile([FILE], ["."]).map_err(std::io::Error::other)?;
    tonic_prost_build::configure()
        .extern_path(".google.protobuf.Duration", "crate::protobuf::Duration")
        .compile_fds(files)
}

fn main() -> std::io::Result<()> {
    worker()?;
    let byte_stream = Service::builder()
        .name("ByteStream")
        .package("google.bytestream")
        .method(method(Streams::Responses, "read", "Read", "ReadRequest", "ReadResponse"))
        .method(method(Streams::Requests, "write", "Write", "WriteRequest", "WriteResponse"))
        .method(unary(
            "query_write_status",
            "QueryWriteStatus",
            "QueryWriteStatusRequest",
            "QueryWriteStatusResponse",
        ))
        .build();
    Builder::new().compile(&[byte_stream]);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let (client, server) = (out.join("client"), out.join("server"));
    std::fs::create_dir_all(&client)?;
    std::fs::create_dir_all(&server)?;
    let services = |side| [cas(side), action_cache(side)];
    Builder::new().build_server(false).out_dir(client).compile(&services(Side::Client));
    Builder::new().build_client(false).out_dir(server).compile(&services(Side::Server));
    Ok(())
}
