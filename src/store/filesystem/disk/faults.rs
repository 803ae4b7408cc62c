//! The door that every call to the file system goes through.
//!
//! A product walks through it without noticing. In tests it counts the calls, fails those that a
//! test wants to fail, and ends the life of a process at any of them. Under a model checker every
//! call is a scheduling point. It must never call the file system itself.

use std::io;

#[cfg(test)]
pub(in crate::store::filesystem) use injected::{Faults, Lasting};

use crate::store::filesystem::index_cell::assert_not_held;
use crate::store::filesystem::sync::scheduling_point;

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::filesystem) enum Call {
    /// Opening the root, or a file for reading.
    Open,
    /// Taking a lock on a file.
    Lock,
    /// Making a file that has no name yet.
    Create,
    /// Writing to such a file.
    Write,
    /// Sharing the blocks of another file.
    Clone,
    /// Reading a part of a file.
    Read,
    /// Telling the kernel to forget a file's pages.
    Forget,
    /// Asking for metadata of a file, a directory or the file system.
    Stat,
    /// Setting a file's time and mode.
    Stamp,
    /// Giving a file a name.
    Link,
    /// Removing a name.
    Unlink,
    /// Making a directory.
    MakeDirectory,
    /// Removing a directory.
    RemoveDirectory,
    /// Listing a directory.
    List,
    /// Opening or reading one of the store's own files.
    ReadOwn,
    /// Making or writing the successor of an own file, or a new ring.
    WriteOwn,
    /// Writing over an own file where it is.
    OverwriteOwn,
    /// Putting the successor of an own file in its place.
    RenameOwn,
    /// Writing to a ring.
    WriteRing,
    /// Putting a whole file system on the disk.
    Sync,
    /// Putting a file on the disk.
    SyncFile,
    /// Putting a directory on the disk.
    SyncDirectory,
}

/// The door; its copies are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    #[cfg(test)]
    faults: std::sync::Arc<Faults>,
}

#[cfg(not(test))]
impl Steps {
    /// To be called before each call. No call is made under the index lock (I11).
    #[inline]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "calls fail in tests")]
    pub(super) fn step(&self, _call: Call) -> io::Result<()> {
        assert_not_held();
        scheduling_point();
        Ok(())
    }

    /// The same for a call that writes `data` by `write`.
    #[inline]
    pub(super) fn write(
        &self,
        call: Call,
        data: &[u8],
        write: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.step(call)?;
        write(data)
    }
}

#[cfg(test)]
impl Steps {
    pub(super) fn new(faults: std::sync::Arc<Faults>) -> Self {
        Self { faults }
    }

    pub(super) fn faults(&self) -> &std::sync::Arc<Faults> {
        &self.faults
    }

    /// To be called before each call. No call is made under the index lock (I11).
    pub(super) fn step(&self, call: Call) -> io::Result<()> {
        assert_not_held();
        scheduling_point();
        Ok(self.faults.pass(call).map_err(|failure| failure.errno)?)
    }

    /// The same for a call that writes `data` by `write`, which may write a half of it and fail.
    pub(super) fn write(
        &self,
        call: Call,
        data: &[u8],
        write: impl Fn(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        assert_not_held();
        scheduling_point();
        match self.faults.pass(call) {
            Ok(()) => write(data),
            Err(failure) => {
                if failure.is_torn {
                    write(&data[..data.len() / 2])?;
                }
                Err(failure.errno.into())
            }
        }
    }
}

#[cfg(test)]
mod injected {
    use parking_lot::Mutex;
    use rustix::io::Errno;

    use super::Call;

    impl Call {
        /// Every kind.
        pub(in crate::store::filesystem) const ALL: [Self; 22] = [
            Self::Open,
            Self::Lock,
            Self::Create,
            Self::Write,
            Self::Clone,
            Self::Read,
            Self::Forget,
            Self::Stat,
            Self::Stamp,
            Self::Link,
            Self::Unlink,
            Self::MakeDirectory,
            Self::RemoveDirectory,
            Self::List,
            Self::ReadOwn,
            Self::WriteOwn,
            Self::OverwriteOwn,
            Self::RenameOwn,
            Self::WriteRing,
            Self::Sync,
            Self::SyncFile,
            Self::SyncDirectory,
        ];
    }

