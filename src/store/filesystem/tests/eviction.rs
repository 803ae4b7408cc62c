//! Room: who leaves, when, and that nobody waits for nothing.

use super::*;

#[tokio::test]
async fn i14_the_least_recently_used_leave_first() {
    let dir = scratch();
    let store = open(dir.path(), 120 * 4096).await;
    // Few shards, so that directories do not take what the blobs should.
    let in_few_shards = |it: &(Key, Bytes)| it.0.digest.hash[0] < 8;
    let blobs: Vec<_> =
        (0..).map(|seed| blob(seed, 4096)).filter(in_few_shards).take(400).collect();
    for (key, data) in &blobs {
        store.put(key, data.clone()).await.unwrap();
        // The first blob is asked for all the time, and so never leaves.
        assert_eq!(store.find_missing(&[blobs[0].0]).await.unwrap(), [false]);
    }
    store.quiesce().await;
    let entries = usize::try_from(store.stats().entries).unwrap();
    assert!((80..120).contains(&entries), "{entries}");
    let keys: Vec<_> = blobs.iter().map(|(key, _)| *key).collect();
    let missing = store.find_missing(&keys).await.unwrap();
    let survivors: Vec<usize> = (0..400).filter(|at| !missing[*at]).collect();
    let expected: Vec<usize> = [0].into_iter().chain(401 - entries..400).collect();
    assert_eq!(survivors, expected);
    check(&store);
}

#[tokio::test]
async fn a_blob_over_the_cap_is_refused_at_once_and_evicts_nothing() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (key, data) = blob(1, 100_000);
    store.put(&key, data).await.unwrap();
    let (large, bytes) = blob(2, 2 << 20);
    let outcome = store.begin_put(&large, 2 << 20).await;
    assert!(matches!(outcome, Err(StoreError::TooLarge { .. })), "{outcome:?}");
    let outcome = store.put(&large, bytes).await;
    assert!(matches!(outcome, Err(StoreError::TooLarge { .. })), "{outcome:?}");
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
    assert_eq!(store.stats().evictions, 0);
}

#[tokio::test]
async fn a_reader_keeps_its_bytes_and_their_charge_through_eviction() {
    let dir = scratch();
    let store = open(dir.path(), 2 << 20).await;
    let (key, data) = blob(1, 900_000);
    store.put(&key, data.clone()).await.unwrap();
    let mut reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    let first = reader.next(1_000).await.unwrap().unwrap();
    // Evicts the blob, but cannot have its bytes while the reader holds them.
    let (large, bytes) = blob(2, 1_500_000);
    let mut put = Box::pin(store.put(&large, bytes));
    let outcome = timeout(Duration::from_millis(50), &mut put).await;
    assert!(outcome.is_err(), "waits for the reader: {outcome:?}");
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    let stats = store.stats();
    assert!(stats.held_bytes >= 900_000 && stats.charged_bytes() <= stats.max_bytes, "{stats:?}");
    let mut all = first.to_vec();
    while let Some(chunk) = reader.next(usize::MAX).await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(all, data);
    drop(reader);
    put.await.unwrap();
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i23_a_wait_for_room_is_bounded_and_says_why() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (key, _) = blob(1, 700_000);
    let _stalled = begin(&store, &key, 700_000).await;
    let (other, data) = blob(2, 700_000);
    let outcome = store.put(&other, data).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    let stats = store.stats();
    assert_eq!((stats.reserve_timeouts, stats.waiting_uploads), (1, 0));
}

#[tokio::test]
async fn a_save_that_waits_is_served_as_soon_as_a_reservation_becomes_evictable() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (key, data) = blob(1, 700_000);
    let mut upload = begin(&store, &key, 700_000).await;
    let (other, bytes) = blob(2, 700_000);
    let waiting = {
        let store = Arc::clone(&store);
        tokio::task::spawn(async move { store.put(&other, bytes).await })
    };
    while store.stats().waiting_uploads == 0 {
        tokio::task::yield_now().await;
    }
    upload.write(data).await.unwrap();
    upload.commit().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.find_missing(&[key, other]).await.unwrap(), [true, false]);
    check(&store);
}

