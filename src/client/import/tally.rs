//! What an import came to: what was taken, what was there, what was skipped and why.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

use super::super::ClientError;
use crate::digest::Digest;
use crate::store::StoreError;

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Blobs that the server has from here; of a dry run those that it would have.
    pub taken_blobs: u64,
    /// Their bytes.
    pub taken_bytes: u64,
    /// Blobs that it had.
    pub present_blobs: u64,
    /// Their bytes.
    pub present_bytes: u64,
    /// Action results that it has from here; of a dry run those that it would have if it had what
    /// they name.
    pub taken_results: u64,
    /// Those of them whose action's size is not known: only servers that ask by hash find them.
    pub results_without_size: u64,
    /// Those that it had: they stay as they are.
    pub present_results: u64,
    /// Results of other instances, which are left where they are.
    pub foreign_results: u64,
    /// What was skipped, by reason.
    pub skipped: BTreeMap<Reason, u64>,
}

impl Imported {
    /// All that was skipped.
    pub fn skipped_count(&self) -> u64 {
        self.skipped.values().sum()
    }
}

/// Why something was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It has a name that says nothing, or is no file.
    BadName,
    /// It is not as long as its name says.
    WrongSize,
    /// It is not what its name says.
    WrongHash,
    /// It cannot be read.
    Unreadable,
    /// It is larger than the server takes.
    TooLarge,
    /// It is not there.
    Absent,
    /// A result of which the server lacks something.
    IncompleteResult,
    /// A result that is none.
    InvalidResult,
}

impl Reason {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadName => "bad name",
            Self::WrongSize => "wrong size",
            Self::WrongHash => "wrong hash",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too large",
            Self::Absent => "absent",
            Self::IncompleteResult => "incomplete result",
            Self::InvalidResult => "invalid result",
        }
    }

    /// The reason that an error about one blob is; `None` for one that ends the import.
    pub(in super::super) fn of_blob(error: &ClientError) -> Option<Self> {
        match error {
            ClientError::Store(StoreError::SizeMismatch { .. }) => Some(Self::WrongSize),
            ClientError::Store(StoreError::HashMismatch { .. } | StoreError::Corrupt { .. })
            | ClientError::OtherBytes(_) => Some(Self::WrongHash),
            ClientError::Store(StoreError::TooLarge { .. }) => Some(Self::TooLarge),
            ClientError::Absent(_) | ClientError::Missing(_) => Some(Self::Absent),
            ClientError::Invalid { .. } | ClientError::File { .. } => Some(Self::Unreadable),
            ClientError::At { source, .. } => Self::of_blob(source),
            _ => None,
        }
    }

    /// The same of an error about one result.
    pub(in super::super) fn of_result(error: &ClientError) -> Option<Self> {
        match Self::of_blob(error)? {
            Self::Absent => Some(Self::IncompleteResult),
            Self::Unreadable if matches!(error, ClientError::Invalid { .. }) => {
                Some(Self::InvalidResult)
            }
            reason => Some(reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name where it was.
    pub name: String,
    /// Why, in a word.
    pub reason: Reason,
    /// And in full.
    pub problem: String,
}

/// Who is told of each thing that is skipped.
pub type OnSkip = Box<dyn FnMut(&Skipped) + Send>;

/// Counts.
pub(super) struct Tally {
    state: Mutex<State>,
}

struct State {
    imported: Imported,
    on_skip: OnSkip,
}

impl Tally {
    pub(super) fn new(on_skip: OnSkip) -> Self {
        Self { state: Mutex::new(State { imported: Imported::default(), on_skip }) }
    }

    pub(super) fn imported(&self) -> Imported {
        self.state.lock().imported.clone()
    }

    pub(super) fn blob(&self, digest: Digest, is_taken: bool) {
        let imported = &mut self.state.lock().imported;
        let (blobs, bytes) = if is_taken {
            (&mut imported.taken_blobs, &mut imported.taken_bytes)
        } else {
            (&mut imported.present_blobs, &mut imported.present_bytes)
        };
        *blobs += 1;
        *bytes = bytes.saturating_add(digest.size_bytes);
    }

    pub(super) fn result(&self, action: Digest, is_taken: bool) {
        let imported = &mut self.state.lock().imported;
        if is_taken && action.is_empty() {
            imported.results_without_size += 1;
        }
        *(if is_taken { &mut imported.taken_results } else { &mut imported.present_results }) += 1;
    }

    pub(super) fn foreign_result(&self) {
        self.state.lock().imported.foreign_results += 1;
    }

    pub(super) fn skip(&self, name: String, reason: Reason, problem: String) {
        let state = &mut *self.state.lock();
        *state.imported.skipped.entry(reason).or_default() += 1;
        (state.on_skip)(&Skipped { name, reason, problem });
    }
}
