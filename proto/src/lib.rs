//! The wire messages of remote execution.
//!
//! This crate is the only user of `bazel-remote-apis`. It re-exports the generated types as
//! [`v2`], [`rpc`] and [`semver`], and owns the messages of the three services that carry payload
//! bytes or raw records ([`messages`]): there every `bytes` field is a [`bytes::Bytes`], so a
//! payload is never copied between the socket's buffer and the store.
//!
//! It must never hold behavior: no validation, no defaults, no conversion to domain types.

pub mod bounded;
pub mod codec;
pub mod messages;

/// Generated types of `build.bazel.remote.execution.v2`.
pub use bazel_remote_apis::build::bazel::remote::execution::v2;
/// Generated types of `build.bazel.semver`.
pub use bazel_remote_apis::build::bazel::semver;
/// Generated types of `google.protobuf`.
pub use bazel_remote_apis::google::protobuf;
/// Generated types of `google.rpc`.
pub use bazel_remote_apis::google::rpc;

/// The `ContentAddressableStorage` service over [`messages`]. Its server takes and gives the
/// messages of `FindMissingBlobs` as they are on the wire: building ten thousand digests costs
/// several times what looking them up does. Its other requests, and those of the action cache, are
/// [`bounded`] on the server.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod cas {
    include!(concat!(
        env!("OUT_DIR"),
        "/client/build.bazel.remote.execution.v2.ContentAddressableStorage.rs"
    ));
    include!(concat!(
        env!("OUT_DIR"),
        "/server/build.bazel.remote.execution.v2.ContentAddressableStorage.rs"
    ));
}

/// The `ActionCache` service over [`messages`]; results travel as raw bytes.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod action_cache {
    include!(concat!(env!("OUT_DIR"), "/client/build.bazel.remote.execution.v2.ActionCache.rs"));
    include!(concat!(env!("OUT_DIR"), "/server/build.bazel.remote.execution.v2.ActionCache.rs"));
}

/// The `google.bytestream.ByteStream` service over [`messages`].
#[expect(
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod byte_stream {
    include!(concat!(env!("OUT_DIR"), "/google.bytestream.ByteStream.rs"));
}

/// `castellan.worker.v1`: what a worker asks of the store on its machine. Messages, client and
/// server of `proto/castellan/worker/v1/worker.proto`, which documents them.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod worker {
    include!(concat!(env!("OUT_DIR"), "/castellan.worker.v1.rs"));
}
