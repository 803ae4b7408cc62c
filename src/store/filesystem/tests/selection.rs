//! What an operator asks and orders: surveys, purges of a part, single values.

use super::*;

fn result_of(instance: &str, name: &str) -> Key {
    let digest = Digest::of(DigestFunction::Sha256, name.as_bytes());
    Key::action_result(Namespace::of_instance(instance), digest)
}

/// Looks first, takes out then; both must mean the same.
async fn purge(store: &FilesystemStore, selection: Selection) -> u64 {
    let selected = store.select(selection).await.unwrap();
    let before = store.stats().resident_bytes;
    let purged = store.purge_selected(selection).await.unwrap();
    assert!(purged.is_drained);
    assert_eq!(purged.removed, selected.entries);
    assert_eq!(store.stats().resident_bytes, before - selected.charged_bytes);
    assert_eq!(store.select(selection).await.unwrap(), Selected::default());
    check(store);
    purged.removed
}

#[tokio::test]
async fn i16_results_older_than_an_age_go_and_the_others_stay() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (main, other, young) = (result_of("main", "a"), result_of("other", "a"), result_key("b"));
    let (blob, data) = blob(1, 3_000);
    for key in [main, other] {
        store.put(&key, "result".into()).await.unwrap();
    }
    store.put(&blob, data).await.unwrap();
    pass(&store, 600);
    store.put(&young, "result".into()).await.unwrap();
    let older = |namespace, seconds| Selection::ResultsOlderThan {
        namespace,
        age: Duration::from_secs(seconds),
    };
    assert_eq!(purge(&store, older(None, 3_600)).await, 0);
    let of_main = Namespace::of_instance("main");
    assert_eq!(purge(&store, older(Some(of_main), 500)).await, 1);
    assert_eq!(absent(&store, &[main, other, young, blob]), [true, false, false, false]);
    assert_eq!(purge(&store, older(None, 500)).await, 1);
    assert_eq!(absent(&store, &[main, other, young, blob]), [true, true, false, false]);
    assert_eq!(purge(&store, older(None, 0)).await, 1);
    assert_eq!(purge(&store, Selection::Scope(PurgeScope::All)).await, 1);
    assert_eq!(store.stats().purged_entries, 4);
}

#[tokio::test]
async fn i8_i16_a_hash_goes_with_its_variant_and_its_results() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (blob_key, data) = blob(1, 3_000);
    let (other, others) = blob(2, 3_000);
    let result = Key::action_result(Namespace::of_instance("main"), blob_key.digest);
    store.put(&blob_key, data.clone()).await.unwrap();
    store.put(&other, others).await.unwrap();
    store.put(&result, "result".into()).await.unwrap();
    drop(store.executable(blob_key.digest).await.unwrap());
    let before = value_files(dir.path()).len();
    assert_eq!(purge(&store, Selection::Hash(blob_key.digest.hash)).await, 2);
    assert_eq!(value_files(dir.path()).len(), before - 3);
    assert_eq!(absent(&store, &[blob_key, result, other]), [true, true, false]);
    // Nothing stands in the way of the next upload.
    store.put(&blob_key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &blob_key).await, Some(data));
}

#[tokio::test(start_paused = true)]
async fn i16_a_write_under_way_never_undoes_the_purge_of_its_hash() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 100_000);
    let (other, others) = blob(2, 100_000);
    let mut upload = begin(&store, &key, 100_000).await;
    let mut beside = begin(&store, &other, 100_000).await;
    upload.write(data.clone()).await.unwrap();
    beside.write(others).await.unwrap();
    let purged = store.purge_selected(Selection::Hash(key.digest.hash)).await.unwrap();
    assert_eq!(purged, Purged { removed: 0, is_drained: false }, "both are still under way");
    let outcome = upload.commit().await;
    assert!(matches!(outcome, Err(StoreError::Purged)), "{outcome:?}");
    beside.commit().await.unwrap();
    assert_eq!(absent(&store, &[key, other]), [true, false]);
    check(&store);
    // One that begins later is not meant.
    store.put(&key, data.clone()).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(data));
}

