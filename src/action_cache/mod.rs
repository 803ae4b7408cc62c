//! L2: the action cache: raw results, complete when they are served.
//!
//! Results are stored and served as the bytes that were sent, so fields this program does not know
//! survive (reapi 87). A result is served only while everything it names is present.

mod adopted;
mod completeness;
mod inline;
#[cfg(test)]
mod tests;
mod tree_memory;
mod validate;

use std::sync::Arc;

pub use adopted::AdoptedResults;
use bytes::Bytes;

use crate::cas::Cas;
use crate::digest::Digest;
use crate::store::{BlobStore, BlobStoreExt, Key, Namespace, StoreError};
use crate::telemetry::hits::HitCounters;

/// The largest encoded result. Messages end at 4 MiB (reapi 86), and the request that carries a
/// result needs room for its other fields.
pub const MAX_RESULT_BYTES: u64 = (4 << 20) - (64 << 10);

/// The action results of one instance.
#[derive(Clone, Debug)]
pub struct ActionCache {
    cas: Option<Cas>,
    store: Arc<dyn BlobStore>,
    namespace: Namespace,
    read_only: bool,
    adopted: Option<AdoptedResults>,
    hits: Option<Arc<HitCounters>>,
}

/// Which outputs a client wants inside the result. The default is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InlineRequest {
    /// Asks for `stdout_raw`.
    pub stdout: bool,
    /// Asks for `stderr_raw`.
    pub stderr: bool,
    /// Asks for the `contents` of the output files with exactly these paths.
    pub output_files: Vec<String>,
}

/// Why the action cache did not do what it was asked. A miss is not among them.
#[derive(Debug, thiserror::Error)]
pub enum ActionCacheError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result may not be stored. The sender's mistake.
    #[error("{field} {problem}")]
    Invalid {
        /// The field of the request, as `action_result.output_files[3].digest`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This instance takes no results.
    #[error("the action cache of this instance is read-only")]
    ReadOnly,
}

impl ActionCache {
    /// The results that `store` holds for `namespace`, checked for completeness against `cas`;
    /// without one they are served unchecked, and nothing is inlined.
    pub fn new(
        cas: impl Into<Option<Cas>>,
        store: Arc<dyn BlobStore>,
        namespace: Namespace,
        read_only: bool,
    ) -> Self {
        Self { cas: cas.into(), store, namespace, read_only, adopted: None, hits: None }
    }

    /// The same with results that another server has left.
    #[must_use]
    pub fn with_adopted(self, adopted: Option<AdoptedResults>) -> Self {
        Self { adopted, ..self }
    }

    /// The same for a client: each result that it asks for counts once, as a hit or a miss, unless
    /// the answer is an error.
    #[must_use]
    pub fn counted_by(self, hits: Arc<HitCounters>) -> Self {
        Self { hits: Some(hits), ..self }
    }

    /// The encoded result of an action, with what `inline` asks for where that fits; `None` when
    /// there is none, or anything it names is absent. Refreshes everything it names.
    ///
    /// Cancel safe.
    pub async fn get(
        &self,
        action_digest: Digest,
        inline: &InlineRequest,
    ) -> Result<Option<Bytes>, ActionCacheError> {
        let found = self.find(action_digest, inline).await?;
        if let Some(hits) = &self.hits {
            hits.count_action_result(found.is_some());
        }
        Ok(found)
    }

    async fn find(
        &self,
        action_digest: Digest,
        inline: &InlineRequest,
    ) -> Result<Option<Bytes>, ActionCacheError> {
        let Some(encoded) = self.stored(action_digest).await? else { return Ok(None) };
        let Some(cas) = &self.cas else { return Ok(Some(encoded)) };
        let function = action_digest.function;
        if let Some(reason) = completeness::check(cas, function, &encoded).await? {
            tracing::debug!(action = %action_digest, %reason, "incomplete result withheld");
            return Ok(None);
        }
        Ok(Some(inline::inline(cas, function, encoded, inline).await))
    }

    async fn stored(&self, action_digest: Digest) -> Result<Option<Bytes>, StoreError> {
        let key = Key::action_result(self.namespace, action_digest);
        match (self.store.get_all(&key, MAX_RESULT_BYTES).await, &self.adopted) {
            (Ok(None), Some(adopted)) => adopted.get(action_digest).await,
            // What is found corrupt has been removed: the client runs the action and heals it.
            (Err(StoreError::Corrupt { .. }), _) => Ok(None),
            (outcome, _) => outcome,
        }
    }

    /// Stores the encoded result of an action; the later one wins. Neither the action nor the
    /// outputs need to be present.
    ///
    /// Cancel safe: a dropped call has stored the result or has not.
    pub async fn update(
        &self,
        action_digest: Digest,
        encoded: Bytes,
    ) -> Result<(), ActionCacheError> {
        if self.read_only {
            return Err(ActionCacheError::ReadOnly);
        }
        validate::validate(action_digest.function, &encoded)?;
        let key = Key::action_result(self.namespace, action_digest);
        Ok(self.store.put(&key, encoded).await?)
    }

    /// Whether somebody waits now for room that blobs of the same instance may take.
    pub fn is_waiting_for_room(&self) -> bool {
        let is_shared = self.cas.as_ref().is_some_and(|cas| cas.is_in(&self.store));
        is_shared && self.store.is_waiting_for_room()
    }

    /// Whether updates are refused.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}
