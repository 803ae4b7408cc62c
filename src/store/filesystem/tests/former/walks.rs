//! When the walk begins and ends, and what it does when steps of it fail.

use rustix::io::Errno;

use super::*;
use crate::store::Namespace;
use crate::store::filesystem::FormerContents;
use crate::store::filesystem::disk::{Call, Lasting};

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_when_it_is_known_what_the_store_has() {
    let directory = scratch();
    let root = directory.path();
    let (own, _) = blob(1, 3000);
    let store = open_with(options(root, CAP)).await;
    store.put(&own, blob(1, 3000).1).await.unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();
    let (_, _, path) = leave_blob(root, 2, 3000);
    let store = at_rest(&adopting(root, Adopt::Move));
    assert!(store.stats().unread_shards > 0);
    begin_walk(&store);
    // What shards that are not read take at most is no excess that has to be borne.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        assert!(path.exists());
    }
    begin_loading(&store);
    taken_over(&store).await;
    assert_eq!(store.stats().entries, 2);
    check(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn i14_nothing_leaves_before_it_is_known_what_is_oldest() {
    let directory = scratch();
    let root = directory.path();
    let mut left: Vec<_> = (1..=60).map(|seed| leave_casblob(root, seed, 100_000)).collect();
    left.sort_by_key(|(key, _, _)| key.digest.hash);
    // What the walk comes to last was used longest ago.
    for (number, (_, _, path)) in (0..).zip(left.iter().rev()) {
        let used = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + number);
        let times = std::fs::FileTimes::new().set_accessed(used).set_modified(used);
        std::fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    let mut options = adopting(root, Adopt::Move);
    (options.cap, options.low_water_bytes) = (Cap::Bytes(4 << 20), Some(512 << 10));
    let store = open_with(options).await;
    taken_over(&store).await;
    check(&store);
    let keys: Vec<Key> = left.iter().map(|it| it.0).collect();
    let absent = absent(&store, &keys);
    let kept = absent.iter().take_while(|is_absent| !**is_absent).count();
    assert!((10..42).contains(&kept), "{kept}");
    assert!(absent[kept..].iter().all(|is_absent| *is_absent), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn steps_that_failed_are_done_again_before_all_is_said_to_be_done() {
    let directory = scratch();
    let root = directory.path();
    let mut left: Vec<Key> = (1..=20).map(|seed| leave_blob(root, seed, 3000).0).collect();
    left.extend((21..=40).map(|seed| leave_casblob(root, seed, 3000).0));
    let store = without_walk(root, Adopt::Move);
    store.loaded().await;
    let faults = store.shared.parts.disk.faults();
    faults.fail(Call::Link, 1, Errno::NOSPC, Lasting::Sticky);
    begin_walk(&store);
    let links = || faults.counts().of(Call::Link);
    until_later("every bucket was tried", || links() > 60).await;
    assert_eq!(store.stats().former_directories, 2);
    faults.clear();
    until_later("the walk ends", || store.stats().former_directories == 0).await;
    assert_eq!(store.find_missing(&left).await.unwrap(), vec![false; left.len()]);
    assert!(former_names(root).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_what_is_to_be_done_again() {
    let directory = scratch();
    let root = directory.path();
    leave_blob(root, 1, 3000);
    let store = without_walk(root, Adopt::Move);
    store.loaded().await;
    let faults = store.shared.parts.disk.faults();
    faults.fail(Call::Link, 1, Errno::NOSPC, Lasting::Sticky);
    let walk = run_walk(Arc::clone(&store.shared.parts), store.shared.closing());
    let walk = tokio::spawn(walk);
    until_later("it is left for later", || faults.counts().of(Call::Link) >= 3).await;
    // The pause between two tries is over then, and the long one begins.
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
    faults.clear();
    let begun = tokio::time::Instant::now();
    drop(store);
    walk.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_after_another_function_is_left_alone() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_casblob(root, 1, 3000);
    let mut options = adopting(root, Adopt::Move);
    options.former.function = DigestFunction::Blake3;
    let store = open_with(options).await;
    assert_eq!(store.stats().former_directories, 0);
    assert_eq!(read(&store, &key).await, None);
    assert!(path.exists());
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_alone_beside_the_root_is_charged() {
    let directory = scratch();
    let root = directory.path().join("values");
    std::fs::create_dir(&root).unwrap();
    let (key, data) = blob(1, 30_000);
    leave(directory.path(), &bucket_path("raw.v2", &key, "-111111111"), &data);
    let mut options = adopting(&root, Adopt::Move);
    options.former.contents = FormerContents::Values(Namespace::of_values("raw"));
    options.former.function = DigestFunction::Blake3;
    let store = open_with(options).await;
    let left_bytes = du(&directory.path().join("raw.v2"));
    assert_eq!(store.stats().charged_bytes(), du(&root) + left_bytes);
}
