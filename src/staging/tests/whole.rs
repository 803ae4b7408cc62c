//! Whole trees, as they were put.

use super::*;

#[tokio::test]
async fn a_tree_is_staged_as_it_was_put() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    let progress = Arc::new(Progress::default());
    let options = StageOptions::default();
    let staged = world.stager.stage(
        TreeRoot::Directory(root),
        world.parent(),
        "target",
        &options,
        Arc::clone(&progress),
    );
    let staged = staged.await.unwrap();
    assert_eq!(read_back(&world.path()), sample());
    assert_eq!(world.litter(), ["target"]);
    let totals = staged.totals();
    assert_eq!((totals.files, totals.directories, totals.symlinks), (9, 6, 2));
    assert_eq!(totals.copied_files, 0);
    assert_eq!((progress.files_total(), progress.files_done()), (9, 9));
    assert_eq!((progress.bytes_total(), progress.bytes_done()), (totals.bytes, totals.bytes));
    assert_eq!(totals.bytes, 7 + 13 + 7 + 11 + 9 + 17 + 17);

    let at = |path: &str| world.path().join(path);
    assert_eq!(inode(&at("readme")), inode(&at("src/same")));
    assert_ne!(inode(&at("bin/run")), inode(&at("bin/run as text")));
    for (path, mode) in [
        ("readme", 0o444),
        ("nothing", 0o444),
        ("bin/run", 0o555),
        ("bin/nothing", 0o555),
        ("empty", 0o755),
        ("", 0o755),
    ] {
        assert_eq!(mode_of(&at(path)), mode, "{path}");
    }
    let exit = std::process::Command::new(at("bin/run")).status().unwrap();
    assert_eq!(exit.code(), Some(3));
}

#[tokio::test]
async fn files_are_links_to_the_inodes_of_the_store() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    let _staged = world.stage(root).await.unwrap();
    let digest = Digest::of(SHA256, b"read me");
    let pinned = world.store.linkable(digest).await.unwrap().unwrap();
    assert_eq!(inode(&pinned.path()), inode(&world.path().join("readme")));
    let digest = Digest::of(SHA256, b"#!/bin/sh\nexit 3\n");
    let pinned = world.store.executable(digest).await.unwrap().unwrap();
    assert_eq!(inode(&pinned.path()), inode(&world.path().join("bin/run")));
}

#[tokio::test]
async fn a_tree_message_is_staged_like_its_directories() {
    let world = World::new().await;
    world.put_model(&sample()).await;
    let tree = world.put(&Parts::of(&sample()).tree()).await;
    let options = StageOptions::default();
    let staged = world.stage_with(TreeRoot::Tree(tree), &options).await.unwrap();
    assert_eq!(read_back(&world.path()), sample());
    assert_eq!(staged.totals().directories, 6);
}

#[tokio::test]
async fn an_empty_tree_and_an_empty_directory_in_its_place() {
    let world = World::new().await;
    std::fs::create_dir(world.path()).unwrap();
    let root = Digest::empty(SHA256);
    drop(world.stage(root).await.unwrap());
    assert_eq!(read_back(&world.path()), Model::new());
    // It is one again.
    let root = world.put_model(&sample()).await;
    drop(world.stage(root).await.unwrap());
    assert_eq!(read_back(&world.path()), sample());
}

#[tokio::test]
async fn what_is_there_already_is_left_alone() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    std::fs::create_dir(world.path()).unwrap();
    std::fs::write(world.path().join("file"), "mine").unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), world.place.path().join("link")).unwrap();
    std::fs::write(world.place.path().join("file"), "mine").unwrap();
    for name in ["target", "link", "file"] {
        let options = StageOptions::default();
        let root = TreeRoot::Directory(root);
        let staged = world.stager.stage(root, world.parent(), name, &options, Arc::default());
        let refused = staged.await.unwrap_err();
        assert!(matches!(refused, StageError::Target { .. }), "{refused}");
    }
    assert_eq!(read_back(&world.path()), model([("file", text("mine"))]));
    assert_eq!(world.litter().len(), 3);
    assert_eq!(read_back(outside.path()), Model::new());
}

#[tokio::test]
async fn what_is_staged_stays_under_pressure_until_it_is_dropped() {
    let world = World::with(1 << 20, tempfile::tempdir().unwrap()).await;
    let data = vec![1; 100_000];
    let file = Item::File { data: data.into(), is_executable: false };
    let root = world.put_model(&model([("file", file)])).await;
    let staged = world.stage(root).await.unwrap();
    let digest = Digest::of(SHA256, &vec![1; 100_000]);
    let churn = async |seeds: std::ops::Range<u8>| {
        for seed in seeds {
            world.put(&vec![seed; 200_000]).await;
        }
    };
    churn(2..22).await;
    let key = Key::blob(digest);
    assert_eq!(world.store.find_missing(&[key]).await.unwrap(), [false]);
    drop(staged);
    churn(22..42).await;
    assert_eq!(world.store.find_missing(&[key]).await.unwrap(), [true]);
    assert_eq!(std::fs::read(world.path().join("file")).unwrap().len(), 100_000);
}

#[tokio::test]
async fn what_is_staged_often_does_not_age() {
    let world = World::with(1 << 20, tempfile::tempdir().unwrap()).await;
    let root = world.put_model(&sample()).await;
    for seed in 0..20_u8 {
        drop(world.stage(root).await.unwrap());
        world.parent().remove_all("target").unwrap();
        world.put(&vec![seed; 200_000]).await;
    }
    let blobs: Vec<Key> = Parts::of(&sample()).blobs.into_keys().map(Key::blob).collect();
    let absent = world.store.find_missing(&blobs).await.unwrap();
    assert!(!absent.contains(&true), "{absent:?}");
}
