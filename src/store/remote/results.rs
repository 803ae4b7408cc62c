//! Action results of an upstream, as the very bytes that travel.

use std::sync::Arc;

use bytes::Bytes;
use castellan_proto::messages::{GetActionResultRequest, RawMessage, UpdateActionResultRequest};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tonic::{Code, Response, Status};

use super::Upstream;
use super::names::wire_digest;
use super::pool::Line;
use crate::store::{ByteRange, Key, Kind, StoreError};

/// Results that are asked for at once to see whether they are there: nothing asks for less.
const FIND_CONCURRENCY: usize = 16;

impl Upstream {
    /// Whether a key can name an action result of the upstream. One whose action has no known size
    /// cannot: a digest there has a size.
    pub(super) fn has_results_of(key: &Key) -> bool {
        key.kind == Kind::ActionResult && !key.is_derived() && !key.digest.is_empty()
    }

    /// An action result; `None` when it is absent.
    pub(super) async fn get_result(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let deadline = self.deadline();
        if !Self::has_results_of(key) || !self.limits(deadline).await.knows(key.digest.function) {
            return Ok(None);
        }
        let message = GetActionResultRequest {
            instance_name: self.options.instance_name.clone(),
            action_digest: Some(wire_digest(&key.digest)),
            digest_function: key.digest.function.to_wire(),
            ..GetActionResultRequest::default()
        };
        let attempt = |line: Arc<Line>| {
            let request = self.unary(message.clone(), deadline);
            async move {
                let answer = line.action_cache().get_action_result(request).await;
                answer.map(Response::into_inner)
            }
        };
        match self.call(deadline, attempt).await {
            Ok(RawMessage { encoded }) => {
                self.counters.bytes_read.add(encoded.len() as u64);
                Ok(Some(encoded))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.error(key, &status)),
        }
    }

    /// Stores an action result.
    pub(super) async fn put_result(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        let deadline = self.deadline();
        let limits = self.limits(deadline).await;
        if !limits.stores_results {
            return Err(StoreError::Unsupported {
                what: "the action cache of the upstream is read-only",
            });
        }
        if !limits.knows(key.digest.function) {
            return Err(StoreError::Unsupported {
                what: "the upstream does not know this digest function",
            });
        }
        let size_bytes = data.len() as u64;
        let message = UpdateActionResultRequest {
            instance_name: self.options.instance_name.clone(),
            action_digest: Some(wire_digest(&key.digest)),
            action_result: Some(data),
            digest_function: key.digest.function.to_wire(),
        };
        let attempt = |line: Arc<Line>| {
            let request = self.unary(message.clone(), deadline);
            async move { line.action_cache().update_action_result(request).await }
        };
        let answer = self.call(deadline, attempt).await;
        answer.map_err(|status: Status| self.write_error(key, size_bytes, &status))?;
        self.counters.bytes_written.add(size_bytes);
        Ok(())
    }

    /// Says for each of `keys` whether it is absent.
    pub(super) async fn find_missing_results(
        self: &Arc<Self>,
        keys: &[Key],
    ) -> Result<Vec<bool>, StoreError> {
        let questions: Vec<_> = keys
            .iter()
            .map(|key| {
                let (upstream, key) = (Arc::clone(self), *key);
                async move { upstream.get_result(&key).await.map(|result| result.is_none()) }
            })
            .collect();
        stream::iter(questions).buffered(FIND_CONCURRENCY).try_collect().await
    }
}

/// The part of a value that is wanted.
pub(super) fn cut(mut data: Bytes, range: ByteRange) -> Bytes {
    let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX).min(data.len());
    let start = length(range.offset);
    let end = length(range.offset.saturating_add(range.len_within(data.len() as u64)));
    data.truncate(end);
    data.split_off(start.min(end))
}
