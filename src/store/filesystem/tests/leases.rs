//! Leases: what a build was told to be there stays for a while (I21).

use super::*;

const LEASE: u64 = 640;

fn leasing(root: &Path, max_bytes: u64) -> FilesystemOptions {
    FilesystemOptions { lease: Duration::from_secs(LEASE), ..options(root, max_bytes) }
}

/// Blobs of one block in few shards, so that directories do not take what the blobs should.
fn small_blobs(count: usize) -> Vec<(Key, Bytes)> {
    let in_few_shards = |it: &(Key, Bytes)| it.0.digest.hash[0] < 8;
    (0..).map(|seed| blob(seed, 4_096)).filter(in_few_shards).take(count).collect()
}

fn keys_of(blobs: &[(Key, Bytes)]) -> Vec<Key> {
    blobs.iter().map(|it| it.0).collect()
}

fn leased(store: &FilesystemStore) -> u64 {
    store.stats().leased_bytes
}

fn charge_of(store: &FilesystemStore, len_bytes: u64) -> u64 {
    store.shared.parts.blocks.charge_of(len_bytes)
}

#[tokio::test]
async fn i21_only_an_answer_to_find_missing_is_a_promise() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 8 << 20)).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data.clone()).await.unwrap();
    store.put(&key, data).await.unwrap();
    assert!(read(&store, &key).await.is_some());
    assert!(matches!(store.begin_put(&key, 9_000).await.unwrap(), BeginPut::AlreadyPresent));
    drop(store.linkable(key.digest).await.unwrap().unwrap());
    assert_eq!(leased(&store), 0);
    assert_eq!(store.find_missing(&[blob(2, 1).0]).await.unwrap(), [true]);
    assert_eq!(leased(&store), 0);
    assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
    assert_eq!(leased(&store), charge_of(&store, 9_000));
    // The variant is a part of what was promised.
    drop(store.executable(key.digest).await.unwrap());
    assert_eq!(leased(&store), 2 * charge_of(&store, 9_000));
    store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(leased(&store), 0);
    check(&store);
}

#[tokio::test]
async fn i14_i21_the_promised_stay_while_younger_ones_go() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 120 * 4_096)).await;
    let blobs = small_blobs(400);
    put_all(&store, &blobs[..30]).await;
    assert_eq!(store.find_missing(&keys_of(&blobs[..20])).await.unwrap(), [false; 20]);
    put_all(&store, &blobs[30..]).await;
    store.quiesce().await;
    let absent = absent(&store, &keys_of(&blobs));
    let left: Vec<usize> = (0..400).filter(|at| !absent[*at]).collect();
    let expected: Vec<usize> = (0..20).chain(400 - (left.len() - 20)..400).collect();
    assert_eq!(left, expected);
    assert_eq!(store.stats().leases_broken, 0);
    check(&store);
}

#[tokio::test]
async fn i14_i21_a_lease_ends_and_a_read_renews_it() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 120 * 4_096)).await;
    let blobs = small_blobs(400);
    put_all(&store, &blobs[..10]).await;
    store.find_missing(&keys_of(&blobs[..10])).await.unwrap();
    let charge = charge_of(&store, 4_096);
    assert_eq!(leased(&store), 10 * charge);
    pass(&store, LEASE - 60);
    assert!(read(&store, &blobs[0].0).await.is_some());
    assert_eq!(leased(&store), 10 * charge);
    pass(&store, 90);
    assert_eq!(leased(&store), charge, "all but the one that was read");
    put_all(&store, &blobs[10..200]).await;
    store.quiesce().await;
    assert_eq!(absent(&store, &keys_of(&blobs[..3])), [false, true, true]);
    pass(&store, LEASE + 60);
    assert_eq!(leased(&store), 0);
    put_all(&store, &blobs[200..]).await;
    store.quiesce().await;
    assert_eq!(absent(&store, &keys_of(&blobs[..1])), [true]);
    assert_eq!(store.stats().leases_broken, 0);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i21_leases_end_without_any_request() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 8 << 20)).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data).await.unwrap();
    store.find_missing(&[key]).await.unwrap();
    for _ in 0..LEASE / 20 {
        store.shared.parts.clock.advance(20);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(leased(&store) > 0, "not before its time");
    store.shared.parts.clock.advance(60);
    until_later("it ends", || leased(&store) == 0).await;
    assert_eq!(absent(&store, &[key]), [false], "there is room");
}

