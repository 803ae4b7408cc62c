//! Executable variants: made once, charged, gone with their blob (I8, I9, I10).

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use futures_util::FutureExt as _;

use super::*;

fn file_of(store: &FilesystemStore, key: &Key) -> layout::FileName {
    store.shared.parts.index.lock(|index| index.peek(key).unwrap().file)
}

/// Calls that made a file so far.
fn creations(store: &FilesystemStore) -> u64 {
    store.shared.parts.disk.faults().counts().of(disk::Call::Create)
}

#[tokio::test]
async fn i8_a_variant_is_an_inode_of_its_own_that_can_be_run() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    for (seed, len) in [(1, 1), (2, 4_096), (3, 70_000), (4, 2_500_000)] {
        let (key, data) = blob(seed, len);
        assert!(store.executable(key.digest).await.unwrap().is_none());
        store.put(&key, data.clone()).await.unwrap();
        let before = store.stats().resident_bytes;
        let made = store.executable(key.digest).await.unwrap().unwrap();
        assert_eq!(made.size_bytes(), len as u64);
        let (variant, blob) = (made.path(), dir.path().join(file_of(&store, &key).path()));
        assert_eq!(std::fs::read(&variant).unwrap(), data);
        let (variant, blob) = (variant.metadata().unwrap(), blob.metadata().unwrap());
        assert_eq!(variant.permissions().mode() & 0o7777, 0o555);
        assert_eq!(blob.permissions().mode() & 0o7777, 0o444);
        assert_ne!(variant.ino(), blob.ino());
        assert_eq!((variant.nlink(), blob.nlink()), (1, 1));
        assert!(store.stats().resident_bytes > before);
        check(&store);
    }
    assert_eq!(store.stats().variants, 4);
    assert_eq!(store.stats().settle_excess, 0);
}

#[tokio::test]
async fn an_empty_blob_has_a_variant_too() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 0);
    store.put(&key, data).await.unwrap();
    let made = store.executable(key.digest).await.unwrap().unwrap();
    assert_eq!(made.path().metadata().unwrap().len(), 0);
    assert_eq!(store.stats().variants, 1);
    store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(value_files(dir.path()), Vec::<String>::new());
}

/// A store of one blob with a variant, and where its files are.
async fn with_variant(options: FilesystemOptions) -> (Arc<FilesystemStore>, Key, layout::FileName) {
    let store = open_with(options).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data).await.unwrap();
    drop(store.executable(key.digest).await.unwrap().unwrap());
    check(&store);
    let file = file_of(&store, &key);
    (store, key, file)
}

async fn until_both_gone(store: &FilesystemStore, file: &layout::FileName, how: &str) {
    let left = |path: String| store.root().join(path).exists();
    until(how, || !left(file.path()) && !left(file.variant_path())).await;
    store.quiesce().await;
    assert_eq!(store.stats().variants, 0, "{how}");
    check(store);
}

#[tokio::test]
async fn i8_a_variant_leaves_with_its_blob_for_want_of_room() {
    let dir = scratch();
    let (store, _, file) = with_variant(options(dir.path(), 1 << 20)).await;
    for seed in 2..50 {
        let (key, data) = blob(seed, 30_000);
        store.put(&key, data).await.unwrap();
    }
    until_both_gone(&store, &file, "evicted").await;
}

#[tokio::test]
async fn i8_a_variant_leaves_with_its_blob_by_age_and_number() {
    let dir = scratch();
    let by_age =
        FilesystemOptions { max_age: Some(Duration::from_mins(2)), ..options(dir.path(), 8 << 20) };
    let (store, _, file) = with_variant(by_age).await;
    pass(&store, 60);
    pass(&store, 300);
    until_both_gone(&store, &file, "expired").await;
    assert_eq!(store.stats().expirations, 1);

    let dir = scratch();
    let by_number = FilesystemOptions { max_entries: Some(2), ..options(dir.path(), 8 << 20) };
    let (store, _, file) = with_variant(by_number).await;
    for seed in 2..4 {
        let (key, data) = blob(seed, 100);
        store.put(&key, data).await.unwrap();
    }
    until_both_gone(&store, &file, "one too many").await;
    assert_eq!((store.stats().count_evictions, store.stats().entries), (1, 2));
}

#[tokio::test]
async fn i8_a_variant_leaves_with_its_blob_by_a_purge_and_at_the_end() {
    let dir = scratch();
    let (store, _, file) = with_variant(options(dir.path(), 8 << 20)).await;
    store.purge(PurgeScope::Namespace(Namespace::SHARED)).await.unwrap();
    until_both_gone(&store, &file, "purged").await;

    let dir = scratch();
    let (store, _, _) = with_variant(options(dir.path(), 8 << 20)).await;
    store.shutdown(Cleanup::Remove).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn i8_a_variant_leaves_with_a_blob_that_is_corrupt_or_deleted() {
    let dir = scratch();
    let always =
        FilesystemOptions { verify_on_read: VerifyOnRead::Always, ..options(dir.path(), 8 << 20) };
    let (store, key, file) = with_variant(always).await;
    let path = dir.path().join(file.path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, b"other"))
        .unwrap();
    let outcome = store.get_all(&key, 10_000).await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    until_both_gone(&store, &file, "corrupt").await;

    let dir = scratch();
    let (store, key, file) = with_variant(options(dir.path(), 8 << 20)).await;
    std::fs::remove_file(dir.path().join(file.path())).unwrap();
    until("noticed", || absent(&store, &[key]) == [true]).await;
    until_both_gone(&store, &file, "deleted by somebody else").await;
}

