//! What the shard directories themselves take, kept true while they grow and shrink.
//!
//! An empty directory may be removed; whoever makes one links its first file under the same lock,
//! or it could be gone again in between.
//!
//! A size is read from the disk and booked in two steps. One lock for both, so that a late report
//! of an older size cannot replace a newer one; whoever makes a directory grow books it before
//! giving up the reservation that covered the growth (I3).

use super::disk::Disk;
use super::layout::Shard;
use super::sync::Mutex;

const STRIPES: usize = 64;

/// The locks. Taken before the index lock, never under it.
#[derive(Debug)]
pub(super) struct DirectorySizes {
    stripes: [Mutex<()>; STRIPES],
}

impl Default for DirectorySizes {
    fn default() -> Self {
        Self { stripes: [const { Mutex::new(()) }; STRIPES] }
    }
}

impl DirectorySizes {
    /// Measures a shard's directory and books the size, `None` when it cannot be measured.
    pub(super) fn measure<R>(
        &self,
        disk: &Disk,
        shard: Shard,
        book: impl FnOnce(Option<u64>) -> R,
    ) -> R {
        self.exclusive(shard, || book(disk.allocated_at(&shard.path()).ok()))
    }

    /// Does something while nobody else measures, makes or removes a shard's directory.
    pub(super) fn exclusive<R>(&self, shard: Shard, act: impl FnOnce() -> R) -> R {
        let stripe = self.stripes.get(shard.index() % STRIPES);
        let _held = stripe.map(Mutex::lock);
        act()
    }
}
