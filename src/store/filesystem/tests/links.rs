//! Pins and the hard links that are made to what they keep.

use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;

use super::*;

fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}

fn fail_a_link(store: &FilesystemStore) {
    let faults = store.shared.parts.disk.faults();
    faults.fail(disk::Call::Link, 1, Errno::MLINK, disk::Lasting::Once);
}

#[tokio::test]
async fn i13_a_write_that_only_pins_leave_no_room_for_is_refused_soon() {
    let dir = scratch();
    let refusing = FilesystemOptions {
        reserve_timeout: Duration::from_hours(1),
        ..options(dir.path(), 8 << 20)
    };
    let store = open_with(refusing).await;
    let blobs: Vec<_> = (0..3).map(|seed| blob(seed, 2 << 20)).collect();
    put_all(&store, &blobs).await;
    let mut pinned = Vec::new();
    for (key, _) in &blobs {
        pinned.push(store.linkable(key.digest).await.unwrap().unwrap());
    }
    let (large, data) = blob(9, 4 << 20);
    let outcome = store.put(&large, data.clone()).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    // What fits beside them is stored, before and after.
    let (small, few) = blob(10, 1_000);
    store.put(&small, few).await.unwrap();
    assert_eq!(store.stats().evictions, 0, "that would have gained nothing");
    pinned.clear();
    store.put(&large, data).await.unwrap();
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i14_what_is_pinned_stays_under_any_pressure() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 1 << 20).await;
    let blobs: Vec<_> = (0..4).map(|seed| blob(seed, 20_000)).collect();
    put_all(&store, &blobs).await;
    let mut pinned = store.linkable(blobs[0].0.digest).await.unwrap().unwrap();
    let again = store.linkable(blobs[0].0.digest).await.unwrap().unwrap();
    let mut variant = store.executable(blobs[1].0.digest).await.unwrap().unwrap();
    for seed in 10..200 {
        let (key, data) = blob(seed, 30_000);
        store.put(&key, data).await.unwrap();
    }
    drop(again);
    let (large, data) = blob(500, 500_000);
    store.put(&large, data).await.unwrap();
    let keys: Vec<Key> = blobs.iter().map(|it| it.0).collect();
    assert_eq!(absent(&store, &keys), [false, false, true, true]);
    assert!(pinned.link(&links.path().join("blob")).await.unwrap());
    assert!(variant.link(&links.path().join("run")).await.unwrap());
    for (name, at) in [("blob", 0), ("run", 1)] {
        assert_eq!(std::fs::read(links.path().join(name)).unwrap(), blobs[at].1);
    }
    assert_eq!(inode(&pinned.path()), inode(&links.path().join("blob")));
    drop((pinned, variant));
    for seed in 600..650 {
        let (key, data) = blob(seed, 30_000);
        store.put(&key, data).await.unwrap();
    }
    assert_eq!(absent(&store, &keys), [true; 4]);
    store.quiesce().await;
    check(&store);
    // The links are the files of whoever made them.
    assert_eq!(std::fs::read(links.path().join("blob")).unwrap(), blobs[0].1);
}

#[tokio::test]
async fn a_link_replaces_nothing_and_says_what_is_missing() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data).await.unwrap();
    let mut pinned = store.linkable(key.digest).await.unwrap().unwrap();
    let target = links.path().join("a");
    std::fs::write(&target, "somebody's").unwrap();
    let outcome = pinned.link(&target).await;
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "somebody's");
    let outcome = pinned.link(&links.path().join("none/a")).await;
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
    assert_eq!(absent(&store, &[key]), [false], "the directory is missing, not the blob");
    store.purge(PurgeScope::All).await.unwrap();
    assert!(!pinned.link(&links.path().join("b")).await.unwrap());
    drop(pinned);
    check(&store);
}

#[tokio::test]
async fn a_link_to_what_somebody_else_deleted_is_refused_or_heals() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data.clone()).await.unwrap();
    let mut variant = store.executable(key.digest).await.unwrap().unwrap();
    std::fs::remove_file(variant.path()).unwrap();
    assert!(variant.link(&links.path().join("a")).await.unwrap(), "the blob is there");
    assert_eq!(store.stats().renewals, 0);
    let mut pinned = store.linkable(key.digest).await.unwrap().unwrap();
    std::fs::remove_file(pinned.path()).unwrap();
    assert!(!pinned.link(&links.path().join("b")).await.unwrap());
    assert!(store.linkable(key.digest).await.unwrap().is_none());
    store.put(&key, data).await.unwrap();
    assert!(store.linkable(key.digest).await.unwrap().is_some());
    drop((pinned, variant));
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn an_inode_out_of_links_is_replaced_by_a_fresh_one() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 300_000);
    store.put(&key, data.clone()).await.unwrap();
    for (round, is_executable) in [false, true, false, true].into_iter().enumerate() {
        let mut pinned = if is_executable {
            store.executable(key.digest).await.unwrap().unwrap()
        } else {
            store.linkable(key.digest).await.unwrap().unwrap()
        };
        let before = (pinned.path(), inode(&pinned.path()));
        let first = links.path().join(format!("{round}-first"));
        assert!(pinned.link(&first).await.unwrap());
        fail_a_link(&store);
        let target = links.path().join(format!("{round}-second"));
        assert!(pinned.link(&target).await.unwrap());
        assert_ne!((pinned.path(), inode(&pinned.path())), before);
        assert_eq!(inode(&pinned.path()), inode(&target));
        assert!(!before.0.exists());
        assert_eq!(std::fs::read(&target).unwrap(), data);
        drop(pinned);
        store.quiesce().await;
        check(&store);
        assert_eq!(read(&store, &key).await.as_ref(), Some(&data));
    }
    assert_eq!((store.stats().renewals, store.stats().replacements), (4, 4));
}

