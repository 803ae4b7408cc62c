//! Purges: what is there goes, and what was on its way never arrives (I16).

use futures_util::FutureExt as _;

use super::*;

fn result_of(instance: &str, name: &str) -> Key {
    let digest = Digest::of(DigestFunction::Sha256, name.as_bytes());
    Key::action_result(Namespace::of_instance(instance), digest)
}

fn of(instance: &str) -> PurgeScope {
    PurgeScope::Namespace(Namespace::of_instance(instance))
}

const BLOBS: PurgeScope = PurgeScope::Namespace(Namespace::SHARED);

/// A purge under way, its fence up.
async fn begin_purge(
    store: &Arc<FilesystemStore>,
    scope: PurgeScope,
) -> tokio::task::JoinHandle<Result<Purged, StoreError>> {
    let before = store.shared.parts.purges.hold(|oldest| oldest);
    let worker = Arc::clone(store);
    let purge = tokio::task::spawn(async move { worker.purge(scope).await });
    until("the fence is up", || store.shared.parts.purges.hold(|oldest| oldest) != before).await;
    purge
}

#[tokio::test]
async fn i16_a_purge_takes_its_scope_and_nothing_else() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs: Vec<_> = (0..5).map(|seed| blob(seed, 3_000)).collect();
    let keys: Vec<Key> = blobs.iter().map(|it| it.0).collect();
    let (main, other) = (result_of("main", "a"), result_of("other", "a"));
    put_all(&store, &blobs).await;
    for key in [main, other] {
        store.put(&key, "result".into()).await.unwrap();
    }
    let purged = store.purge(of("main")).await.unwrap();
    assert_eq!(purged, Purged { removed: 1, is_drained: true });
    assert_eq!(store.find_missing(&[main, other]).await.unwrap(), [true, false]);
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false; 5]);
    check(&store);
    let purged = store.purge(BLOBS).await.unwrap();
    assert_eq!(purged.removed, 5);
    assert_eq!(store.find_missing(&keys).await.unwrap(), [true; 5]);
    assert_eq!(read(&store, &other).await.unwrap(), "result");
    put_all(&store, &blobs).await;
    assert_eq!(store.purge(PurgeScope::All).await.unwrap().removed, 6);
    assert_eq!(store.stats().entries, 0);
    assert_eq!(value_files(dir.path()), Vec::<String>::new());
    assert_eq!((store.stats().purges, store.stats().purged_entries), (3, 12));
    check(&store);
}

#[tokio::test]
async fn i16_a_write_begun_before_fails_and_one_begun_after_is_not_delayed() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (slow, data) = blob(1, 100_000);
    let mut upload = begin(&store, &slow, 100_000).await;
    upload.write(data.clone()).await.unwrap();
    let purge = begin_purge(&store, BLOBS).await;
    let (next, bytes) = blob(2, 1_000);
    store.put(&next, bytes.clone()).await.unwrap();
    assert!(!purge.is_finished(), "the old write has not ended");
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::Purged)), "{outcome:?}");
    assert!(purge.await.unwrap().unwrap().is_drained);
    assert_eq!(store.stats().purge_cancelled_writes, 1);
    assert_eq!(store.find_missing(&[slow, next]).await.unwrap(), [true, false]);
    check(&store);
    // The same write, begun anew.
    store.put(&slow, data.clone()).await.unwrap();
    assert_eq!(read(&store, &slow).await, Some(data));
    assert_eq!(read(&store, &next).await, Some(bytes));
    check(&store);
}

#[tokio::test]
async fn i16_a_write_that_waits_for_room_is_cut_off_too() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (large, _) = blob(1, 700_000);
    let upload = begin(&store, &large, 700_000).await;
    let (other, bytes) = blob(2, 700_000);
    let worker = Arc::clone(&store);
    let waiting = tokio::task::spawn(async move { worker.put(&other, bytes).await });
    until("it waits", || store.stats().waiting_uploads == 1).await;
    let purge = begin_purge(&store, PurgeScope::All).await;
    drop(upload);
    let outcome = waiting.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Purged)), "{outcome:?}");
    purge.await.unwrap().unwrap();
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i16_i23_a_purge_waits_so_long_and_what_hangs_never_appears() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let mut uploads = Vec::new();
    let mut keys = Vec::new();
    for seed in 0..4 {
        let (key, data) = blob(seed, 50_000);
        let mut upload = begin(&store, &key, 50_000).await;
        upload.write(data).await.unwrap();
        uploads.push(upload);
        keys.push(key);
    }
    let purged = store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(purged, Purged { removed: 0, is_drained: false });
    for upload in uploads {
        let outcome = upload.commit().await;
        assert!(matches!(outcome, Err(StoreError::Purged)), "{outcome:?}");
    }
    assert_eq!(store.find_missing(&keys).await.unwrap(), [true; 4]);
    assert_eq!(store.stats().purge_cancelled_writes, 4);
    check(&store);
}

#[tokio::test]
async fn i16_a_purge_goes_on_when_its_caller_is_gone() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data).await.unwrap();
    assert!(store.purge(BLOBS).now_or_never().is_none());
    until("it is gone", || absent(&store, &[key]) == [true]).await;
    until("it has ended", || store.shared.parts.purges.hold(|oldest| oldest).is_none()).await;
    check(&store);
}

/// What a power cut would bring back of removed files: copies of them.
fn keep_copies(root: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let paths = value_files(root).into_iter().map(|path| root.join(path));
    paths.map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
}