#[tokio::test]
async fn i16_a_store_that_has_stopped_purges_nothing_and_says_so() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 3_000);
    store.put(&key, data).await.unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();
    let outcome = store.purge_selected(Selection::Hash(key.digest.hash)).await;
    assert!(matches!(outcome, Err(StoreError::ShuttingDown)), "{outcome:?}");
}

#[tokio::test]
async fn a_survey_says_what_fills_the_store() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let blobs: Vec<_> =
        (0..12).map(|seed| blob(seed, 5_000 * (1 + usize::try_from(seed).unwrap()))).collect();
    put_all(&store, &blobs[..6]).await;
    pass(&store, 7 * 3_600);
    put_all(&store, &blobs[6..]).await;
    store.put(&result_key("a"), "result".into()).await.unwrap();
    drop(store.executable(blobs[11].0.digest).await.unwrap());
    let survey = store.survey().await;
    let Survey { blobs: values, variants, action_results, by_age, largest } = survey;
    assert_eq!((values.entries, variants.entries, action_results.entries), (12, 1, 1));
    let parts = [values, variants, action_results];
    let resident = store.stats().resident_bytes;
    assert_eq!(parts.iter().map(|it| it.charged_bytes).sum::<u64>(), resident);
    assert_eq!(by_age.iter().map(|it| it.charged_bytes).sum::<u64>(), resident);
    assert_eq!(by_age.map(|it| it.entries), [7, 0, 6, 0, 0, 0]);
    assert_eq!(largest.len(), 10);
    assert_eq!(largest[0].0, blobs[11].0);
    assert!(largest.is_sorted_by(|one, next| one.1 >= next.1));
}

#[tokio::test]
async fn a_blob_is_found_by_its_hash_alone_in_a_store_that_is_still_being_read() {
    let dir = scratch();
    let (key, data) = blob(1, 3_000);
    let result = Key::action_result(Namespace::of_instance("main"), blob(2, 10).0.digest);
    let store = open(dir.path(), 8 << 20).await;
    store.put(&key, data).await.unwrap();
    store.put(&result, "result".into()).await.unwrap();
    store.shutdown(Cleanup::Keep).await.unwrap();
    let store = open_soon(options(dir.path(), 8 << 20)).await;
    let Digest { function, hash, .. } = key.digest;
    assert_eq!(store.find_by_hash(function, hash).await.unwrap(), Some(key.digest));
    let wrong = store.find_by_hash(DigestFunction::Blake3, hash).await.unwrap();
    assert_eq!(wrong, None, "of another function");
    let wrong = store.find_by_hash(function, result.digest.hash).await.unwrap();
    assert_eq!(wrong, None, "an action result is no blob");
}

#[tokio::test]
async fn a_value_is_removed_for_its_client() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let key = result_key("a");
    store.put(&key, "value".into()).await.unwrap();
    let reader = store.get(&key, ByteRange::ALL).await.unwrap().unwrap();
    assert!(store.remove(&key).await.unwrap());
    assert!(!store.remove(&key).await.unwrap());
    assert_eq!(read(&store, &key).await, None);
    assert_eq!(reader.read_all().await.unwrap(), "value", "who reads it reads on");
    check(&store);
    store.put(&key, "next".into()).await.unwrap();
    assert_eq!(read(&store, &key).await.unwrap(), "next");
}

#[tokio::test]
async fn a_running_store_explains_what_it_has_just_removed() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 3_000);
    store.put(&key, data).await.unwrap();
    let hash = key.digest.hash_hex();
    let wanted = Wanted::parse(&format!("{}/3000", hash.as_str())).unwrap();
    let present = store.explain(wanted.clone()).await.unwrap();
    assert_eq!((present.files.len(), present.removals.len()), (1, 0));
    store.purge(PurgeScope::All).await.unwrap();
    let gone = store.explain(wanted).await.unwrap();
    assert_eq!((gone.files.len(), gone.removals.len()), (0, 1));
    assert_eq!(gone.removals[0].reason, "purged");
}