#[tokio::test]
async fn i8_a_variant_that_somebody_else_deletes_is_made_anew() {
    let dir = scratch();
    let (store, key, file) = with_variant(options(dir.path(), 8 << 20)).await;
    for round in 1..=3 {
        std::fs::remove_file(dir.path().join(file.variant_path())).unwrap();
        until("noticed", || store.stats().variants == 0).await;
        store.quiesce().await;
        check(&store);
        assert_eq!(store.stats().index_file_missing, round);
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
        let made = store.executable(key.digest).await.unwrap().unwrap();
        assert_eq!(made.path().metadata().unwrap().len(), 9_000);
        drop(made);
        check(&store);
    }
}

#[tokio::test]
async fn i7_a_late_word_of_a_deletion_does_not_hit_the_next_variant() {
    let dir = scratch();
    let (store, key, file) = with_variant(options(dir.path(), 8 << 20)).await;
    let made = store.executable(key.digest).await.unwrap().unwrap();
    // The kernel's word of the deletion of one before.
    store.shared.parts.forget_variants(&[file]);
    assert_eq!(store.stats().variants, 1);
    assert!(made.path().exists());
    check(&store);
}

#[tokio::test]
async fn i10_many_who_ask_at_once_share_one_copy() {
    let dir = scratch();
    let store = open(dir.path(), 32 << 20).await;
    let (key, data) = blob(1, 3_000_000);
    store.put(&key, data).await.unwrap();
    let before = creations(&store);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.executable(key.digest).await.unwrap().unwrap() });
    }
    let made = callers.join_all().await;
    assert!(made.iter().all(|it| it.path() == made[0].path()));
    assert_eq!(creations(&store) - before, 1);
    drop(made);
    assert_eq!(store.shared.variants.len(), 0, "I22");
    check(&store);
}

#[tokio::test]
async fn i10_a_caller_who_leaves_stops_nobody() {
    let dir = scratch();
    let store = open(dir.path(), 32 << 20).await;
    let (key, data) = blob(1, 3_000_000);
    store.put(&key, data).await.unwrap();
    let permits = store.shared.parts.pool.exhaust().await;
    let before = creations(&store);
    let mut first = Box::pin(store.executable(key.digest));
    assert!((&mut first).now_or_never().is_none());
    let worker = Arc::clone(&store);
    let second = tokio::task::spawn(async move { worker.executable(key.digest).await });
    until("the copy waits", || store.shared.variants.len() == 1).await;
    drop(first);
    drop(permits);
    assert!(second.await.unwrap().unwrap().is_some());
    assert_eq!(creations(&store) - before, 1);
    // The same when nobody is left.
    let (key, data) = blob(2, 1_000_000);
    store.put(&key, data).await.unwrap();
    assert!(store.executable(key.digest).now_or_never().is_none());
    until("finished", || store.stats().variants == 2).await;
    until("finished", || store.shared.variants.is_empty()).await;
    check(&store);
}

fn take_out(store: &FilesystemStore, file: &layout::FileName) {
    let parts = &store.shared.parts;
    let victim = parts.index.lock(|index| index.remove(file, tombstones::Reason::Evicted));
    parts.bury(vec![victim.unwrap()]);
}

#[tokio::test]
async fn i9_a_blob_that_leaves_before_the_copy_leaves_no_variant() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 500_000);
    store.put(&key, data.clone()).await.unwrap();
    let file = file_of(&store, &key);
    let permits = store.shared.parts.pool.exhaust().await;
    let worker = Arc::clone(&store);
    let asked = tokio::task::spawn(async move { worker.executable(key.digest).await });
    until("room is reserved", || store.stats().writes == 1).await;
    take_out(&store, &file);
    drop(permits);
    assert!(asked.await.unwrap().unwrap().is_none());
    assert_eq!(value_files(dir.path()), Vec::<String>::new());
    check(&store);
    // A new generation in the meantime is another blob, whose variant is asked for by itself.
    store.put(&key, data).await.unwrap();
    assert!(store.executable(key.digest).await.unwrap().is_some());
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i9_a_blob_that_leaves_after_the_copy_leaves_no_variant() {
    for comes_again in [false, true] {
        let dir = scratch();
        // A round that takes so long that the copy waits with its name on.
        let group = FilesystemOptions {
            group_interval: Duration::from_hours(1),
            sync_interval: Duration::from_hours(9),
            durability: Durability::Group,
            ..options(dir.path(), 8 << 20)
        };
        let store = open_with(group).await;
        let (key, data) = blob(1, 500_000);
        store.put(&key, data.clone()).await.unwrap();
        let file = file_of(&store, &key);
        let worker = Arc::clone(&store);
        let asked = tokio::task::spawn(async move { worker.executable(key.digest).await });
        let variant = dir.path().join(file.variant_path());
        until("it has its name", || variant.exists()).await;
        assert_eq!(store.stats().variants, 0);
        take_out(&store, &file);
        if comes_again {
            store.put(&key, data.clone()).await.unwrap();
        }
        assert!(asked.await.unwrap().unwrap().is_none());
        assert!(!variant.exists());
        assert_eq!(store.stats().orphaned_variants, 1);
        assert_eq!(store.stats().entries, u64::from(comes_again));
        check(&store);
    }
}

