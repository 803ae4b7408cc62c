//! An upstream in good health: all sizes, both ways.

use std::sync::Arc;

use castellan_proto::v2::{ActionCacheUpdateCapabilities, CacheCapabilities};

use super::fake::Fake;
use super::*;
use crate::store::{BlobStore as _, PurgeScope, Selection};

const SIZES: [usize; 7] =
    [1, 100, 128 << 10, (128 << 10) + 1, (256 << 10) + 1, 1 << 20, (5 << 20) + 3];

#[tokio::test]
async fn blobs_of_every_size_come_and_go_under_both_functions() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for function in DigestFunction::ALL {
        for (number, size) in SIZES.into_iter().enumerate() {
            let data = noise(number as u64, size);
            let digest = fake.store_as(function, data.clone());
            assert_eq!(read(&store, digest).await.unwrap().unwrap(), data, "{digest}");
            let data = noise(100 + number as u64, size);
            let digest = Digest::of(function, &data);
            assert_eq!(read(&store, digest).await.unwrap(), None);
            store.put(&Key::blob(digest), data.clone()).await.unwrap();
            assert_eq!(fake.blob(&digest).unwrap(), data);
        }
    }
    let names = fake.calls("Read ");
    assert!(names[0].starts_with("Read main/blobs/") && names[0].ends_with(" 0 0"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("Read main/blobs/blake3/")));
    assert_eq!(fake.calls("GetCapabilities").len(), 1);
    assert_eq!(store.stats().corrupt + store.stats().failures, 0);
}

#[tokio::test]
async fn uploads_in_pieces_arrive_whole() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for (number, size) in SIZES.into_iter().enumerate() {
        let data = noise(number as u64, size);
        stream(&store, &data).await.unwrap();
        assert_eq!(fake.blob(&sha256(&data)).unwrap(), data);
    }
    // Only what is over a mebibyte is asked for first.
    assert_eq!(fake.calls("FindMissingBlobs").len(), 1);
}

#[tokio::test]
async fn the_empty_blob_needs_no_upstream() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let digest = sha256(b"");
    assert_eq!(store.find_missing(&[Key::blob(digest)]).await.unwrap(), [false]);
    assert_eq!(read(&store, digest).await.unwrap().unwrap(), "");
    store.put(&Key::blob(digest), Bytes::new()).await.unwrap();
    begin(&store, digest).await.commit().await.unwrap();
    assert!(fake.calls("").is_empty());
}

#[tokio::test]
async fn parts_are_read_as_parts_or_from_the_verified_whole() {
    let fake = Fake::start();
    let data = noise(1, 700 << 10);
    let (digest, len) = (fake.store(data.clone()), data.len() as u64);
    for verify in [false, true] {
        let store = store_with(std::slice::from_ref(&fake), |it| it.verify_ranges = verify);
        for (offset, limit) in
            [(0, 1), (1, 70_000), (0, len), (len - 1, 5), (300_000, len), (len, 1), (len + 9, 1)]
        {
            let part = read_range(&store, digest, offset, limit).await.unwrap();
            let from = usize::try_from(offset.min(len)).unwrap();
            let to = usize::try_from(offset.saturating_add(limit).min(len)).unwrap();
            assert_eq!(part, data.slice(from..to.max(from)), "{verify} {offset} {limit}");
        }
        let absent = Key::blob(sha256(b"absent"));
        for offset in [0, 6, 9] {
            let range = ByteRange { offset, limit: Some(1) };
            assert!(store.get(&absent, range).await.unwrap().is_none());
        }
    }
    let asked = fake.calls("Read");
    assert!(asked.iter().any(|it| it.ends_with(" 1 70000")), "{asked:?}");
    assert!(asked.iter().any(|it| it.ends_with(&format!(" {} 0", len - 1))), "{asked:?}");
}

#[tokio::test]
async fn missing_is_asked_in_pieces_and_by_function() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let there = [fake.store("there"), fake.store_as(DigestFunction::Blake3, "there")];
    let mut keys: Vec<Key> = (0..10_500).map(|it| key_of(format!("{it}").as_bytes())).collect();
    keys.insert(7, Key::blob(there[0]));
    keys.push(Key::blob(there[1]));
    keys.push(Key::action_result(crate::store::Namespace::SHARED, there[0]));
    let missing = store.find_missing(&keys).await.unwrap();
    let present: Vec<usize> = (0..keys.len()).filter(|at| !missing[*at]).collect();
    assert_eq!(present, [7, 10_501]);
    assert_eq!(fake.calls("FindMissingBlobs").len(), 3);
    assert_eq!(fake.calls("FindMissingBlobs 10000 of 1").len(), 1);
    assert_eq!(fake.calls("FindMissingBlobs 1 of 9").len(), 1);
    assert!(store.find_missing(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_upload_never_ends_at_the_upstream() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for len in [1_000, 3 << 20] {
        let (right, wrong) = (noise(1, len), noise(2, len));
        let digest = sha256(&right);
        let put = store.put(&Key::blob(digest), wrong.clone()).await;
        assert!(matches!(put, Err(StoreError::HashMismatch { .. })), "{put:?}");
        let mut upload = begin(&store, digest).await;
        upload.write(wrong.clone()).await.unwrap();
        let commit = upload.commit().await;
        assert!(matches!(commit, Err(StoreError::HashMismatch { .. })), "{commit:?}");
        let mut upload = begin(&store, digest).await;
        upload.write(right.slice(1..)).await.unwrap();
        let commit = upload.commit().await;
        assert!(matches!(commit, Err(StoreError::SizeMismatch { .. })), "{commit:?}");
        let mut upload = begin(&store, digest).await;
        upload.write(right.clone()).await.unwrap();
        let more = upload.write("x".into()).await;
        assert!(matches!(more, Err(StoreError::SizeMismatch { .. })), "{more:?}");
        assert!(!upload.is_resumable());
        drop(upload);
        let announced = store.begin_put(&Key::blob(digest), 5).await;
        assert!(matches!(announced, Err(StoreError::SizeMismatch { .. })), "{announced:?}");
        assert!(fake.blob(&digest).is_none());
    }
}

#[tokio::test]
async fn a_large_blob_that_is_there_is_not_sent() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let data = noise(1, 2 << 20);
    let key = Key::blob(fake.store(data.clone()));
    store.put(&key, data.clone()).await.unwrap();
    let begun = store.begin_put(&key, data.len() as u64).await.unwrap();
    assert!(matches!(begun, BeginPut::AlreadyPresent));
    assert!(fake.calls("Write").is_empty());
}

