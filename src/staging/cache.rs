//! Directories that were decoded not long ago, so that staging a tree again need not do it again.
//!
//! Says nothing about what is stored: whoever takes a directory from here has yet to ask whether it
//! is there, as for its files. A purge need not know of this (I16).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::digest::Digest;
use crate::trees::directory::Directory;

/// What a directory takes besides itself.
const OVERHEAD_BYTES: usize = 128;

/// Decoded directories by their digest, bounded in bytes.
///
/// In two halves: what is used moves to the young one, and when that is full the old one goes.
#[derive(Debug)]
pub(super) struct DirectoryCache {
    half_bytes: usize,
    halves: Mutex<Halves>,
}

type Half = HashMap<Digest, Arc<Directory>>;

#[derive(Debug, Default)]
struct Halves {
    young: Half,
    young_bytes: usize,
    old: Half,
}

impl Halves {
    fn insert(&mut self, digest: Digest, directory: Arc<Directory>, half_bytes: usize) {
        let bytes = directory.memory_bytes() + OVERHEAD_BYTES;
        if bytes > half_bytes {
            return;
        }
        if self.young_bytes + bytes > half_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(digest, directory).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl DirectoryCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { half_bytes: max_bytes / 2, halves: Mutex::default() }
    }

    /// Looks many up, in their order.
    pub(super) fn get_all(&self, digests: &[Digest]) -> Vec<Option<Arc<Directory>>> {
        let mut halves = self.halves.lock();
        let get = |digest: &Digest| {
            if let Some(directory) = halves.young.get(digest) {
                return Some(Arc::clone(directory));
            }
            let directory = halves.old.remove(digest)?;
            halves.insert(*digest, Arc::clone(&directory), self.half_bytes);
            Some(directory)
        };
        digests.iter().map(get).collect()
    }

    pub(super) fn insert(&self, digest: Digest, directory: &Arc<Directory>) {
        self.halves.lock().insert(digest, Arc::clone(directory), self.half_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::DigestFunction;
    use crate::trees::directory::DirectoryEntry;
    use crate::trees::name::Name;

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let cache = DirectoryCache::new(20_000);
        let digest = |number: u32| Digest::of(DigestFunction::Sha256, &number.to_le_bytes());
        let entry = DirectoryEntry { name: Name::new("name").unwrap(), digest: digest(0) };
        let directory = Arc::new(Directory { directories: vec![entry], ..Directory::default() });
        for number in 0..1_000 {
            cache.insert(digest(number), &directory);
            assert!(cache.get_all(&[digest(0), digest(number)]).iter().all(Option::is_some));
            let held = {
                let halves = cache.halves.lock();
                halves.young.len() + halves.old.len()
            };
            assert!(held * directory.memory_bytes() < 20_000, "{held}");
        }
        assert_eq!(cache.get_all(&[digest(1)]), [None]);
    }
}
