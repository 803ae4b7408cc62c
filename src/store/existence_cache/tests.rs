//! Goal: nothing is said to be there that a look would not find, but for seconds and only of
//! another server. Method: a scripted backend, and a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::{ExistenceCacheOptions, ExistenceCacheStore};
use crate::store::tiered::tests::fake::{Call, Fake};
use crate::store::tiered::tests::{blob, until};
use crate::store::{BlobStore, ByteRange, Key, PurgeScope, Selection, StoreError};

struct Cached {
    backend: Arc<Fake>,
    store: Arc<ExistenceCacheStore>,
}

impl Cached {
    fn new(backend_is_remote: bool, options: ExistenceCacheOptions) -> Self {
        let backend = Fake::new();
        let store = ExistenceCacheStore::new(Arc::clone(&backend) as _, backend_is_remote, options);
        Self { backend, store }
    }

    fn remote() -> Self {
        Self::new(true, ExistenceCacheOptions::default())
    }

    /// Stores blobs behind its back.
    fn fill(&self, count: u64) -> Vec<Key> {
        (0..count)
            .map(|seed| {
                let (key, data) = blob(seed, 100);
                self.backend.insert(&key, data);
                key
            })
            .collect()
    }

    async fn ask(&self, keys: &[Key]) -> Vec<bool> {
        self.store.find_missing(keys).await.unwrap()
    }

    fn spawn_ask(&self, key: Key) -> JoinHandle<Result<Vec<bool>, StoreError>> {
        let store = Arc::clone(&self.store);
        #[expect(clippy::disallowed_methods, reason = "a test wants the outcome")]
        tokio::spawn(async move { store.find_missing(&[key]).await })
    }

    fn questions(&self) -> usize {
        self.backend.calls(Call::Find)
    }
}

#[tokio::test(start_paused = true)]
async fn before_a_store_of_this_process_every_question_goes_through() {
    let cached = Cached::new(false, ExistenceCacheOptions::default());
    let keys = cached.fill(3);
    for asked in 1..4 {
        assert_eq!(cached.ask(&keys).await, [false; 3]);
        assert_eq!(cached.questions(), asked);
    }
    assert!(cached.backend.evict(&keys[1]));
    assert_eq!(cached.ask(&keys).await, [false, true, false]);
    assert_eq!(cached.store.stats().hits, 0);
}

#[tokio::test(start_paused = true)]
async fn of_another_server_what_is_there_is_remembered_and_absence_never() {
    let cached = Cached::remote();
    let mut keys = cached.fill(3);
    let (absent, data) = blob(9, 100);
    keys.insert(1, absent);
    for asked in 1..4 {
        assert_eq!(cached.ask(&keys).await, [false, true, false, false]);
        // Only for the one.
        assert_eq!(cached.questions(), asked);
    }
    cached.store.put(&absent, data).await.unwrap();
    assert_eq!(cached.ask(&keys).await, [false; 4]);
    assert_eq!(cached.questions(), 4);
    assert_eq!(cached.ask(&keys).await, [false; 4]);
    assert_eq!(cached.questions(), 4);
    let stats = cached.store.stats();
    assert_eq!((stats.entries, stats.hits, stats.misses), (4, 13, 7));
}

