//! What a store's directory takes on the disk, seen from outside.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Blob;

/// Bytes in the unit of `st_blocks`.
const SECTOR_BYTES: u64 = 512;

/// What `du` shows of a directory, in bytes. Sound only while nothing changes in it.
pub(crate) fn du(root: &Path) -> u64 {
    let (mut sum, mut seen) = (blocks(root), BTreeSet::new());
    walk(root, &mut |path| {
        // A file of several names counts once.
        let linked = std::fs::symlink_metadata(path).ok().filter(|meta| meta.nlink() > 1);
        let is_file = linked.filter(Metadata::is_file);
        if is_file.is_none_or(|meta| seen.insert(meta.ino())) {
            sum += blocks(path);
        }
    });
    sum
}

/// Every regular file below a directory.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, &mut |path| {
        if path.is_file() {
            found.push(path.to_owned());
        }
    });
    found
}

/// The files that hold blobs.
pub(crate) fn blob_files(root: &Path) -> Vec<PathBuf> {
    files(&root.join("blobs"))
}

/// What files below `root` take that have no name but that a process holds open: uploads under
/// way and evicted blobs that somebody reads. `du` does not see them, the disk does.
pub(crate) fn nameless_bytes(process: u32, root: &Path) -> u64 {
    let mut seen = Vec::new();
    let mut sum = 0;
    for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let is_inside = std::fs::read_link(&path).is_ok_and(|target| target.starts_with(root));
        let Some(meta) = std::fs::metadata(&path).ok().filter(|_| is_inside) else { continue };
        if meta.is_file() && meta.nlink() == 0 && !seen.contains(&meta.ino()) {
            seen.push(meta.ino());
            sum += meta.blocks() * SECTOR_BYTES;
        }
    }
    sum
}

/// Flips one byte in the middle of the one file of a blob.
pub(crate) fn corrupt(root: &Path, blob: &Blob) {
    let path = file_of(root, blob);
    // Blobs are stored read-only; root, as whom tests run in containers, writes all the same.
    let mut permissions = path.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&path, permissions).unwrap();
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    let middle = blob.data.len() / 2;
    file.seek(SeekFrom::Start(middle as u64)).unwrap();
    file.write_all(&[!blob.data[middle]]).unwrap();
}

/// The one file of a blob.
pub(crate) fn file_of(root: &Path, blob: &Blob) -> PathBuf {
    let prefix = format!("{}-", blob.digest.hash_hex().as_str());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(&prefix);
    blob_files(root).into_iter().find(is_it).unwrap()
}

fn blocks(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => meta.blocks() * SECTOR_BYTES,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => panic!("{path:?}: {error}"),
    }
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => panic!("{directory:?}: {error}"),
    };
    for entry in entries {
        let entry = entry.unwrap();
        visit(&entry.path());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), visit);
        }
    }
}
