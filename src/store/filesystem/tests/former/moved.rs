//! Files that become the store's.

use super::*;
use crate::store::Namespace;

#[tokio::test(flavor = "multi_thread")]
async fn what_nativelink_left_is_served_and_becomes_the_stores_own() {
    let directory = scratch();
    let root = directory.path();
    let left: Vec<_> = (1..=40).map(|seed| leave_blob(root, seed, 3000)).collect();
    let (flat_key, flat_data) = blob(99, 70_000);
    leave(root, &name_of(&flat_key), &flat_data);
    leave(root, "s/some string key", b"value");
    let inodes: Vec<u64> = left.iter().map(|(_, _, path)| inode(path)).collect();
    let store = open_with(adopting(root, Adopt::Move)).await;
    for (key, data, _) in &left {
        assert_eq!(read(&store, key).await.as_ref(), Some(data));
    }
    assert_eq!(read(&store, &flat_key).await, Some(flat_data));
    taken_over(&store).await;
    assert_eq!(former_names(root), ["s/some string key"]);
    assert!(!root.join("d").exists() && !root.join(name_of(&flat_key)).exists());
    let paths = store.shared.parts.index.lock(|index| index.paths());
    let now: std::collections::HashSet<u64> =
        paths.iter().map(|path| inode(&root.join(path))).collect();
    assert!(inodes.iter().all(|inode| now.contains(inode)), "not a byte is copied");
    assert_books(&store);
    let stats = store.stats();
    assert_eq!((stats.former_taken_over, stats.former_dropped, stats.former_left), (41, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_finds_what_the_walk_has_not_come_to() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, _) = leave_blob(root, 1, 3000);
    let (packed, _, _) = leave_casblob(root, 2, 3000);
    let (absent, _) = blob(3, 10);
    let store = without_walk(root, Adopt::Move);
    assert_eq!(store.find_missing(&[key, packed, absent]).await.unwrap(), [false, false, true]);
    assert_eq!(read(&store, &key).await, Some(data));
    assert_eq!(store.stats().former_directories, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn casblobs_are_entries_at_once_and_are_rewritten_when_they_are_read() {
    let directory = scratch();
    let root = directory.path();
    let left: Vec<_> = (1..=20)
        .map(|seed| leave_casblob(root, seed, if seed == 1 { 3 << 20 } else { 5000 }))
        .collect();
    let (plain_key, plain_data) = blob(50, 4000);
    leave(root, &bucket_path("cas.v2", &plain_key, "-987654321.v1"), &plain_data);
    let store = open_with(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert!(former_names(root).is_empty() && !root.join("cas.v2").exists());
    assert_books(&store);
    let keys: Vec<Key> = left.iter().map(|(key, _, _)| *key).collect();
    assert_eq!(store.find_missing(&keys).await.unwrap(), vec![false; keys.len()]);
    let former = || value_files(root).iter().filter(|path| path.ends_with(".former")).count();
    assert_eq!(former(), 20, "present is said without a rewrite");
    // Not even a restart forgets what form they have.
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    let store = open_with(adopting(root, Adopt::Move)).await;
    for (key, data, _) in &left {
        assert_eq!(read(&store, key).await.as_ref(), Some(data));
    }
    assert_eq!(read(&store, &plain_key).await, Some(plain_data));
    store.quiesce().await;
    assert_eq!(former(), 0);
    check(&store);
    // What links are made to is the blob itself.
    let mut pinned = store.executable(left[1].0.digest).await.unwrap().unwrap();
    assert!(pinned.link(&root.join("linked")).await.unwrap());
    assert_eq!(std::fs::read(root.join("linked")).unwrap(), left[1].1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_casblob_can_be_pinned_before_it_was_read() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, _) = leave_casblob(root, 1, 5000);
    let (other, more, _) = leave_casblob(root, 2, 6000);
    let store = open_with(adopting(root, Adopt::Move)).await;
    let pinned = store.pin_files(&[(key.digest, false), (other.digest, true)]).await.unwrap();
    let paths: Vec<_> = pinned.iter().map(|it| it.as_ref().unwrap().path()).collect();
    assert_eq!(std::fs::read(&paths[0]).unwrap(), data);
    assert_eq!(std::fs::read(&paths[1]).unwrap(), more);
}

#[tokio::test(flavor = "multi_thread")]
async fn action_results_are_found_under_the_digest_of_their_action() {
    let directory = scratch();
    let root = directory.path();
    let action = Digest::of(DigestFunction::Sha256, b"action");
    let key = Key::action_result(Namespace::ADOPTED, action);
    leave(root, &bucket_path("ac.v2", &key, "-111111111"), b"the older result");
    let path = leave(root, &bucket_path("ac.v2", &key, "-222222222"), b"the result");
    let later = std::time::SystemTime::now() + Duration::from_secs(1);
    std::fs::File::open(&path).unwrap().set_modified(later).unwrap();
    let store = open_with(adopting(root, Adopt::Move)).await;
    let result = store.adopted_result(action, 1 << 20).await.unwrap();
    assert_eq!(result.as_deref(), Some(b"the result".as_slice()));
    let other = Digest::of(DigestFunction::Sha256, b"another");
    assert_eq!(store.adopted_result(other, 1 << 20).await.unwrap(), None);
    taken_over(&store).await;
    check(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_store_of_results_the_size_in_a_name_is_that_of_the_action() {
    let directory = scratch();
    let root = directory.path();
    let action = Digest::of(DigestFunction::Sha256, b"an action");
    leave(root, &format!("d/{}-{}", action.hash_hex().as_str(), action.size_bytes), b"its result");
    let mut options = adopting(root, Adopt::Move);
    options.former.contents = FormerContents::ActionResults;
    let store = open_with(options).await;
    let result = store.adopted_result(action, 1 << 20).await.unwrap();
    assert_eq!(result.as_deref(), Some(b"its result".as_slice()));
    taken_over(&store).await;
    check(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_not_taken_for_results() {
    let directory = scratch();
    let root = directory.path();
    let (_, _, path) = leave_blob(root, 1, 3000);
    let mut options = adopting(root, Adopt::Move);
    options.former.contents = FormerContents::ActionResults;
    let store = open_with(options).await;
    assert_eq!(store.stats().former_directories, 0);
    assert!(path.exists());
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_longest_ago_goes_first() {
    let directory = scratch();
    let root = directory.path();
    let mut left: Vec<_> = (1..=30).map(|seed| leave_blob(root, seed, 100_000)).collect();
    let begun = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    for (number, (_, _, path)) in (0..).zip(&left) {
        let times = std::fs::FileTimes::new()
            .set_accessed(begun + Duration::from_secs(number * 7919 % 31))
            .set_modified(begun - Duration::from_secs(number));
        std::fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let store = open_with(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    let order = store.shared.parts.index.lock(|index| index.files());
    let order: Vec<Key> = order.into_iter().map(|file| file.key).collect();
    let mut numbers: Vec<u64> = (0..30).collect();
    numbers.sort_by_key(|number| number * 7919 % 31);
    let expected: Vec<Key> =
        numbers.iter().map(|number| left[usize::try_from(*number).unwrap()].0).collect();
    assert_eq!(order, expected);
    let age = store.stats().oldest_age_seconds.unwrap();
    assert!(age > 86_400 * 365, "as old as its file: {age}");
    left.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_larger_than_the_cap_is_cut_down_to_it_at_the_end() {
    let directory = scratch();
    let root = directory.path();
    let left: Vec<_> = (1..=60).map(|seed| leave_blob(root, seed, 100_000)).collect();
    let mut options = adopting(root, Adopt::Move);
    options.cap = Cap::Bytes(4 << 20);
    let store = open_with(options).await;
    // Writes are taken meanwhile.
    let (key, data) = blob(777, 50_000);
    store.put(&key, data.clone()).await.unwrap();
    taken_over(&store).await;
    check(&store);
    assert_eq!(read(&store, &key).await, Some(data));
    let kept = absent(&store, &left.iter().map(|it| it.0).collect::<Vec<_>>());
    let kept = kept.iter().filter(|is_absent| !**is_absent).count();
    assert!((20..42).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nativelinks_executables_are_removed_and_nothing_else() {
    let directory = scratch();
    let root = directory.path().join("content");
    let (key, data, _) = leave_blob(&root, 1, 3000);
    let beside = directory.path().join("content.exec");
    leave(&beside, &format!("d/{}", name_of(&key)), &data);
    let foreign = leave(&beside, "notes", b"somebody's");
    let store = open_with(adopting(&root, Adopt::Move)).await;
    taken_over(&store).await;
    assert!(!beside.join("d").exists() && foreign.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_to_adopt_leaves_everything_alone() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let store = open_with(adopting(root, Adopt::Off)).await;
    assert_eq!(read(&store, &key).await, None);
    assert!(path.exists());
    assert_books(&store);
    assert_eq!(store.stats().former_directories, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_two_names_loses_nothing() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, path) = leave_blob(root, 1, 3000);
    let (packed, more, packed_path) = leave_casblob(root, 2, 3000);
    let store = open_with(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    let files = store.shared.parts.index.lock(|index| index.files());
    drop(store);
    // As if the old names had not been removed yet.
    for (file, path) in
        files.iter().map(|file| (file, if file.key == key { &path } else { &packed_path }))
    {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::hard_link(root.join(file.path()), path).unwrap();
    }
    let store = open_soon(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert_eq!(read(&store, &key).await, Some(data));
    assert_eq!(read(&store, &packed).await, Some(more));
    assert!(former_names(root).is_empty());
    check(&store);
    assert_eq!(store.stats().former_duplicates, 0);
}