#[tokio::test(start_paused = true)]
async fn no_answer_lives_longer_than_it_may() {
    let seconds = Duration::from_secs;
    for (max_age, lease, lifetime) in [
        (None, None, 10),
        (Some(seconds(3600)), None, 10),
        (Some(seconds(5)), None, 5),
        (Some(seconds(5)), Some(seconds(2)), 2),
    ] {
        let options = ExistenceCacheOptions { max_age, lease, ..ExistenceCacheOptions::default() };
        let cached = Cached::new(true, options);
        let keys = cached.fill(1);
        cached.ask(&keys).await;
        cached.backend.close(Call::Find);
        advance(Duration::from_millis(lifetime * 1000 - 1)).await;
        assert_eq!(cached.ask(&keys).await, [false]);
        advance(Duration::from_millis(1)).await;
        let asked = cached.questions();
        let question = cached.spawn_ask(keys[0]);
        until("the backend is asked", || cached.questions() > asked).await;
        cached.backend.open(Call::Find);
        assert_eq!(question.await.unwrap().unwrap(), [false]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_from_memory_is_asked_again_in_one_question() {
    let cached = Cached::remote();
    let keys = cached.fill(1000);
    for key in &keys {
        cached.ask(&[*key]).await;
    }
    assert_eq!(cached.questions(), 1000);
    for _ in 0..5 {
        for key in &keys[..600] {
            assert_eq!(cached.ask(&[*key]).await, [false]);
        }
    }
    assert_eq!(cached.questions(), 1000);
    // The clock moves when nobody has anything to do.
    sleep(Duration::from_secs(1)).await;
    until("they are confirmed", || cached.questions() == 1001).await;
    assert_eq!(cached.store.stats().refreshes, 600);
    // Confirmed, they live on; the others do not.
    assert_eq!(cached.store.stats().entries, 1000);
    advance(Duration::from_millis(9250)).await;
    assert_eq!(cached.ask(&keys[..600]).await, [false; 600]);
    assert_eq!(cached.questions(), 1001);
    assert_eq!(cached.store.stats().entries, 600);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_is_forgotten() {
    let cached = Cached::remote();
    let keys = cached.fill(2);
    cached.ask(&keys).await;
    assert!(cached.backend.evict(&keys[0]));
    assert_eq!(cached.ask(&keys).await, [false; 2]);
    sleep(Duration::from_secs(1)).await;
    until("it is disproved", || cached.store.stats().entries == 1).await;
    assert_eq!(cached.store.stats().disproved, 1);
    assert_eq!(cached.ask(&keys).await, [true, false]);
    // So is what cannot be asked.
    cached.backend.fail(Call::Find);
    sleep(Duration::from_secs(1)).await;
    until("nothing is left", || cached.store.stats().entries == 0).await;
    assert!(cached.store.find_missing(&keys).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn i16_what_is_taken_away_is_forgotten_at_once() {
    let all = Selection::Scope(PurgeScope::All);
    let cached = Cached::remote();
    let keys = cached.fill(4);
    cached.ask(&keys).await;
    assert!(cached.backend.evict(&keys[0]));
    assert!(cached.store.get(&keys[0], ByteRange::ALL).await.unwrap().is_none());
    assert_eq!(cached.ask(&keys).await, [true, false, false, false]);
    assert!(cached.store.remove(&keys[1]).await.unwrap());
    assert_eq!(cached.ask(&keys).await, [true, true, false, false]);
    cached.store.purge_selected(all).await.unwrap();
    assert_eq!(cached.ask(&keys).await, [true; 4]);
}

/// With an answer on its way that was true when it was given.
#[tokio::test(start_paused = true)]
async fn i16_an_answer_that_is_overtaken_is_not_remembered() {
    let all = Selection::Scope(PurgeScope::All);
    for way in 0..4 {
        let cached = Cached::remote();
        let [key] = cached.fill(1)[..] else { panic!() };
        cached.backend.close(Call::Find);
        let question = cached.spawn_ask(key);
        until("it is on its way", || cached.questions() == 1).await;
        match way {
            0 => drop(cached.store.purge_selected(all).await.unwrap()),
            1 => drop(cached.store.purge_selected(Selection::Hash(key.digest.hash)).await.unwrap()),
            2 => assert!(cached.store.remove(&key).await.unwrap()),
            _ => {
                assert!(cached.backend.evict(&key));
                assert!(cached.store.get(&key, ByteRange::ALL).await.unwrap().is_none());
            }
        }
        cached.backend.open(Call::Find);
        assert_eq!(question.await.unwrap().unwrap(), [false], "it was there when it was asked");
        assert_eq!(cached.store.stats().entries, 0, "{way}");
        assert_eq!(cached.ask(&[key]).await, [true], "{way}");
    }
}

#[tokio::test(start_paused = true)]
async fn i16_an_answer_given_during_a_purge_is_forgotten_with_it() {
    let all = Selection::Scope(PurgeScope::All);
    let cached = Cached::remote();
    let keys = cached.fill(1);
    cached.backend.close(Call::Purge);
    let store = Arc::clone(&cached.store);
    #[expect(clippy::disallowed_methods, reason = "a test wants to end it")]
    let purge = tokio::spawn(async move { store.purge_selected(all).await });
    until("it has begun", || cached.backend.calls(Call::Purge) == 1).await;
    // Its client goes away.
    purge.abort();
    assert_eq!(cached.ask(&keys).await, [false]);
    assert_eq!(cached.store.stats().entries, 1);
    cached.backend.open(Call::Purge);
    until("it goes on", || cached.store.stats().entries == 0).await;
    assert_eq!(cached.ask(&keys).await, [true]);
}

#[tokio::test(start_paused = true)]
async fn i22_no_more_is_remembered_than_may_be() {
    let options = ExistenceCacheOptions { max_entries: 10, ..ExistenceCacheOptions::default() };
    let cached = Cached::new(true, options);
    let keys = cached.fill(100);
    for _ in 0..3 {
        assert_eq!(cached.ask(&keys).await, [false; 100]);
        assert!(cached.store.stats().entries <= 10);
    }
    // The last ones.
    let asked = cached.questions();
    assert_eq!(cached.ask(&keys[90..]).await, [false; 10]);
    assert_eq!(cached.questions(), asked);
    let nothing = ExistenceCacheOptions { max_entries: 0, ..ExistenceCacheOptions::default() };
    let cached = Cached::new(true, nothing);
    assert_eq!(cached.ask(&cached.fill(2)).await, [false; 2]);
    assert_eq!(cached.store.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn i17_its_task_ends_with_it() {
    let cached = Cached::remote();
    let keys = cached.fill(1);
    cached.ask(&keys).await;
    cached.ask(&keys).await;
    let shared = Arc::downgrade(&cached.store.shared);
    drop(cached.store);
    until("nobody holds it", || shared.strong_count() == 0).await;
    assert_eq!(Arc::strong_count(&cached.backend), 1);
}
