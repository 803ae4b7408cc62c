//! Trees whose blobs are in a store behind.

use super::*;
use crate::store::BlobStoreExt as _;
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::tiered::{TieredOptions, TieredStore};

/// A world whose blobs are somewhere else; reading them fills the store of files or does not.
async fn away(is_tiered: bool) -> (World, Arc<MemoryStore>) {
    let world = World::new().await;
    let far = MemoryStore::new(&MemoryOptions::new(64 << 20));
    let (near, behind) = (Arc::clone(&world.store), Arc::clone(&far));
    let store: Arc<dyn BlobStore> =
        if is_tiered { TieredStore::new(near, behind, TieredOptions::default()) } else { behind };
    let stager = Stager::new(Cas::new(store), Arc::clone(&world.store));
    (World { stager, ..world }, far)
}

fn large() -> Model {
    let mut model = sample();
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    model.insert("large".to_owned(), Item::File { data: data.into(), is_executable: true });
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_made_local() {
    for is_tiered in [false, true] {
        let (world, far) = away(is_tiered).await;
        let parts = Parts::of(&large());
        for data in parts.blobs.values() {
            put(&*far, data).await;
        }
        let progress = Arc::new(Progress::default());
        let root = TreeRoot::Directory(parts.root);
        let totals = world.stager.fetch(root, Arc::clone(&progress)).await.unwrap();
        assert_eq!(totals.files, 10);
        // Each once, and the empty one never.
        let bytes: u64 = 3_000_000 + 7 + 13 + 11 + 9 + 17;
        assert_eq!((progress.bytes_total(), progress.bytes_done()), (bytes, bytes));
        assert_eq!(progress.files_total(), progress.files_done());
        let is_file = |digest: &&Digest| !parts.directories.contains_key(digest);
        for digest in parts.blobs.keys().filter(is_file) {
            assert!(world.store.contains(&Key::blob(*digest)).await.unwrap(), "{digest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_fetches_what_is_not_local() {
    for is_tiered in [false, true] {
        let (world, far) = away(is_tiered).await;
        let parts = Parts::of(&large());
        for data in parts.blobs.values() {
            put(&*far, data).await;
        }
        let staged = world.stage(parts.root).await.unwrap();
        assert_eq!(read_back(&world.path()), large());
        assert_eq!(staged.totals().copied_files, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nowhere_is_reported_at_once() {
    let (world, far) = away(true).await;
    let parts = Parts::of(&large());
    let gone = [Digest::of(SHA256, b"read me"), Digest::of(SHA256, b"odd names")];
    for (_, data) in parts.blobs.iter().filter(|(digest, _)| !gone.contains(digest)) {
        put(&*far, data).await;
    }
    let mut gone = gone.to_vec();
    gone.sort_unstable();
    let root = TreeRoot::Directory(parts.root);
    let fetched = world.stager.fetch(root, Arc::default()).await;
    assert!(
        matches!(&fetched, Err(StageError::Missing(missing)) if *missing == gone),
        "{fetched:?}"
    );
    let staged = world.stage(parts.root).await;
    assert!(matches!(&staged, Err(StageError::Missing(missing)) if *missing == gone), "{staged:?}");
    assert_eq!(world.litter(), Vec::<String>::new());
}
