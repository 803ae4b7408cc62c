//! What a purge is about, and what it has done.

use std::fmt;
use std::time::Duration;

use super::{Key, Kind, Namespace};
use crate::digest::HASH_BYTES;

/// What a purge is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeScope {
    /// Everything.
    All,
    /// One namespace: the action results of an instance, or, [`Namespace::SHARED`], all blobs.
    Namespace(Namespace),
}

impl PurgeScope {
    /// Whether a value of this namespace is meant.
    pub(crate) fn covers(self, namespace: Namespace) -> bool {
        match self {
            Self::All => true,
            // Adopted results are those of every instance.
            Self::Namespace(scope) => {
                let is_adopted = namespace == Namespace::ADOPTED && scope != Namespace::SHARED;
                is_adopted || scope == namespace
            }
        }
    }
}

/// What a purge is to take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything in a scope.
    Scope(PurgeScope),
    /// Action results, of one namespace or of all, that were written longer ago than this.
    ResultsOlderThan {
        /// Whose; `None` for everybody's.
        namespace: Option<Namespace>,
        /// In whole seconds; rounded down.
        age: Duration,
    },
    /// The blob with this hash, and the results of the action with it, in every namespace.
    Hash([u8; HASH_BYTES]),
}

/// What a purge has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Entries that were taken out.
    pub removed: u64,
    /// Whether every write that had begun before has ended; those that have not will fail.
    pub is_drained: bool,
}

impl Purged {
    /// What the purge of nothing has done.
    pub(crate) const NOTHING: Self = Self { removed: 0, is_drained: true };

    /// What several purges have done together. One that failed is no reason to leave out the
    /// others, so all have been made; gives the first error.
    pub(crate) fn sum<E>(outcomes: impl IntoIterator<Item = Result<Self, E>>) -> Result<Self, E> {
        outcomes.into_iter().try_fold(Self::NOTHING, |sum, one| {
            let one = one?;
            Ok(Self {
                removed: sum.removed.saturating_add(one.removed),
                is_drained: sum.is_drained && one.is_drained,
            })
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scope(scope) => write!(f, "{scope:?}"),
            Self::ResultsOlderThan { namespace: None, age } => {
                write!(f, "results older than {} s", age.as_secs())
            }
            Self::ResultsOlderThan { namespace: Some(namespace), age } => {
                write!(f, "results of {namespace:?} older than {} s", age.as_secs())
            }
            Self::Hash(hash) => write!(f, "hash {}", const_hex::encode(hash)),
        }
    }
}

impl Selection {
    /// Whether an entry of this age in seconds is meant.
    pub(crate) fn covers(&self, key: &Key, age_seconds: u64) -> bool {
        match self {
            Self::Scope(scope) => scope.covers(key.namespace),
            Self::ResultsOlderThan { namespace, age } => {
                let is_whose = namespace
                    .is_none_or(|namespace| PurgeScope::Namespace(namespace).covers(key.namespace));
                key.kind == Kind::ActionResult
                    && !key.is_derived()
                    && is_whose
                    && age_seconds >= age.as_secs()
            }
            Self::Hash(hash) => key.digest.hash == *hash,
        }
    }
}
