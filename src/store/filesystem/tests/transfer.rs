//! Writing and reading.

use super::*;

#[tokio::test]
async fn i5_bytes_are_visible_only_after_commit_and_come_back_equal() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    for (seed, len) in [(1, 1), (2, 4096), (3, 70_000), (4, 300_000), (5, 2_000_000)] {
        let (key, data) = blob(seed, len);
        let mut upload = begin(&store, &key, len as u64).await;
        for chunk in data.chunks(100_000) {
            upload.write(data.slice_ref(chunk)).await.unwrap();
            assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
            assert_eq!(read(&store, &key).await, None);
        }
        upload.commit().await.unwrap();
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
        assert_eq!(read(&store, &key).await, Some(data));
    }
    check(&store);
}

#[tokio::test]
async fn i5_a_whole_blob_is_stored_in_one_step_with_either_function() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    for function in DigestFunction::ALL {
        for len in [1, 65_536, 65_537, 1_000_000] {
            let (_, data) = blob(len, usize::try_from(len).unwrap());
            let key = Key::blob(Digest::of(function, &data));
            store.put(&key, data.clone()).await.unwrap();
            store.put(&key, data.clone()).await.unwrap();
            assert_eq!(read(&store, &key).await, Some(data));
        }
    }
    assert_eq!(store.stats().entries, 8);
    check(&store);
}

#[tokio::test]
async fn reapi_68_wrong_hash_or_size_is_refused_and_leaves_nothing() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 100_000);
    let before = store.stats();

    let mut wrong = data.to_vec();
    wrong[50_000] ^= 1;
    let outcome = store.put(&key, wrong.clone().into()).await;
    assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
    let mut upload = begin(&store, &key, 100_000).await;
    upload.write(wrong.into()).await.unwrap();
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");

    let mut upload = begin(&store, &key, 100_000).await;
    upload.write(data.slice(..99_999)).await.unwrap();
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");

    let mut upload = begin(&store, &key, 100_000).await;
    upload.write(data.clone()).await.unwrap();
    let outcome = upload.write(Bytes::from_static(b"x")).await;
    assert!(
        matches!(outcome, Err(StoreError::SizeMismatch { received_bytes: 100_001, .. })),
        "too long is refused at once: {outcome:?}"
    );
    assert!(!upload.is_resumable());
    drop(upload);

    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    assert_eq!(store.stats(), before);
    store.put(&key, data).await.unwrap();
    check(&store);
}

#[tokio::test]
async fn i1_a_dropped_upload_gives_every_byte_back() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000_000);
    let before = (store.stats(), du(dir.path()));
    let mut upload = begin(&store, &key, 1_000_000).await;
    upload.write(data.slice(..700_000)).await.unwrap();
    assert!(store.stats().reserved_bytes >= 1_000_000);
    drop(upload);
    assert_eq!((store.stats(), du(dir.path())), before);
    check(&store);
}

#[tokio::test]
async fn a_blob_that_is_there_is_never_replaced_and_ends_an_upload_early() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 200_000);
    let mut slow = begin(&store, &key, 200_000).await;
    slow.write(data.slice(..100_000)).await.unwrap();
    assert!(!slow.is_overtaken());
    store.put(&key, data.clone()).await.unwrap();
    let files = value_files(dir.path());
    assert!(slow.is_overtaken());
    slow.write(data.slice(100_000..)).await.unwrap();
    slow.commit().await.unwrap();
    assert_eq!(value_files(dir.path()), files);
    assert!(matches!(store.begin_put(&key, 200_000).await.unwrap(), BeginPut::AlreadyPresent));
    check(&store);
}

#[tokio::test]
async fn the_later_action_result_wins_and_an_empty_one_is_kept() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let key = result_key("compile");
    for value in ["", "first", "", "second, longer than the first"] {
        store.put(&key, value.into()).await.unwrap();
        assert_eq!(read(&store, &key).await.unwrap(), value);
        check(&store);
    }
    let elsewhere = Key { namespace: Namespace::of_instance("other"), ..key };
    assert_eq!(read(&store, &elsewhere).await, None);
    assert_eq!(store.stats().entries, 1);
}

#[tokio::test]
async fn ranges_select_what_they_say_at_every_boundary() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 600_000);
    store.put(&key, data.clone()).await.unwrap();
    let points = [0, 1, 4095, 4096, 262_143, 262_144, 262_145, 599_999, 600_000, 600_001];
    for offset in points {
        for limit in [None, Some(0), Some(1), Some(262_144), Some(1_000_000)] {
            let range = ByteRange { offset, limit };
            let reader = store.get(&key, range).await.unwrap().unwrap();
            let start = usize::try_from(offset.min(600_000)).unwrap();
            let len = usize::try_from(range.len_within(600_000)).unwrap();
            let got = reader.read_all().await.unwrap();
            assert_eq!(got, data.slice(start..start + len), "{range:?}");
        }
    }
}

