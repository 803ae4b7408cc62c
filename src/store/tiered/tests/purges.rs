//! Purges against everything that is on its way from one tier to the other (I16).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::fake::{Call, Fake};
use super::{Tiers, WriteBehindOptions, blob, result_key, until};
use crate::store::{BlobStore, Key, Namespace, PurgeScope, Purged, Selection, StoreError};

const ALL: Selection = Selection::Scope(PurgeScope::All);

fn spawn_purge(tiers: &Tiers, selection: Selection) -> JoinHandle<Result<Purged, StoreError>> {
    tiers.spawn(move |store| async move { store.purge_selected(selection).await })
}

async fn assert_gone(tiers: &Tiers, key: &Key, what: &str) {
    tiers.store.quiesce().await;
    assert!(!tiers.fast.holds(key), "{what}: in the fast tier");
    assert!(!tiers.slow.holds(key), "{what}: in the slow tier");
    assert!(!tiers.is_present(key).await, "{what}");
    assert_eq!(tiers.read(key).await.unwrap(), None, "{what}");
    tiers.stats();
}

/// The calls of one tier at which something may stand when a purge comes.
type Place = (fn(&Tiers) -> &Fake, Call);

const fn fast(call: Call) -> Place {
    (|tiers| &tiers.fast, call)
}

const fn slow(call: Call) -> Place {
    (|tiers| &tiers.slow, call)
}