#[tokio::test]
async fn i21_leases_hold_four_fifths_at_most_and_the_oldest_is_broken() {
    let dir = scratch();
    let cap = 200 * 4_096;
    let store = open_with(leasing(dir.path(), cap)).await;
    let blobs = small_blobs(180);
    put_all(&store, &blobs).await;
    let keys = keys_of(&blobs);
    store.find_missing(&keys).await.unwrap();
    let stats = store.stats();
    assert!(stats.leased_bytes <= cap / 10 * 8, "{stats:?}");
    let held = usize::try_from(stats.leased_bytes / charge_of(&store, 4_096)).unwrap();
    assert_eq!(usize::try_from(stats.leases_broken).unwrap(), 180 - held);
    assert!((150..=160).contains(&held), "{held}");
    // What was broken is the oldest, and goes first.
    let fresh: Vec<_> = (5_000..).map(|seed| blob(seed, 4_096)).take(10).collect();
    put_all(&store, &fresh).await;
    store.quiesce().await;
    let absent = absent(&store, &keys);
    let gone = absent.iter().filter(|it| **it).count();
    assert!(gone < 180 - held, "{gone}");
    assert_eq!(absent, [vec![true; gone], vec![false; 180 - gone]].concat());
    check(&store);
}

#[tokio::test]
async fn i21_a_write_breaks_the_oldest_lease_and_low_water_breaks_none() {
    let dir = scratch();
    let spare =
        FilesystemOptions { low_water_bytes: Some(300 << 10), ..leasing(dir.path(), 1 << 20) };
    let store = open_with(spare).await;
    let blobs: Vec<_> = (0..6).map(|seed| blob(seed, 120_000)).collect();
    let keys = keys_of(&blobs);
    for (key, data) in &blobs {
        store.put(key, data.clone()).await.unwrap();
        store.find_missing(&[*key]).await.unwrap();
    }
    store.quiesce().await;
    assert_eq!(absent(&store, &keys), [false; 6], "room is kept by others than the promised");
    assert_eq!(store.stats().leases_broken, 0);
    let (large, data) = blob(50, 400_000);
    store.put(&large, data).await.unwrap();
    let stats = store.stats();
    assert!((1..=3).contains(&stats.leases_broken), "{stats:?}");
    let gone = usize::try_from(stats.leases_broken).unwrap();
    assert_eq!(absent(&store, &keys), [vec![true; gone], vec![false; 6 - gone]].concat());
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i21_where_promises_are_kept_writes_are_refused_and_nothing_leaves() {
    let dir = scratch();
    let refusing = FilesystemOptions {
        lease_policy: LeasePolicy::RefuseWrites,
        ..leasing(dir.path(), 1 << 20)
    };
    let store = open_with(refusing).await;
    let blobs: Vec<_> = (0..7).map(|seed| blob(seed, 120_000)).collect();
    let keys = keys_of(&blobs);
    put_all(&store, &blobs).await;
    store.find_missing(&keys).await.unwrap();
    assert!(leased(&store) > (1 << 20) / 10 * 8, "more than four fifths");
    let (large, data) = blob(50, 400_000);
    let outcome = store.put(&large, data.clone()).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    let outcome = store.begin_put(&large, 400_000).await.map(drop);
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    let stats = store.stats();
    assert_eq!((stats.lease_refusals, stats.leases_broken, stats.evictions), (2, 0, 0));
    assert_eq!(absent(&store, &keys), [false; 7]);
    check(&store);
    pass(&store, 60);
    pass(&store, LEASE + 60);
    store.put(&large, data).await.unwrap();
    store.quiesce().await;
    check(&store);
}

#[tokio::test]
async fn i21_a_pinned_promise_outlives_its_pin() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 8 << 20)).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data).await.unwrap();
    let pinned = store.linkable(key.digest).await.unwrap().unwrap();
    store.find_missing(&[key]).await.unwrap();
    pass(&store, 60);
    pass(&store, LEASE + 60);
    drop(pinned);
    assert_eq!(leased(&store), charge_of(&store, 9_000));
    pass(&store, 60);
    pass(&store, LEASE + 60);
    assert_eq!(leased(&store), 0);
    check(&store);
}

