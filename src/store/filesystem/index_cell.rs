//! The one lock around the index, and the proof that nothing slow happens under it.
//!
//! I11: the lock is a leaf. No system call, await, callback or log happens while it is held. The
//! closure keeps awaits out at compile time; a thread-local mark makes the disk layer panic in
//! debug builds when it is called under the lock.

use super::index::Index;
use super::sync::Mutex;

/// The index behind its leaf mutex. One mutex, not shards: it does millions of operations a
/// second, ten times what a gRPC front can ask.
#[derive(Debug)]
pub(super) struct IndexCell<W>(Mutex<Index<W>>);

impl<W> IndexCell<W> {
    pub(super) fn new(index: Index<W>) -> Self {
        Self(Mutex::new(index))
    }

    /// Runs one critical section.
    pub(super) fn lock<R>(&self, section: impl FnOnce(&mut Index<W>) -> R) -> R {
        let mut index = self.0.lock();
        let _mark = mark::Held::enter();
        section(&mut index)
    }
}

/// Panics in debug builds when this thread holds the index lock.
#[inline]
pub(super) fn assert_not_held() {
    mark::assert_not_held();
}

#[cfg(debug_assertions)]
mod mark {
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) struct Held;

    impl Held {
        pub(super) fn enter() -> Self {
            HELD.set(true);
            Self
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            HELD.set(false);
        }
    }

    pub(super) fn assert_not_held() {
        assert!(!HELD.get(), "I11: a system call under the index lock");
    }
}

#[cfg(not(debug_assertions))]
mod mark {
    pub(super) struct Held;

    impl Held {
        #[inline]
        pub(super) fn enter() -> Self {
            Self
        }
    }

    #[inline]
    pub(super) fn assert_not_held() {}
}

#[cfg(not(feature = "shuttle"))]
#[cfg(test)]
mod tests {
    use super::super::index::{LeasePolicy, Limits};
    use super::*;

    fn cell() -> IndexCell<()> {
        let limits = Limits {
            max_bytes: 1,
            low_water_bytes: 0,
            max_entries: None,
            max_age_seconds: None,
            lease_seconds: 0,
            lease_policy: LeasePolicy::default(),
        };
        IndexCell::new(Index::new(limits, 0))
    }

    #[test]
    #[should_panic(expected = "I11")]
    fn i11_a_system_call_under_the_lock_panics_in_tests() {
        cell().lock(|_| assert_not_held());
    }

    #[test]
    fn i11_the_mark_is_gone_after_the_section() {
        cell().lock(|_| ());
        assert_not_held();
    }
}
