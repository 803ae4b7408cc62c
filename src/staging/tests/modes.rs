//! Node properties, owners, and the ways that a file gets into a directory.

use super::*;
use crate::trees::directory::ModificationTime;

fn with_mode(link_mode: LinkMode) -> StageOptions {
    StageOptions { link_mode, ..StageOptions::default() }
}

#[tokio::test]
async fn files_with_properties_are_private_copies() {
    let world = World::new().await;
    let digest = world.put(b"data").await;
    let mtime = Some(ModificationTime { seconds: 1_000_000_007, nanoseconds: 9 });
    let entry = |name: &str, is_executable, mtime, unix_mode| FileEntry {
        name: Name::new(name).unwrap(),
        digest,
        is_executable,
        properties: Properties { mtime, unix_mode },
    };
    let below = Directory {
        files: vec![entry("plain", false, None, None)],
        properties: Properties { mtime, unix_mode: Some(0o555) },
        ..Directory::default()
    };
    let below = world.put(&below.encode()).await;
    let link = SymlinkEntry {
        name: Name::new("link").unwrap(),
        target: "x".into(),
        properties: Properties { mtime, unix_mode: None },
    };
    let root = Directory {
        files: vec![
            entry("timed", false, mtime, None),
            entry("moded", false, None, Some(0o4666)),
            entry("run", true, mtime, Some(0o600)),
            entry("plain", false, None, None),
        ],
        directories: vec![DirectoryEntry { name: Name::new("below").unwrap(), digest: below }],
        symlinks: vec![link],
        properties: Properties { mtime, unix_mode: Some(0o777) },
    };
    let root = world.put(&root.encode()).await;
    let staged = world.stage(root).await.unwrap();
    assert_eq!(staged.totals().copied_files, 3);
    let path = world.path();
    let plain = inode(&path.join("plain"));
    assert_eq!(inode(&path.join("below/plain")), plain);
    for (name, mode, is_timed) in [
        ("timed", 0o444, true),
        ("moded", 0o644, false),
        ("run", 0o711 & !0o022, true),
        ("below", 0o555, true),
        ("", 0o755, true),
        ("link", 0o777, true),
    ] {
        let path = path.join(name);
        assert_eq!(mode_of(&path), mode, "{name}");
        assert_ne!(inode(&path), plain);
        let found = path.symlink_metadata().unwrap();
        let is_right = (found.mtime(), found.mtime_nsec()) == (1_000_000_007, 9);
        assert_eq!(is_right, is_timed, "{name}");
    }
    assert_eq!(std::fs::read(path.join("moded")).unwrap(), b"data");
}

