//! `Capabilities`: says what the other services do, and nothing they do not.

use castellan_proto::semver::SemVer;
use castellan_proto::v2::capabilities_server::Capabilities;
use castellan_proto::v2::symlink_absolute_path_strategy::Value as SymlinkStrategy;
use castellan_proto::v2::{
    ActionCacheUpdateCapabilities, CacheCapabilities, GetCapabilitiesRequest, ServerCapabilities,
};
use tonic::{Request, Response, Status};

use super::Shared;
use super::convert::wire_size;
use super::trace::record_call;
use crate::cas::Cas;
use crate::digest::DigestFunction;

/// The lowest version served; older Bazel refuses a server whose lowest is not 2.0 (reapi 91).
const LOW_API: (i32, i32) = (2, 0);
/// The version whose rules this server keeps.
const HIGH_API: (i32, i32) = (2, 13);

/// The service.
#[derive(Debug)]
pub(super) struct CapabilitiesService {
    shared: Shared,
}

impl CapabilitiesService {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

fn version((major, minor): (i32, i32)) -> SemVer {
    SemVer { major, minor, ..SemVer::default() }
}

#[tonic::async_trait]
impl Capabilities for CapabilitiesService {
    async fn get_capabilities(
        &self,
        request: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<ServerCapabilities>, Status> {
        let instance_name = request.into_inner().instance_name;
        record_call(&instance_name, None);
        let instance = self.shared.instances.get(&instance_name)?;
        let update_enabled = instance.action_cache().is_ok_and(|it| !it.is_read_only());
        // 0 is "no limit", and what an instance without blobs has to say.
        let max_blob_bytes = instance.bytestream().map_or(0, Cas::max_blob_bytes);
        let cache = CacheCapabilities {
            digest_functions: DigestFunction::ALL.map(DigestFunction::to_wire).to_vec(),
            action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
                update_enabled,
            }),
            max_batch_total_size_bytes: wire_size(self.shared.options.max_batch_total_size_bytes),
            // A cache hands symlinks on and never follows one.
            symlink_absolute_path_strategy: SymlinkStrategy::Allowed.into(),
            max_cas_blob_size_bytes: wire_size(max_blob_bytes),
            // No compressors, no chunking, no priorities: not served, so not announced.
            ..CacheCapabilities::default()
        };
        Ok(Response::new(ServerCapabilities {
            cache_capabilities: Some(cache),
            low_api_version: Some(version(LOW_API)),
            high_api_version: Some(version(HIGH_API)),
            ..ServerCapabilities::default()
        }))
    }
}
