//! L2: from an instance name to its blobs and its action cache.

use std::collections::HashMap;
use std::sync::Arc;

use crate::action_cache::ActionCache;
use crate::cas::Cas;
use crate::digest::{InvalidResourceName, check_instance_name};
use crate::store::{BlobStore, Namespace};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;

/// One instance: what a request with its name talks to.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The blobs, shared by every instance on the same store.
    pub cas: Cas,
    /// The action results of this instance alone.
    pub action_cache: ActionCache,
}

/// The stores behind an instance.
#[derive(Clone, Debug)]
pub struct InstanceStores {
    /// Holds the blobs.
    pub cas: Arc<dyn BlobStore>,
    /// Holds the action results; may be the same store.
    pub action_cache: Arc<dyn BlobStore>,
    /// Whether `UpdateActionResult` is refused.
    pub action_cache_read_only: bool,
}

/// Every instance there is.
#[derive(Debug)]
pub struct Instances {
    named: HashMap<String, InstanceStores>,
    any: Option<InstanceStores>,
    metrics: Arc<Metrics>,
}

/// Why a request has no instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// The name breaks the rules for instance names.
    #[error(transparent)]
    Invalid(#[from] InvalidResourceName),
    /// No instance has this name.
    #[error("instance_name {name:?} is not served here")]
    Unknown {
        /// The name asked for.
        name: String,
    },
}

impl Instances {
    /// Serves any instance name from the same stores; action results stay apart by name.
    pub fn any(stores: InstanceStores) -> Self {
        Self::new(HashMap::new(), Some(stores))
    }

    /// Serves exactly the names given.
    pub fn named(named: HashMap<String, InstanceStores>) -> Self {
        Self::new(named, None)
    }

    fn new(named: HashMap<String, InstanceStores>, any: Option<InstanceStores>) -> Self {
        Self { named, any, metrics: Metrics::new(RecentErrors::default()) }
    }

    /// Counts with these counters instead of its own.
    #[must_use]
    pub fn counted_by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// What counts the requests for the instances.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Finds the instance of a request, which counts as a request for it: asked for once each.
    pub fn get(&self, instance_name: &str) -> Result<Instance, InstanceError> {
        check_instance_name(instance_name)?;
        let stores = self.named.get(instance_name).or(self.any.as_ref()).ok_or_else(|| {
            InstanceError::Unknown { name: crate::digest::shorten(instance_name) }
        })?;
        self.metrics.instances.note(instance_name);
        let hits = self.metrics.hits.of_instance(instance_name);
        let cas = Cas::new(Arc::clone(&stores.cas));
        let action_cache = ActionCache::new(
            cas.clone(),
            Arc::clone(&stores.action_cache),
            Namespace::of_instance(instance_name),
            stores.action_cache_read_only,
        )
        .counted_by(Arc::clone(&hits));
        let cas = cas.counted_by(hits);
        Ok(Instance { cas, action_cache })
    }
}