#[tokio::test]
async fn copies_are_private_and_hold_nothing() {
    let world = World::new().await;
    let root = world.put_model(&sample()).await;
    let root = TreeRoot::Directory(root);
    let staged = world.stage_with(root, &with_mode(LinkMode::Copy)).await.unwrap();
    assert_eq!(read_back(&world.path()), sample());
    assert_eq!(staged.totals().copied_files, 7);
    assert_eq!(world.store.stats().variants, 0);
    let at = |path: &str| world.path().join(path);
    assert_ne!(inode(&at("readme")), inode(&at("src/same")));
    assert_eq!((mode_of(&at("readme")), mode_of(&at("bin/run"))), (0o444, 0o555));
    std::fs::set_permissions(at("readme"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(at("readme"), "changed").unwrap();
    assert_eq!(std::fs::read(at("src/same")).unwrap(), b"read me");
}

#[tokio::test]
async fn a_reflink_is_one_or_an_error() {
    let world = World::new().await;
    let root = TreeRoot::Directory(world.put_model(&sample()).await);
    match world.stage_with(root, &with_mode(LinkMode::Reflink)).await {
        Ok(_) => assert_eq!(read_back(&world.path()), sample()),
        Err(StageError::Store(StoreError::Unsupported { .. })) => {
            assert_eq!(world.litter(), Vec::<String>::new());
        }
        Err(error) => panic!("{error}"),
    }
}

/// `None` where there is no other file system.
fn elsewhere(world: &World) -> Option<TempDir> {
    let place = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |path: &Path| path.metadata().unwrap().dev();
    (device(place.path()) != device(world.store_place.path())).then_some(place)
}

#[tokio::test]
async fn across_file_systems_files_are_copied() {
    let mut world = World::new().await;
    let Some(place) = elsewhere(&world) else { return };
    world.place = place;
    let root = TreeRoot::Directory(world.put_model(&sample()).await);
    let refused = world.stage_with(root, &with_mode(LinkMode::HardLink)).await.unwrap_err();
    assert!(matches!(refused, StageError::Target { .. }), "{refused}");
    assert_eq!(world.litter(), Vec::<String>::new());
    let staged = world.stage_with(root, &StageOptions::default()).await.unwrap();
    assert_eq!(read_back(&world.path()), sample());
    assert_eq!(staged.totals().copied_files, 7);
    assert_eq!(world.store.stats().variants, 0, "of none there can be a link");
    assert_eq!(mode_of(&world.path().join("bin/run")), 0o555);
}

#[tokio::test]
async fn without_room_for_variants_executables_are_copied() {
    let world = World::with(2 << 20, tempfile::tempdir().unwrap()).await;
    let data = Bytes::from(vec![7; 900_000]);
    let items = [("run", true), ("text", false)]
        .map(|(name, is_executable)| (name, Item::File { data: data.clone(), is_executable }));
    let wanted = model(items);
    let root = TreeRoot::Directory(world.put_model(&wanted).await);
    // What others hold leaves no room.
    let held = world.put(&vec![1; 700_000]).await;
    let held = world.store.linkable(held).await.unwrap().unwrap();
    let refused = world.stage_with(root, &with_mode(LinkMode::HardLink)).await.unwrap_err();
    assert!(matches!(refused, StageError::Store(StoreError::NoSpace { .. })), "{refused}");
    let staged = world.stage_with(root, &StageOptions::default()).await.unwrap();
    assert_eq!(read_back(&world.path()), wanted);
    assert_eq!(staged.totals().copied_files, 1);
    assert_eq!(mode_of(&world.path().join("run")), 0o555);
    drop(held);
}

#[tokio::test]
async fn writable_directories_are_made_besides_those_of_the_tree() {
    let world = World::new().await;
    let locked = Directory {
        properties: Properties { mtime: None, unix_mode: Some(0o555) },
        ..Directory::default()
    };
    let locked = world.put(&locked.encode()).await;
    let directories =
        ["a", "b"].map(|it| DirectoryEntry { name: Name::new(it).unwrap(), digest: locked });
    let root = Directory { directories: directories.into(), ..Directory::default() };
    let root = TreeRoot::Directory(world.put(&root.encode()).await);
    let wanted = ["out", "a", "b/c/d"].map(str::to_owned).to_vec();
    let options = StageOptions { writable_directories: wanted, ..StageOptions::default() };
    let _staged = world.stage_with(root, &options).await.unwrap();
    let c = folder([("c", folder([("d", folder([]))]))]);
    assert_eq!(read_back(&world.path()), model([("a", folder([])), ("b", c), ("out", folder([]))]));
    for (path, mode) in [("out", 0o755), ("a", 0o755), ("b", 0o555), ("b/c/d", 0o755)] {
        assert_eq!(mode_of(&world.path().join(path)), mode, "{path}");
    }
}

#[tokio::test]
async fn a_writable_directory_leads_nowhere_else() {
    let world = World::new().await;
    let root = TreeRoot::Directory(world.put_model(&sample()).await);
    for path in [
        "", "/", "/out", "..", "a/../b", "a//b", "a/", "./a", "a\0", "link", "readme", "readme/x",
        "link/x",
    ] {
        let writable_directories = vec![path.to_owned()];
        let options = StageOptions { writable_directories, ..StageOptions::default() };
        let refused = world.stage_with(root, &options).await.unwrap_err();
        let is_named = match &refused {
            StageError::Invalid { path: named, .. } => path.starts_with(named.as_str()),
            _ => false,
        };
        assert!(is_named, "{path:?}: {refused}");
        assert_eq!(world.litter(), Vec::<String>::new(), "{path:?}");
    }
}

#[tokio::test]
async fn owner_and_umask_are_those_asked_for() {
    let world = World::new().await;
    let root = TreeRoot::Directory(world.put_model(&sample()).await);
    let own = world.place.path().metadata().unwrap();
    // Only root gives things away.
    let (uid, gid) = if own.uid() == 0 { (12_345, 12_346) } else { (own.uid(), own.gid()) };
    let options =
        StageOptions { uid: Some(uid), gid: Some(gid), umask: 0o007, ..StageOptions::default() };
    let _staged = world.stage_with(root, &options).await.unwrap();
    let at = |path: &str| world.path().join(path);
    for (path, mode) in [("", 0o770), ("src/deep", 0o770), ("nothing", 0o440), ("readme", 0o444)] {
        assert_eq!(mode_of(&at(path)), mode, "{path}");
    }
    for path in ["", "src/deep", "nothing", "link"] {
        let found = at(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (uid, gid), "{path}");
    }
    // A link is the store's.
    assert_eq!(at("readme").metadata().unwrap().uid(), own.uid());
}

#[tokio::test]
async fn writable_directories_are_bounded() {
    let world = World::new().await;
    let root = TreeRoot::Directory(world.put_model(&sample()).await);
    let deep = |first: String, levels: usize| [first, "/a".repeat(levels - 1)].concat();
    let refuse = async |writable_directories: Vec<String>, what: &str| {
        let options = StageOptions { writable_directories, ..StageOptions::default() };
        let refused = world.stage_with(root, &options).await.unwrap_err();
        assert!(matches!(&refused, StageError::Invalid { .. }), "{refused}");
        assert!(refused.to_string().contains(what), "{refused}");
    };
    refuse(vec![deep("a".into(), 513)], "512 levels").await;
    refuse(vec!["a".repeat(5_000)], "4096 bytes").await;
    refuse((0..10_001).map(|number| number.to_string()).collect(), "10000").await;
    // Few, and all their levels together are not.
    refuse((0..20).map(|number| deep(number.to_string(), 512)).collect(), "10000").await;
    let long = |number: usize| [&format!("{number}"), "/aaaaaaa".repeat(500).as_str()].concat();
    refuse((0..20).map(long).collect(), "bytes of paths").await;
    // The same again is nothing more.
    let writable_directories: Vec<String> =
        (0..10_000).flat_map(|_| [deep("a".into(), 512), deep("a".into(), 300)]).collect();
    let options = StageOptions { writable_directories, ..StageOptions::default() };
    let _staged = world.stage_with(root, &options).await.unwrap();
    assert!(world.path().join(deep("a".into(), 512)).is_dir());
}