#[tokio::test]
async fn a_waiter_that_gives_up_lets_the_next_one_in() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (key, _) = blob(1, 500_000);
    let _stalled = begin(&store, &key, 500_000).await;
    let (large, bytes) = blob(2, 700_000);
    let (small, data) = blob(3, 1_000);
    let mut first = Box::pin(store.put(&large, bytes));
    assert!(timeout(Duration::from_millis(20), &mut first).await.is_err());
    let mut second = Box::pin(store.put(&small, data));
    assert!(timeout(Duration::from_millis(20), &mut second).await.is_err(), "nobody passes");
    drop(first);
    second.await.unwrap();
    assert_eq!(store.find_missing(&[small]).await.unwrap(), [false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i12_eviction_completes_with_every_permit_taken() {
    let dir = scratch();
    let store = open(dir.path(), 40 << 20).await;
    for seed in 0..3 {
        let (key, data) = blob(seed, 10 << 20);
        store.put(&key, data).await.unwrap();
    }
    let permits = store.shared.parts.pool.exhaust().await.unwrap();
    // Frees 30 MiB: over the inline limit, with no blocking thread to be had by a permit.
    let (key, _) = blob(9, 1);
    let upload = begin(&store, &key, 35 << 20).await;
    drop((upload, permits));
    assert_eq!(store.stats().entries, 0);
    check(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i13_many_pokes_share_few_passes_and_it_converges() {
    let dir = scratch();
    let low_water = 256 << 10;
    let options = FilesystemOptions {
        low_water_bytes: Some(low_water),
        ..FilesystemOptions::new(dir.path(), Cap::Bytes(2 << 20))
    };
    let store = FilesystemStore::open(options).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..2_000 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let (key, data) = blob(seed, 4096);
            store.put(&key, data).await
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    store.quiesce().await;
    let stats = store.stats();
    assert!(stats.max_bytes - stats.charged_bytes() >= low_water / 2, "{stats:?}");
    assert!(stats.evictor_passes <= stats.evictor_pokes + 1, "{stats:?}");
    assert!(stats.evictor_passes < 1_500, "{stats:?}");
    check(&store);
}

#[tokio::test]
async fn i13_the_evictor_ends_with_the_last_handle_after_converging() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let mut tasks = std::mem::take(&mut *store.tasks.lock());
    let (key, data) = blob(1, 100_000);
    store.put(&key, data).await.unwrap();
    let reader = store.get(&key, ByteRange::ALL).await.unwrap();
    drop(store);
    assert!(!tasks[0].is_finished(), "a reader is a handle");
    drop(reader);
    for task in &mut tasks {
        task.join().await.unwrap();
    }
    open(dir.path(), 1 << 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i2_i3_sixteen_writers_of_ten_times_the_cap_never_exceed_it() {
    let dir = scratch();
    let max_bytes = 4 << 20;
    let store = FilesystemStore::open(FilesystemOptions::new(dir.path(), Cap::Bytes(max_bytes)))
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(writer);
            for number in 0..80 {
                let (key, data) = blob(writer << 32 | number, rng.usize(1..60_000));
                if rng.bool() {
                    store.put(&key, data).await.unwrap();
                } else {
                    let mut upload = begin(&store, &key, data.len() as u64).await;
                    upload.write(data).await.unwrap();
                    upload.commit().await.unwrap();
                }
                let stats = store.stats();
                assert!(stats.charged_bytes() <= max_bytes, "I2: {stats:?}");
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    store.quiesce().await;
    assert_eq!(store.stats().settle_excess, 0);
    check(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i5_i6_evict_and_upload_again_never_leaves_an_entry_without_its_file() {
    let dir = scratch();
    let store = FilesystemStore::open(FilesystemOptions::new(dir.path(), Cap::Bytes(400 << 10)))
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..12_u64 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(worker);
            for _ in 0..400 {
                let (key, data) = blob(rng.u64(..32), 16 << 10);
                if worker % 3 == 0 {
                    if let Some(got) = read(&store, &key).await {
                        assert_eq!(got, data);
                    }
                } else {
                    store.put(&key, data).await.unwrap();
                }
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    store.quiesce().await;
    assert_eq!(store.stats().index_file_missing, 0);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i15_a_failed_unlink_is_counted_keeps_its_charge_and_is_retried() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    let (key, data) = blob(1, 700_000);
    store.put(&key, data).await.unwrap();
    // A directory in the file's place makes the unlink fail for root too.
    let path = dir.path().join(&value_files(dir.path())[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (other, bytes) = blob(2, 700_000);
    let waiting = {
        let store = Arc::clone(&store);
        tokio::task::spawn(async move { store.put(&other, bytes).await })
    };
    while store.stats().evict_unlink_failures == 0 {
        tokio::task::yield_now().await;
    }
    let stats = store.stats();
    assert!(stats.dying_bytes >= 700_000, "still charged: {stats:?}");
    std::fs::remove_dir(&path).unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(store.stats().dying_bytes, 0);
    check(&store);
}
