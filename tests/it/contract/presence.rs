//! What is said to be there.

use castellan::digest::{Digest, DigestFunction};
use castellan::store::{Key, PurgeScope, Selection};

use super::values::{
    assert_absent, assert_holds, is_missing, key_of, main_namespace, put, read,
    read_what_is_promised, result_key, text,
};
use super::{Open, Wanted};
use crate::support::Blob;

fn blobs(count: u64) -> Vec<Blob> {
    (0..count).map(|seed| Blob::random(seed, 2_000 + 31 * usize::try_from(seed).unwrap())).collect()
}

pub(super) async fn answers_come_in_the_order_of_the_keys(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blobs = blobs(60);
    for blob in blobs.iter().step_by(3) {
        put(&*opened.store, blob).await;
    }
    let result = result_key(main_namespace(), "a");
    opened.store.put(&result, "value".into()).await.unwrap();
    let mut keys: Vec<Key> = blobs.iter().map(key_of).collect();
    let mut expected: Vec<bool> = (0..60).map(|number| number % 3 != 0).collect();
    keys.insert(10, result);
    expected.insert(10, false);
    // The same once more, in another order, in the same call.
    for at in (0..keys.len()).rev() {
        keys.push(keys[at]);
        expected.push(expected[at]);
    }
    assert_eq!(opened.store.find_missing(&keys).await.unwrap(), expected);
    assert_eq!(opened.store.find_missing(&keys).await.unwrap(), expected);
    assert!(opened.store.find_missing(&[]).await.unwrap().is_empty());
    opened.settle().await;
}

pub(super) async fn many_keys_in_one_call(open: Open) {
    const ALL: usize = 10_000;
    const EVERY: usize = 97;
    let opened = open(Wanted::ROOMY).await;
    let blobs: Vec<_> = (0..ALL).map(|number| Blob::new(format!("blob {number}"))).collect();
    for blob in blobs.iter().step_by(EVERY) {
        put(&*opened.store, blob).await;
    }
    let keys: Vec<Key> = blobs.iter().map(key_of).collect();
    let missing = opened.store.find_missing(&keys).await.unwrap();
    let expected: Vec<bool> = (0..ALL).map(|number| number % EVERY != 0).collect();
    assert_eq!(missing.len(), ALL);
    assert!(missing == expected, "a wrong answer among {ALL}");
    opened.settle().await;
}

/// Recency goes through to where the bytes are, whatever stands before.
pub(super) async fn asking_keeps_what_is_asked_for(open: Open) {
    let opened = open(Wanted::SMALL).await;
    if !opened.evicts {
        return;
    }
    let kept: Vec<_> = (0..4).map(|seed| Blob::random(seed, 64 << 10)).collect();
    let others: Vec<_> = (100..300).map(|seed| Blob::random(seed, 64 << 10)).collect();
    for blob in &kept {
        put(&*opened.store, blob).await;
    }
    let result = result_key(main_namespace(), "a");
    opened.store.put(&result, "value".into()).await.unwrap();
    let mut keys: Vec<Key> = kept.iter().map(key_of).collect();
    keys.push(result);
    for (number, blob) in others.iter().enumerate() {
        put(&*opened.store, blob).await;
        if number % 4 == 0 {
            let missing = opened.store.find_missing(&keys).await.unwrap();
            assert_eq!(missing, [false; 5], "after {number}");
        }
        opened.check_caps();
    }
    assert!(is_missing(&*opened.store, &key_of(&others[0])).await, "nothing was evicted");
    for blob in &kept {
        assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
    }
    assert_holds(&*opened.store, &result, b"value").await;
    opened.settle().await;
}

pub(super) async fn present_is_what_can_be_read(open: Open) {
    let opened = open(Wanted::SMALL).await;
    let blobs: Vec<_> = (0..100).map(|seed| Blob::random(seed, 100 << 10)).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for blob in &blobs {
        put(&*opened.store, blob).await;
        for _ in 0..4 {
            let asked = &blobs[random.usize(..blobs.len())];
            if let Some(data) = read_what_is_promised(&*opened.store, &key_of(asked)).await {
                assert!(data == asked.data, "other bytes");
            }
        }
        if random.u8(..4) == 0 {
            let removed = key_of(&blobs[random.usize(..blobs.len())]);
            opened.store.remove(&removed).await.unwrap();
            assert_absent(&*opened.store, &removed).await;
        }
    }
    opened.settle().await;
}