/// Brings some work to a place, purges while it stands there, and lets it go on: before the purge
/// has returned and after.
async fn purge_at<T: Send + 'static>(
    place: Place,
    make: impl Fn() -> Tiers,
    key: &Key,
    begin: impl Fn(&Tiers) -> JoinHandle<T>,
    selection: Selection,
) {
    for goes_on_first in [false, true] {
        let tiers = make();
        let (tier, call) = (place.0, place.1);
        tier(&tiers).close(call);
        let before = tier(&tiers).calls(call);
        let work = begin(&tiers);
        let what = format!("{call:?} {goes_on_first} {selection}");
        until(&what, || tier(&tiers).calls(call) > before).await;
        tiers.fast.close(Call::Purge);
        let purge = spawn_purge(&tiers, selection);
        until("the purge has begun", || tiers.fast.calls(Call::Purge) == 1).await;
        if goes_on_first {
            tier(&tiers).open(call);
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
        tiers.fast.open(Call::Purge);
        purge.await.unwrap().unwrap();
        tier(&tiers).open(call);
        // It ends, whatever comes of it.
        drop(work.await.unwrap());
        assert_gone(&tiers, key, &what).await;
    }
}

#[tokio::test]
async fn i16_a_population_does_not_survive_a_purge_wherever_it_stands() {
    let (key, data) = blob(1, 300_000);
    let make = || {
        let tiers = Tiers::through();
        tiers.slow.insert(&key, data.clone());
        tiers
    };
    for place in [
        slow(Call::Get),
        slow(Call::Read),
        fast(Call::Get),
        fast(Call::BeginPut),
        fast(Call::Write),
        fast(Call::Commit),
    ] {
        for selection in [ALL, Selection::Hash(key.digest.hash)] {
            purge_at(place, make, &key, |tiers| tiers.spawn_read(&key), selection).await;
        }
    }
}

#[tokio::test]
async fn i16_a_result_on_its_way_into_the_fast_tier_does_not_survive_a_purge() {
    let key = result_key("a");
    let make = || {
        let tiers = Tiers::through();
        tiers.slow.insert(&key, "value");
        tiers
    };
    let older = Selection::ResultsOlderThan { namespace: None, age: Duration::ZERO };
    let mine = Selection::Scope(PurgeScope::Namespace(Namespace::of_instance("main")));
    for place in [slow(Call::Get), slow(Call::Read), fast(Call::Get), fast(Call::Put)] {
        for selection in [ALL, older, mine, Selection::Hash(key.digest.hash)] {
            purge_at(place, make, &key, |tiers| tiers.spawn_read(&key), selection).await;
        }
    }
}

#[tokio::test]
async fn i16_a_write_through_does_not_survive_a_purge_wherever_it_stands() {
    let (key, data) = blob(1, 300_000);
    for place in [slow(Call::Put), fast(Call::Put)] {
        purge_at(place, Tiers::through, &key, |tiers| tiers.spawn_put(&key, &data), ALL).await;
    }
    let upload = |tiers: &Tiers| {
        let (key, data) = (key, data.clone());
        let (fast, slow) = (Arc::clone(&tiers.fast), Arc::clone(&tiers.slow));
        tiers.spawn(move |store| async move {
            let tiers = Tiers { fast, slow, store };
            tiers.upload(&key, &data).await?.commit().await
        })
    };
    for call in [Call::BeginPut, Call::Write, Call::Commit] {
        for place in [slow(call), fast(call)] {
            purge_at(place, Tiers::through, &key, upload, ALL).await;
        }
    }
    let result = result_key("a");
    for place in [slow(Call::Put), fast(Call::Put)] {
        let begin = |tiers: &Tiers| tiers.spawn_put(&result, &"value".into());
        purge_at(place, Tiers::through, &result, begin, ALL).await;
    }
}

#[tokio::test]
async fn i16_a_copy_behind_a_write_does_not_survive_a_purge_wherever_it_stands() {
    let make = || Tiers::behind(WriteBehindOptions::default());
    let (small, data) = blob(1, 1000);
    for place in [fast(Call::Put), fast(Call::Get), fast(Call::Read), slow(Call::Put)] {
        purge_at(place, make, &small, |tiers| tiers.spawn_put(&small, &data), ALL).await;
    }
    let (large, data) = blob(2, 3 << 20);
    for place in [slow(Call::BeginPut), slow(Call::Write), slow(Call::Commit), fast(Call::Read)] {
        purge_at(place, make, &large, |tiers| tiers.spawn_put(&large, &data), ALL).await;
    }
    let result = result_key("a");
    for place in [fast(Call::Put), slow(Call::Put)] {
        let begin = |tiers: &Tiers| tiers.spawn_put(&result, &"value".into());
        purge_at(place, make, &result, begin, ALL).await;
    }
}

#[tokio::test]
async fn i16_what_waits_in_the_queue_is_cancelled() {
    let behind = WriteBehindOptions { max_concurrent_copies: 1, ..WriteBehindOptions::default() };
    let tiers = Tiers::behind(behind);
    tiers.slow.close(Call::Put);
    let (first, data) = blob(1, 1000);
    tiers.put(&first, &data).await.unwrap();
    until("it is being copied", || tiers.stats().in_flight == 1).await;
    let (second, more) = blob(2, 1000);
    tiers.put(&second, &more).await.unwrap();
    tiers.put(&result_key("a"), &"value".into()).await.unwrap();
    // One of them, then the rest.
    tiers.store.purge_selected(Selection::Hash(second.digest.hash)).await.unwrap();
    let stats = tiers.stats();
    assert_eq!((stats.cancelled, stats.queued_items, stats.in_flight), (1, 1, 1));
    assert!(!tiers.is_present(&second).await && tiers.is_present(&first).await);
    assert_eq!(tiers.read(&result_key("a")).await.unwrap(), Some("value".into()));
    tiers.store.purge_selected(ALL).await.unwrap();
    tiers.slow.open(Call::Put);
    for key in [first, second, result_key("a")] {
        assert_gone(&tiers, &key, "queued").await;
        assert!(!tiers.fast.is_pinned(&key));
    }
    let stats = tiers.stats();
    assert_eq!((stats.accepted, stats.cancelled, stats.persisted), (3, 3, 0));
    // What comes later is welcome.
    tiers.put(&first, &data).await.unwrap();
    tiers.store.shutdown(Duration::from_mins(1)).await;
    assert!(tiers.slow.holds(&first));
}

#[tokio::test]
async fn copies_of_old_results_go_although_they_are_young() {
    let tiers = Tiers::through();
    let key = result_key("a");
    tiers.slow.insert(&key, "value");
    tiers.read(&key).await.unwrap();
    tiers.store.quiesce().await;
    assert!(tiers.fast.holds(&key));
    // The fake's values are of no age; of the slow tier this takes nothing.
    let age = Duration::from_hours(1);
    let older = Selection::ResultsOlderThan { namespace: None, age };
    tiers.store.purge_selected(older).await.unwrap();
    assert!(!tiers.fast.holds(&key) && tiers.slow.holds(&key));
}

#[tokio::test]
async fn writes_that_begin_during_a_purge_are_not_held_up() {
    for make in [Tiers::through, || Tiers::behind(WriteBehindOptions::default())] {
        let tiers = make();
        tiers.fast.close(Call::Purge);
        let purge = spawn_purge(&tiers, ALL);
        until("the slow tier is purged", || tiers.fast.calls(Call::Purge) == 1).await;
        until("the slow tier is purged", || tiers.slow.calls(Call::Purge) == 1).await;
        let (key, data) = blob(1, 1000);
        tiers.put(&key, &data).await.unwrap();
        assert!(tiers.slow.holds(&key), "acknowledged, and not to be purged with the fast tier");
        tiers.fast.open(Call::Purge);
        purge.await.unwrap().unwrap();
        assert!(tiers.is_present(&key).await);
        assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
    }
}

#[tokio::test]
async fn a_read_during_a_purge_fills_nothing() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.slow.insert(&key, data.clone());
    tiers.slow.close(Call::Purge);
    let purge = spawn_purge(&tiers, ALL);
    until("the fast tier is purged", || tiers.fast.calls(Call::Purge) == 1).await;
    until("the slow tier is not", || tiers.slow.calls(Call::Purge) == 1).await;
    assert_eq!(tiers.read(&key).await.unwrap(), Some(data));
    tiers.slow.open(Call::Purge);
    purge.await.unwrap().unwrap();
    assert_gone(&tiers, &key, "read during a purge").await;
}

