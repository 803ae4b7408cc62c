//! The books in the company of others: foreign files, stuck unlinks, planted names, bit rot.

use super::transfer::reopen;
use super::*;

#[tokio::test]
async fn a_small_cap_is_not_eaten_by_its_directories() {
    let dir = scratch();
    let store = open(dir.path(), 1 << 20).await;
    // One blob in each of many shards: on ext4 a directory takes as much as its blob.
    for seed in 0..1_500 {
        let (key, data) = blob(seed, 100);
        store.put(&key, data).await.unwrap();
    }
    let (large, data) = blob(9_999, 700_000);
    store.put(&large, data).await.unwrap();
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i4_a_snapshot_that_finds_no_room_takes_nothing_off_the_books() {
    let dir = scratch();
    let store = open(dir.path(), 128 << 10).await;
    assert!(snapshots::make_room(&store.shared.parts).is_none());
    check(&store);
}

#[tokio::test]
async fn what_foreign_files_take_is_not_the_uploaders_mistake() {
    let dir = scratch();
    drop(open(dir.path(), 8 << 20).await);
    let shard = dir.path().join("blobs/sha256/00");
    std::fs::create_dir(&shard).unwrap();
    std::fs::write(shard.join("core.1234"), vec![1; 5 << 20]).unwrap();
    let store = reopen(dir.path()).await;
    let (key, data) = blob(1, 4 << 20);
    assert!(4 << 20 <= store.max_blob_bytes());
    let outcome = store.put(&key, data).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn i13_i23_what_cannot_be_unlinked_does_not_starve_a_save() {
    let dir = scratch();
    let store = open(dir.path(), 2 << 20).await;
    let (key, data) = blob(1, 700_000);
    store.put(&key, data).await.unwrap();
    let path = dir.path().join(&value_files(dir.path())[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let (evictable, data) = blob(3, 1_000_000);
    store.put(&evictable, data).await.unwrap();
    // 700 kB are stuck; evicting the other blob makes the room.
    let (other, bytes) = blob(2, 600_000);
    store.put(&other, bytes).await.unwrap();
    assert_eq!(store.find_missing(&[evictable, other]).await.unwrap(), [true, false]);
    assert!(store.stats().evict_unlink_failures > 0);
}

#[tokio::test(start_paused = true)]
async fn a_save_that_eviction_cannot_serve_evicts_nothing() {
    let dir = scratch();
    let store = open(dir.path(), 4 << 20).await;
    let keys: Vec<Key> = (0..20).map(|seed| blob(seed, 20_000).0).collect();
    for seed in 0..20 {
        let (key, data) = blob(seed, 20_000);
        store.put(&key, data).await.unwrap();
    }
    let (stalled, _) = blob(100, 2_500_000);
    let _upload = begin(&store, &stalled, 2_500_000).await;
    let (other, data) = blob(101, 2_500_000);
    let outcome = store.put(&other, data).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    assert!(!store.find_missing(&keys).await.unwrap().contains(&true));
}

#[tokio::test]
async fn a_save_waits_for_an_abandoned_upload_and_then_evicts() {
    let dir = scratch();
    let store = open(dir.path(), 4 << 20).await;
    for seed in 0..20 {
        let (key, data) = blob(seed, 100_000);
        store.put(&key, data).await.unwrap();
    }
    let (stalled, _) = blob(100, 1_500_000);
    let upload = begin(&store, &stalled, 1_500_000).await;
    let (other, data) = blob(101, 3_000_000);
    let mut waiting = Box::pin(store.put(&other, data));
    assert!(timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    drop(upload);
    waiting.await.unwrap();
    check(&store);
}

#[tokio::test]
async fn names_that_this_store_cannot_have_written_are_foreign() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data).await.unwrap();
    let name = store.shared.parts.index.lock(|index| index.peek(&key).unwrap().file);
    drop(store);
    let (folder, _) = name.path().rsplit_once('/').map(|it| (it.0.to_owned(), it.1)).unwrap();
    let hash = key.digest.hash_hex();
    for planted in ["18446744073709551615.1", "18446744073709551615.2", "5.18446744073709551615"] {
        let planted = format!("{folder}/{}-{planted}", hash.as_str());
        std::fs::write(dir.path().join(planted), b"planted").unwrap();
    }
    std::fs::write(dir.path().join("FORMAT"), "castellan 1\nepoch 4294967295\n").unwrap();
    let store = reopen(dir.path()).await;
    let stats = store.stats();
    assert_eq!((stats.entries, stats.foreign_files), (1, 3), "{stats:?}");
    let (other, data) = blob(2, 1_000);
    store.put(&other, data).await.unwrap();
    let younger = store.shared.parts.index.lock(|index| index.peek(&other).unwrap().file);
    assert!(younger.generation > name.generation, "I6");
}

/// Allocated bytes of files below `root` that have no name any more and are still open.
fn unlinked_and_open(root: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let is_stored = target.starts_with(&*root.join("blobs").to_string_lossy());
        if is_stored && target.ends_with("(deleted)") {
            total += std::fs::metadata(entry.path()).map_or(0, |it| it.blocks() * 512);
        }
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_a_read_that_is_dropped_midway_keeps_its_charge_until_the_file_is_closed() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 6 << 20);
    store.put(&key, data).await.unwrap();
    drop(store);
    // Starts a check of the whole file beside it, which goes on when the reader is gone.
    let store = reopen(dir.path()).await;
    let range = ByteRange { offset: 1, limit: None };
    drop(store.get(&key, range).await.unwrap());
    let (other, _) = blob(2, 1);
    let upload = begin(&store, &other, 7 << 20).await;
    let stats = store.stats();
    let on_disk = stats.reserved_bytes + unlinked_and_open(dir.path());
    assert!(on_disk <= stats.max_bytes, "{on_disk} {stats:?}");
    drop(upload);
}

#[tokio::test]
async fn i20_bit_rot_in_a_large_blob_is_found_beside_a_read_of_a_part() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 3 << 20);
    store.put(&key, data.clone()).await.unwrap();
    drop(store);
    rot(dir.path(), 2 << 20);
    let store = reopen(dir.path()).await;
    let range = ByteRange { offset: 10, limit: Some(2_000_000) };
    let mut reader = store.get(&key, range).await.unwrap().unwrap();
    let first = reader.next(1_000).await.unwrap().unwrap();
    assert_eq!(first, data.slice(10..1_010), "served while the whole is hashed");
    let outcome = reader.read_all().await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    assert_eq!(store.stats().corrupt_blobs, 1);
}