    /// How long a fault lasts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::store::filesystem) enum Lasting {
        /// The one call fails.
        Once,
        /// Every later call of the kind fails as well.
        Sticky,
    }

    /// Calls made so far.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(in crate::store::filesystem) struct Counts {
        by_kind: [u64; Call::ALL.len()],
    }

    impl Counts {
        /// Calls of one kind.
        pub(in crate::store::filesystem) fn of(&self, call: Call) -> u64 {
            self.by_kind[call as usize]
        }

        /// Calls of all kinds.
        pub(in crate::store::filesystem) fn total(&self) -> u64 {
            self.by_kind.iter().sum()
        }
    }

    #[derive(Debug)]
    struct Planned {
        call: Call,
        /// By number among the calls of the kind, from 1.
        at: u64,
        errno: Errno,
        lasting: Lasting,
    }

    #[derive(Debug, Default)]
    struct State {
        counts: Counts,
        planned: Vec<Planned>,
        /// By number among all calls, from 1.
        crash_at: Option<u64>,
        is_crashed: bool,
        tears_writes: bool,
    }

    /// Why a call does not take place.
    #[derive(Debug)]
    pub(super) struct Failure {
        pub(super) errno: Errno,
        /// Whether a write writes half of its data first.
        pub(super) is_torn: bool,
    }

    /// What shall go wrong, and what was called.
    #[derive(Debug, Default)]
    pub(in crate::store::filesystem) struct Faults {
        state: Mutex<State>,
    }

    impl Faults {
        /// Fails the `nth` call of a kind, counted from now, 1 being the next.
        pub(in crate::store::filesystem) fn fail(
            &self,
            call: Call,
            nth: u64,
            errno: Errno,
            lasting: Lasting,
        ) {
            let mut state = self.state.lock();
            let at = state.counts.of(call) + nth;
            state.planned.push(Planned { call, at, errno, lasting });
        }

        /// Ends the process, as far as files can tell, at the `nth` call of any kind, counted from
        /// now, 1 being the next: that one and all later ones do nothing and fail with `EIO`.
        pub(in crate::store::filesystem) fn crash_at(&self, nth: u64) {
            let mut state = self.state.lock();
            state.crash_at = Some(state.counts.total() + nth);
        }

        /// From now on a write that fails on request writes half of its data first, also that one
        /// at which the process ends.
        pub(in crate::store::filesystem) fn tear_writes(&self) {
            self.state.lock().tears_writes = true;
        }

        /// Forgets all that was to go wrong. A crash that has happened stays.
        pub(in crate::store::filesystem) fn clear(&self) {
            let mut state = self.state.lock();
            state.planned.clear();
            state.crash_at = None;
            state.tears_writes = false;
        }

        /// Calls since the beginning, those that failed on request included. After a crash there
        /// are none.
        pub(in crate::store::filesystem) fn counts(&self) -> Counts {
            self.state.lock().counts
        }

        /// Whether the crash has happened.
        pub(in crate::store::filesystem) fn is_crashed(&self) -> bool {
            self.state.lock().is_crashed
        }

        pub(super) fn pass(&self, call: Call) -> Result<(), Failure> {
            let mut state = self.state.lock();
            if state.is_crashed {
                return Err(Failure { errno: Errno::IO, is_torn: false });
            }
            state.counts.by_kind[call as usize] += 1;
            let is_torn = state.tears_writes;
            if state.crash_at.is_some_and(|at| state.counts.total() >= at) {
                state.is_crashed = true;
                return Err(Failure { errno: Errno::IO, is_torn });
            }
            let number = state.counts.of(call);
            let is_due = |it: &&Planned| {
                it.call == call
                    && (it.at == number || it.lasting == Lasting::Sticky && it.at < number)
            };
            match state.planned.iter().find(is_due) {
                Some(planned) => Err(Failure { errno: planned.errno, is_torn }),
                None => Ok(()),
            }
        }
    }
}
