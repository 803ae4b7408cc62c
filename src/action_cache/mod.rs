//! L2: the action cache: raw results, complete when they are served.

use std::sync::Arc;

use crate::cas::Cas;
use crate::store::{BlobStore, Namespace};

/// The action results of one instance.
#[derive(Clone, Debug)]
pub struct ActionCache {
    cas: Cas,
    store: Arc<dyn BlobStore>,
    namespace: Namespace,
    read_only: bool,
}

impl ActionCache {
    /// The results that `store` holds for `namespace`, checked for completeness against `cas`.
    pub fn new(cas: Cas, store: Arc<dyn BlobStore>, namespace: Namespace, read_only: bool) -> Self {
        Self {
            cas,
            store,
            namespace,
            read_only,
        }
    }
}