#[tokio::test]
async fn a_purge_does_not_wait_for_a_slow_tier_that_hangs_in_a_read() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 300_000);
    tiers.slow.insert(&key, data.clone());
    tiers.slow.close(Call::Read);
    let reader = tiers.spawn_read(&key);
    until("the copy is open", || tiers.fast.uploads() == 1).await;
    tiers.store.purge_selected(ALL).await.unwrap();
    until("the copy is given up", || tiers.fast.uploads() == 0).await;
    tiers.slow.open(Call::Read);
    // What was open stays open.
    assert_eq!(reader.await.unwrap().unwrap(), Some(data));
    assert_gone(&tiers, &key, "after a purge").await;
}

#[tokio::test]
async fn a_purge_whose_client_goes_away_goes_on() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    tiers.slow.close(Call::Purge);
    let purge = spawn_purge(&tiers, ALL);
    until("it has begun", || tiers.slow.calls(Call::Purge) == 1).await;
    purge.abort();
    tiers.slow.open(Call::Purge);
    until("it goes on", || !tiers.slow.holds(&key)).await;
    assert_gone(&tiers, &key, "after a purge").await;
}

#[tokio::test]
async fn a_failing_purge_says_so_and_takes_what_it_can() {
    let tiers = Tiers::through();
    let (key, data) = blob(1, 1000);
    tiers.put(&key, &data).await.unwrap();
    tiers.slow.fail(Call::Purge);
    assert!(tiers.store.purge_selected(ALL).await.is_err());
    assert!(!tiers.fast.holds(&key));
    assert!(!tiers.store.parts.fence.is_up(&key), "the fence comes down");
    tiers.slow.heal(Call::Purge);
    assert_eq!(tiers.store.purge_selected(ALL).await.unwrap().removed, 1);
}

#[tokio::test]
async fn a_removal_waits_for_what_is_copied() {
    let make: [fn() -> Tiers; 2] =
        [Tiers::through, || Tiers::behind(WriteBehindOptions::default())];
    for (make, place) in make.into_iter().zip([fast(Call::Commit), slow(Call::Put)]) {
        let tiers = make();
        let (key, data) = blob(1, 1000);
        let (tier, call) = place;
        tier(&tiers).close(call);
        if call == Call::Put {
            tiers.put(&key, &data).await.unwrap();
        } else {
            tiers.slow.insert(&key, data.clone());
            tiers.read(&key).await.unwrap();
        }
        until("it is being copied", || tier(&tiers).calls(call) == 1).await;
        let remove = tiers.spawn(move |store| async move { store.remove(&key).await });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!remove.is_finished());
        tier(&tiers).open(call);
        assert!(remove.await.unwrap().unwrap());
        assert_gone(&tiers, &key, "removed").await;
    }
}
