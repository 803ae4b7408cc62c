//! Trees whose messages are few and whose paths are not.

use super::*;
use crate::store::BlobStoreExt as _;

impl World {
    /// Puts directories so that each has the one before in it, so many times.
    async fn put_chain(&self, levels: usize, times: usize) -> (Digest, Vec<u8>) {
        let mut tree = Tree::default();
        let mut below = self.put_model(&model([("leaf", text("leaf"))])).await;
        let leaf = self.store.get_all(&Key::blob(below), 1_000).await.unwrap().unwrap();
        let leaf = Directory::decode(SHA256, &leaf).unwrap();
        tree.children.insert(below, Arc::new(leaf));
        for level in 1..levels {
            let entry = |number| {
                let name = Name::new(&format!("d{number}")).unwrap();
                DirectoryEntry { name, digest: below }
            };
            let directories = (0..times).map(entry).collect();
            let directory = Directory { directories, ..Directory::default() };
            below = self.put(&directory.encode()).await;
            tree.children.insert(below, Arc::new(directory.clone()));
            if level + 1 == levels {
                tree.root = Arc::new(directory);
            }
        }
        (below, tree.encode())
    }

    async fn refuse_large(&self, root: TreeRoot, what: &str) -> String {
        let refused = self.stage_with(root, &StageOptions::default()).await;
        let Err(StageError::Invalid { path, problem }) = refused else { panic!("{refused:?}") };
        assert!(problem.contains(what), "{problem}");
        assert_eq!(self.litter(), Vec::<String>::new());
        path
    }
}

#[tokio::test]
async fn a_chain_of_ten_thousand_levels_is_refused() {
    let world = World::new().await;
    let (root, tree) = world.put_chain(10_000, 1).await;
    let tree = world.put(&tree).await;
    for root in [TreeRoot::Directory(root), TreeRoot::Tree(tree)] {
        let path = world.refuse_large(root, "512 levels").await;
        assert!(path.starts_with("d0/d0/d0/"), "{path}");
    }
}

#[tokio::test]
async fn the_deepest_tree_that_is_allowed_is_staged() {
    let world = World::new().await;
    let (root, _) = world.put_chain(512, 1).await;
    let staged = world.stage(root).await.unwrap();
    assert_eq!(staged.totals().directories, 512);
    let leaf = world.path().join("d0/".repeat(511)).join("leaf");
    assert_eq!(std::fs::read(leaf).unwrap(), b"leaf");
    world.parent().remove_all("target").unwrap();
    let (root, _) = world.put_chain(513, 1).await;
    world.refuse_large(TreeRoot::Directory(root), "512 levels").await;
}

/// The way that is found first is the short one.
#[tokio::test]
async fn the_longest_way_counts_not_the_first() {
    let world = World::new().await;
    let (deep, _) = world.put_chain(400, 1).await;
    let entry = |name: &str, digest| DirectoryEntry { name: Name::new(name).unwrap(), digest };
    let mut below = deep;
    for level in 0..200 {
        let shortcut = entry("shortcut", deep);
        let directories = vec![shortcut, entry("on", below)];
        let directory = Directory { directories, ..Directory::default() };
        below = world.put(&directory.encode()).await;
        let is_last = level == 199;
        assert!(!is_last || below != deep);
    }
    let path = world.refuse_large(TreeRoot::Directory(below), "512 levels").await;
    assert!(path.starts_with("on/on/on/"), "{path}");
}

#[tokio::test]
async fn a_diamond_of_two_to_the_thirtieth_paths_is_refused() {
    let world = World::new().await;
    for (levels, times) in [(31, 2), (200, 64), (8, 10)] {
        let (root, tree) = world.put_chain(levels, times).await;
        let tree = world.put(&tree).await;
        world.refuse_large(TreeRoot::Directory(root), "1000000 paths").await;
        world.refuse_large(TreeRoot::Tree(tree), "1000000 paths").await;
    }
}

