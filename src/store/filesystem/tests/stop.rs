//! How a store stops (I17).

use super::*;

/// Descriptors of this process that lead below `root`.
fn descriptors(root: &Path) -> usize {
    let root = root.canonicalize().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = open.filter_map(|it| std::fs::read_link(it.path()).ok());
    targets.filter(|target| target.starts_with(&root)).count()
}

fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap().flatten();
    entries.map(|it| it.file_name().into_string().unwrap()).collect()
}

fn is_clean(root: &Path) -> bool {
    format_of(root).clean.is_some()
}

async fn fill(store: &FilesystemStore) -> Vec<(Key, Bytes)> {
    let blobs: Vec<_> = (0..20).map(|seed| blob(seed, 5_000)).collect();
    put_all(store, &blobs).await;
    store.put(&result_key("a"), "result".into()).await.unwrap();
    drop(store.executable(blobs[3].0.digest).await.unwrap().unwrap());
    blobs
}

#[tokio::test]
async fn i17_after_a_stop_no_task_descriptor_or_temporary_file_is_left() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs = fill(&store).await;
    assert_eq!(read(&store, &blobs[5].0).await.as_ref(), Some(&blobs[5].1));
    let (key, _) = blob(99, 100_000);
    drop(begin(&store, &key, 100_000).await);
    store.purge(PurgeScope::Namespace(Namespace::of_instance("none"))).await.unwrap();
    let parts = Arc::downgrade(&store.shared.parts);
    store.shutdown(Cleanup::Keep).await.unwrap();
    assert!(is_clean(dir.path()));
    check(&store);
    drop(store);
    assert!(parts.upgrade().is_none(), "no task holds the store");
    assert_eq!(descriptors(dir.path()), 0);
    let expected = ["FORMAT", "LOCK", "REMOVED", "SNAPSHOT", "actions", "blobs"];
    let mut names = names(dir.path());
    names.sort();
    assert_eq!(names, expected);
}

#[tokio::test(start_paused = true)]
async fn i17_an_upload_under_way_is_refused_at_its_end_and_keeps_no_stop_from_being_clean() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 100_000);
    let mut upload = begin(&store, &key, 100_000).await;
    upload.write(data.clone()).await.unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();
    assert!(is_clean(dir.path()), "what has no name leaves nothing");
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::ShuttingDown)), "{outcome:?}");
    assert!(matches!(store.put(&key, data).await, Err(StoreError::ShuttingDown)));
    let outcome = store.begin_put(&key, 100_000).await;
    assert!(matches!(outcome, Err(StoreError::ShuttingDown)));
    let outcome = store.purge(PurgeScope::All).await;
    assert!(matches!(outcome, Err(StoreError::ShuttingDown)), "{outcome:?}");
    assert_eq!(value_files(dir.path()), Vec::<String>::new());
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i17_a_write_that_ends_during_the_stop_leaves_it_clean() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 100_000);
    let mut upload = begin(&store, &key, 100_000).await;
    upload.write(data).await.unwrap();
    let worker = Arc::clone(&store);
    let stop = tokio::task::spawn(async move { worker.shutdown(Cleanup::Keep).await });
    until("closed", || store.shared.parts.index.lock(|index| index.is_closed())).await;
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::ShuttingDown)), "{outcome:?}");
    stop.await.unwrap().unwrap();
    assert!(is_clean(dir.path()));
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i17_a_stop_with_an_unlink_that_failed_is_not_clean() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 10_000);
    store.put(&key, data).await.unwrap();
    let path = dir.path().join(&value_files(dir.path())[0]);
    // In one step: between two the watcher of deletions may find the file gone.
    let directory = dir.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &directory, rustix::fs::CWD, &path, exchange)
        .unwrap();
    store.purge(PurgeScope::All).await.unwrap();
    assert!(store.stats().evict_unlink_failures > 0);
    store.shutdown(Cleanup::Keep).await.unwrap();
    assert!(!is_clean(dir.path()));
}

#[tokio::test]
async fn i17_a_stop_before_all_is_read_is_not_clean_and_loses_nothing() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs = fill(&store).await;
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.shutdown(Cleanup::Keep).await.unwrap();
    assert!(!is_clean(dir.path()));
    drop(store);
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    store.quiesce().await;
    check(&store);
    for (key, data) in blobs {
        assert_eq!(read(&store, &key).await, Some(data));
    }
}

