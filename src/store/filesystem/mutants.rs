//! The bugs that this store must not have, to be switched on one at a time.
//!
//! The model checker runs every schedule against the real code; a mutant says whether it would
//! have noticed. In every other build [`is_on`] is the constant `false`.

/// One bug; each is a race that stores of this kind have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(all(test, feature = "shuttle")), expect(dead_code, reason = "switched on in tests"))]
pub(crate) enum Mutant {
    /// A variant's name has no generation, so that a late delete hits a newer file.
    DeleteByFixedName,
    /// A deferred removal does not look at the generation.
    NoGenerationCheck,
    /// A variant is visible before its bytes are booked, and books nothing if it left meanwhile.
    CountAfterInsertion,
    /// A variant whose blob left during the copy is noticed and left on the disk.
    RecheckOnlyLogs,
    /// The removal of a blob forgets its variant.
    RemovalForgetsVariant,
    /// A write that began before a purge is not checked at its publication.
    NoEpochFence,
    /// A victim's bytes count as free before its file is gone.
    ReleaseBeforeUnlink,
    /// Freed bytes do not wake those who wait for them.
    LostWakeUp,
    /// The evictor stops without a last pass.
    EvictorExitsEarly,
    /// Each of two first requests makes the variant.
    NoSingleFlight,
    /// A pinned entry is evicted all the same.
    EvictPinned,
}

#[cfg(all(test, feature = "shuttle"))]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether this bug is switched on.
    pub(crate) fn is_on(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// Switches a bug on for all schedules that this thread runs.
    pub(crate) fn switch_on(mutant: Option<Mutant>) {
        ON.set(mutant);
    }
}

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use switch::{is_on, switch_on};

/// Whether this bug is switched on.
#[cfg(not(all(test, feature = "shuttle")))]
#[inline]
pub(crate) const fn is_on(_mutant: Mutant) -> bool {
    false
}