#[tokio::test]
async fn a_directory_that_is_in_many_places_is_staged_in_all() {
    let world = World::new().await;
    let (root, _) = world.put_chain(11, 2).await;
    let staged = world.stage(root).await.unwrap();
    let totals = staged.totals();
    assert_eq!((totals.directories, totals.files), (2_047, 1_024));
    let found = read_back(&world.path());
    let mut expected = model([("leaf", text("leaf"))]);
    for _ in 1..11 {
        let half = Item::Folder(expected);
        expected = model([("d0", half.clone()), ("d1", half)]);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_directory_of_many_files_is_staged() {
    let world = World::new().await;
    let files = (0..3_000).map(|number| (format!("f{number}"), text(&format!("{}", number % 7))));
    let wanted: Model = files.collect();
    let root = world.put_model(&wanted).await;
    let staged = world.stage(root).await.unwrap();
    assert_eq!(staged.totals().files, 3_000);
    assert_eq!(read_back(&world.path()), wanted);
}

/// More links than an inode has on ext4.
#[tokio::test(flavor = "multi_thread")]
async fn seventy_thousand_links_to_one_file_are_made() {
    let world = World::new().await;
    let data = b"#!/bin/sh\nexit 3\n";
    let (digest, link) = (world.put(data).await, |number| FileEntry {
        name: Name::new(&format!("{number}")).unwrap(),
        digest: Digest::of(SHA256, data),
        is_executable: true,
        properties: Properties::default(),
    });
    let files: Vec<_> = (0..35_000).map(link).collect();
    let half = world.put(&Directory { files, ..Directory::default() }.encode()).await;
    let entry = |name: &str| DirectoryEntry { name: Name::new(name).unwrap(), digest: half };
    let root = Directory { directories: vec![entry("a"), entry("b")], ..Directory::default() };
    let root = world.put(&root.encode()).await;
    let staged = world.stage(root).await.unwrap();
    assert_eq!((staged.totals().files, staged.totals().copied_files), (70_000, 0));
    let mut inodes = std::collections::BTreeMap::new();
    for name in ["a", "b"] {
        for entry in std::fs::read_dir(world.path().join(name)).unwrap() {
            let metadata = entry.unwrap().metadata().unwrap();
            assert_eq!((metadata.len(), metadata.mode() & 0o7777), (data.len() as u64, 0o555));
            *inodes.entry(metadata.ino()).or_insert(0) += 1;
        }
    }
    assert_eq!(inodes.values().sum::<u32>(), 70_000);
    // One fresh inode for each that was full, whoever found it so first.
    assert_eq!(world.store.stats().renewals, inodes.len() as u64 - 1, "{inodes:?}");
    assert!(world.store.executable(digest).await.unwrap().is_some());
}

/// More links than an inode has, to one file and the program of the same bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trees_that_meet_at_the_last_link_share_the_fresh_inode() {
    const TREES: usize = 3;
    let world = World::new().await;
    let digest = world.put(b"#!/bin/sh\nexit 3\n").await;
    let link = |number: usize| FileEntry {
        name: Name::new(&format!("{number}")).unwrap(),
        digest,
        is_executable: number.is_multiple_of(2),
        properties: Properties::default(),
    };
    let files: Vec<_> = (0..11_000).map(link).collect();
    let part = world.put(&Directory { files, ..Directory::default() }.encode()).await;
    let entry =
        |number| DirectoryEntry { name: Name::new(&format!("{number}")).unwrap(), digest: part };
    let root = Directory { directories: (0..4).map(entry).collect(), ..Directory::default() };
    let root = TreeRoot::Directory(world.put(&root.encode()).await);
    let stage = |number: usize| {
        let (stager, parent) = (Arc::clone(&world.stager), world.parent());
        async move {
            let (name, options) = (format!("target {number}"), StageOptions::default());
            stager.stage(root, parent, &name, &options, Arc::default()).await
        }
    };
    let staged = futures_util::future::join_all((0..TREES).map(stage)).await;
    let mut inodes = std::collections::BTreeSet::new();
    for (number, staged) in staged.into_iter().enumerate() {
        assert_eq!(staged.unwrap().totals().copied_files, 0);
        for part in 0..4 {
            let path = world.place.path().join(format!("target {number}/{part}"));
            for entry in std::fs::read_dir(path).unwrap() {
                let metadata = entry.unwrap().metadata().unwrap();
                if metadata.mode() & 0o111 == 0 {
                    inodes.insert(metadata.ino());
                }
            }
        }
    }
    // The blob and its variant leave together, so the first that is full ends both.
    let renewals = world.store.stats().renewals;
    assert!(renewals <= 1 && inodes.len() as u64 == renewals + 1, "{renewals}, {inodes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_fresh_inode_the_rest_is_copied() {
    const FILES: usize = 65_010;
    let world = World::with(2 << 20, tempfile::tempdir().unwrap()).await;
    let digest = world.put(&vec![7; 300_000]).await;
    let link = |number: usize| FileEntry {
        name: Name::new(&format!("{number}")).unwrap(),
        digest,
        is_executable: false,
        properties: Properties::default(),
    };
    let entry = |part: usize| {
        let files = (part * FILES / 10..(part + 1) * FILES / 10).map(link).collect();
        (part, Directory { files, ..Directory::default() }.encode())
    };
    // Messages that are small, so that they have room beside the rest.
    let (far, near) = (World::new().await, Arc::clone(&world.store));
    let mut root = Directory::default();
    for (part, message) in (0..10).map(entry) {
        let name = Name::new(&format!("{part}")).unwrap();
        root.directories.push(DirectoryEntry { name, digest: far.put(&message).await });
    }
    let root = far.put(&root.encode()).await;
    // What others hold leaves no room.
    let held = world.put(&vec![1; 1_500_000]).await;
    let held = near.linkable(held).await.unwrap().unwrap();
    far.put(&vec![7; 300_000]).await;
    let world = World { stager: Stager::new(far.stager.cas.clone(), near), ..world };
    let staged = world.stage(root).await.unwrap();
    let mut linked = 0;
    for part in 0..10 {
        for entry in std::fs::read_dir(world.path().join(part.to_string())).unwrap() {
            let metadata = entry.unwrap().metadata().unwrap();
            assert_eq!((metadata.len(), metadata.mode() & 0o7777), (300_000, 0o444));
            linked += u64::from(metadata.nlink() > 1);
        }
    }
    let copied = staged.totals().copied_files;
    assert_eq!(linked + copied, FILES as u64);
    // Those that go beyond the 65,000 names of an inode; somewhere else it may have more.
    assert!(copied == 0 || copied == 11, "{copied}");
    assert_eq!(world.store.stats().renewals, 0, "there was no room for one");
    assert_eq!(std::fs::read(world.path().join("9/65009")).unwrap(), vec![7; 300_000]);
    drop(held);
}