#[tokio::test]
async fn reapi_70_an_early_finish_ends_an_upload_that_is_still_hashed() {
    let fake = Fake::start();
    let store = store_over(&fake);
    for (seed, is_right) in [(1, true), (2, false)] {
        let data = noise(seed, 900 << 10);
        let digest = sha256(&data);
        let mut upload = begin(&store, digest).await;
        fake.fail("Write", fake::Fault::Commit(900 << 10));
        for at in 0..8 {
            upload.write(data.slice(at * 100_000..(at + 1) * 100_000)).await.unwrap();
            // The answer is on its way.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        assert!(upload.is_overtaken());
        let rest = data.slice(800_000..);
        let rest = if is_right { rest } else { noise(9, rest.len()) };
        upload.write(rest).await.unwrap();
        let commit = upload.commit().await;
        assert_eq!(commit.is_ok(), is_right, "{commit:?}");
    }
}

#[tokio::test]
async fn what_is_announced_is_kept_to() {
    let fake = Fake::start();
    let known = fake.store(noise(1, 2_000));
    let unknown = fake.store_as(DigestFunction::Blake3, "blake");
    fake.announce(CacheCapabilities {
        digest_functions: vec![1],
        max_batch_total_size_bytes: 1_000,
        max_cas_blob_size_bytes: 3_000,
        action_cache_update_capabilities: Some(ActionCacheUpdateCapabilities {
            update_enabled: false,
        }),
        ..CacheCapabilities::default()
    });
    let store = store_over(&fake);
    assert_eq!(store.max_blob_bytes(), u64::MAX);
    assert!(read(&store, known).await.unwrap().is_some());
    assert!(fake.calls("BatchReadBlobs").is_empty(), "over the sum of a batch");
    assert_eq!(store.max_blob_bytes(), 3_000);
    let large = noise(3, 3_001);
    let put = store.put(&key_of(&large), large.clone()).await;
    assert!(matches!(put, Err(StoreError::TooLarge { limit_bytes: 3_000, .. })), "{put:?}");
    assert_eq!(read(&store, unknown).await.unwrap(), None);
    assert_eq!(store.find_missing(&[Key::blob(unknown)]).await.unwrap(), [true]);
    let put = store.put(&Key::blob(unknown), "blake".into()).await;
    assert!(matches!(put, Err(StoreError::Unsupported { .. })), "{put:?}");
    let results = store_with(&[fake], |it| it.kind = RemoteKind::ActionCache);
    let key = Key::action_result(crate::store::Namespace::SHARED, known);
    let put = results.put(&key, "result".into()).await;
    assert!(matches!(put, Err(StoreError::Unsupported { .. })), "{put:?}");
}

#[tokio::test]
async fn what_an_upstream_cannot_do_is_said() {
    let fake = Fake::start();
    let store = store_over(&fake);
    let digest = fake.store("data");
    let found = store.find_by_hash(digest.function, digest.hash).await.unwrap();
    assert_eq!(found, None);
    let removed = store.remove(&Key::blob(digest)).await;
    assert!(matches!(removed, Err(StoreError::Unsupported { .. })), "{removed:?}");
    let purged = store.purge_selected(Selection::Scope(PurgeScope::All)).await;
    assert!(matches!(purged, Err(StoreError::Unsupported { .. })), "{purged:?}");
    assert!(store.pin(&Key::blob(digest)).await.unwrap().is_none());
    assert!(fake.calls("").is_empty());
}

#[tokio::test]
async fn legacy_names_and_headers_go_out() {
    let fake = Fake::start();
    let digest = fake.store_as(DigestFunction::Sha256, noise(1, 200 << 10));
    let store = store_with(&[Arc::clone(&fake)], |it| {
        it.instance_name = String::new();
        it.use_legacy_resource_names = true;
        it.headers = vec![("X-Token".to_owned(), "secret".to_owned())];
    });
    assert!(read(&store, digest).await.unwrap().is_some());
    let name = format!("Read blobs/{digest} 0 0");
    assert_eq!(fake.calls("Read"), [name]);
    assert_eq!(fake.last_headers().get("x-token").unwrap(), "secret");
    assert!(fake.last_headers().get("grpc-timeout").is_none(), "a transfer may take long");
    store.find_missing(&[Key::blob(digest)]).await.unwrap();
    assert!(fake.last_headers().get("grpc-timeout").is_some());
}
