//! `ActionCache`: results as the very bytes that were sent.

use castellan_proto::action_cache::action_cache_server::ActionCache;
use castellan_proto::messages::{
    Bounded, GetActionResultRequest, RawMessage, UpdateActionResultRequest,
};
use tonic::{Request, Response, Status};

use super::Shared;
use super::convert::{digest_function, required_digest};
use super::room::Need;
use super::status::invalid_field;
use super::trace::record_call;
use crate::action_cache::InlineRequest;

/// The service.
#[derive(Debug)]
pub(super) struct ActionCacheService {
    shared: Shared,
}

impl ActionCacheService {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }
}

#[tonic::async_trait]
impl ActionCache for ActionCacheService {
    async fn get_action_result(
        &self,
        request: Request<Bounded<GetActionResultRequest>>,
    ) -> Result<Response<RawMessage>, Status> {
        let request = request.into_inner().message;
        let instance = self.shared.instances.get(&request.instance_name)?;
        let action_cache = instance.action_cache()?;
        let function = digest_function(&self.shared.options, request.digest_function)?;
        let action_digest =
            required_digest("action_digest", function, request.action_digest.as_ref())?;
        record_call(&request.instance_name, Some(&action_digest));
        let inline = InlineRequest {
            stdout: request.inline_stdout,
            stderr: request.inline_stderr,
            output_files: request.inline_output_files,
        };
        let Some(encoded) = action_cache.get(action_digest, &inline).await? else {
            return Err(Status::not_found(format!("action result of {action_digest} not found")));
        };
        Ok(Response::new(RawMessage { encoded }))
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<RawMessage>, Status> {
        let request = request.into_inner();
        let instance = self.shared.instances.get(&request.instance_name)?;
        let action_cache = instance.action_cache()?;
        let function = digest_function(&self.shared.options, request.digest_function)?;
        let action_digest =
            required_digest("action_digest", function, request.action_digest.as_ref())?;
        record_call(&request.instance_name, Some(&action_digest));
        let encoded =
            request.action_result.ok_or_else(|| invalid_field("action_result", "is required"))?;
        let need = Need { bytes: encoded.len() as u64, replaces: None };
        let is_waiting = || action_cache.is_waiting_for_room();
        let update = || action_cache.update(action_digest, encoded.clone());
        self.shared.room.with(need, is_waiting, update).await?;
        Ok(Response::new(RawMessage { encoded }))
    }
}
