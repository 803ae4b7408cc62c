//! What was given up or purged, when unlinking it fails or has to wait.

use super::super::disk::{Call, Lasting};
use super::life::{in_process, settled};
use super::*;
use rustix::io::Errno;

fn syncing(root: &Path) -> FilesystemOptions {
    FilesystemOptions { sync_interval: Duration::from_secs(7), ..options(root, 8 << 20) }
}

fn durable(root: &Path) -> FilesystemOptions {
    FilesystemOptions { durability: Durability::Fsync, ..options(root, 1 << 20) }
}

#[test]
fn i16_a_removal_takes_what_was_not_read_yet() {
    let dir = scratch();
    let blobs: Vec<_> = (0..60).map(|seed| blob(seed, 1_000)).collect();
    in_process(async {
        let store = open(dir.path(), 8 << 20).await;
        for (key, data) in &blobs {
            store.put(key, data.clone()).await.unwrap();
        }
    });
    in_process(async {
        let store = FilesystemStore::open(options(dir.path(), 8 << 20)).await.unwrap();
        assert!(!store.shared.parts.loader.is_done());
        store.shutdown(Cleanup::Remove).await.unwrap();
    });
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn i16_a_removal_that_fails_leaves_the_fence() {
    let dir = scratch();
    let (key, data) = blob(1, 1_000);
    in_process(async {
        let store = open(dir.path(), 8 << 20).await;
        store.put(&key, data.clone()).await.unwrap();
        let faults = store.shared.parts.disk.faults();
        faults.fail(Call::Unlink, 1, Errno::IO, Lasting::Sticky);
        assert!(store.shutdown(Cleanup::Remove).await.is_err());
    });
    in_process(async {
        let store = open(dir.path(), 8 << 20).await;
        assert_eq!(read(&store, &key).await, None);
        check(&store);
    });
}

/// An eviction that was overtaken by a purge has not unlinked its file yet.
#[test]
fn i16_a_fence_stays_up_while_a_file_behind_it_is_on_the_disk() {
    let dir = scratch();
    let key = result_key("a");
    in_process(async {
        let store = open_with(syncing(dir.path())).await;
        store.put(&key, "value".into()).await.unwrap();
        let parts = &store.shared.parts;
        let victims = parts.index.lock(|index| index.evict_for_disk(1, 1, 1));
        assert_eq!(victims.len(), 1);
        store.purge(PurgeScope::Namespace(key.namespace)).await.unwrap();
        store.put(&result_key("b"), "value".into()).await.unwrap();
        // More than one sync, each of which could take the fence down.
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
    in_process(async {
        let store = open(dir.path(), 8 << 20).await;
        assert_eq!(read(&store, &key).await, None);
        check(&store);
    });
}

#[test]
fn i16_no_fresh_copy_is_made_of_what_a_purge_is_about_to_take() {
    let (dir, outside) = (scratch(), scratch());
    in_process(async {
        let store = open(dir.path(), 8 << 20).await;
        let (key, data) = blob(1, 1_000);
        store.put(&key, data).await.unwrap();
        let mut pin = store.linkable(key.digest).await.unwrap().unwrap();
        let parts = &store.shared.parts;
        assert!(parts.index.lock(|index| index.raise_fence(PurgeScope::All)).is_some());
        let faults = parts.disk.faults();
        let created = faults.counts().of(Call::Create);
        faults.fail(Call::Link, 1, Errno::MLINK, Lasting::Once);
        drop(pin.link(&outside.path().join("link")).await);
        assert_eq!(faults.counts().of(Call::Create), created);
    });
}

/// Both the write and the removal of its file fail, as on a disk that has become read-only.
#[test]
fn i3_a_file_that_was_given_up_and_cannot_be_unlinked_stays_charged() {
    let dir = scratch();
    in_process(async {
        let store = open_with(durable(dir.path())).await;
        let faults = store.shared.parts.disk.faults();
        let before = store.stats().charged_bytes();
        let (key, data) = blob(1, 50_000);
        faults.fail(Call::SyncDirectory, 1, Errno::ROFS, Lasting::Sticky);
        faults.fail(Call::Unlink, 1, Errno::ROFS, Lasting::Sticky);
        assert!(store.put(&key, data.clone()).await.is_err());
        assert!(store.executable(key.digest).await.unwrap().is_none());
        let stats = store.stats();
        assert!(stats.charged_bytes() >= before + 50_000, "{stats:?}");
        assert_eq!(du(dir.path()), stats.charged_bytes());
        faults.clear();
        settled(&store).await;
        check(&store);
        store.put(&key, data).await.unwrap();
        faults.fail(Call::SyncDirectory, 1, Errno::ROFS, Lasting::Sticky);
        faults.fail(Call::Unlink, 1, Errno::ROFS, Lasting::Sticky);
        assert!(store.executable(key.digest).await.is_err());
        assert_eq!(du(dir.path()), store.stats().charged_bytes());
        faults.clear();
        settled(&store).await;
        check(&store);
    });
}