#[tokio::test]
async fn i20_corruption_is_an_error_before_the_last_byte_and_the_next_upload_heals() {
    let dir = scratch();
    let (key, data) = blob(1, 600_000);
    let store = open(dir.path(), 8 << 20).await;
    store.put(&key, data.clone()).await.unwrap();
    drop(store);
    let path = dir.path().join(&value_files(dir.path())[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300_000] ^= 0x40;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();

    for range in [ByteRange::ALL, ByteRange { offset: 10, limit: Some(5) }] {
        let store = reopen(dir.path()).await;
        let outcome = match store.get(&key, range).await {
            Ok(Some(reader)) => reader.read_all().await,
            Ok(None) => panic!("present"),
            Err(error) => Err(error),
        };
        assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
        assert_eq!(store.stats().corrupt_blobs, 1);
        store.put(&key, data.clone()).await.unwrap();
        assert_eq!(read(&store, &key).await, Some(data.clone()));
        check(&store);
        drop(store);
        let path = dir.path().join(&value_files(dir.path())[0]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![0; 600_000]).unwrap();
    }
}

/// Opens a directory whose last store was dropped just now; its evictor may still be ending.
pub(super) async fn reopen(root: &Path) -> Arc<FilesystemStore> {
    loop {
        match FilesystemStore::open(options(root, 8 << 20)).await {
            Ok(store) => {
                store.loaded().await;
                return store;
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_miss_and_heals() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 5_000);
    store.put(&key, data.clone()).await.unwrap();
    std::fs::remove_file(dir.path().join(&value_files(dir.path())[0])).unwrap();
    assert_eq!(read(&store, &key).await, None);
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    assert_eq!(store.stats().index_file_missing, 1);
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    check(&store);
}

#[tokio::test]
async fn reapi_16_what_others_delete_is_missing_without_a_read() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let old = blob(1, 5_000);
    store.put(&old.0, old.1.clone()).await.unwrap();
    drop(store);
    // One file in a shard found at the start, one in a shard made since.
    let store = reopen(dir.path()).await;
    let new = blob(2, 5_000);
    store.put(&new.0, new.1.clone()).await.unwrap();
    for path in value_files(dir.path()) {
        std::fs::remove_file(dir.path().join(path)).unwrap();
    }
    until_missing(&store, &[old.0, new.0]).await;
    assert_eq!(store.stats().index_file_missing, 2);
    store.put(&new.0, new.1.clone()).await.unwrap();
    assert_eq!(read(&store, &new.0).await, Some(new.1));
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn reapi_16_a_directory_that_is_moved_away_takes_its_entries_along() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 5_000);
    store.put(&key, data.clone()).await.unwrap();
    let shard = dir.path().join(layout::Shard::of(&key).path());
    std::fs::rename(&shard, dir.path().join("elsewhere")).unwrap();
    until_missing(&store, &[key]).await;
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
}

/// Asks nothing but `find_missing` until all keys are missing.
async fn until_missing(store: &FilesystemStore, keys: &[Key]) {
    let waited = timeout(Duration::from_secs(30), async {
        while store.find_missing(keys).await.unwrap().contains(&false) {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test]
async fn a_link_planted_at_a_name_is_not_followed() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 5_000);
    store.put(&key, data.clone()).await.unwrap();
    let path = dir.path().join(&value_files(dir.path())[0]);
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, &data).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert_eq!(read(&store, &key).await, None);
    assert!(elsewhere.exists());
}

#[tokio::test]
async fn files_are_read_only_and_made_without_temp_litter() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 5_000);
    store.put(&key, data).await.unwrap();
    let path = dir.path().join(&value_files(dir.path())[0]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    assert!(!dir.path().join("tmp").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_parallel_uploads_of_one_blob_leave_one_file() {
    let dir = scratch();
    let store = open(dir.path(), 256 << 20).await;
    let (key, data) = blob(1, 100_000);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..1_000 {
        let (store, data) = (Arc::clone(&store), data.clone());
        tasks.spawn(async move {
            if number % 2 == 0 {
                return store.put(&key, data).await;
            }
            match store.begin_put(&key, 100_000).await? {
                BeginPut::AlreadyPresent => Ok(()),
                BeginPut::Upload(mut upload) => {
                    upload.write(data.slice(..60_000)).await?;
                    upload.write(data.slice(60_000..)).await?;
                    upload.commit().await
                }
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(store.stats().entries, 1);
    assert_eq!(read(&store, &key).await, Some(data));
    check(&store);
}

#[tokio::test]
async fn a_derived_value_may_be_shorter_than_announced_and_is_charged_as_it_is() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (Key { digest, .. }, _) = blob(1, 1_000_000);
    let key = Key::derived(Namespace::COMPRESSED, digest);
    let mut upload = begin(&store, &key, 1_000_000).await;
    upload.write(Bytes::from_static(b"short")).await.unwrap();
    upload.commit().await.unwrap();
    let unsized_key = Key::derived(Namespace::COMPRESSED, Digest { size_bytes: 0, ..digest });
    for key in [key, unsized_key] {
        assert_eq!(read(&store, &key).await, Some(Bytes::from_static(b"short")));
    }
    assert_eq!(store.find_missing(&[key, unsized_key]).await.unwrap(), [false, false]);
    assert_eq!(store.stats().reserved_bytes, 0);
    assert!(store.stats().resident_bytes < 100_000, "{:?}", store.stats());
    check(&store);
}
