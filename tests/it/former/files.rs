//! What lies in a directory, by a reader that knows nothing but the formats and believes nothing.

use std::fs::{read_dir, symlink_metadata};
use std::io;
use std::path::{Path, PathBuf};

use castellan::digest::{Digest, DigestFunction, HASH_BYTES};
use castellan::former::{
    BLOB_DIR, Casblob, FormerEncoding, FormerName, NATIVELINK_BLOB_DIR, ReadAt, bazel_remote_cas,
    bazel_remote_result, nativelink,
};

use super::fixtures::site::Layout;

/// Castellan's own in the root.
const OWN: [&str; 8] =
    ["LOCK", "FORMAT", "SNAPSHOT", "REMOVED", "admin.sock", "blobs", "actions", "values"];

/// What a file's name says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Blob(FormerName),
    /// An action result or another value.
    Value([u8; HASH_BYTES]),
}

struct File(Vec<u8>);

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// Everything but directories below a root, and nothing of Castellan's; relative to it.
pub(super) fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if OWN.iter().any(|own| relative == Path::new(own)) {
                continue;
            }
            if symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
                directories.push(path);
            } else {
                found.push(relative);
            }
        }
    }
    found
}

/// What a file is by its place and its name; `None` for what is no file, and for foreign ones.
pub(super) fn claim(layout: Layout, root: &Path, relative: &Path) -> Option<Claim> {
    if !symlink_metadata(root.join(relative)).is_ok_and(|it| it.is_file()) {
        return None;
    }
    let segments: Vec<&str> = relative.to_str().unwrap().split('/').collect();
    if layout.is_bazel_remote() {
        let [kind, bucket, name] = segments[..] else { return None };
        let bucket = u8::from_str_radix(bucket, 16).ok()?;
        return if kind == BLOB_DIR {
            bazel_remote_cas(bucket, name).map(Claim::Blob)
        } else {
            bazel_remote_result(bucket, name).map(Claim::Value)
        };
    }
    let name = match segments[..] {
        [name] | [NATIVELINK_BLOB_DIR, name] => nativelink(name)?,
        _ => return None,
    };
    Some(if layout.has_blobs() { Claim::Blob(name) } else { Claim::Value(name.hash) })
}

#[expect(clippy::disallowed_methods, reason = "reads what another server would have written")]
pub(super) fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// The bytes that a file gives for the blob that its name claims.
fn decoded(name: &FormerName, path: &Path) -> Option<Vec<u8>> {
    let file = File(bytes_of(path));
    if name.encoding == FormerEncoding::Identity {
        return Some(file.0);
    }
    let casblob = Casblob::open(&file, file.0.len() as u64).ok()?;
    let mut data = Vec::new();
    casblob
        .decode(&file, |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })
        .ok()?;
    Some(data)
}

/// The blob in a file, if it is the one that its name claims.
pub(super) fn blob_in(name: &FormerName, path: &Path) -> Option<Digest> {
    let digest = Digest::of(DigestFunction::Sha256, &decoded(name, path)?);
    let is_right = name.hash == digest.hash
        && name.size_bytes.is_none_or(|size_bytes| size_bytes == digest.size_bytes);
    is_right.then_some(digest)
}
