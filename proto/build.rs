//! Generates the services whose messages this crate writes by hand: everything that carries
//! payload bytes, and the action cache, whose values are kept as the raw bytes received.
//!
//! No .proto file and no protoc: the methods and tags are facts of the published API.

use std::path::PathBuf;

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "crate::codec::SizedCodec";

fn unary(name: &str, route: &str, input: &str, output: &str) -> Method {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::messages::{input}"))
        .output_type(format!("crate::messages::{output}"))
        .codec_path(CODEC)
        .build()
}

fn server_streaming(name: &str, route: &str, input: &str, output: &str) -> Method {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::messages::{input}"))
        .output_type(format!("crate::messages::{output}"))
        .codec_path(CODEC)
        .server_streaming()
        .build()
}

fn client_streaming(name: &str, route: &str, input: &str, output: &str) -> Method {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(format!("crate::messages::{input}"))
        .output_type(format!("crate::messages::{output}"))
        .codec_path(CODEC)
        .client_streaming()
        .build()
}

/// The service, with the messages of `FindMissingBlobs`: the server reads them in place.
fn cas(question: &str, answer: &str) -> Service {
    Service::builder()
        .name("ContentAddressableStorage")
        .package("build.bazel.remote.execution.v2")
        .method(unary("find_missing_blobs", "FindMissingBlobs", question, answer))
        .method(unary(
            "batch_update_blobs",
            "BatchUpdateBlobs",
            "BatchUpdateBlobsRequest",
            "BatchUpdateBlobsResponse",
        ))
        .method(unary(
            "batch_read_blobs",
            "BatchReadBlobs",
            "BatchReadBlobsRequest",
            "BatchReadBlobsResponse",
        ))
        .method(server_streaming("get_tree", "GetTree", "GetTreeRequest", "GetTreeResponse"))
        .build()
}

fn main() -> std::io::Result<()> {
    let action_cache = Service::builder()
        .name("ActionCache")
        .package("build.bazel.remote.execution.v2")
        .method(unary(
            "get_action_result",
            "GetActionResult",
            "GetActionResultRequest",
            "RawMessage",
        ))
        .method(unary(
            "update_action_result",
            "UpdateActionResult",
            "UpdateActionResultRequest",
            "RawMessage",
        ))
        .build();
    let byte_stream = Service::builder()
        .name("ByteStream")
        .package("google.bytestream")
        .method(server_streaming("read", "Read", "ReadRequest", "ReadResponse"))
        .method(client_streaming("write", "Write", "WriteRequest", "WriteResponse"))
        .method(unary(
            "query_write_status",
            "QueryWriteStatus",
            "QueryWriteStatusRequest",
            "QueryWriteStatusResponse",
        ))
        .build();
    Builder::new().compile(&[action_cache, byte_stream]);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let (client, server) = (out.join("client"), out.join("server"));
    std::fs::create_dir_all(&client)?;
    std::fs::create_dir_all(&server)?;
    let typed = cas("FindMissingBlobsRequest", "FindMissingBlobsResponse");
    Builder::new().build_server(false).out_dir(client).compile(&[typed]);
    let raw = cas("RawMessage", "RawMessage");
    Builder::new().build_client(false).out_dir(server).compile(&[raw]);
    Ok(())
}
