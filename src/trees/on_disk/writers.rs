//! Who still has a file open for writing.
//!
//! A process that is forked while a file is written has a copy of the descriptor until it runs its
//! program, and the kernel runs no file that is open for writing (`ETXTBSY`). A lock goes with the
//! last copy of the descriptor, so it tells.

use std::fs::File;
use std::io;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Marks a file as open for writing until the last copy of this descriptor is closed, those that
/// child processes inherited included. False on a file system that has no such marks.
pub fn mark_writer(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::NOTSUP | Errno::INVAL | Errno::NOLCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether any process still has the descriptor that [`mark_writer`] marked. `file` is another
/// one of the same file, opened for reading by itself.
pub fn has_writer(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
