//! Blobs in chunks over real stores.

mod formats;
mod reads;

use super::*;
use crate::store::spy_tests::{
    Call, Scratch, begin, is_missing, key_of, noise, poll_only, read, read_part, stream, text,
};

/// The smallest chunks worth testing with, so that few bytes are many of them.
const SMALL: DedupOptions = DedupOptions {
    min_bytes: 1 << 10,
    normal_bytes: 4 << 10,
    max_bytes: 16 << 10,
    max_concurrent_fetches: 4,
};

/// Two stores and one before them.
struct World {
    index: Scratch,
    content: Scratch,
    store: Arc<DedupStore>,
}

impl World {
    async fn open() -> Self {
        Self::with_cap(256 << 20).await
    }

    async fn with_cap(cap_bytes: u64) -> Self {
        let (index, content) = (Scratch::open().await, Scratch::with_cap(cap_bytes).await);
        let store = open_over(&index, &content);
        Self { index, content, store }
    }

    async fn put(&self, data: &Bytes) -> Key {
        let key = key_of(data);
        self.store.put(&key, data.clone()).await.unwrap();
        key
    }

    async fn list(&self, key: &Key) -> Arc<List> {
        self.store.shared.read_list(key).await.unwrap().unwrap()
    }

    /// Takes the chunk with this number out of the store that has it.
    async fn lose(&self, key: &Key, number: usize) {
        let chunk = self.list(key).await.chunks().nth(number).unwrap();
        assert!(self.content.files.remove(&Key::blob(chunk)).await.unwrap());
    }

    async fn assert_idle(&self) {
        self.index.assert_idle().await;
        self.content.assert_idle().await;
    }
}

fn open_over(index: &Scratch, content: &Scratch) -> Arc<DedupStore> {
    DedupStore::new(Arc::clone(&index.spy) as _, Arc::clone(&content.spy) as _, SMALL)
}

fn puts(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Put(_))).count()
}

fn gets(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Get(..))).count()
}

#[tokio::test]
async fn bytes_of_every_length_come_back() {
    let world = World::open().await;
    for len in [0, 1, 1023, 1024, 1025, 16 << 10, (16 << 10) + 1, 200_000] {
        let data = noise(len as u64, len);
        let key = world.put(&data).await;
        assert_eq!(read(&*world.store, &key).await, Some(data.clone()), "{len}");
        let list = world.list(&key).await;
        assert!(world.store.remove(&key).await.unwrap());
        assert_eq!(read(&*world.store, &key).await, None);
        stream(&*world.store, &key, &data, 777).await.unwrap();
        assert_eq!(world.list(&key).await, list, "{len}: cut at other places");
        assert_eq!(read(&*world.store, &key).await, Some(data), "{len}");
        let found = world.store.find_by_hash(key.digest.function, key.digest.hash).await;
        assert_eq!(found.unwrap(), Some(key.digest));
    }
    assert_eq!(world.store.stats().corrupt, 0);
    world.assert_idle().await;
}

#[tokio::test]
async fn what_blobs_have_in_common_is_kept_once() {
    let world = World::open().await;
    let data = noise(1, 400_000);
    world.put(&data).await;
    let before = world.store.stats();
    assert_eq!((before.blobs, before.bytes_written, before.bytes_shared), (1, 400_000, 0));
    // Something at the beginning moves every byte behind it.
    let shifted = Bytes::from([b"inserted", &data[..]].concat());
    let key = world.put(&shifted).await;
    let after = world.store.stats();
    let written = after.bytes_written - before.bytes_written;
    assert!(written <= 48 << 10, "{written} of 400008 bytes were written");
    assert_eq!(after.bytes_shared + written, 400_008);
    assert!(after.chunks_shared > 50, "{after:?}");
    assert_eq!(read(&*world.store, &key).await, Some(shifted));
    // Nor is what one blob has more than once.
    let zeros = Bytes::from(vec![0; 300_000]);
    let key = world.put(&zeros).await;
    let written = world.store.stats().bytes_written - after.bytes_written;
    assert!(written <= 32 << 10, "{written}");
    assert_eq!(read(&*world.store, &key).await, Some(zeros));
}

