//! What is missing is said at once, and nothing is left of what failed.

use super::*;
use crate::store::{BlobStoreExt as _, PurgeScope};

fn missing(outcome: Result<StagedTree, StageError>) -> Vec<Digest> {
    match outcome {
        Err(StageError::Missing(digests)) => digests,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everything_that_is_missing_is_reported_at_once() {
    let world = World::new().await;
    let parts = Parts::of(&sample());
    // Every second blob, files and directories alike, but for the root.
    let kept = parts.blobs.iter().enumerate().filter(|(at, _)| at % 2 == 0);
    let kept: Vec<_> = kept.map(|(_, it)| it).collect();
    for (_, data) in &kept {
        world.put(data).await;
    }
    world.put(&parts.root_directory.encode()).await;
    loop {
        let missing = match world.stage(parts.root).await {
            Err(StageError::Missing(missing)) => missing,
            other => break drop(other.unwrap()),
        };
        assert!(missing.is_sorted() && !missing.is_empty());
        assert_eq!(world.litter(), Vec::<String>::new());
        for digest in &missing {
            let key = Key::blob(*digest);
            assert!(!world.store.contains(&key).await.unwrap(), "{digest} is there");
            world.put(&parts.blobs[digest]).await;
        }
    }
    assert_eq!(read_back(&world.path()), sample());
}

#[tokio::test]
async fn all_files_and_directories_are_in_one_report() {
    let world = World::new().await;
    let parts = Parts::of(&sample());
    assert_eq!(missing(world.stage(parts.root).await), [parts.root]);
    for directory in parts.directories.values() {
        world.put(&directory.encode()).await;
    }
    let is_file = |digest: &&Digest| !parts.directories.contains_key(digest);
    let files: Vec<Digest> = parts.blobs.keys().filter(is_file).copied().collect();
    assert_eq!(missing(world.stage(parts.root).await), files);
    // A directory less, which the stager still knows how to read.
    let gone = *parts.directories.keys().find(|it| **it != parts.root && !it.is_empty()).unwrap();
    world.store.remove(&Key::blob(gone)).await.unwrap();
    let mut all = files.clone();
    all.push(gone);
    all.sort_unstable();
    assert_eq!(missing(world.stage(parts.root).await), all);
    let fresh = Stager::new(world.stager.cas.clone(), Arc::clone(&world.store));
    let world = World { stager: fresh, ..world };
    let reported = missing(world.stage(parts.root).await);
    assert!(reported.contains(&gone) && reported.is_sorted());
    assert!(!reported.contains(&parts.root));
    let tree = Digest::of(SHA256, &parts.tree());
    let options = StageOptions::default();
    assert_eq!(missing(world.stage_with(TreeRoot::Tree(tree), &options).await), [tree]);
    world.put(&parts.tree()).await;
    assert_eq!(missing(world.stage_with(TreeRoot::Tree(tree), &options).await), files);
    assert_eq!(world.litter(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_purged_is_missing() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    drop(world.stage(root).await.unwrap());
    world.parent().remove_all("target").unwrap();
    world.store.purge(PurgeScope::All).await.unwrap();
    let reported = missing(world.stage(root).await);
    let blobs: Vec<Digest> = Parts::of(&sample()).blobs.into_keys().collect();
    assert_eq!(reported, blobs);
    assert_eq!(world.litter(), Vec::<String>::new());
    world.put_model(&sample()).await;
    drop(world.stage(root).await.unwrap());
    assert_eq!(read_back(&world.path()), sample());
}

fn grounds(world: &World) -> site::Grounds {
    site::Grounds { parent: world.parent(), workshop: None }
}

#[tokio::test]
async fn what_somebody_else_puts_at_the_target_is_not_replaced() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    let parent = world.parent();
    let (site, folder) = site::Site::begin(grounds(&world), "target", 0o755).unwrap();
    folder.create_file("file", 0o644).unwrap();
    assert_eq!(world.litter().len(), 1);
    parent.make_folder("target", 0o755).unwrap().create_file("theirs", 0o644).unwrap();
    site.put_in_place().unwrap_err();
    drop(site);
    assert_eq!(world.litter(), ["target"]);
    assert!(world.path().join("theirs").exists());
    parent.remove_all("target").unwrap();
    // An empty directory that has gone for a tree comes back when the tree goes.
    parent.make_folder("target", 0o755).unwrap().set_mode(0o700).unwrap();
    let (site, folder) = site::Site::begin(grounds(&world), "target", 0o755).unwrap();
    folder.create_file("file", 0o644).unwrap();
    site.put_in_place().unwrap();
    assert!(world.path().join("file").exists());
    drop(site);
    assert_eq!((read_back(&world.path()), mode_of(&world.path())), (Model::new(), 0o700));
    drop(world.stage(root).await.unwrap());
    assert_eq!(read_back(&world.path()), sample());
}

#[tokio::test]
async fn a_parent_that_goes_away_is_an_error() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    let parent = world.parent().make_folder("gone", 0o755).unwrap();
    world.parent().remove_all("gone").unwrap();
    let root = TreeRoot::Directory(root);
    let options = StageOptions::default();
    let staged = world.stager.stage(root, parent, "target", &options, Arc::default()).await;
    assert!(matches!(staged, Err(StageError::Target { .. })), "{staged:?}");
    for name in ["", "..", "a/b"] {
        let parent = world.parent();
        let staged = world.stager.stage(root, parent, name, &options, Arc::default()).await;
        assert!(matches!(staged, Err(StageError::Invalid { .. })), "{staged:?}");
    }
}

/// I16: a tree of directories and links alone has no file whose absence would tell.
#[tokio::test]
async fn a_tree_without_files_is_purged_like_others() {
    let world = World::new().await;
    let wanted = model([
        ("below", folder([("link", symlink("x")), ("nothing", text(""))])),
        ("link", symlink("y")),
    ]);
    let root = world.put_model(&wanted).await;
    for _ in 0..2 {
        drop(world.stage(root).await.unwrap());
        assert_eq!(read_back(&world.path()), wanted);
        world.parent().remove_all("target").unwrap();
    }
    world.store.purge(PurgeScope::All).await.unwrap();
    let blobs: Vec<Digest> = Parts::of(&wanted).blobs.into_keys().collect();
    assert_eq!(missing(world.stage(root).await), blobs);
    let fetched = world.stager.fetch(TreeRoot::Directory(root), Arc::default()).await;
    assert!(matches!(&fetched, Err(StageError::Missing(it)) if *it == blobs), "{fetched:?}");
    assert_eq!(world.litter(), Vec::<String>::new());
}
