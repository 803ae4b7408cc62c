//! Generates the services whose messages this crate writes by hand: everything that carries
//! payload bytes, and the action cache, whose values are kept as the raw bytes received.
//!
//! No .proto file and no protoc: the methods and tags are facts of the published API.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "tonic_prost::ProstCodec";

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

fn main() {
    let cas = Service::builder()
        .name("ContentAddressableStorage")
        .package("build.bazel.remote.execution.v2")
        .method(unary(
            "find_missing_blobs",
            "FindMissingBlobs",
            "FindMissingBlobsRequest",
            "FindMissingBlobsResponse",
        ))
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
        .build();
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
    Builder::new().compile(&[cas, action_cache, byte_stream]);
}
