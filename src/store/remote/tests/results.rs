//! Action results of an upstream.

use super::fake::{Fake, Fault};
use super::*;
use crate::store::{BlobStore as _, Namespace};

fn cache_over(fake: &Arc<Fake>) -> Arc<RemoteStore> {
    store_with(std::slice::from_ref(fake), |it| it.kind = RemoteKind::ActionCache)
}

fn result_key(action: &str) -> Key {
    Key::action_result(Namespace::of_instance("main"), sha256(action.as_bytes()))
}

#[tokio::test]
async fn results_are_kept_byte_for_byte() {
    let fake = Fake::start();
    let store = cache_over(&fake);
    // An exit code twice, and a field that nobody knows.
    let odd = Bytes::from_static(b"\x20\x01\x20\x02\xfa\x7f\x01x");
    for (action, value) in [("a", odd), ("b", Bytes::new()), ("c", noise(1, 300 << 10))] {
        let key = result_key(action);
        assert!(store.get(&key, ByteRange::ALL).await.unwrap().is_none());
        store.put(&key, value.clone()).await.unwrap();
        assert_eq!(store.get_all(&key, u64::MAX).await.unwrap().unwrap(), value);
        let later = noise(2, 1_000);
        let begun = store.begin_put(&key, 1_000).await.unwrap();
        let BeginPut::Upload(mut upload) = begun else { panic!("{begun:?}") };
        upload.write(later.slice(..400)).await.unwrap();
        upload.write(later.slice(400..)).await.unwrap();
        upload.commit().await.unwrap();
        let range = ByteRange { offset: 10, limit: Some(500) };
        let part = store.get(&key, range).await.unwrap().unwrap().read_all().await.unwrap();
        assert_eq!(part, later.slice(10..510));
        let range = ByteRange { offset: 2_000, limit: None };
        let behind = store.get(&key, range).await.unwrap().unwrap().read_all().await.unwrap();
        assert_eq!(behind, "");
    }
}

#[tokio::test]
async fn an_announced_size_is_kept_to() {
    let fake = Fake::start();
    let store = cache_over(&fake);
    let begun = store.begin_put(&result_key("a"), 10).await.unwrap();
    let BeginPut::Upload(mut upload) = begun else { panic!("{begun:?}") };
    upload.write(noise(1, 9)).await.unwrap();
    let more = upload.write(noise(1, 2)).await;
    assert!(matches!(more, Err(StoreError::SizeMismatch { .. })), "{more:?}");
    let commit = upload.commit().await;
    assert!(matches!(commit, Err(StoreError::SizeMismatch { .. })), "{commit:?}");
    let large = store.begin_put(&result_key("a"), 5 << 20).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
    assert!(fake.calls("UpdateActionResult").is_empty());
}

#[tokio::test]
async fn each_result_is_asked_for_a_few_at_once() {
    let fake = Fake::start();
    let store = cache_over(&fake);
    let keys: Vec<Key> = (0..100).map(|it| result_key(&format!("action {it}"))).collect();
    for key in keys.iter().step_by(7) {
        store.put(key, "result".into()).await.unwrap();
    }
    let expected: Vec<bool> = (0..100).map(|it| it % 7 != 0).collect();
    assert_eq!(store.find_missing(&keys).await.unwrap(), expected);
    assert!(fake.most_at_once() <= 16, "{}", fake.most_at_once());
    fake.fail("GetActionResult", Fault::Refuse(tonic::Status::internal("")));
    assert_unavailable(store.find_missing(&keys).await);
}

#[tokio::test]
async fn values_of_the_other_kind_are_missing_and_not_stored() {
    let fake = Fake::start();
    let (blobs, results) = (store_over(&fake), cache_over(&fake));
    let blob = Key::blob(fake.store("blob"));
    let nameless = Digest { size_bytes: 0, ..blob.digest };
    let derived = Key::derived(Namespace::COMPRESSED, blob.digest);
    for (store, key) in [
        (&results, blob),
        (&results, derived),
        // HTTP names an action by its hash alone.
        (&results, Key::action_result(Namespace::SHARED, nameless)),
        (&blobs, result_key("a")),
        (&blobs, derived),
    ] {
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
        assert!(store.get(&key, ByteRange::ALL).await.unwrap().is_none());
        let put = store.put(&key, "blob".into()).await;
        assert!(matches!(put, Err(StoreError::Unsupported { .. })), "{put:?}");
        let begun = store.begin_put(&key, 4).await;
        assert!(matches!(begun, Err(StoreError::Unsupported { .. })), "{begun:?}");
    }
    assert!(fake.calls("").is_empty());
}
