//! The files of a directory as somebody sees them who has no store open on it.

use super::checksum::Checksum;
use super::layout::{FileName, Form, RESULT_TRAILER_BYTES, Shard};
use crate::digest::DigestFunction;
use crate::store::{Key, Kind};

/// What tells a directory of a store from others: the folders of its values and its format.
pub(crate) const MARKS: [&str; 3] = ["FORMAT", "blobs", "actions"];

/// A folder of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueFolder(Shard);

impl ValueFolder {
    /// All of a directory.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Shard::all().map(Self)
    }

    /// What its files hold.
    pub(crate) fn kind(self) -> Kind {
        self.0.kind()
    }

    /// What the digests in it are made with.
    pub(crate) fn function(self) -> DigestFunction {
        self.0.function()
    }

    /// What they begin with.
    pub(crate) fn first_byte(self) -> u8 {
        self.0.first_byte()
    }

    /// Its path below the root.
    pub(crate) fn path(self) -> String {
        self.0.path()
    }

    /// The value of a file in it, and whether it still is as another server wrote it; `None` for
    /// any other file, and for what is a copy of another.
    pub(crate) fn value(self, name: &str) -> Option<(Key, bool)> {
        let file = FileName::parse(self.0, name)?;
        Some((file.key, file.form == Form::Former))
    }
}

/// The bytes of an action result, out of those of its file; `None` if they are not as they were
/// stored.
pub(crate) fn result_of_file(key: &Key, file: &[u8]) -> Option<usize> {
    let length = file.len().checked_sub(RESULT_TRAILER_BYTES)?;
    let (value, trailer) = file.split_at_checked(length)?;
    let mut checksum = Checksum::new(key);
    checksum.update(value);
    checksum.matches(key, Some(trailer)).then_some(length)
}