#[tokio::test]
async fn i9_i10_variants_and_evictions_at_once_leave_no_litter() {
    let dir = scratch();
    let store = open(dir.path(), 700 << 10).await;
    let blobs: Vec<_> = (0..12).map(|seed| blob(seed, 40_000)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8_u64 {
        let (store, blobs) = (Arc::clone(&store), blobs.clone());
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(worker);
            for _ in 0..150 {
                let (key, data) = &blobs[rng.usize(..blobs.len())];
                match rng.u8(..4) {
                    0 => store.put(key, data.clone()).await.unwrap(),
                    1 => {
                        let scope = PurgeScope::Namespace(Namespace::SHARED);
                        store.purge(scope).await.unwrap();
                    }
                    _ => {
                        if let Some(made) = store.executable(key.digest).await.unwrap() {
                            // A purge may have taken it by now.
                            if let Ok(bytes) = std::fs::read(made.path()) {
                                assert_eq!(bytes, *data);
                            }
                        }
                    }
                }
                assert!(store.stats().charged_bytes() <= 700 << 10, "I2");
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        // A write that a purge cut off.
        if let Err(error) = outcome {
            assert!(error.to_string().contains("Purged"), "{error}");
        }
    }
    store.quiesce().await;
    check(&store);
    assert_eq!(store.stats().settle_excess, 0);
}

#[tokio::test]
async fn i19_a_start_books_variants_and_removes_those_without_a_blob() {
    for is_clean in [false, true] {
        let dir = scratch();
        let (store, key, file) = with_variant(options(dir.path(), 8 << 20)).await;
        let (other, data) = blob(2, 5_000);
        store.put(&other, data).await.unwrap();
        drop(store.executable(other.digest).await.unwrap());
        let stray = file_of(&store, &other);
        if is_clean {
            store.shutdown(Cleanup::Keep).await.unwrap();
        }
        drop(store);
        std::fs::remove_file(dir.path().join(stray.path())).unwrap();
        // One of a generation that its blob does not have.
        let wrong = layout::FileName { generation: layout::Generation(9), ..file };
        std::fs::write(dir.path().join(wrong.variant_path()), "x").unwrap();
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        let before = creations(&store);
        let made = store.executable(key.digest).await.unwrap().unwrap();
        assert_eq!(creations(&store), before, "the one that is there");
        assert_eq!(made.path(), dir.path().join(file.variant_path()));
        drop(made);
        store.quiesce().await;
        let stats = store.stats();
        assert_eq!((stats.entries, stats.variants, stats.stray_variants), (1, 1, 2));
        assert!(!dir.path().join(stray.variant_path()).exists());
        check(&store);
    }
}

/// Programs of their own bytes: a small one with something behind its end.
async fn programs(store: &FilesystemStore, count: u64) -> Vec<Key> {
    let program = std::fs::read("/bin/true").unwrap();
    let mut keys = Vec::new();
    for number in 0..count {
        let data = Bytes::from([program.as_slice(), &number.to_le_bytes()].concat());
        let key = Key::blob(Digest::of(DigestFunction::Sha256, &data));
        store.put(&key, data).await.unwrap();
        keys.push(key);
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_variant_can_be_run_at_once_although_others_start_processes() {
    let dir = scratch();
    let links = scratch();
    let store = open(dir.path(), 64 << 20).await;
    let keys = programs(&store, 100).await;
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let forks: Vec<_> = (0..2)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    let started = std::process::Command::new("/bin/true").status();
                    assert!(started.unwrap().success());
                }
            })
        })
        .collect();
    let mut runs = tokio::task::JoinSet::new();
    for (number, key) in keys.into_iter().enumerate() {
        let (store, target) = (Arc::clone(&store), links.path().join(number.to_string()));
        runs.spawn(async move {
            let mut made = store.executable(key.digest).await.unwrap().unwrap();
            assert!(made.link(&target).await.unwrap());
            let command = || std::process::Command::new(target).status();
            tokio::task::block_in_place(command)
        });
    }
    while let Some(outcome) = runs.join_next().await {
        match outcome.unwrap() {
            Ok(status) => assert!(status.success()),
            // A file system that runs nothing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => panic!("{error}"),
        }
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for fork in forks {
        fork.join().unwrap();
    }
    check(&store);
}