#[tokio::test]
async fn wrong_bytes_and_wrong_sizes_are_refused() {
    let world = World::open().await;
    let store = &*world.store;
    for len in [100, 100_000] {
        let data = noise(2, len);
        let key = key_of(&data);
        let mut wrong = data.to_vec();
        wrong[len - 1] ^= 1;
        let wrong = Bytes::from(wrong);
        let streamed = stream(store, &key, &wrong, 999).await;
        for outcome in [store.put(&key, wrong.clone()).await, streamed] {
            assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
        }
        for sent in [data.slice(1..), Bytes::from([&data[..], b"!"].concat())] {
            let streamed = stream(store, &key, &sent, 999).await;
            for outcome in [store.put(&key, sent).await, streamed] {
                assert!(matches!(outcome, Err(StoreError::SizeMismatch { .. })), "{outcome:?}");
            }
        }
        assert!(is_missing(store, &key).await);
        world.put(&data).await;
        let outcome = store.put(&key, wrong).await;
        assert!(matches!(outcome, Err(StoreError::HashMismatch { .. })), "{outcome:?}");
        // The same hash with another size is the name of no blob.
        let digest = Digest { size_bytes: key.digest.size_bytes + 1, ..key.digest };
        assert!(is_missing(store, &Key::blob(digest)).await);
        assert!(read(store, &Key::blob(digest)).await.is_none());
    }
    assert_eq!(store.stats().blobs, 2);
    world.assert_idle().await;
}

#[tokio::test]
async fn a_blob_is_there_when_its_list_and_all_its_chunks_are() {
    let world = World::open().await;
    let data = noise(3, 100_000);
    let key = world.put(&data).await;
    let chunks = world.list(&key).await.chunks().count();
    assert!(chunks > 10);
    for number in [0, chunks / 2, chunks - 1] {
        world.lose(&key, number).await;
        assert!(is_missing(&*world.store, &key).await);
        assert!(read(&*world.store, &key).await.is_none());
        // The next upload heals it, and writes what is missing only.
        world.content.spy.calls();
        stream(&*world.store, &key, &data, 10_000).await.unwrap();
        assert_eq!(puts(&world.content.spy.calls()), 1);
        assert_eq!(read(&*world.store, &key).await, Some(data.clone()));
    }
    world.index.files.remove(&list_key(&key)).await.unwrap();
    assert!(is_missing(&*world.store, &key).await);
    world.content.spy.calls();
    world.put(&data).await;
    assert_eq!(puts(&world.content.spy.calls()), 0);
    let begun = world.store.begin_put(&key, 100_000).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
}

#[tokio::test]
async fn asking_again_reads_no_list_again() {
    let world = World::open().await;
    let mut keys = Vec::new();
    for seed in 0..20 {
        keys.push(world.put(&noise(seed, 30_000)).await);
    }
    keys.push(key_of(b"absent"));
    let mut expected = vec![false; 20];
    expected.push(true);
    let fresh = open_over(&world.index, &world.content);
    for reads in [20, 0] {
        world.index.spy.calls();
        world.content.spy.calls();
        assert_eq!(fresh.find_missing(&keys).await.unwrap(), expected);
        assert_eq!(gets(&world.index.spy.calls()), reads);
        let asked = world.content.spy.calls();
        assert!(matches!(asked[..], [Call::FindMissing(20..)]), "{asked:?}");
    }
    // Whether they are there is asked each time.
    world.lose(&keys[7], 2).await;
    world.index.files.remove(&list_key(&keys[9])).await.unwrap();
    (expected[7], expected[9]) = (true, true);
    assert_eq!(fresh.find_missing(&keys).await.unwrap(), expected);
}

#[tokio::test]
async fn lists_in_memory_are_bounded() {
    let lists = Lists::default();
    for number in 0_u64..40_000 {
        let digest = Digest::of(DigestFunction::Blake3, &number.to_le_bytes());
        let mut builder = list::ListBuilder::default();
        for _ in 0..20 {
            builder.push(&digest);
        }
        lists.insert(&Arc::new(builder.finish(digest)));
        let first = Digest::of(DigestFunction::Blake3, &0_u64.to_le_bytes());
        assert!(lists.get(&first).is_some(), "it is used all the time");
    }
    assert!((10_000..30_000).contains(&lists.len()), "{}", lists.len());
}

#[tokio::test]
async fn i16_a_purge_takes_blobs_and_uploads_with_it() {
    let world = World::open().await;
    let store = &*world.store;
    let (there, coming) = (noise(4, 50_000), noise(5, 50_000));
    let blobs = Selection::Scope(PurgeScope::Namespace(Namespace::SHARED));
    let hash = Selection::Hash(key_of(&coming).digest.hash);
    for selection in [blobs, Selection::Scope(PurgeScope::All), hash] {
        let key = key_of(&coming);
        world.put(&there).await;
        let mut upload = begin(store, &key).await;
        upload.write(coming.slice(..40_000)).await.unwrap();
        // That it goes says that the purge has begun.
        world.put(&coming).await;
        let finish = async {
            while read(store, &key).await.is_some() {
                tokio::task::yield_now().await;
            }
            upload.write(coming.slice(40_000..)).await?;
            upload.commit().await
        };
        let (purged, finished) = tokio::join!(store.purge_selected(selection), finish);
        assert!(purged.unwrap().is_drained);
        assert!(matches!(finished, Err(StoreError::Purged)), "{finished:?}");
        assert!(is_missing(store, &key).await);
        assert_eq!(is_missing(store, &key_of(&there)).await, selection != hash);
    }
    world.assert_idle().await;
}