/// A disk that was wiped, a bucket with rules of its own.
pub(super) async fn behind_the_back_of_the_store_nothing_is_promised(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let all = Selection::Scope(PurgeScope::All);
    for round in 0..2 {
        let blobs = [
            Blob::random(1, 1_000),
            Blob::random(2, 300 << 10),
            Blob::with(DigestFunction::Blake3, text(3, 300 << 10)),
        ];
        let result = result_key(main_namespace(), "a");
        for blob in &blobs {
            put(&*opened.store, blob).await;
            assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
        }
        opened.store.put(&result, "value".into()).await.unwrap();
        for lowest in &opened.lowest {
            if round == 0 {
                for blob in &blobs {
                    lowest.purge_selected(Selection::Hash(blob.digest.hash)).await.unwrap();
                }
                lowest.purge_selected(Selection::Hash(result.digest.hash)).await.unwrap();
            } else {
                lowest.purge_selected(all).await.unwrap();
            }
            // As long as one has it, it may be there, and then it can be read.
            for blob in &blobs {
                let read = read_what_is_promised(&*opened.store, &key_of(blob)).await;
                assert!(read.is_none_or(|data| data == blob.data), "other bytes");
            }
        }
        // Whoever copies in the background may have copied once more.
        for lowest in &opened.lowest {
            lowest.purge_selected(all).await.unwrap();
        }
        for blob in &blobs {
            assert_absent(&*opened.store, &key_of(blob)).await;
        }
        assert_absent(&*opened.store, &result).await;
        // And all can be stored again.
        for blob in &blobs {
            put(&*opened.store, blob).await;
            assert_holds(&*opened.store, &key_of(blob), &blob.data).await;
        }
    }
    opened.settle().await;
}

pub(super) async fn the_hash_alone_finds_a_blob(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blobs = [
        Blob::random(1, 1),
        Blob::random(2, 5_000),
        Blob::with(DigestFunction::Blake3, text(3, 300 << 10)),
    ];
    let find = |digest: Digest| opened.store.find_by_hash(digest.function, digest.hash);
    for blob in &blobs {
        assert_eq!(find(blob.digest).await.unwrap(), None);
        // A result is no blob.
        let result = Key::action_result(main_namespace(), blob.digest);
        opened.store.put(&result, "value".into()).await.unwrap();
        assert_eq!(find(blob.digest).await.unwrap(), None);
        put(&*opened.store, blob).await;
        assert_eq!(find(blob.digest).await.unwrap(), Some(blob.digest));
        let function = match blob.digest.function {
            DigestFunction::Sha256 => DigestFunction::Blake3,
            DigestFunction::Blake3 => DigestFunction::Sha256,
        };
        assert_eq!(find(Digest { function, ..blob.digest }).await.unwrap(), None);
        opened.store.remove(&key_of(blob)).await.unwrap();
        assert_eq!(find(blob.digest).await.unwrap(), None);
    }
    opened.settle().await;
}

pub(super) async fn what_is_removed_is_absent(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for blob in [Blob::random(1, 1), Blob::random(2, 300 << 10)] {
        let key = key_of(&blob);
        let result = Key::action_result(main_namespace(), blob.digest);
        assert!(!opened.store.remove(&key).await.unwrap());
        opened.store.put(&result, "value".into()).await.unwrap();
        put(&*opened.store, &blob).await;
        assert!(opened.store.remove(&key).await.unwrap());
        assert_absent(&*opened.store, &key).await;
        assert!(!opened.store.remove(&key).await.unwrap());
        assert_holds(&*opened.store, &result, b"value").await;
        put(&*opened.store, &blob).await;
        assert_eq!(read(&*opened.store, &key).await.as_ref(), Some(&blob.data));
        assert!(opened.store.remove(&result).await.unwrap());
        assert_absent(&*opened.store, &result).await;
        assert_holds(&*opened.store, &key, &blob.data).await;
    }
    opened.settle().await;
}
