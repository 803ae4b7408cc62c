//! I16: what is purged does not come back from another server's directory.

use rustix::io::Errno;

use super::*;
use crate::store::filesystem::disk::{Call, Lasting};

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_all_takes_what_was_not_taken_over_yet() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let (packed, _, _) = leave_casblob(root, 2, 3000);
    let store = without_walk(root, Adopt::Move);
    store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(store.find_missing(&[key, packed]).await.unwrap(), [true, true]);
    assert!(!path.exists());
    drop(store);
    // Nor does the next process find it.
    leave_blob(root, 1, 3000);
    let store = open_soon(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert_eq!(store.find_missing(&[key, packed]).await.unwrap(), [true, true]);
    check(&store);
    drop(store);
    // What comes after all that was taken over is another directory.
    leave_blob(root, 1, 3000);
    let store = open_soon(adopting(root, Adopt::Move)).await;
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_a_hash_finds_it_whatever_its_size() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, path) = leave_blob(root, 1, 3000);
    let (packed, _, packed_path) = leave_casblob(root, 2, 3000);
    let store = without_walk(root, Adopt::Move);
    for key in [key, packed] {
        let purged = store.purge_selected(Selection::Hash(key.digest.hash)).await.unwrap();
        assert_eq!(purged.removed, 1);
    }
    assert!(!path.exists() && !packed_path.exists());
    assert_eq!(store.find_missing(&[key, packed]).await.unwrap(), [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_an_instance_takes_the_results_that_every_instance_asks_for() {
    let directory = scratch();
    let root = directory.path();
    let action = Digest::of(DigestFunction::Sha256, b"action");
    let key = Key::action_result(Namespace::ADOPTED, action);
    leave(root, &bucket_path("ac.v2", &key, "-111111111"), b"a result");
    let (blob_key, data, _) = leave_blob(root, 1, 3000);
    for is_taken_over in [false, true] {
        let store = open_soon(adopting(root, Adopt::Move)).await;
        if is_taken_over {
            taken_over(&store).await;
        }
        let scope = PurgeScope::Namespace(Namespace::of_instance("main"));
        store.purge(scope).await.unwrap();
        assert_eq!(store.adopted_result(action, 1 << 20).await.unwrap(), None);
        assert_eq!(read(&store, &blob_key).await.as_ref(), Some(&data));
        taken_over(&store).await;
        check(&store);
        drop(store);
        leave(root, &bucket_path("ac.v2", &key, "-111111111"), b"a result");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_holds_through_a_start_that_adopts_nothing() {
    let directory = scratch();
    let root = directory.path();
    let (key, _, _) = leave_blob(root, 1, 3000);
    let store = without_walk(root, Adopt::Move);
    store.purge(PurgeScope::All).await.unwrap();
    drop(store);
    drop(open_soon(adopting(root, Adopt::Off)).await);
    let store = open_soon(adopting(root, Adopt::Move)).await;
    taken_over(&store).await;
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_old_names_stay() {
    let directory = scratch();
    let root = directory.path();
    let (_, _, path) = leave_blob(root, 1, 3000);
    let store = without_walk(root, Adopt::Move);
    let parts = &store.shared.parts;
    parts.index.lock(|index| drop(index.close()));
    let keys: Vec<Key> = vec![Key::blob(blob(1, 3000).0.digest)];
    store.find_missing(&keys).await.unwrap();
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn i16_a_purge_of_a_hash_takes_originals_whose_entries_are_lost() {
    let directory = scratch();
    let root = directory.path();
    let left: Vec<_> = (1..=2).map(|seed| leave_casblob(root, seed, 3000)).collect();
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    for (key, data, _) in &left {
        assert_eq!(read(&store, key).await.as_ref(), Some(data));
    }
    store.quiesce().await;
    for own in store.shared.parts.index.lock(|index| index.paths()) {
        std::fs::remove_file(root.join(own)).unwrap();
    }
    let [(of_hash, _, path), (one, _, other_path)] = &left[..] else { panic!("two blobs") };
    assert_eq!((read(&store, of_hash).await, read(&store, one).await), (None, None));
    store.purge_selected(Selection::Hash(of_hash.digest.hash)).await.unwrap();
    store.remove(one).await.unwrap();
    assert!(!path.exists() && !other_path.exists());
    assert_books(&store);
    drop(store);
    let store = open_soon(adopting(root, Adopt::Link)).await;
    store.loaded().await;
    taken_over(&store).await;
    assert_eq!(store.find_missing(&[*of_hash, *one]).await.unwrap(), [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_takes_no_original_of_another_size() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, path) = leave_blob(root, 1, 3000);
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    let other = Key::blob(Digest { size_bytes: 2999, ..key.digest });
    assert!(!store.remove(&other).await.unwrap());
    assert!(path.exists());
    assert_eq!(read(&store, &key).await, Some(data));
    assert_books(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_what_cannot_be_unlinked_is_discharged_once_and_removed_in_the_end() {
    let directory = scratch();
    let root = directory.path();
    let (key, data, path) = leave_casblob(root, 1, 3000);
    let store = open_with(adopting(root, Adopt::Link)).await;
    taken_over(&store).await;
    // The victim of the first read keeps its name, and the blob is removed meanwhile.
    let faults = store.shared.parts.disk.faults();
    faults.fail(Call::Unlink, 1, Errno::IO, Lasting::Sticky);
    assert_eq!(read(&store, &key).await, Some(data));
    until("a victim is stuck", || store.stats().evict_unlink_failures > 0).await;
    assert!(store.remove(&key).await.is_err());
    faults.clear();
    store.quiesce().await;
    assert!(!store.remove(&key).await.unwrap());
    store.quiesce().await;
    assert!(!path.exists());
    assert_books(&store);
}
