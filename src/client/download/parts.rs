//! Files that are not finished, under names that nobody else has.
//!
//! Whoever writes one has it locked. One that nobody has locked was left by a download that was
//! killed, and goes when the next one comes by.

use std::ffi::OsStr;
use std::hash::{BuildHasher as _, RandomState};
use std::io;

use crate::trees::on_disk::{File, Folder, Kind};

const PREFIX: &str = ".castellan-";
const SUFFIX: &str = ".part";
/// The digits between them.
const DIGITS: usize = 16;
/// Entries of a directory in which such files are looked for.
const MAX_LISTED: usize = 100_000;
/// Files that others may take away before they are locked.
const MAX_TRIES: usize = 16;

/// A name that is not taken and that no tree can know.
pub(super) fn name() -> String {
    let number = RandomState::new().hash_one(0_u8);
    format!("{PREFIX}{number:0DIGITS$x}{SUFFIX}")
}

fn is_name(name: &OsStr) -> bool {
    let middle = name.to_str().and_then(|it| it.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    middle.is_some_and(|it| it.len() == DIGITS && it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Locks a file until it is closed; false when somebody else has. Where a file system knows no
/// locks, everybody gets the same error.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock().map_err(io::Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a file that is not swept away.
pub(super) fn create(folder: &Folder, mode: u32) -> io::Result<(String, File)> {
    for _ in 0..MAX_TRIES {
        let name = name();
        let file = folder.create_file(&name, mode)?;
        // Somebody may have come by before it was locked.
        if lock(&file).unwrap_or(true) && folder.metadata_of(&name).is_ok() {
            return Ok((name, file));
        }
    }
    Err(io::Error::other("what is made there goes again and again"))
}

/// Removes what a download has left that was killed. What cannot be removed stays.
pub(super) fn sweep(folder: &Folder) {
    let listed = folder.list(MAX_LISTED).unwrap_or_default();
    for entry in listed.iter().filter(|it| it.kind == Kind::File && is_name(&it.name)) {
        if let Ok(file) = folder.open_file(&entry.name)
            && lock(&file).unwrap_or(false)
        {
            drop(folder.remove_file(&entry.name));
        }
    }
}
