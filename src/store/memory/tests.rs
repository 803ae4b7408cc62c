//! The store as its callers see it. What holds for every store is in the contract's suite.

use tokio::time::advance;

use super::shared::MemoryIndex;
use super::*;
use crate::store::{BlobStoreExt as _, Namespace, PurgeScope};

/// The longest wait of a test; nothing is measured by it.
const PATIENCE: Duration = Duration::from_mins(1);

fn options(max_bytes: u64) -> MemoryOptions {
    MemoryOptions { lease: Duration::ZERO, ..MemoryOptions::new(max_bytes) }
}

fn open(max_bytes: u64) -> Arc<MemoryStore> {
    MemoryStore::new(&options(max_bytes))
}

fn blob(seed: u64, len: usize) -> (Key, Bytes) {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    (Key::blob(Digest::of(DigestFunction::Sha256, &data)), data.into())
}

fn result_key(name: &str) -> Key {
    let digest = Digest::of(DigestFunction::Sha256, name.as_bytes());
    Key::action_result(Namespace::of_instance("main"), digest)
}

async fn begin(store: &MemoryStore, key: &Key, size_bytes: u64) -> Upload {
    match store.begin_put(key, size_bytes).await.unwrap() {
        BeginPut::Upload(upload) => upload,
        BeginPut::AlreadyPresent => panic!("already present"),
    }
}

async fn read(store: &MemoryStore, key: &Key) -> Option<Bytes> {
    store.get_all(key, u64::MAX).await.unwrap()
}

/// Which are there, without touching any.
fn there(store: &MemoryStore, keys: &[Key]) -> Vec<bool> {
    store.shared.look(|index| {
        let entries = index.order.in_order();
        keys.iter().map(|key| entries.iter().any(|it| it.key == *key)).collect()
    })
}

/// The books add up, and nothing is in flight.
fn check(store: &MemoryStore) {
    store.shared.look(MemoryIndex::check);
    let stats = store.stats();
    assert_eq!((stats.reserved_bytes, stats.dying_bytes, stats.writes), (0, 0, 0), "{stats:?}");
}

#[tokio::test]
async fn i2_a_value_counts_with_its_overhead_and_no_byte_more_fits() {
    let (key, data) = blob(1, 10_000);
    let charge = charge_of(10_000);
    let store = open(charge);
    assert_eq!(store.max_blob_bytes(), 10_000);
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!((store.stats().resident_bytes, store.stats().entries), (charge, 1));
    let tight = open(charge - 1);
    let outcome = tight.put(&key, data).await;
    assert!(matches!(outcome, Err(StoreError::TooLarge { .. })), "{outcome:?}");
    check(&store);
    check(&tight);
}

#[test]
fn the_longest_value_is_one_that_fits() {
    for max_bytes in [0, 1, 383, 384, 500, 1 << 20, (1 << 20) + 449, 5 << 20, 7 << 30, u64::MAX] {
        let longest = longest_within(max_bytes);
        assert!(longest == 0 || charge_of(longest) <= max_bytes, "{max_bytes}");
        assert!(longest + ENTRY_OVERHEAD_BYTES + 2 * 64 >= max_bytes / 10_001 * 10_000);
    }
}

#[tokio::test]
async fn i2_what_a_reader_holds_counts_until_it_lets_go() {
    let store = open(charge_of(40_000) * 2);
    let (first, first_data) = blob(1, 40_000);
    store.put(&first, first_data.clone()).await.unwrap();
    let mut reader = store.get(&first, ByteRange::ALL).await.unwrap().unwrap();
    let chunk = reader.next(100).await.unwrap().unwrap();
    store.remove(&first).await.unwrap();
    assert_eq!(store.stats().dying_bytes, charge_of(40_000));
    drop(reader);
    // A chunk of it is on its way to a client.
    assert_eq!(store.stats().dying_bytes, charge_of(40_000));
    assert_eq!(chunk, first_data[..100]);
    drop(chunk);
    check(&store);
    assert_eq!(store.stats().charged_bytes(), 0);
}