fn bring_back(copies: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, bytes) in copies {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn i16_i19_what_a_power_cut_brings_back_of_a_purge_goes_again() {
    for scope in [PurgeScope::All, of("main")] {
        let dir = scratch();
        let store = open(dir.path(), 8 << 20).await;
        let results: Vec<Key> = (0..9).map(|it| result_of("main", &it.to_string())).collect();
        for key in &results {
            store.put(key, "result".into()).await.unwrap();
        }
        let copies = keep_copies(dir.path());
        store.purge(scope).await.unwrap();
        let kept = result_of("main", "later");
        store.put(&kept, "later".into()).await.unwrap();
        drop(store);
        bring_back(&copies);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        assert_eq!(store.find_missing(&results).await.unwrap(), [true; 9]);
        store.loaded().await;
        store.quiesce().await;
        assert_eq!(read(&store, &kept).await.unwrap(), "later");
        assert_eq!(store.stats().entries, 1);
        check(&store);
        store.shutdown(Cleanup::Keep).await.unwrap();
        drop(store);
        bring_back(&copies);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        store.quiesce().await;
        assert_eq!(store.find_missing(&results).await.unwrap(), [true; 9]);
        check(&store);
    }
}

#[tokio::test]
async fn i16_what_is_not_read_yet_is_purged_as_well() {
    for is_clean in [false, true] {
        let dir = scratch();
        let blobs: Vec<_> = (0..200).map(|seed| blob(seed, 100)).collect();
        let keys: Vec<Key> = blobs.iter().map(|it| it.0).collect();
        let store = open(dir.path(), 8 << 20).await;
        put_all(&store, &blobs).await;
        if is_clean {
            store.shutdown(Cleanup::Keep).await.unwrap();
        }
        drop(store);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        assert!(store.stats().unread_shards > 50, "{:?}", store.stats());
        store.purge(PurgeScope::All).await.unwrap();
        assert_eq!(store.find_missing(&keys).await.unwrap(), [true; 200]);
        put_all(&store, &blobs[..1]).await;
        // Killed before all is read, or after.
        drop(store);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        store.quiesce().await;
        assert_eq!(absent(&store, &keys), [[false; 1].as_slice(), &[true; 199]].concat());
        check(&store);
    }
}

#[tokio::test]
async fn i16_two_purges_at_once_both_hold() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs: Vec<_> = (0..50).map(|seed| blob(seed, 500)).collect();
    put_all(&store, &blobs).await;
    store.put(&result_of("main", "a"), "result".into()).await.unwrap();
    let all = (store.purge(of("main")), store.purge(BLOBS), store.purge(PurgeScope::All));
    let (main, shared, rest) = tokio::join!(all.0, all.1, all.2);
    let removed = main.unwrap().removed + shared.unwrap().removed + rest.unwrap().removed;
    assert_eq!((removed, store.stats().entries), (51, 0));
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i16_fences_are_taken_down_once_nothing_is_behind_them() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    for instance in ["a", "b", "c"] {
        store.put(&result_of(instance, "x"), "result".into()).await.unwrap();
        store.purge(of(instance)).await.unwrap();
    }
    assert_eq!(format_of(dir.path()).purged.len(), 3);
    let (key, data) = blob(1, 100);
    store.put(&key, data).await.unwrap();
    until_later("a checkpoint", || format_of(dir.path()).purged.is_empty()).await;
    assert!(store.shared.parts.index.lock(|index| index.fences().namespaces.is_empty()));
}

#[tokio::test]
async fn i16_the_fence_of_a_purge_under_way_stays_up() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    store.shared.parts.index.lock(|index| {
        let fence = index.raise_fence(of("main")).unwrap();
        // A sync that began when the purge was under way has not put its removals on the disk.
        index.lower_fences(fence);
        assert_eq!(index.fences().namespaces.len(), 1, "still under way");
        index.lower_fences(fence + 1);
        assert_eq!(index.fences().namespaces.len(), 0);
    });
}

#[tokio::test]
async fn i16_a_checkpoint_while_victims_are_not_unlinked_keeps_the_fence() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let key = result_of("main", "a");
    store.put(&key, "result".into()).await.unwrap();
    // Somebody has taken it out and not come to unlink it.
    let parts = &store.shared.parts;
    let victim = parts.index.lock(|index| {
        let file = index.peek(&key).unwrap().file;
        index.remove(&file, tombstones::Reason::Evicted).unwrap()
    });
    store.purge(of("main")).await.unwrap();
    assert_eq!(parts.purged_before(), 0, "a file behind the fence is still there");
    parts.bury(vec![victim]);
    assert!(parts.purged_before() > 0);
    check(&store);
}

#[tokio::test]
async fn i22_too_many_fences_are_an_error_and_not_a_leak() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    store.shared.parts.index.lock(|index| {
        for number in 0..1_024 {
            assert!(index.raise_fence(of(&number.to_string())).is_some());
        }
    });
    let outcome = store.purge(of("one more")).await;
    assert!(matches!(outcome, Err(StoreError::TooManyPurges)), "{outcome:?}");
    store.purge(of("7")).await.unwrap();
    assert_eq!(format_of(dir.path()).purged.len(), 1_024);
    store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(format_of(dir.path()).purged.len(), 0, "one fence stands for all");
    store.purge(of("one more")).await.unwrap();
    check(&store);
}