#[tokio::test]
async fn a_purge_of_results_leaves_blobs_alone() {
    let world = World::open().await;
    let data = noise(6, 50_000);
    let key = world.put(&data).await;
    let namespace = Namespace::of_instance("main");
    let result = Key::action_result(namespace, key.digest);
    let age = std::time::Duration::ZERO;
    for selection in [
        Selection::Scope(PurgeScope::Namespace(namespace)),
        Selection::ResultsOlderThan { namespace: None, age },
    ] {
        world.store.put(&result, "value".into()).await.unwrap();
        assert_eq!(read(&*world.index.files, &result).await, Some("value".into()));
        assert_eq!(world.store.purge_selected(selection).await.unwrap().removed, 1);
        assert!(is_missing(&*world.store, &result).await);
        assert_eq!(read(&*world.store, &key).await, Some(data.clone()));
    }
}

#[tokio::test]
async fn what_does_not_stay_whole_is_not_stored() {
    let world = World::with_cap(4 << 20).await;
    // Chunks take whole blocks of the file system, so the blob is within the limit, not the room.
    let len = usize::try_from(world.store.max_blob_bytes()).unwrap();
    assert!(len <= 4 << 20);
    let data = noise(7, len);
    let outcome = stream(&*world.store, &key_of(&data), &data, 100_000).await;
    assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    assert!(is_missing(&*world.store, &key_of(&data)).await);
    world.assert_idle().await;
}

#[tokio::test]
async fn what_a_store_behind_refuses_leaves_nothing() {
    let world = World::open().await;
    let data = noise(8, 100_000);
    let key = key_of(&data);
    for broken in [&world.index, &world.content] {
        broken.spy.fail_to_write(true);
        let outcome = world.store.put(&key, data.clone()).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
        broken.spy.fail_to_write(false);
        assert!(is_missing(&*world.store, &key).await);
    }
    let mut upload = begin(&*world.store, &key).await;
    world.content.spy.fail_to_write(true);
    upload.write(data.slice(..90_000)).await.unwrap_err();
    assert!(!upload.is_resumable());
    world.content.spy.fail_to_write(false);
    upload.write(data.slice(90_000..)).await.unwrap_err();
    drop(upload);
    assert!(is_missing(&*world.store, &key).await);
    world.put(&data).await;
    // What cannot be read now is neither absent nor corrupt.
    for broken in [&world.index, &world.content] {
        broken.spy.fail_to_read(true);
        let outcome = world.store.get(&key, ByteRange::ALL).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
        broken.spy.fail_to_read(false);
    }
    assert_eq!(read(&*world.store, &key).await, Some(data));
    assert_eq!(world.store.stats().corrupt, 0);
    world.assert_idle().await;
}

#[tokio::test]
async fn whatever_is_dropped_leaves_nothing() {
    let world = World::open().await;
    let store = &*world.store;
    let data = noise(9, 60_000);
    let key = key_of(&data);
    for polls in 0..60 {
        let whole = poll_only(polls, store.put(&key, data.clone())).await;
        if !is_missing(store, &key).await {
            assert_eq!(read(store, &key).await, Some(data.clone()));
        } else if whole.is_some() {
            panic!("it is not there");
        }
        store.remove(&key).await.unwrap();
        let mut upload = begin(store, &key).await;
        let written = poll_only(polls, upload.write(data.clone())).await;
        assert_eq!(upload.is_resumable(), written.is_some() || polls == 0);
        if written.is_some() {
            poll_only(polls, upload.commit()).await;
        } else if polls > 0 {
            upload.write("more".into()).await.unwrap_err();
            assert!(is_missing(store, &key).await);
        }
        store.remove(&key).await.unwrap();
    }
    world.assert_idle().await;
}

#[tokio::test]
async fn i16_a_write_that_a_purge_overtakes_while_it_looks_for_its_blob_is_cut_off() {
    let world = World::open().await;
    let data = text(31, 50_000);
    for len in [100, data.len()] {
        let data = data.slice(..len);
        let key = key_of(&data);
        let held = world.index.spy.hold_lookups().await;
        let purging = async {
            world.index.spy.looked_up().await;
            world.store.purge_selected(Selection::Scope(PurgeScope::All)).await.unwrap();
            drop(held);
        };
        let (written, ()) = tokio::join!(world.store.put(&key, data.clone()), purging);
        assert!(matches!(written, Err(StoreError::Purged)), "{written:?}");
        assert_eq!(read(&*world.store, &key).await, None);
        world.store.put(&key, data.clone()).await.unwrap();
        assert_eq!(read(&*world.store, &key).await, Some(data));
    }
}
