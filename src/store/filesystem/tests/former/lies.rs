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
        let store = without_walk(root);
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
    let store = without_walk(root);
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    assert_eq!(store.stats().corrupt_blobs, 0);
}
