//! What is hashed when (I20), what is synced when (I18), and what is remembered of what left.

use std::os::unix::fs::PermissionsExt as _;

use rustix::io::Errno;

use super::*;

fn change(root: &Path, file: &layout::FileName) {
    let path = root.join(file.path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut to = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    io::Write::write_all(&mut to, b"changed").unwrap();
}

fn file_of(store: &FilesystemStore, key: &Key) -> layout::FileName {
    store.shared.parts.index.lock(|index| index.peek(key).unwrap().file)
}

#[tokio::test]
async fn i20_how_much_is_hashed_is_a_choice() {
    for (verify_on_read, is_found) in
        [(VerifyOnRead::Always, true), (VerifyOnRead::First, false), (VerifyOnRead::Never, false)]
    {
        let dir = scratch();
        let chosen = FilesystemOptions { verify_on_read, ..options(dir.path(), 8 << 20) };
        let store = open_with(chosen).await;
        let (key, data) = blob(1, 600_000);
        store.put(&key, data.clone()).await.unwrap();
        assert_eq!(read(&store, &key).await, Some(data));
        change(dir.path(), &file_of(&store, &key));
        let outcome = store.get_all(&key, 1 << 20).await;
        assert_eq!(outcome.is_err(), is_found, "{verify_on_read:?}");
        assert_eq!(absent(&store, &[key]), [is_found]);
        assert_eq!(store.stats().corrupt_blobs, u64::from(is_found));
    }
}

#[tokio::test]
async fn i20_each_read_of_a_part_checks_the_whole_where_that_is_chosen() {
    let dir = scratch();
    let always =
        FilesystemOptions { verify_on_read: VerifyOnRead::Always, ..options(dir.path(), 8 << 20) };
    let store = open_with(always).await;
    let (key, data) = blob(1, 600_000);
    store.put(&key, data.clone()).await.unwrap();
    let range = ByteRange { offset: 500_000, limit: Some(10) };
    let part = store.get(&key, range).await.unwrap().unwrap().read_all().await.unwrap();
    assert_eq!(part, data.slice(500_000..500_010));
    change(dir.path(), &file_of(&store, &key));
    let outcome = store.get(&key, range).await.unwrap().unwrap().read_all().await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i20_the_scrub_finds_rot_without_a_read_and_an_upload_heals() {
    let dir = scratch();
    let scrubbing =
        FilesystemOptions { scrub_bytes_per_second: 1 << 20, ..options(dir.path(), 8 << 20) };
    let store = open_with(scrubbing).await;
    let blobs: Vec<_> = (0..20).map(|seed| blob(seed, 50_000)).collect();
    put_all(&store, &blobs).await;
    store.put(&result_key("a"), "a result".into()).await.unwrap();
    change(dir.path(), &file_of(&store, &blobs[7].0));
    change(dir.path(), &file_of(&store, &result_key("a")));
    until_later("found", || store.stats().corrupt_blobs == 2).await;
    let stats = store.stats();
    assert_eq!(stats.entries, 19);
    assert!(stats.scrubbed_bytes >= 50_000);
    assert_eq!(store.find_missing(&[blobs[7].0]).await.unwrap(), [true]);
    put_all(&store, &blobs).await;
    let before = store.stats().scrubbed_bytes;
    until_later("the next walk", || store.stats().scrubbed_bytes > before + 2_000_000).await;
    assert_eq!((store.stats().entries, store.stats().corrupt_blobs), (20, 2));
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i14_the_scrub_uses_nothing() {
    let dir = scratch();
    let scrubbing =
        FilesystemOptions { scrub_bytes_per_second: 1 << 20, ..options(dir.path(), 8 << 20) };
    let store = open_with(scrubbing).await;
    let blobs: Vec<_> = (0..20).map(|seed| blob(seed, 5_000)).collect();
    put_all(&store, &blobs).await;
    let order = store.shared.parts.index.lock(|index| index.files());
    until_later("a walk", || store.stats().scrubbed_bytes >= 100_000).await;
    assert_eq!(store.shared.parts.index.lock(|index| index.files()), order);
}

fn durable(root: &Path, durability: Durability) -> FilesystemOptions {
    FilesystemOptions { durability, ..options(root, 32 << 20) }
}

#[tokio::test]
async fn i18_many_writers_at_once_with_either_durability() {
    for durability in [Durability::Group, Durability::Fsync] {
        let dir = scratch();
        let store = open_with(durable(dir.path(), durability)).await;
        let before = store.shared.parts.disk.faults().counts();
        let mut writers = tokio::task::JoinSet::new();
        for seed in 0..64 {
            let store = Arc::clone(&store);
            writers.spawn(async move {
                let (key, data) = blob(seed, 20_000);
                store.put(&key, data.clone()).await.unwrap();
                assert_eq!(read(&store, &key).await, Some(data));
            });
        }
        while let Some(outcome) = writers.join_next().await {
            outcome.unwrap();
        }
        let after = store.shared.parts.disk.faults().counts();
        let syncs = after.of(disk::Call::Sync) - before.of(disk::Call::Sync);
        let file_syncs = after.of(disk::Call::SyncFile) - before.of(disk::Call::SyncFile);
        match durability {
            Durability::Group => assert!((1..40).contains(&syncs), "they share: {syncs}"),
            _ => assert_eq!(file_syncs, 64),
        }
        assert_eq!(store.stats().entries, 64);
        check(&store);
        store.shutdown(Cleanup::Keep).await.unwrap();
        assert!(format_of(dir.path()).clean.is_some());
    }
}

#[tokio::test]
async fn i18_what_the_disk_did_not_take_is_not_acknowledged_nor_visible() {
    let calls = [
        (Durability::Group, disk::Call::Sync),
        (Durability::Fsync, disk::Call::SyncFile),
        (Durability::Fsync, disk::Call::SyncDirectory),
    ];
    for (durability, call) in calls {
        let dir = scratch();
        let store = open_with(durable(dir.path(), durability)).await;
        let faults = store.shared.parts.disk.faults();
        let (key, data) = blob(1, 20_000);
        faults.fail(call, 1, Errno::IO, disk::Lasting::Once);
        let outcome = store.put(&key, data.clone()).await;
        assert!(matches!(outcome, Err(StoreError::Io { .. })), "{call:?}: {outcome:?}");
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
        assert_eq!(value_files(dir.path()), Vec::<String>::new());
        assert_eq!(store.stats().reserved_bytes, 0);
        let (streamed, bytes) = blob(2, 20_000);
        let mut upload = begin(&store, &streamed, 20_000).await;
        upload.write(bytes).await.unwrap();
        faults.fail(call, 1, Errno::IO, disk::Lasting::Once);
        assert!(upload.commit().await.is_err());
        assert_eq!(value_files(dir.path()), Vec::<String>::new());
        faults.clear();
        store.put(&key, data.clone()).await.unwrap();
        assert_eq!(read(&store, &key).await, Some(data));
        drop(store);
        let store = open_soon(options(dir.path(), 8 << 20)).await;
        store.quiesce().await;
        assert_eq!(store.stats().entries, 1);
        check(&store);
    }
}

#[tokio::test]
async fn i18_a_failed_sync_leaves_no_variant() {
    for durability in [Durability::Group, Durability::Fsync] {
        let dir = scratch();
        let store = open_with(durable(dir.path(), durability)).await;
        let (key, data) = blob(1, 20_000);
        store.put(&key, data).await.unwrap();
        let faults = store.shared.parts.disk.faults();
        for call in [disk::Call::Sync, disk::Call::SyncFile] {
            faults.fail(call, 1, Errno::IO, disk::Lasting::Once);
        }
        assert!(store.executable(key.digest).await.is_err(), "{durability:?}");
        faults.clear();
        check(&store);
        assert!(store.executable(key.digest).await.unwrap().is_some());
        check(&store);
    }
}

fn reason_of(store: &FilesystemStore, key: &Key) -> String {
    let removals = store.removals(&key.digest);
    let reason = removals.first().map_or("none", |it| it.reason);
    reason.split([':', ' ']).next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_left_is_remembered_with_its_reason() {
    let dir = scratch();
    let limited = || FilesystemOptions {
        max_age: Some(Duration::from_secs(640)),
        verify_on_read: VerifyOnRead::Always,
        ..options(dir.path(), 4 << 20)
    };
    let store = open_with(limited()).await;
    let blobs: Vec<_> = (0..6).map(|seed| blob(seed, 300_000)).collect();
    let key = |at: usize| blobs[at].0;
    put_all(&store, &blobs[..1]).await;
    pass(&store, 60);
    pass(&store, 900);
    until("expired", || absent(&store, &[key(0)]) == [true]).await;
    put_all(&store, &blobs[1..2]).await;
    store.purge(PurgeScope::All).await.unwrap();
    put_all(&store, &blobs[2..5]).await;
    change(dir.path(), &file_of(&store, &key(2)));
    assert!(store.get_all(&key(2), 1 << 20).await.is_err());
    std::fs::remove_file(dir.path().join(file_of(&store, &key(3)).path())).unwrap();
    until("missing", || absent(&store, &[key(3)]) == [true]).await;
    for text in ["one", "two"] {
        store.put(&result_key("a"), text.into()).await.unwrap();
    }
    for seed in [98, 99] {
        let (large, data) = blob(seed, 2_000_000);
        store.put(&large, data).await.unwrap();
    }
    let expected = ["expired", "purged", "corrupt", "missing", "evicted", "none"];
    let reasons = |store: &FilesystemStore| -> Vec<String> {
        (0..6).map(|at| reason_of(store, &key(at))).collect()
    };
    assert_eq!(reasons(&store), expected);
    let replaced = store.removals(&result_key("a").digest);
    assert!(replaced.iter().any(|it| it.reason.starts_with("replaced")));
    let expired = store.removals(&key(0).digest)[0];
    assert_eq!(expired.key, key(0));
    assert!(expired.unused_seconds.unwrap() >= 640 && expired.age_seconds.unwrap() >= 640);
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    let store = open_soon(limited()).await;
    assert_eq!(reasons(&store), expected, "over a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i13_a_burst_of_writes_shares_the_passes_of_the_evictor() {
    let dir = scratch();
    let spare =
        FilesystemOptions { low_water_bytes: Some(200 << 10), ..options(dir.path(), 2 << 20) };
    let store = open_with(spare).await;
    let fill: Vec<_> = (0..80).map(|seed| blob(seed, 20_000)).collect();
    put_all(&store, &fill).await;
    store.quiesce().await;
    let before = store.stats();
    let mut writers = tokio::task::JoinSet::new();
    for seed in 1_000..1_200 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let (key, data) = blob(seed, 20_000);
            store.put(&key, data).await.unwrap();
        });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome.unwrap();
    }
    store.quiesce().await;
    let after = store.stats();
    let pokes = after.evictor_pokes - before.evictor_pokes;
    let passes = after.evictor_passes - before.evictor_passes;
    assert!(passes < pokes, "{passes} passes for {pokes} calls");
    let free = after.max_bytes - after.charged_bytes();
    assert!(free >= 200 << 10, "I13: converged: {after:?}");
    check(&store);
}
