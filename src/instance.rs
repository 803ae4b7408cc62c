//! L2: from an instance name to its blobs and its action cache.

use std::collections::HashMap;
use std::sync::Arc;

use crate::action_cache::{ActionCache, AdoptedResults};
use crate::cas::Cas;
use crate::digest::{InvalidResourceName, check_instance_name};
use crate::store::filesystem::FilesystemStore;
use crate::store::{BlobStore, Namespace};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_errors::RecentErrors;

/// One instance: what a request with its name talks to. It may have one service and not another.
#[derive(Clone, Debug)]
pub struct Instance {
    name: String,
    cas: Option<Cas>,
    bytestream: Option<Cas>,
    action_cache: Option<ActionCache>,
}

impl Instance {
    /// The blobs, shared by every instance on the same store.
    pub fn cas(&self) -> Result<&Cas, InstanceError> {
        self.cas.as_ref().ok_or_else(|| self.without("content-addressable storage"))
    }

    /// The blobs as `ByteStream` has them.
    pub fn bytestream(&self) -> Result<&Cas, InstanceError> {
        self.bytestream.as_ref().ok_or_else(|| self.without("byte stream"))
    }

    /// The action results of this instance alone.
    pub fn action_cache(&self) -> Result<&ActionCache, InstanceError> {
        self.action_cache.as_ref().ok_or_else(|| self.without("action cache"))
    }

    fn without(&self, service: &'static str) -> InstanceError {
        InstanceError::NoService { name: crate::digest::shorten(&self.name), service }
    }
}

/// The stores behind an instance. `None` is a service that it does not have.
#[derive(Clone, Debug, Default)]
pub struct InstanceStores {
    /// Holds the blobs.
    pub cas: Option<Arc<dyn BlobStore>>,
    /// Holds the blobs of `ByteStream`; `None` for those of `cas`.
    pub bytestream: Option<Arc<dyn BlobStore>>,
    /// Holds the action results; may be the same store.
    pub action_cache: Option<Arc<dyn BlobStore>>,
    /// Holds what action results name, where that is not `cas`. An instance with neither serves
    /// its results unchecked: who asks must make sure of the blobs.
    pub completeness: Option<Arc<dyn BlobStore>>,
    /// Whether `UpdateActionResult` is refused.
    pub action_cache_read_only: bool,
    /// Where results are that another server has left.
    pub adopted: Option<AdoptedStore>,
}

/// A store with action results that another server has left.
#[derive(Clone, Debug)]
pub struct AdoptedStore {
    /// The store.
    pub store: Arc<FilesystemStore>,
    /// Whether they are found under a hash of the action's and the instance name.
    pub are_mangled: bool,
}

impl AdoptedStore {
    fn of_instance(&self, name: &str) -> AdoptedResults {
        let mangled_for = self.are_mangled.then(|| name.to_owned());
        AdoptedResults::new(Arc::clone(&self.store), mangled_for)
    }
}

impl InstanceStores {
    /// Takes what it does not have.
    fn add(&mut self, other: &Self) {
        if self.cas.is_none() && self.bytestream.is_none() {
            self.cas.clone_from(&other.cas);
            self.bytestream.clone_from(&other.bytestream);
        }
        if self.action_cache.is_none() {
            self.action_cache.clone_from(&other.action_cache);
            self.completeness.clone_from(&other.completeness);
            self.action_cache_read_only = other.action_cache_read_only;
            self.adopted.clone_from(&other.adopted);
        }
    }

    /// Blobs and action results, both of which clients may write.
    pub fn new(cas: Arc<dyn BlobStore>, action_cache: Arc<dyn BlobStore>) -> Self {
        Self { cas: Some(cas), action_cache: Some(action_cache), ..Self::default() }
    }
}

/// Every instance there is.
#[derive(Clone, Debug)]
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
    /// The instance does not have what the request is about.
    #[error("instance_name {name:?} has no {service} here")]
    NoService {
        /// The name asked for.
        name: String,
        /// What it does not have.
        service: &'static str,
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

    /// Serves what either serves; of two equal names the services of the first count, and a name
    /// that either knows counts before any name.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let mut named = self.named;
        for (name, stores) in &other.named {
            named.entry(name.clone()).or_default().add(stores);
        }
        Self { named, any: self.any.or_else(|| other.any.clone()), metrics: self.metrics }
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
        let blobs = |store: &Option<Arc<dyn BlobStore>>| store.clone().map(Cas::new);
        let cas = blobs(&stores.cas);
        let action_cache = stores.action_cache.as_ref().map(|store| {
            ActionCache::new(
                blobs(&stores.completeness).or_else(|| cas.clone()),
                Arc::clone(store),
                Namespace::of_instance(instance_name),
                stores.action_cache_read_only,
            )
            .with_adopted(stores.adopted.as_ref().map(|it| it.of_instance(instance_name)))
            .counted_by(Arc::clone(&hits))
        });
        let bytestream = blobs(&stores.bytestream).or_else(|| cas.clone());
        let counted = |cas: Cas| cas.counted_by(Arc::clone(&hits));
        Ok(Instance {
            name: instance_name.to_owned(),
            cas: cas.map(counted),
            bytestream: bytestream.map(counted),
            action_cache,
        })
    }
}
