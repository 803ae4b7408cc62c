//! Trees whose blobs are in a store behind.

use super::far::Far;
use super::*;
use crate::store::BlobStoreExt as _;
use crate::store::tiered::{TieredOptions, TieredStore};

/// A world whose blobs are somewhere else; reading them fills the store of files or does not.
async fn away(is_tiered: bool) -> (World, Arc<Far>) {
    let world = World::new().await;
    with_far(world, is_tiered)
}

fn with_far(world: World, is_tiered: bool) -> (World, Arc<Far>) {
    let far = Far::new();
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
        for digest in parts.blobs.keys() {
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

/// The messages that are known without being read are made local like the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_a_tree_are_made_local_too() {
    for is_tiered in [false, true] {
        let (world, far) = away(is_tiered).await;
        let parts = Parts::of(&sample());
        for data in parts.blobs.values() {
            put(&*far, data).await;
        }
        let tree = put(&*far, &parts.tree()).await;
        let root = TreeRoot::Directory(parts.root);
        let messages = parts.directories.keys().filter(|it| !it.is_empty());
        let messages: Vec<Key> = messages.copied().map(Key::blob).collect();
        for _ in 0..2 {
            world.stager.fetch(root, Arc::default()).await.unwrap();
            let absent = world.store.find_missing(&messages).await.unwrap();
            assert!(!absent.contains(&true), "{absent:?}");
            for key in &messages {
                world.store.remove(key).await.unwrap();
            }
        }
        world.stager.fetch(TreeRoot::Tree(tree), Arc::default()).await.unwrap();
        assert!(world.store.contains(&Key::blob(tree)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_held_here_is_not_missing() {
    for is_tiered in [false, true] {
        let small = World::with(2 << 20, tempfile::tempdir().unwrap()).await;
        let (world, far) = with_far(small, is_tiered);
        let file = |seed: u8| {
            let (data, is_executable) = (vec![seed; 300_000].into(), seed.is_multiple_of(2));
            (format!("f{seed}"), Item::File { data, is_executable })
        };
        let parts = Parts::of(&(0..20).map(file).collect());
        for data in parts.blobs.values() {
            put(&*far, data).await;
        }
        let refused = world.stage(parts.root).await.unwrap_err();
        let is_right = matches!(
            refused,
            StageError::Store(StoreError::NoSpace { .. } | StoreError::Unavailable { .. })
        );
        assert!(is_right, "{refused}");
        assert_eq!(world.litter(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_is_not_missing() {
    let (world, far) = away(false).await;
    let parts = Parts::of(&sample());
    for data in parts.blobs.values() {
        put(&*far, data).await;
    }
    let withheld = Digest::of(SHA256, b"read me");
    *far.withheld.lock() = Some(withheld);
    let root = TreeRoot::Directory(parts.root);
    let fetched = world.stager.fetch(root, Arc::default()).await.map(|_| ());
    let staged = world.stage(parts.root).await.map(|_| ());
    for outcome in [fetched, staged] {
        let Err(StageError::Store(StoreError::Unavailable { what })) = &outcome else {
            panic!("{outcome:?}");
        };
        assert!(what.contains(&withheld.to_string()), "{what}");
    }
    // What is nowhere is said to be, and that alone.
    let gone = Digest::of(SHA256, b"odd names");
    far.remove(&Key::blob(gone)).await.unwrap();
    world.store.remove(&Key::blob(gone)).await.unwrap();
    let staged = world.stage(parts.root).await;
    assert!(matches!(&staged, Err(StageError::Missing(it)) if *it == [gone]), "{staged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_is_read_once() {
    for is_tiered in [false, true] {
        let (world, far) = away(is_tiered).await;
        let file = |seed: u8| {
            let data = vec![seed; 2_000_000].into();
            (format!("f{seed}"), Item::File { data, is_executable: false })
        };
        // Whether reading is enough is found out by the first one.
        for (seeds, expected) in [(0..1, if is_tiered { 1 } else { 2 }), (1..5, 1)] {
            let parts = Parts::of(&seeds.map(file).collect());
            for data in parts.blobs.values() {
                put(&*far, data).await;
            }
            world.stager.fetch(TreeRoot::Directory(parts.root), Arc::default()).await.unwrap();
            for digest in parts.blobs.keys().filter(|it| !parts.directories.contains_key(it)) {
                assert!(world.store.contains(&Key::blob(*digest)).await.unwrap());
                assert_eq!(far.reads(digest), expected, "{is_tiered}");
            }
        }
    }
}