#[tokio::test]
async fn i21_promises_survive_a_stop_and_a_kill_after_a_snapshot() {
    for is_clean in [true, false] {
        let dir = scratch();
        let store = open_with(leasing(dir.path(), 130 * 4_096)).await;
        let blobs = small_blobs(400);
        put_all(&store, &blobs[..50]).await;
        store.find_missing(&keys_of(&blobs[..20])).await.unwrap();
        let before = leased(&store);
        if is_clean {
            store.shutdown(Cleanup::Keep).await.unwrap();
        } else {
            let room = snapshots::make_room(&store.shared.parts).unwrap();
            snapshots::write(room).unwrap();
        }
        drop(store);
        let store = open_soon(leasing(dir.path(), 130 * 4_096)).await;
        store.quiesce().await;
        assert_eq!(leased(&store), before);
        put_all(&store, &blobs[50..]).await;
        store.quiesce().await;
        assert_eq!(absent(&store, &keys_of(&blobs[..20])), [false; 20]);
        assert_eq!(absent(&store, &keys_of(&blobs[20..50])), [true; 30]);
        check(&store);
        pass(&store, 60);
        pass(&store, LEASE + 60);
        assert_eq!(leased(&store), 0);
        check(&store);
    }
}

#[tokio::test]
async fn i14_i21_a_start_with_less_room_breaks_the_oldest_promises() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 400 * 4_096)).await;
    let blobs = small_blobs(200);
    put_all(&store, &blobs).await;
    store.find_missing(&keys_of(&blobs)).await.unwrap();
    let overhead = store.stats().overhead_bytes;
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    let store = open_soon(leasing(dir.path(), overhead + 120 * 4_096)).await;
    // A promise before all is read must not break those that happen to be read.
    store.find_missing(&keys_of(&blobs[199..])).await.unwrap();
    let (key, data) = blob(9_999, 4_096);
    store.put(&key, data).await.unwrap();
    store.quiesce().await;
    store.find_missing(&keys_of(&blobs[198..])).await.unwrap();
    let absent = absent(&store, &keys_of(&blobs));
    let gone = absent.iter().filter(|it| **it).count();
    assert_eq!(absent, [vec![true; gone], vec![false; 200 - gone]].concat(), "the oldest");
    let stats = store.stats();
    assert!(stats.leased_bytes <= stats.max_bytes / 10 * 8, "{stats:?}");
    check(&store);
}

#[tokio::test]
async fn i21_a_long_question_gives_all_its_promises() {
    let dir = scratch();
    let store = open_with(leasing(dir.path(), 64 << 20)).await;
    let blobs: Vec<_> = (0..1_300).map(|seed| blob(seed, 10)).collect();
    put_all(&store, &blobs).await;
    assert!(!store.find_missing(&keys_of(&blobs)).await.unwrap().contains(&true));
    assert_eq!(leased(&store), 1_300 * charge_of(&store, 10));
}

#[tokio::test]
async fn i21_what_was_just_stored_is_not_taken_to_keep_room_free() {
    let dir = scratch();
    let low_water_bytes = Some(200_000);
    let options = FilesystemOptions { low_water_bytes, ..leasing(dir.path(), 8 << 20) };
    let store = open_with(options).await;
    let promised: Vec<_> = (0..40).map(|seed| blob(seed, 300_000)).collect();
    for (key, data) in &promised {
        store.put(key, data.clone()).await.unwrap();
        assert_eq!(store.find_missing(&[*key]).await.unwrap(), [false]);
    }
    // A little more than what is left beside the promises.
    let (large, data) = blob(99, 1_700_000);
    store.put(&large, data.clone()).await.unwrap();
    store.quiesce().await;
    assert_eq!(read(&store, &large).await, Some(data));
    check(&store);
}
