//! What must be true: at any time, and when everything has come to rest.
//!
//! Looks at the directory past the store, in one step of the schedule.

#![expect(clippy::disallowed_methods, reason = "what is looked at is what others would see")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use shuttle::future::yield_now;

use super::super::index::Index;
use super::super::shared::Parts;
use super::*;

/// Yields after which everything that can go on has come to its end.
const MOST_LOOKS: usize = 1000;

/// The allocated bytes of a name and of everything below it, as `du` counts them.
pub(super) fn du(path: &Path) -> u64 {
    let Ok(own) = std::fs::symlink_metadata(path) else { return 0 };
    let below = || std::fs::read_dir(path).into_iter().flatten().flatten();
    let below_bytes: u64 = if own.is_dir() { below().map(|it| du(&it.path())).sum() } else { 0 };
    own.blocks() * 512 + below_bytes
}

/// Every file below a folder of the root.
fn files(root: &Path, folder: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files(root, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// I2, I3: at no time do the files of values take more than the ledger says.
pub(super) fn watch(parts: &Parts) {
    let folder = parts.disk.root_path().join(layout::Shard::of(&world::blob(0).0).path());
    parts.index.lock(|index| {
        let books = index.ledger();
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let bytes: u64 =
            files.filter_map(|it| it.metadata().ok()).map(|it| it.blocks() * 512).sum();
        let booked = books.resident_bytes + books.reserved_bytes + books.dying_bytes;
        assert!(bytes <= booked, "I3: {bytes} bytes on the disk, {books:?}");
        assert!(books.total_bytes() <= books.max_bytes, "I2: {books:?}");
    });
}

/// A file that is pinned is there until then, with the right mode; a purge alone takes it.
pub(super) async fn look_at_pinned(store: &FilesystemStore, file: &PinnedFile, mode: u32) {
    for _ in 0..2 {
        match std::fs::metadata(file.path()) {
            Ok(found) => assert_eq!(found.permissions().mode() & 0o7777, mode),
            Err(error) => assert_ne!(store.stats().purges, 0, "{error}: a pinned file is gone"),
        }
        yield_now().await;
    }
}

/// Waits until nothing is under way and checks in the same step of the schedule everything that
/// must be true then: I1 to I4, I8, I19. The evictor is not called: what it must do it knows.
pub(super) async fn check_at_rest(parts: &Parts) {
    let mut looks = 0;
    let mut is_checked = || {
        looks += 1;
        parts.index.lock(|index| {
            let (pending, books) = (index.pending(), index.ledger());
            let wants_eviction = index.wants_eviction();
            let is_busy = pending != (0, 0, 0) || books.dying_bytes > 0 || wants_eviction;
            if !is_busy {
                check_files(parts.disk.root_path(), index);
            }
            assert!(looks < MOST_LOOKS, "I13: no rest, {pending:?} {wants_eviction} {books:?}");
            !is_busy
        })
    };
    while !is_checked() {
        yield_now().await;
    }
    let stats = parts.stats();
    assert_eq!((stats.evict_unlink_failures, stats.reserve_timeouts), (0, 0), "I15, I12");
    // Nobody but the store has deleted anything: it never takes its own deletions for those.
    assert_eq!((stats.index_file_missing, stats.corrupt_blobs), (0, 0), "I7");
}

fn check_files<W>(root: &Path, index: &Index<W>) {
    index.check();
    let mut indexed = index.paths();
    indexed.sort();
    let mut found = Vec::new();
    files(root, "blobs", &mut found);
    files(root, "actions", &mut found);
    found.sort();
    assert_eq!(found, indexed, "I8, I19: the files are those that the index names");
    let books = index.ledger();
    assert_eq!((books.reserved_bytes, books.dying_bytes), (0, 0), "I1: {books:?}");
    assert_eq!((books.ledger_errors, books.settle_excess), (0, 0), "I4: {books:?}");
    assert_eq!(du(root), books.total_bytes(), "I3: the ledger is what du shows");
    for file in index.files() {
        check_bytes(&root.join(file.path()), &file.key.digest, 0o444);
        let variant = root.join(file.variant_path());
        if variant.exists() {
            check_bytes(&variant, &file.key.digest, 0o555);
        }
    }
}

fn check_bytes(path: &Path, digest: &Digest, mode: u32) {
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o7777, mode);
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(Digest::of(digest.function, &bytes), *digest, "I20: {}", path.display());
}

/// Lets the store come to rest, looks at it, drops it, and sees that nothing is left running.
pub(super) async fn finish(store: Arc<FilesystemStore>) {
    // I10: what a caller has begun goes on without it, to an end.
    for _ in 0..MOST_LOOKS {
        if store.shared.variants.len() + store.shared.checks.len() == 0 {
            break;
        }
        yield_now().await;
    }
    let work = store.shared.variants.len() + store.shared.checks.len();
    assert_eq!(work, 0, "I10: work that does not end");
    check_at_rest(&store.shared.parts).await;
    for n in 0..world::BLOBS {
        let (key, data) = world::blob(n);
        if let Some(read) = store.get_all(&key, u64::MAX).await.unwrap() {
            assert_eq!(read, data, "I20");
        }
    }
    drop_last(store).await;
}

/// Drops the handle; I13: the evictor has a last look and ends, and nothing holds the directory.
pub(super) async fn drop_last(store: Arc<FilesystemStore>) {
    let parts = Arc::clone(&store.shared.parts);
    let tasks = std::mem::take(&mut *store.tasks.lock());
    drop(store);
    for mut task in tasks {
        task.join().await.unwrap();
    }
    while Arc::strong_count(&parts) > 1 {
        yield_now().await;
    }
    let has_converged = parts.index.lock(Index::is_converged);
    assert!(has_converged, "I13: the evictor ended before its work");
    check_at_rest(&parts).await;
}