#[tokio::test]
async fn i20_bit_rot_in_an_action_result_is_an_error_and_the_next_update_heals() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let key = result_key("compile");
    store.put(&key, "exit_code: 0".into()).await.unwrap();
    check(&store);
    // In the same process too: nobody hashes an action result by its name.
    rot(dir.path(), 3);
    let outcome = store.get_all(&key, 1_000).await;
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
    assert_eq!(read(&store, &key).await, None);
    store.put(&key, "exit_code: 1".into()).await.unwrap();
    assert_eq!(read(&store, &key).await.unwrap(), "exit_code: 1");
    check(&store);
}

/// Flips a bit of the one value file.
fn rot(root: &Path, at: usize) {
    let path = root.join(&value_files(root)[0]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 0x10;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, &bytes))
        .unwrap();
}

#[tokio::test]
async fn a_directory_that_is_emptied_below_the_store_is_made_again() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data.clone()).await.unwrap();
    for name in ["blobs", "actions"] {
        std::fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    let found = timeout(Duration::from_secs(30), async {
        while store.find_missing(&[key]).await.unwrap() != [true] {
            tokio::task::yield_now().await;
        }
    });
    found.await.unwrap();
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    store.put(&result_key("compile"), "result".into()).await.unwrap();
}

#[tokio::test]
async fn i2_foreign_files_anywhere_below_the_root_are_charged() {
    let dir = scratch();
    drop(open(dir.path(), 8 << 20).await);
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    std::fs::write(dir.path().join("lost+found/1"), vec![1; 1 << 20]).unwrap();
    std::fs::write(dir.path().join("blobs/notes"), vec![1; 100_000]).unwrap();
    let store = reopen(dir.path()).await;
    assert_eq!(store.stats().foreign_files, 2);
    assert_eq!(du(dir.path()), store.stats().charged_bytes());
}

#[tokio::test]
async fn a_link_in_the_place_of_a_directory_is_refused_at_the_start() {
    let dir = scratch();
    let elsewhere = scratch();
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("blobs")).unwrap();
    let error = FilesystemStore::open(options(dir.path(), 8 << 20)).await.unwrap_err();
    assert!(error.to_string().contains("blobs"), "{error}");
}
