//! Goal: what `get` and `update` promise whatever the result holds.

use super::*;

#[tokio::test]
async fn reapi_85_empty_result_is_stored_and_served() {
    let fixture = Fixture::new();
    fixture.update(&v2::ActionResult::default()).await;
    assert_eq!(fixture.get(&InlineRequest::default()).await, Some(Bytes::new()));
    // Nothing is named, so nothing is looked up.
    assert_eq!(fixture.store.lookups.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn absent_result_is_a_miss() {
    assert!(!Fixture::new().is_hit().await);
}

#[tokio::test]
async fn reapi_87_result_is_served_byte_for_byte() {
    let fixture = Fixture::new();
    let mut encoded = full_result(&fixture).encode_to_vec();
    // An unknown field, then a known one that canonical encoding would have put first.
    encoded.extend_from_slice(b"\xc2\x3e\x03new\x20\x2a");
    let encoded = Bytes::from(encoded);
    fixture.cache.update(fixture.action, encoded.clone()).await.unwrap();
    assert_eq!(fixture.get(&InlineRequest::default()).await, Some(encoded));
}

#[tokio::test]
async fn later_result_replaces_the_earlier() {
    let fixture = Fixture::new();
    for exit_code in [1, 2] {
        fixture.update(&v2::ActionResult { exit_code, ..Default::default() }).await;
    }
    let served = fixture.get(&InlineRequest::default()).await.unwrap();
    assert_eq!(v2::ActionResult::decode(served).unwrap().exit_code, 2);
}

#[tokio::test]
async fn reapi_86_instances_are_independent() {
    let fixture = Fixture::new();
    let store: Arc<dyn BlobStore> = Arc::clone(&fixture.store) as _;
    let other = Namespace::of_instance("other");
    let other = ActionCache::new(Cas::new(Arc::clone(&store)), store, other, false);
    fixture.update(&v2::ActionResult::default()).await;
    assert!(fixture.is_hit().await);
    assert_eq!(other.get(fixture.action, &InlineRequest::default()).await.unwrap(), None);
}

#[tokio::test]
async fn read_only_refuses_updates_and_serves() {
    let fixture = Fixture::with(DigestFunction::Sha256, true);
    assert!(fixture.cache.is_read_only());
    let refused = fixture.cache.update(fixture.action, Bytes::new()).await;
    assert!(matches!(refused, Err(ActionCacheError::ReadOnly)));
    let key = Key::action_result(Namespace::of_instance("main"), fixture.action);
    fixture.store.put(&key, Bytes::new()).await.unwrap();
    assert!(fixture.is_hit().await);
}

#[tokio::test]
async fn common_hit_costs_one_read_and_one_lookup() {
    let fixture = Fixture::new();
    let result = v2::ActionResult {
        output_files: vec![
            output_file("a", fixture.blob("a")),
            output_file("b", fixture.blob("b")),
            output_file("c", fixture.blob("a")),
        ],
        stdout_digest: Some(fixture.blob("out")),
        ..Default::default()
    };
    fixture.update(&result).await;
    assert!(fixture.is_hit().await);
    assert_eq!(fixture.store.lookups.load(Ordering::Relaxed), 1);
    assert_eq!(fixture.store.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn corrupt_result_is_a_miss() {
    let fixture = Fixture::new();
    fixture.update(&v2::ActionResult::default()).await;
    let key = Key::action_result(Namespace::of_instance("main"), fixture.action);
    fixture.store.corrupt.lock().insert(key);
    assert!(!fixture.is_hit().await);
}

#[tokio::test]
async fn stored_garbage_is_a_miss() {
    let fixture = Fixture::new();
    let key = Key::action_result(Namespace::of_instance("main"), fixture.action);
    fixture.store.put(&key, Bytes::from_static(b"\x12\xff")).await.unwrap();
    assert!(!fixture.is_hit().await);
}
