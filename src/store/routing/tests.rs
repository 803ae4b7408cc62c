//! Goal: a key is always looked for where it was put, and a layout that others have filled is
//! found. Method: stores in directories, looked at behind the one in front.

use super::*;
use crate::store::BlobStoreExt as _;
use crate::store::Namespace;
use crate::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};

/// Stores and what keeps their directories.
struct Stores(Vec<(Arc<dyn BlobStore>, tempfile::TempDir)>);

impl Stores {
    async fn open(count: usize) -> Self {
        let mut stores: Vec<(Arc<dyn BlobStore>, _)> = Vec::new();
        for _ in 0..count {
            let dir = tempfile::tempdir().unwrap();
            let options = FilesystemOptions::new(dir.path(), Cap::Bytes(64 << 20));
            stores.push((FilesystemStore::open(options).await.unwrap(), dir));
        }
        Self(stores)
    }

    fn get(&self, at: usize) -> Arc<dyn BlobStore> {
        Arc::clone(&self.0[at].0)
    }

    /// Which of them have the key.
    async fn holders(&self, key: &Key) -> Vec<usize> {
        let mut holders = Vec::new();
        for (at, (store, _)) in self.0.iter().enumerate() {
            if store.contains(key).await.unwrap() {
                holders.push(at);
            }
        }
        holders
    }
}

fn blob(len: usize) -> (Key, Bytes) {
    let data = Bytes::from(vec![u8::try_from(len % 251).unwrap(); len]);
    (Key::blob(Digest::of(DigestFunction::Sha256, &data)), data)
}

#[tokio::test]
async fn blobs_go_by_their_size_and_the_limit_itself_goes_up() {
    let stores = Stores::open(2).await;
    let routed = RoutingStore::by_size(1000, stores.get(0), stores.get(1));
    for (len, expected) in [(1, 0), (999, 0), (1000, 1), (5000, 1)] {
        let (key, data) = blob(len);
        routed.put(&key, data.clone()).await.unwrap();
        assert_eq!(stores.holders(&key).await, [expected], "{len} bytes");
        assert_eq!(routed.get_all(&key, 10_000).await.unwrap(), Some(data));
        let Digest { function, hash, .. } = key.digest;
        assert_eq!(routed.find_by_hash(function, hash).await.unwrap(), Some(key.digest));
    }
    let keys = [5000, 7, 1, 1000, 8].map(|len| blob(len).0);
    assert_eq!(routed.find_missing(&keys).await.unwrap(), [false, true, false, false, true]);
}

#[tokio::test]
async fn what_stands_for_a_blob_goes_where_the_blob_would_and_is_found_without_its_size() {
    let stores = Stores::open(3).await;
    let weighted = |at| (stores.get(at), 1);
    let sharded = RoutingStore::sharded((0..3).map(weighted).collect()).unwrap();
    let by_size = RoutingStore::by_size(1000, stores.get(0), stores.get(1));
    for store in [sharded, by_size] {
        let digest = blob(5000).0.digest;
        let key = Key::derived(Namespace::COMPRESSED, digest);
        store.put(&key, Bytes::from_static(b"squeezed")).await.unwrap();
        let unsized_key = Key::derived(Namespace::COMPRESSED, Digest { size_bytes: 0, ..digest });
        for key in [key, unsized_key] {
            let value = store.get_all(&key, 100).await.unwrap().unwrap();
            assert_eq!(&*value, b"squeezed");
            assert_eq!(store.find_missing(&[key]).await.unwrap(), [false]);
        }
        assert!(store.remove(&unsized_key).await.unwrap());
        assert_eq!(store.find_missing(&[key]).await.unwrap(), [true]);
    }
}

#[tokio::test]
async fn a_result_is_found_whether_or_not_the_size_of_its_action_is_known() {
    let stores = Stores::open(3).await;
    let weighted = |at| (stores.get(at), 1);
    let sharded = RoutingStore::sharded((0..3).map(weighted).collect()).unwrap();
    let by_size = RoutingStore::by_size(1000, stores.get(0), stores.get(1));
    for store in [sharded, by_size] {
        let digest = blob(5000).0.digest;
        let known = Key::action_result(Namespace::of_instance("main"), digest);
        let unknown = known.without_hint();
        store.put(&known, Bytes::from_static(b"one")).await.unwrap();
        store.put(&unknown, Bytes::from_static(b"two")).await.unwrap();
        for key in [known, unknown] {
            assert_eq!(&*store.get_all(&key, 100).await.unwrap().unwrap(), b"two");
        }
        assert_eq!(stores.holders(&known).await.len(), 1);
        store.purge_selected(Selection::Hash(digest.hash)).await.unwrap();
        assert_eq!(stores.holders(&known).await.len(), 0);
    }
}

#[test]
fn shards_are_parts_of_the_folded_hash_in_proportion_to_their_weights() {
    let digest = |hash: [u8; HASH_BYTES], size_bytes| Digest {
        function: DigestFunction::Sha256,
        hash,
        size_bytes,
    };
    // One word set: the fold is that word, little-endian, whichever it is.
    let word = |at: usize, value: u32| {
        let mut hash = [0; HASH_BYTES];
        hash[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
        digest(hash, 0)
    };
    let shards = Shards::new(&[1, 2, 1]).unwrap();
    let quarter = u32::MAX / 4;
    for at in 0..8 {
        assert_eq!(shards.of(&word(at, 0)), 0);
        assert_eq!(shards.of(&word(at, quarter)), 0);
        assert_eq!(shards.of(&word(at, quarter + 1)), 1);
        assert_eq!(shards.of(&word(at, quarter * 3)), 1);
        assert_eq!(shards.of(&word(at, quarter * 3 + 2)), 2);
        assert_eq!(shards.of(&word(at, u32::MAX)), 2);
    }
    // Size and hash are folded together: equal words leave nothing.
    let mut hash = [0; HASH_BYTES];
    hash[..4].copy_from_slice(&7_u32.to_le_bytes());
    assert_eq!(shards.of(&digest(hash, 7)), 0);
    assert_eq!(shards.of(&digest([0; HASH_BYTES], u64::from(u32::MAX) << 32)), 2);
}

#[test]
fn no_weights_make_an_entry_unreachable() {
    assert!(Shards::new(&[]).is_none());
    assert!(Shards::new(&[1, 0]).is_none());
    for weights in [&[1][..], &[u32::MAX, u32::MAX, 1], &[1, u32::MAX]] {
        let shards = Shards::new(weights).unwrap();
        let mut seen = vec![0_u32; weights.len()];
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..10_000 {
            let mut hash = [0; HASH_BYTES];
            rng.fill(&mut hash);
            let digest = Digest { function: DigestFunction::Sha256, hash, size_bytes: 1 };
            seen[shards.of(&digest)] += 1;
        }
        assert_eq!(seen.iter().sum::<u32>(), 10_000);
    }
}
