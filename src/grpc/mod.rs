//! L3: the gRPC front: every service of the remote cache over [`Instances`].
//!
//! Owns the options of the wire and the wiring of its services. What REAPI means is decided below;
//! what a failure is called is decided in `status`.

mod action_cache;
mod bytestream;
mod capabilities;
mod cas;
mod convert;
mod deadline;
mod find_missing;
mod http2;
mod options;
mod room;
mod serving;
mod status;
mod tool;
mod trace;
mod tree;
pub mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use castellan_proto::action_cache::action_cache_server::ActionCacheServer;
use castellan_proto::byte_stream::byte_stream_server::ByteStreamServer;
use castellan_proto::cas::content_addressable_storage_server::ContentAddressableStorageServer;
use castellan_proto::v2::capabilities_server::CapabilitiesServer;
use tokio_util::task::TaskTracker;
use tonic::codec::CompressionEncoding as Encoding;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer as _;
use tower::layer::layer_fn;

use self::action_cache::ActionCacheService;
use self::bytestream::ByteStreamService;
use self::bytestream::sessions::Sessions;
use self::capabilities::CapabilitiesService;
use self::cas::CasService;
use self::deadline::DeadlineLayer;
pub use self::http2::Http2Options;
pub use self::options::GrpcOptions;
use self::room::Room;
pub use self::serving::{Opened, Transport, serve};
use crate::instance::Instances;
use crate::shutdown::Readiness;

/// What every service works on.
#[derive(Clone, Debug)]
struct Shared {
    instances: Arc<Instances>,
    options: Arc<GrpcOptions>,
    room: Room,
}

/// The gRPC front, ready to be served.
#[derive(Debug)]
pub struct GrpcFront {
    /// Every service, traced.
    pub routes: Routes,
    /// Turns it off again.
    pub handle: GrpcHandle,
}

/// What the composition root keeps of the gRPC front.
#[derive(Clone, Debug)]
pub struct GrpcHandle {
    readiness: Readiness,
    reporter: HealthReporter,
    sessions: Arc<Sessions>,
    calls: TaskTracker,
}

impl GrpcHandle {
    /// Has a token for each call until its response has been sent. Connections may be open without
    /// one: a client that keeps one and says nothing is not waited for.
    pub fn calls(&self) -> &TaskTracker {
        &self.calls
    }

    /// Reports `NOT_SERVING` from here on; calls are still answered.
    ///
    /// Uploads that wait for their client to come back are given up and their space is returned;
    /// from now on an upload whose client vanishes is given up at once. Cancel safe.
    pub async fn start_draining(&self) {
        self.readiness.start_draining();
        for service in SERVICES {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
        self.sessions.close();
    }
}

/// The names that the health service knows; the empty one is the whole server.
const SERVICES: [&str; 5] = [
    "",
    CapabilitiesServer::<CapabilitiesService>::NAME,
    ActionCacheServer::<ActionCacheService>::NAME,
    ContentAddressableStorageServer::<CasService>::NAME,
    ByteStreamServer::<ByteStreamService>::NAME,
];

/// Builds every service of the remote cache. Cancel safe.
pub async fn build(
    instances: Arc<Instances>,
    options: GrpcOptions,
    readiness: Readiness,
) -> GrpcFront {
    let limit = options.message_limit_bytes();
    let GrpcOptions { accept_gzip, send_gzip, .. } = options;
    let sessions = Sessions::new(options.session_options());
    let calls = TaskTracker::new();
    let room = Room::new(Arc::clone(&sessions));
    let metrics = Arc::clone(instances.metrics());
    let shared = Shared { instances, options: Arc::new(options), room };
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    // The generated types have these methods and no trait for them.
    macro_rules! bounded {
        ($service:expr) => {{
            // The limit holds for what a message is decompressed to as well.
            let service =
                $service.max_decoding_message_size(limit).max_encoding_message_size(limit);
            let service =
                if accept_gzip { service.accept_compressed(Encoding::Gzip) } else { service };
            if send_gzip { service.send_compressed(Encoding::Gzip) } else { service }
        }};
    }
    let byte_stream = ByteStreamService::new(shared.clone(), Arc::clone(&sessions));
    let mut routes = Routes::new(health)
        .add_service(bounded!(CapabilitiesServer::new(CapabilitiesService::new(shared.clone()))))
        .add_service(bounded!(ActionCacheServer::new(ActionCacheService::new(shared.clone()))))
        .add_service(bounded!(ContentAddressableStorageServer::new(CasService::new(shared))))
        .add_service(bounded!(ByteStreamServer::new(byte_stream)));
    // Outermost, so that a call of an unknown method has its span too.
    let bare = std::mem::take(routes.axum_router_mut());
    let counting = trace::CallLayer { calls: calls.clone(), metrics };
    *routes.axum_router_mut() =
        bare.layer(layer_fn(move |inner| counting.layer(DeadlineLayer.layer(inner))));
    GrpcFront {
        routes: routes.prepare(),
        handle: GrpcHandle { readiness, reporter, sessions, calls },
    }
}
