//! Files that are not what they claim to be.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_lies_is_ever_served() {
    let directory = scratch();
    let root = directory.path();
    let (short, data) = blob(1, 3000);
    leave(root, &format!("d/{}", name_of(&short)), &data[..2999]);
    let (changed, data) = blob(2, 3000);
    let mut other = data.to_vec();
    other[17] ^= 1;
    leave(root, &format!("d/{}", name_of(&changed)), &other);
    let (linked, data) = blob(3, 3000);
    let outside = leave(directory.path(), "outside", &data);
    std::os::unix::fs::symlink(&outside, root.join("d").join(name_of(&linked))).unwrap();
    leave(root, "d/README", b"foreign");
    let (torn, _, path) = leave_casblob(root, 4, 3000);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let (zeros, _, path) = leave_casblob(root, 5, 3000);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[37..45].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let (garbage, _, path) = leave_casblob(root, 6, 3000);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..].fill(7);
    std::fs::write(&path, &bytes).unwrap();
    let (empty, _) = blob(8, 3000);
    leave(root, &bucket_path("cas.v2", &empty, "-111.v1"), b"");
    let (good, data, _) = leave_blob(root, 7, 3000);
    let store = open_with(adopting(root, Adopt::Move)).await;
    for key in [short, linked, torn, zeros, changed, garbage] {
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [true], "{key}");
        assert_eq!(read(&store, &key).await, None, "{key}");
    }
    let of_hash = store.find_by_hash(DigestFunction::Sha256, empty.digest.hash).await.unwrap();
    assert_eq!(of_hash, None);
    assert_eq!(read(&store, &good).await, Some(data));
    taken_over(&store).await;
    assert_books(&store);
    assert_eq!(former_names(root).len(), 2, "the link and the foreign file stay");
    assert!(outside.exists());
    let stats = store.stats();
    assert_eq!((stats.former_dropped, stats.former_left, stats.corrupt_blobs), (4, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_files_of_one_digest_the_right_one_is_served() {
    for is_wrong_younger in [false, true] {
        let directory = scratch();
        let root = directory.path();
        let (key, data) = blob(1, 3000);
        let encoded = casblob::compressed(&data, 1 << 20).unwrap();
        let wrong = casblob::compressed(&blob(2, 3000).1, 1 << 20).unwrap();
        let now = std::time::SystemTime::now();
        for (random, bytes, is_younger) in
            [("111", &encoded, !is_wrong_younger), ("222", &wrong, is_wrong_younger)]
        {
            let rest = format!("-3000-{random}");
            let path = leave(root, &bucket_path("cas.v2", &key, &rest), bytes);
            let age = Duration::from_secs(if is_younger { 10 } else { 100 });
            let times = std::fs::FileTimes::new().set_accessed(now - age).set_modified(now - age);
            std::fs::File::open(&path).unwrap().set_times(times).unwrap();
        }
        let store = open_with(adopting(root, Adopt::Move)).await;
        assert_eq!(read(&store, &key).await, Some(data), "{is_wrong_younger}");
        taken_over(&store).await;
        check(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_has_a_link_to_is_hashed_before_it_is_served() {
    let directory = scratch();
    let root = directory.path().join("cache");
    let (key, _, path) = leave_blob(&root, 1, 3000);
    let outside = directory.path().join("outside");
    std::fs::hard_link(&path, &outside).unwrap();
    let store = open_with(adopting(&root, Adopt::Move)).await;
    taken_over(&store).await;
    std::fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    std::fs::write(&outside, vec![0; 3000]).unwrap();
    assert!(store.get_all(&key, 1 << 20).await.ok().flatten().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_one_of_two_is_found_wherever_it_is() {
    for is_wrong_in_root in [false, true] {
        let directory = scratch();
        let root = directory.path();
        let (key, data) = blob(1, 3000);
        let (inner, outer) = (format!("d/{}", name_of(&key)), name_of(&key));
        let wrong = if is_wrong_in_root { &outer } else { &inner };
        let right = if is_wrong_in_root { &inner } else { &outer };
        leave(root, wrong, &blob(2, 3000).1);
        leave(root, right, &data);
        // By which the directories are known for what they are.
        let (other, other_data, _) = leave_blob(root, 3, 10);
        leave(root, &name_of(&other), &other_data);
        let store = without_walk(root, Adopt::Move);
        assert_eq!(read(&store, &key).await, Some(data), "{is_wrong_in_root}");
        assert!(!root.join(inner).exists() && !root.join(outer).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_heals_what_nobody_has_tried() {
    let directory = scratch();
    let root = directory.path();
    let (key, data) = blob(1, 3000);
    leave(root, &format!("d/{}", name_of(&key)), &blob(2, 3000).1);
    leave_blob(root, 3, 10);
    let store = without_walk(root, Adopt::Move);
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    assert_eq!(store.stats().corrupt_blobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_what_its_names_say_is_left_alone() {
    let results: Vec<_> = (1..9).map(|seed| (blob(seed, 100).0, blob(seed + 20, 50).1)).collect();
    let of_blake3: Vec<_> = (1..9)
        .map(|seed| {
            let data = blob(seed, 100).1;
            (Key::blob(Digest::of(DigestFunction::Blake3, &data)), data)
        })
        .collect();
    for files in [results, of_blake3] {
        let directory = scratch();
        let root = directory.path();
        for (key, data) in &files {
            leave(root, &format!("d/{}", name_of(key)), data);
            leave(root, &name_of(key), data);
        }
        let store = open_with(adopting(root, Adopt::Move)).await;
        assert_eq!(store.stats().former_directories, 0);
        let keys: Vec<Key> = files.iter().map(|(key, _)| *key).collect();
        assert_eq!(store.find_missing(&keys).await.unwrap(), vec![true; keys.len()]);
        assert_eq!(former_names(root).len(), files.len());
        assert_books(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_directory_of_files_stops_nothing() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, path) = leave_casblob(root, 1, 3000);
    let other = |byte: &str| root.join("cas.v2").join(byte);
    for (byte, is_link) in [("aa", true), ("bb", false)] {
        if path.starts_with(other(byte)) {
            continue;
        }
        if is_link {
            std::os::unix::fs::symlink("/", other(byte)).unwrap();
        } else {
            std::fs::write(other(byte), b"a file").unwrap();
        }
    }
    std::fs::create_dir(root.join("cas.v2/lost+found")).unwrap();
    let store = open_with(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert_eq!(read(&store, &key).await, Some(data));
    let (new, data) = blob(9, 100_000);
    store.put(&new, data).await.unwrap();
    store.quiesce().await;
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_in_a_name_is_no_room_on_the_disk() {
    let directory = scratch();
    let root = directory.path();
    leave_blob(root, 1, 3000);
    for seed in 2..6 {
        let hash = blob(seed, 10).0.digest.hash_hex();
        leave(root, &format!("d/{}-{}", hash.as_str(), i64::MAX), b"");
    }
    let store = open_with(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert_books(&store);
    assert_eq!(store.stats().former_dropped, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_stops_nothing() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, path) = leave_casblob(root, 1, 3000);
    let hash = key.digest.hash_hex();
    // Of the same directory, and cannot be looked into.
    let neighbor = format!("{}{}", &hash.as_str()[..2], "0".repeat(62));
    let blocked = path.with_file_name(format!("{neighbor}-5-1"));
    std::fs::create_dir(&blocked).unwrap();
    let store = open_with(adopting(root, Adopt::Move)).await;
    let (other, more) = blob(77, 300);
    store.put(&other, more).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    taken_over(&store).await;
    assert_books(&store);
}