#[tokio::test]
async fn many_who_run_out_of_links_at_once_all_get_theirs() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 32 << 20).await;
    let (key, data) = blob(1, 100_000);
    store.put(&key, data.clone()).await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (store, target) = (Arc::clone(&store), links.path().join(number.to_string()));
        callers.spawn(async move {
            let mut pinned = store.linkable(key.digest).await.unwrap().unwrap();
            if number % 4 == 0 {
                fail_a_link(&store);
            }
            match pinned.link(&target).await {
                // What was to fail was not this link but the first one of a fresh inode.
                Err(StoreError::Io { source, .. }) if disk::is_out_of_links(&source) => {
                    assert!(pinned.link(&target).await.unwrap());
                }
                outcome => assert!(outcome.unwrap()),
            }
        });
    }
    while let Some(outcome) = callers.join_next().await {
        outcome.unwrap();
    }
    for number in 0..20 {
        assert_eq!(std::fs::read(links.path().join(number.to_string())).unwrap(), data);
    }
    store.quiesce().await;
    assert_eq!(store.stats().entries, 1);
    check(&store);
}

#[tokio::test]
async fn the_real_limit_on_links_is_met_and_passed() {
    let (dir, links) = (scratch(), scratch());
    let is_ext4 = rustix::fs::statfs(links.path()).unwrap().f_type == 0xef53;
    if !is_ext4 {
        return;
    }
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data.clone()).await.unwrap();
    let mut pinned = store.executable(key.digest).await.unwrap().unwrap();
    let first = inode(&pinned.path());
    let mut made = 0;
    while std::fs::hard_link(pinned.path(), links.path().join(made.to_string())).is_ok() {
        made += 1;
    }
    assert_eq!(made, 64_999);
    for name in ["one", "two"] {
        assert!(pinned.link(&links.path().join(name)).await.unwrap());
        assert_ne!(inode(&links.path().join(name)), first);
        assert_eq!(std::fs::read(links.path().join(name)).unwrap(), data);
    }
    assert_eq!(store.stats().renewals, 1);
    drop(pinned);
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i18_a_fresh_inode_is_as_durable_as_the_one_it_replaces() {
    for durability in [Durability::Group, Durability::Fsync] {
        let (dir, links) = (scratch(), scratch());
        let durable = FilesystemOptions { durability, ..options(dir.path(), 8 << 20) };
        let store = open_with(durable).await;
        let (key, data) = blob(1, 9_000);
        store.put(&key, data.clone()).await.unwrap();
        let mut pinned = store.linkable(key.digest).await.unwrap().unwrap();
        let before = value_files(dir.path());
        fail_a_link(&store);
        let faults = store.shared.parts.disk.faults();
        for call in [disk::Call::Sync, disk::Call::SyncFile] {
            faults.fail(call, 1, Errno::IO, disk::Lasting::Once);
        }
        let outcome = pinned.link(&links.path().join("a")).await;
        assert!(outcome.is_err(), "{durability:?}: the copy is not on the disk: {outcome:?}");
        drop(pinned);
        assert_eq!(value_files(dir.path()), before, "{durability:?}");
        faults.clear();
        assert_eq!(read(&store, &key).await, Some(data));
        check(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_only_pins_hold_up_evicts_nothing() {
    let dir = scratch();
    let store = open(dir.path(), 4 << 20).await;
    let blobs: Vec<_> = (0..20).map(|seed| blob(seed, 20_000)).collect();
    put_all(&store, &blobs).await;
    let (large, data) = blob(100, 2_500_000);
    store.put(&large, data).await.unwrap();
    let pinned = store.linkable(large.digest).await.unwrap().unwrap();
    let (other, data) = blob(101, 2_500_000);
    let outcome = store.put(&other, data.clone()).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    let keys: Vec<Key> = blobs.iter().map(|it| it.0).collect();
    assert_eq!(absent(&store, &keys), [false; 20]);
    // When the pin ends while a save waits, the save is served.
    let worker = Arc::clone(&store);
    let waiting = tokio::task::spawn(async move { worker.put(&other, data).await });
    until("it waits", || store.stats().waiting_uploads == 1).await;
    drop(pinned);
    waiting.await.unwrap().unwrap();
    check(&store);
}