#[tokio::test]
async fn i17_removal_leaves_an_empty_root_and_foreign_files() {
    for has_foreign in [false, true] {
        let dir = scratch();
        let store = open(dir.path(), 8 << 20).await;
        let blobs = fill(&store).await;
        let foreign = dir.path().join(layout::Shard::of(&blobs[0].0).path()).join("README");
        if has_foreign {
            std::fs::write(&foreign, "not ours").unwrap();
        }
        store.shutdown(Cleanup::Remove).await.unwrap();
        assert_eq!(names(dir.path()), if has_foreign { vec!["blobs"] } else { vec![] });
        assert_eq!(foreign.exists(), has_foreign);
        drop(store);
        assert_eq!(descriptors(dir.path()), 0);
    }
}

#[tokio::test]
async fn i17_removal_takes_what_was_written_while_it_waited() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (slow, _) = blob(1, 1_000);
    let upload = begin(&store, &slow, 1_000).await;
    let worker = Arc::clone(&store);
    let stop = tokio::task::spawn(async move { worker.shutdown(Cleanup::Remove).await });
    until("the purge waits", || store.shared.parts.purges.hold(|oldest| oldest).is_some()).await;
    let (late, data) = blob(2, 1_000);
    store.put(&late, data).await.unwrap();
    drop(upload);
    stop.await.unwrap().unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn i17_removal_takes_what_was_never_read() {
    for is_clean in [false, true] {
        let dir = scratch();
        let store = open(dir.path(), 8 << 20).await;
        fill(&store).await;
        if is_clean {
            store.shutdown(Cleanup::Keep).await.unwrap();
        }
        drop(store);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        assert!(store.stats().unread_shards > 0);
        store.shutdown(Cleanup::Remove).await.unwrap();
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}

#[tokio::test]
async fn i17_a_second_stop_leaves_the_directory_to_its_next_owner() {
    let dir = scratch();
    let first = open(dir.path(), 8 << 20).await;
    fill(&first).await;
    let (one, two) = tokio::join!(first.shutdown(Cleanup::Keep), first.shutdown(Cleanup::Keep));
    one.and(two).unwrap();
    assert!(is_clean(dir.path()));
    let second = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(77, 1_000);
    second.put(&key, data.clone()).await.unwrap();
    let before = std::fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    first.shutdown(Cleanup::Keep).await.unwrap();
    first.shutdown(Cleanup::Remove).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("FORMAT")).unwrap(), before);
    drop(second);
    let third = open_soon(options(dir.path(), 8 << 20)).await;
    third.quiesce().await;
    assert_eq!(read(&third, &key).await, Some(data));
    check(&third);
}

#[tokio::test]
async fn i17_readers_and_pins_outlive_a_stop() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs = fill(&store).await;
    let reader = store.get(&blobs[0].0, ByteRange::ALL).await.unwrap().unwrap();
    let mut pinned = store.linkable(blobs[1].0.digest).await.unwrap().unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();
    assert!(is_clean(dir.path()));
    assert_eq!(reader.read_all().await.unwrap(), blobs[0].1);
    assert!(pinned.link(&dir.path().join("link")).await.unwrap());
    drop((pinned, store));
    until("all is closed", || descriptors(dir.path()) == 0).await;
}

#[tokio::test]
async fn i13_a_store_that_is_dropped_ends_although_the_scrub_rests() {
    let dir = scratch();
    let slow = FilesystemOptions { scrub_bytes_per_second: 1, ..options(dir.path(), 8 << 20) };
    let store = open_with(slow).await;
    let (key, data) = blob(1, 100_000);
    store.put(&key, data).await.unwrap();
    drop(store);
    let slow = FilesystemOptions { scrub_bytes_per_second: 1, ..options(dir.path(), 8 << 20) };
    let store = open_soon(slow).await;
    store.loaded().await;
    until("the scrub has hashed it", || store.stats().scrubbed_bytes > 0).await;
    drop(store);
    open_soon(options(dir.path(), 8 << 20)).await.shutdown(Cleanup::Keep).await.unwrap();
}