#[tokio::test]
async fn i23_a_write_waits_for_a_reader_and_gets_its_room() {
    let store = open(charge_of(40_000));
    let (first, second) = (blob(1, 40_000), blob(2, 30_000));
    store.put(&first.0, first.1.clone()).await.unwrap();
    let mut reader = store.get(&first.0, ByteRange::ALL).await.unwrap().unwrap();
    let putting = store.put(&second.0, second.1.clone());
    let reading = async {
        while !store.is_waiting_for_room() {
            tokio::task::yield_now().await;
        }
        // It has left for the other one, and can still be read.
        assert_eq!(there(&store, &[first.0]), [false]);
        let read = reader.next(1 << 20).await.unwrap().unwrap();
        assert!(read == first.1);
        assert!(store.is_waiting_for_room());
        drop((reader, read));
    };
    tokio::join!(async { putting.await.unwrap() }, reading);
    assert_eq!(read(&store, &second.0).await, Some(second.1));
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i23_a_write_that_waits_in_vain_is_refused_and_leaves_nothing() {
    let store = open(charge_of(40_000));
    let upload = begin(&store, &blob(1, 40_000).0, 40_000).await;
    let (key, data) = blob(2, 10);
    let outcome = store.put(&key, data.clone()).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    assert_eq!((store.stats().reserve_timeouts, store.stats().waiting_uploads), (1, 0));
    drop(upload);
    check(&store);
    store.put(&key, data).await.unwrap();
}

#[tokio::test]
async fn waiting_writes_are_served_in_their_order() {
    let store = open(charge_of(40_000));
    let held = begin(&store, &blob(1, 40_000).0, 40_000).await;
    let (large, small) = (blob(2, 39_900).0, blob(3, 10).0);
    let mut large = Box::pin(begin(&store, &large, 39_900));
    let mut small = Box::pin(begin(&store, &small, 10));
    assert!(futures_util::poll!(&mut large).is_pending());
    assert!(futures_util::poll!(&mut small).is_pending());
    drop(held);
    // There is room for the small one as well as for the large one, not for both.
    let large = large.await;
    assert!(futures_util::poll!(&mut small).is_pending());
    drop(large);
    drop(small.await);
    check(&store);
}

/// A place in the queue that is given up, and a grant that nobody took.
#[tokio::test]
async fn i23_who_gives_up_waiting_leaves_the_room_to_the_next() {
    let store = open(charge_of(40_000));
    let held = begin(&store, &blob(1, 40_000).0, 40_000).await;
    let (one, two) = (blob(2, 39_000), blob(3, 39_000));
    let mut first = Box::pin(begin(&store, &one.0, 39_000));
    let mut second = Box::pin(begin(&store, &two.0, 39_000));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(held);
    // The first has been granted its room and does not know yet.
    drop(first);
    drop(second.await);
    check(&store);
}

#[tokio::test]
async fn memory_is_taken_when_bytes_come_and_not_before() {
    let store = open(64 << 20);
    let (key, data) = blob(1, 3 << 20);
    let mut upload = begin(&store, &key, 3 << 20).await;
    assert_eq!(store.stats().reserved_bytes, charge_of(3 << 20));
    let mut segments = payload::Segments::default();
    segments.append(&data[..10], 3 << 20);
    assert_eq!(segments.capacity_bytes(), SEGMENT_BYTES);
    segments.append(&data[10..], 3 << 20);
    assert_eq!(segments.capacity_bytes(), 3 << 20, "no byte more than announced");
    upload.write(data.clone()).await.unwrap();
    upload.commit().await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
    // Less may come of what stands for a blob; the rest is given back.
    let derived = Key::derived(Namespace::COMPRESSED, key.digest);
    let mut upload = begin(&store, &derived, 1 << 20).await;
    upload.write(Bytes::from_static(b"short")).await.unwrap();
    upload.commit().await.unwrap();
    assert_eq!(store.stats().resident_bytes, charge_of(3 << 20) + charge_of(5));
    check(&store);
}

#[tokio::test]
async fn i14_the_one_used_longest_ago_leaves_first() {
    let store = open(4 * charge_of(1_000));
    let blobs: Vec<_> = (0..6).map(|seed| blob(seed, 1_000)).collect();
    let keys: Vec<_> = blobs.iter().map(|it| it.0).collect();
    for (key, data) in &blobs[..4] {
        store.put(key, data.clone()).await.unwrap();
    }
    // Each kind of use counts: a read, a question, another upload.
    assert!(read(&store, &keys[0]).await.is_some());
    store.find_missing(&keys[1..2]).await.unwrap();
    store.put(&keys[2], blobs[2].1.clone()).await.unwrap();
    store.put(&keys[4], blobs[4].1.clone()).await.unwrap();
    assert_eq!(there(&store, &keys), [true, true, true, false, true, false]);
    store.put(&keys[5], blobs[5].1.clone()).await.unwrap();
    assert_eq!(there(&store, &keys), [false, true, true, false, true, true]);
    assert_eq!(store.stats().evictions, 2);
    check(&store);
}

#[tokio::test]
async fn more_is_evicted_at_once_down_to_the_low_water_mark() {
    let charge = charge_of(1_000);
    let low_water = MemoryOptions { low_water_bytes: 3 * charge, ..options(10 * charge) };
    let store = MemoryStore::new(&low_water);
    for seed in 0..10 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(store.stats().entries, 10, "as long as everything fits nothing leaves");
    store.put(&blob(10, 1_000).0, blob(10, 1_000).1).await.unwrap();
    assert_eq!((store.stats().entries, store.stats().evictions), (7, 4));
    for seed in 11..14 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(store.stats().evictions, 4);
    check(&store);
}

#[tokio::test]
async fn no_more_entries_stay_than_allowed() {
    let store = MemoryStore::new(&MemoryOptions { max_entries: Some(3), ..options(1 << 20) });
    let keys: Vec<_> = (0..5).map(|seed| blob(seed, 100).0).collect();
    for seed in 0..5 {
        store.put(&blob(seed, 100).0, blob(seed, 100).1).await.unwrap();
    }
    assert_eq!(there(&store, &keys), [false, false, true, true, true]);
    assert_eq!(store.stats().over_count, 2);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_for_too_long_is_not_there() {
    let max_age = Some(Duration::from_secs(100));
    let store = MemoryStore::new(&MemoryOptions { max_age, ..options(1 << 20) });
    let blobs = [blob(1, 100), blob(2, 100)];
    for (key, data) in &blobs {
        store.put(key, data.clone()).await.unwrap();
    }
    advance(Duration::from_mins(1)).await;
    assert!(read(&store, &blobs[0].0).await.is_some());
    advance(Duration::from_mins(1)).await;
    let digest = blobs[1].0.digest;
    assert_eq!(store.find_by_hash(digest.function, digest.hash).await.unwrap(), None);
    let keys = [blobs[0].0, blobs[1].0];
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false, true]);
    assert_eq!(store.stats().expirations, 1);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_nobody_uses_lets_go_as_well() {
    let max_age = Some(Duration::from_secs(100));
    let store = MemoryStore::new(&MemoryOptions { max_age, ..options(1 << 20) });
    store.put(&blob(1, 100).0, blob(1, 100).1).await.unwrap();
    tokio::time::timeout(PATIENCE * 3, async {
        while store.stats().entries > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i21_what_was_promised_stays_until_its_lease_ends() {
    let charge = charge_of(1_000);
    let lease = Duration::from_secs(100);
    let store = MemoryStore::new(&MemoryOptions { lease, ..options(10 * charge) });
    let promised: Vec<_> = (0..4).map(|seed| blob(seed, 1_000)).collect();
    let keys: Vec<_> = promised.iter().map(|it| it.0).collect();
    for (key, data) in &promised {
        store.put(key, data.clone()).await.unwrap();
    }
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false; 4]);
    assert_eq!(store.stats().leased_bytes, 4 * charge);
    for seed in 100..200 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(there(&store, &keys), [true; 4]);
    advance(lease).await;
    for seed in 200..210 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(there(&store, &keys), [false; 4]);
    assert_eq!((store.stats().leased_bytes, store.stats().leases_broken), (0, 0));
    check(&store);
}

#[tokio::test]
async fn i21_leases_hold_four_fifths_and_the_oldest_is_broken_and_counted() {
    let charge = charge_of(1_000);
    let store = MemoryStore::new(&MemoryOptions::new(10 * charge));
    let keys: Vec<_> = (0..10).map(|seed| blob(seed, 1_000).0).collect();
    for seed in 0..10 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false; 10]);
    assert_eq!((store.stats().leased_bytes, store.stats().leases_broken), (8 * charge, 2));
    // A large write finds only leases to evict.
    let large = blob(50, 9_000);
    store.put(&large.0, large.1.clone()).await.unwrap();
    assert!(read(&store, &large.0).await.is_some());
    assert!(store.stats().leases_broken > 2);
    check(&store);
}

