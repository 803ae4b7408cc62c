//! An upstream that is down, silent, slow or refusing, and how long that costs anything.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake::{Fake, Fault, Reach};
use super::*;
use crate::store::BlobStore as _;

fn budget(seconds: u64) -> impl FnOnce(&mut RemoteOptions) {
    move |options| options.rpc_timeout = Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_costs_little_and_then_nothing() {
    let fake = Fake::start();
    fake.set_reach(Reach::Down);
    let store = store_with(&[Arc::clone(&fake)], budget(20));
    let key = key_of(b"blob");
    let begun = Instant::now();
    for outcome in [
        store.find_missing(&[key]).await.map(drop),
        store.get(&key, ByteRange::ALL).await.map(drop),
        store.put(&key, "blob".into()).await,
        store.begin_put(&key_of(&noise(1, 2 << 20)), 2 << 20).await.map(drop),
    ] {
        assert_unavailable(outcome);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(store.stats().breaker_open, 1);
    // While the pause lasts nobody even tries.
    let (dials, now, keys) = (fake.dials(), Instant::now(), [key]);
    for outcome in join_all((0..100).map(|_| store.find_missing(&keys))).await {
        assert_unavailable(outcome);
    }
    assert_eq!((fake.dials(), now.elapsed()), (dials, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_dead_upstream_is_tried_by_one_at_a_time_until_it_is_back() {
    let fake = Fake::start();
    fake.set_reach(Reach::Down);
    let store = store_with(&[Arc::clone(&fake)], |it| it.retry.max_retries = 0);
    let digest = fake.store("blob");
    let keys = [Key::blob(digest)];
    while store.stats().breaker_open == 0 {
        assert_unavailable(store.find_missing(&keys).await);
    }
    // Pauses grow to five seconds: in a minute there are some dozen attempts, not sixty.
    let before = fake.dials();
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for outcome in join_all((0..5).map(|_| store.find_missing(&keys))).await {
            assert_unavailable(outcome);
        }
    }
    let attempts = fake.dials() - before;
    assert!((12..40).contains(&attempts), "{attempts}");
    fake.set_reach(Reach::Up);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false]);
    assert_eq!(store.stats().breaker_open, 0);
    // What came back may be another server.
    store.find_missing(&keys).await.unwrap();
    assert_eq!(fake.calls("GetCapabilities").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_answered_for_within_the_budget() {
    let fake = Fake::start();
    fake.set_reach(Reach::BlackHole);
    let store = store_with(&[Arc::clone(&fake)], budget(10));
    let (small, large) = (b"small".to_vec().into(), noise(1, 2 << 20));
    for data in [&small, &large] {
        for write in [false, true] {
            let begun = Instant::now();
            if write {
                assert_unavailable(store.put(&key_of(data), data.clone()).await);
            } else {
                assert_unavailable(read(&store, sha256(data)).await);
            }
            assert!(begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
        }
    }
    assert_eq!(store.stats().in_flight, 0);
    assert_eq!(store.stats().breaker_open, 1);
    fake.set_reach(Reach::Up);
    tokio::time::sleep(Duration::from_secs(6)).await;
    store.put(&key_of(&small), small.clone()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn capabilities_that_do_not_come_are_waited_for_once_and_briefly() {
    let fake = Fake::start();
    fake.fail_always("GetCapabilities", Fault::Hang);
    let digest = fake.store("blob");
    let store = store_with(&[Arc::clone(&fake)], budget(20));
    let begun = Instant::now();
    assert!(read(&store, digest).await.unwrap().is_some());
    assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
    fake.fail_always("GetCapabilities", Fault::Refuse(Status::unimplemented("")));
    for _ in 0..5 {
        assert!(read(&store, digest).await.unwrap().is_some());
    }
    // Once more after the first answer: what was silent may have been another server.
    assert_eq!(fake.calls("GetCapabilities").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_steps_in_and_a_broken_one_is_passed_over() {
    let fakes = [Fake::start(), Fake::start()];
    let store = store_with(&fakes, |it| {
        it.retry.max_retries = 0;
        it.connections_per_endpoint = 2;
    });
    let keys = fakes.each_ref().map(|fake| Key::blob(fake.store("blob")));
    let keys = &keys[..1];
    for _ in 0..40 {
        assert_eq!(store.find_missing(keys).await.unwrap(), [false]);
    }
    let both = fakes.each_ref().map(|fake| fake.calls("FindMissingBlobs").len());
    assert_eq!(both.iter().sum::<usize>(), 40);
    assert!(both.iter().all(|calls| *calls >= 15), "{both:?}");
    assert!(fakes.iter().all(|fake| fake.dials() == 2));
    fakes[0].set_reach(Reach::Down);
    for _ in 0..40 {
        assert_eq!(store.find_missing(keys).await.unwrap(), [false]);
    }
    assert_eq!(store.stats().breaker_open, 1);
    assert!(fakes[0].dials() < 10, "{}", fakes[0].dials());
    fakes[0].set_reach(Reach::Up);
    tokio::time::sleep(Duration::from_secs(6)).await;
    for _ in 0..10 {
        assert_eq!(store.find_missing(keys).await.unwrap(), [false]);
    }
    assert_eq!(store.stats().breaker_open, 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_help_is_tried_again_and_nothing_else() {
    let fake = Fake::start();
    let keys = [Key::blob(fake.store("blob"))];
    let store = store_over(&fake);
    let later = ErrorDetails::with_retry_info(Some(Duration::from_secs(9)));
    let exhausted = Status::with_error_details(Code::ResourceExhausted, "busy", later);
    for (status, is_retried) in [
        (Status::unavailable(""), true),
        (Status::aborted(""), true),
        (Status::deadline_exceeded(""), true),
        (exhausted, true),
        (Status::resource_exhausted(""), false),
        (Status::internal(""), false),
        (Status::invalid_argument(""), false),
        (Status::permission_denied(""), false),
    ] {
        fake.fail("FindMissingBlobs", Fault::Refuse(status.clone()));
        let (begun, code) = (Instant::now(), status.code());
        let outcome = store.find_missing(&keys).await;
        assert_eq!(outcome.is_ok(), is_retried, "{code:?}: {outcome:?}");
        let waited = begun.elapsed();
        assert_eq!(waited >= Duration::from_secs(9), !status.details().is_empty(), "{waited:?}");
    }
    assert_eq!(store.stats().retries, 4);
    let picky = store_with(&[Arc::clone(&fake)], |it| it.retry.retry_on = Some(vec![13]));
    fake.fail("FindMissingBlobs", Fault::Refuse(Status::internal("")));
    assert!(picky.find_missing(&keys).await.is_ok());
    fake.fail("FindMissingBlobs", Fault::Refuse(Status::unavailable("")));
    assert_unavailable(picky.find_missing(&keys).await);
}

#[tokio::test(start_paused = true)]
async fn retries_end_by_number_and_by_time() {
    let fake = Fake::start();
    fake.fail_always("FindMissingBlobs", Fault::Refuse(Status::unavailable("no")));
    let keys = [key_of(b"blob")];
    let store = store_over(&fake);
    let what = assert_unavailable(store.find_missing(&keys).await);
    assert!(what.contains("Unavailable: no"), "{what}");
    assert_eq!(fake.calls("FindMissingBlobs").len(), 4);
    let patient = store_with(&[Arc::clone(&fake)], |it| {
        it.rpc_timeout = Duration::from_secs(30);
        it.retry.max_retries = 1_000_000;
        it.retry.delay = Duration::from_secs(1);
    });
    let begun = Instant::now();
    assert_unavailable(patient.find_missing(&keys).await);
    assert!(begun.elapsed() <= Duration::from_secs(30), "{:?}", begun.elapsed());
    // An answer is an answer: the upstream is not given a pause for it.
    assert_eq!(patient.stats().breaker_open, 0);
}

#[tokio::test]
async fn refusals_become_errors_of_the_store() {
    let fake = Fake::start();
    let store = store_with(&[Arc::clone(&fake)], |it| it.retry.max_retries = 0);
    let data = noise(1, 200 << 10);
    let key = key_of(&data);
    fake.store(data.clone());
    let refuse = async |method, status| {
        fake.fail(method, Fault::Refuse(status));
        let write = method == "Write";
        if write {
            store.put(&key, data.clone()).await
        } else {
            store.get(&key, ByteRange::ALL).await.map(drop)
        }
    };
    assert!(refuse("Read", Status::not_found("")).await.is_ok());
    let error = refuse("Read", Status::data_loss("")).await;
    assert!(matches!(error, Err(StoreError::Corrupt { .. })), "{error:?}");
    let error = refuse("Read", Status::permission_denied("")).await;
    assert!(matches!(error, Err(StoreError::Unsupported { .. })), "{error:?}");
    let error = refuse("Read", Status::unauthenticated("")).await;
    assert!(matches!(error, Err(StoreError::Unsupported { .. })), "{error:?}");
    let error = refuse("Read", Status::unimplemented("")).await;
    assert!(matches!(error, Err(StoreError::Unsupported { .. })), "{error:?}");
    for status in [Status::invalid_argument("x"), Status::internal("x"), Status::unknown("x")] {
        let error = refuse("Read", status).await;
        assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{error:?}");
    }
    let error = refuse("Read", Status::resource_exhausted("")).await;
    assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{error:?}");
    let error = refuse("Write", Status::resource_exhausted("")).await;
    assert!(matches!(error, Err(StoreError::NoSpace { .. })), "{error:?}");
    let error = refuse("Write", Status::invalid_argument("")).await;
    assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{error:?}");
    assert_eq!(store.stats().corrupt, 0, "a server that says so has not lied");
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_their_turn_and_not_for_ever() {
    let fake = Fake::start();
    let keys = [Key::blob(fake.store("blob"))];
    let large = fake.store(noise(1, 20 << 20));
    let store = store_with(&[Arc::clone(&fake)], |it| {
        it.max_concurrent_requests = 2;
        it.rpc_timeout = Duration::from_secs(10);
    });
    for outcome in join_all((0..50).map(|_| store.find_missing(&keys))).await {
        assert_eq!(outcome.unwrap(), [false]);
    }
    assert!(fake.most_at_once() <= 2, "{}", fake.most_at_once());
    // Reads hold a place until they end.
    let readers = [reader(&store, large).await, reader(&store, large).await];
    let begun = Instant::now();
    let what = assert_unavailable(store.find_missing(&keys).await);
    assert!(what.contains("2 calls are under way"), "{what}");
    assert_eq!(begun.elapsed().as_secs(), 10);
    drop(readers);
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false]);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_its_place_back() {
    let fake = Fake::start();
    let digest = fake.store("blob");
    let store = store_with(&[Arc::clone(&fake)], |it| it.max_concurrent_requests = 1);
    let keys = [Key::blob(digest)];
    fake.fail("FindMissingBlobs", Fault::Hang);
    let hanging = tokio::time::timeout(Duration::from_secs(1), store.find_missing(&keys)).await;
    assert!(hanging.is_err());
    assert_eq!(store.stats().in_flight, 0);
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false]);
    // One that was the probe, too.
    fake.set_reach(Reach::Down);
    while store.stats().breaker_open == 0 {
        assert_unavailable(store.find_missing(&keys).await);
    }
    fake.set_reach(Reach::BlackHole);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let probe = tokio::time::timeout(Duration::from_secs(1), store.find_missing(&keys)).await;
    assert!(probe.is_err());
    fake.set_reach(Reach::Up);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(store.find_missing(&keys).await.unwrap(), [false]);
}
