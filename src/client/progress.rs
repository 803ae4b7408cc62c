//! How far a transfer is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of a transfer; totals grow while its end is not known.
#[derive(Debug, Default)]
pub struct Progress {
    files_total: AtomicU64,
    files_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    bytes_moved: AtomicU64,
    is_total_known: AtomicBool,
}

/// How far it was at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Files that are known of.
    pub files_total: u64,
    /// Files that are done, moved or not.
    pub files_done: u64,
    /// The sum of the sizes of all files that are known of.
    pub bytes_total: u64,
    /// What is done of it.
    pub bytes_done: u64,
    /// What has gone over the wire.
    pub bytes_moved: u64,
    /// Whether no more will come to the totals.
    pub is_total_known: bool,
}

impl Progress {
    /// More is to be done.
    pub(super) fn expect(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All that is to be done is known.
    pub(super) fn expect_no_more(&self) {
        self.is_total_known.store(true, Ordering::Relaxed);
    }

    /// More comes after all.
    pub(super) fn expect_more(&self) {
        self.is_total_known.store(false, Ordering::Relaxed);
    }

    /// So many files are done.
    pub(super) fn finish_files(&self, files: u64) {
        self.files_done.fetch_add(files, Ordering::Relaxed);
    }

    /// So many bytes need not be moved.
    pub(super) fn skip_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes were moved.
    pub(super) fn move_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes were moved in vain and are still to be done.
    pub(super) fn take_back_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// It is so far, whatever else was counted.
    pub(super) fn reach_bytes(&self, bytes: u64) {
        self.bytes_done.store(bytes, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            files_total: get(&self.files_total),
            files_done: get(&self.files_done),
            bytes_total: get(&self.bytes_total),
            bytes_done: get(&self.bytes_done),
            bytes_moved: get(&self.bytes_moved),
            is_total_known: self.is_total_known.load(Ordering::Relaxed),
        }
    }
}