#[tokio::test]
async fn i21_what_replaces_a_promised_result_is_promised_too() {
    let store = MemoryStore::new(&MemoryOptions::new(1 << 20));
    let key = result_key("a");
    store.put(&key, "first".into()).await.unwrap();
    store.find_missing(&[key]).await.unwrap();
    assert_eq!(store.stats().leased_bytes, charge_of(5));
    store.put(&key, "second".into()).await.unwrap();
    assert_eq!((store.stats().leased_bytes, store.stats().replaced), (charge_of(6), 1));
    check(&store);
}

#[tokio::test]
async fn a_pinned_blob_stays_and_a_purge_takes_it_all_the_same() {
    let store = open(4 * charge_of(1_000));
    let (key, data) = blob(1, 1_000);
    assert!(store.pin(&key).await.unwrap().is_none());
    store.put(&key, data.clone()).await.unwrap();
    let pins = [store.pin(&key).await.unwrap().unwrap(), store.pin(&key).await.unwrap().unwrap()];
    let [first, second] = pins;
    for seed in 10..30 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    drop(first);
    for seed in 30..50 {
        store.put(&blob(seed, 1_000).0, blob(seed, 1_000).1).await.unwrap();
    }
    assert_eq!(there(&store, &[key]), [true]);
    store.purge_selected(Selection::Scope(PurgeScope::All)).await.unwrap();
    assert_eq!(read(&store, &key).await, None);
    // The pin of one generation is not that of the next (I7).
    store.put(&key, data).await.unwrap();
    let third = store.pin(&key).await.unwrap().unwrap();
    drop(second);
    assert_eq!(store.stats().pinned_bytes, charge_of(1_000));
    drop(third);
    assert_eq!(store.stats().pinned_bytes, 0);
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i16_a_purge_does_not_wait_for_what_it_does_not_cut_off() {
    let store = open(1 << 20);
    let (key, data) = blob(1, 100);
    let mut upload = begin(&store, &key, 100).await;
    let main = Selection::Scope(PurgeScope::Namespace(Namespace::of_instance("main")));
    assert!(store.purge_selected(main).await.unwrap().is_drained);
    let all = Selection::Scope(PurgeScope::All);
    assert!(!store.purge_selected(all).await.unwrap().is_drained, "it waits no longer than it may");
    upload.write(data.clone()).await.unwrap();
    assert!(matches!(upload.commit().await, Err(StoreError::Purged)));
    assert_eq!((read(&store, &key).await, store.stats().purge_cancelled_writes), (None, 1));
    // One that began behind the fence is none of its business.
    store.put(&key, data).await.unwrap();
    check(&store);
}

#[tokio::test(start_paused = true)]
async fn i22_unfinished_purges_are_bounded() {
    let store = open(1 << 20);
    let upload = begin(&store, &blob(1, 100).0, 100).await;
    for number in 0..2_000_u32 {
        let mut hash = [0; HASH_BYTES];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        if store.purge_selected(Selection::Hash(hash)).await.is_err() {
            drop(upload);
            assert!(number >= 1000);
            store.purge_selected(Selection::Hash(hash)).await.unwrap();
            return check(&store);
        }
    }
    panic!("no bound");
}

#[tokio::test]
async fn a_store_that_has_shrunk_takes_little_for_its_index() {
    let store = open(8 << 20);
    for number in 0..10_000 {
        store.put(&result_key(&number.to_string()), Bytes::new()).await.unwrap();
    }
    let full = store.shared.look(MemoryIndex::table_bytes);
    store.purge_selected(Selection::Scope(PurgeScope::All)).await.unwrap();
    let empty = store.shared.look(MemoryIndex::table_bytes);
    assert!(full > 10_000 * 100 && empty < 64 << 10, "{full} {empty}");
    assert!(full < 10_000 * 250, "{full}");
    check(&store);
}

#[tokio::test]
async fn readers_and_uploads_outlive_the_store() {
    let store = open(8 << 20);
    let (key, data) = blob(1, 3 << 20);
    store.put(&key, data.clone()).await.unwrap();
    let reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    let pin = store.pin(&key).await.unwrap();
    let mut upload = begin(&store, &blob(2, 100).0, 100).await;
    drop(store);
    assert!(reader.read_all().await.unwrap() == data);
    upload.write(blob(2, 100).1).await.unwrap();
    upload.commit().await.unwrap();
    drop(pin);
}
