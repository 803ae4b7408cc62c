//! Action results that another server has left, asked for when an instance has none of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::MAX_RESULT_BYTES;
use super::validate::validate;
use crate::digest::Digest;
use crate::former::mangled_action_hash;
use crate::store::StoreError;
use crate::store::filesystem::FilesystemStore;

/// The results that were taken over, as one instance asks for them.
#[derive(Clone, Debug)]
pub struct AdoptedResults {
    store: Arc<FilesystemStore>,
    /// Where the other server kept the results of instances apart: the name of this one.
    mangled_for: Option<String>,
}

impl AdoptedResults {
    /// Those in `store`: under the digests of their actions, or, when they are `mangled_for` an
    /// instance, under a hash of digest and name.
    pub fn new(store: Arc<FilesystemStore>, mangled_for: Option<String>) -> Self {
        Self { store, mangled_for }
    }

    /// The encoded result of an action; `None` when there is none, or it is none that a client may
    /// store.
    pub(super) async fn get(&self, action_digest: Digest) -> Result<Option<Bytes>, StoreError> {
        let mut named = action_digest;
        if let Some(instance) = &self.mangled_for {
            named.hash = mangled_action_hash(&action_digest.hash, instance);
        }
        let found = match self.store.adopted_result(named, MAX_RESULT_BYTES).await {
            // One that is cut off or too long, or cannot be rewritten for want of room, is as good
            // as none: the client runs the action.
            Err(
                StoreError::Corrupt { .. }
                | StoreError::TooLarge { .. }
                | StoreError::NoSpace { .. }
                | StoreError::Io { .. },
            ) => None,
            outcome => outcome?,
        };
        let Some(encoded) = found else { return Ok(None) };
        if let Err(problem) = validate(action_digest.function, &encoded) {
            tracing::debug!(action = %action_digest, %problem, "adopted result withheld");
            return Ok(None);
        }
        Ok(Some(encoded))
    }
}
