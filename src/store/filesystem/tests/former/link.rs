//! Files that keep the names of the former server, so that it can be gone back to.

use rustix::io::Errno;

use super::*;
use crate::store::filesystem::disk::{Call, Lasting};

#[tokio::test(flavor = "multi_thread")]
async fn originals_keep_their_names_and_bytes() {
    let directory = scratch();
    let root = directory.path();
    let blobs: Vec<_> = (1..=10).map(|seed| leave_blob(root, seed, 3000)).collect();
    let packed: Vec<_> = (11..=20).map(|seed| leave_casblob(root, seed, 3000)).collect();
    let originals: Vec<_> = blobs
        .iter()
        .chain(&packed)
        .map(|(_, _, path)| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    for _ in 0..3 {
        let store = open_soon(adopting(root, Adopt::Link)).await;
        store.loaded().await;
        taken_over(&store).await;
        assert_books(&store);
        for (key, data, _) in blobs.iter().chain(&packed) {
            assert_eq!(read(&store, key).await.as_ref(), Some(data));
        }
        store.quiesce().await;
        assert_books(&store);
        for (path, bytes) in &originals {
            assert_eq!(&std::fs::read(path).unwrap(), bytes);
        }
        store.shutdown(Cleanup::Keep).await.unwrap();
    }
    // And then for good.
    let store = open_soon(adopting(root, Adopt::Move)).await;
    store.loaded().await;
    taken_over(&store).await;
    assert!(former_names(root).is_empty());
    check(&store);
    assert_eq!(store.stats().entries, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_goes_with_its_entry() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let (packed, _, packed_path) = leave_casblob(root, 2, 3000);
    let (read_before, data, read_path) = leave_casblob(root, 3, 3000);
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    assert_eq!(read(&store, &read_before).await, Some(data));
    store.quiesce().await;
    assert!(read_path.exists(), "a rewrite is no reason to go");
    for key in [key, packed, read_before] {
        assert!(store.remove(&key).await.unwrap());
    }
    for path in [path, packed_path, read_path] {
        assert!(!path.exists(), "{path:?}");
    }
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_purged_under_its_old_name_too() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let (packed, _, packed_path) = leave_casblob(root, 2, 3000);
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    store.purge(PurgeScope::All).await.unwrap();
    assert!(!path.exists() && !packed_path.exists());
    drop(store);
    let store = open_soon(adopting(root, Adopt::Link)).await;
    store.loaded().await;
    taken_over(&store).await;
    assert_eq!(store.find_missing(&[key, packed]).await.unwrap(), [true, true]);
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_the_order_of_use() {
    let directory = scratch();
    let root = directory.path();
    let left: Vec<_> = (1..=10).map(|seed| leave_blob(root, seed, 100)).collect();
    for (number, (_, _, path)) in (0..).zip(&left) {
        let used = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + number * 7 % 11);
        let times = std::fs::FileTimes::new().set_accessed(used).set_modified(used);
        std::fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    let order = |store: &FilesystemStore| {
        let files = store.shared.parts.index.lock(|index| index.files());
        files.into_iter().map(|file| file.key).collect::<Vec<_>>()
    };
    let before = order(&store);
    drop(store);
    let store = open_soon(adopting(root, Adopt::Link)).await;
    store.loaded().await;
    taken_over(&store).await;
    assert_eq!(order(&store), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_is_charged_once_whoever_else_has_a_name_of_it() {
    let directory = scratch();
    let (root, backup) = (&directory.path().join("store"), directory.path().join("backup"));
    std::fs::create_dir_all(root).unwrap();
    let (linked, _, path) = leave_casblob(root, 1, 3000);
    std::fs::hard_link(path, backup).unwrap();
    let (plain, _, _) = leave_casblob(root, 2, 3000);
    let store = without_walk(root, Adopt::Link);
    assert!(read(&store, &linked).await.is_some());
    // Its victim keeps the store's name past the end of the walk.
    store.shared.parts.disk.faults().fail(Call::Unlink, 1, Errno::IO, Lasting::Sticky);
    assert!(read(&store, &plain).await.is_some());
    until("a victim is stuck", || store.stats().evict_unlink_failures > 0).await;
    begin_walk(&store);
    until("the walk ends", || store.stats().former_directories == 0).await;
    store.shared.parts.disk.faults().clear();
    store.quiesce().await;
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_counts_no_file_twice() {
    let directory = scratch();
    let root = directory.path();
    for seed in 1..=60 {
        leave_blob(root, seed, 100_000);
    }
    // They fit, but not twice.
    let options = FilesystemOptions { cap: Cap::Bytes(10 << 20), ..adopting(root, Adopt::Link) };
    for _ in 0..2 {
        let store = open_soon(options.clone()).await;
        store.loaded().await;
        taken_over(&store).await;
        assert_eq!(store.stats().entries, 60);
        assert_books(&store);
        store.shutdown(Cleanup::Keep).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_original_is_charged_when_somebody_removes_the_stores_name() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    let own = store.shared.parts.index.lock(|index| index.paths());
    std::fs::remove_file(root.join(&own[0])).unwrap();
    assert_eq!(read(&store, &key).await, None);
    store.quiesce().await;
    assert!(path.exists());
    assert_books(&store);
}
