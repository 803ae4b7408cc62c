//! Files that the worker gives up.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::store::memory::{MemoryOptions, MemoryStore};
use crate::store::tiered::{TieredOptions, TieredStore};

impl World {
    async fn give_up(&self, paths: &[&str]) -> Result<Vec<CapturedDirectory>, StageError> {
        self.stager.capture_directories(SHA256, &self.base, &strings(paths), true).await
    }

    async fn inode_of(&self, data: &[u8]) -> u64 {
        let pinned = self.files.linkable(Digest::of(SHA256, data)).await.unwrap().unwrap();
        std::fs::metadata(pinned.path()).unwrap().ino()
    }
}

/// Larger than what is copied in any case.
const LARGE: usize = (2 << 20) + 3;

#[tokio::test]
async fn a_large_file_that_is_given_up_is_the_blob() {
    let world = World::new().await;
    let (top, below) = (noise(1, LARGE), noise(2, LARGE));
    world.write("out/top", &top);
    world.write("out/in/below", &below);
    world.write("out/in/small", "small");
    let inode = |path| std::fs::metadata(world.path(path)).unwrap().ino();
    let inodes = (inode("out/top"), inode("out/in/below"));
    let captured = world.give_up(&["out"]).await.unwrap().remove(0);
    assert_eq!((captured.files, captured.bytes), (3, 2 * LARGE as u64 + 5));
    assert_eq!((world.inode_of(&top).await, world.inode_of(&below).await), inodes);
    assert_eq!(files_below(&world.path("out")), [world.path("out/in/small")]);
    assert_eq!(stored(&world, captured.root_directory_digest).await.len(), 4);
    world.assert_sound().await;
}

#[tokio::test]
async fn given_up_or_not_the_tree_is_the_same() {
    let (kept, given_up) = (World::new().await, World::new().await);
    for world in [&kept, &given_up] {
        world.write("out/file", "1");
        world.write("out/in/same", "1");
        world.write("out/in/large", noise(1, LARGE));
        world.write("out/in/tool", noise(2, LARGE));
        world.make_executable("out/in/tool");
        world.link("out/link", "in/tool");
        world.write("out/empty", "");
    }
    let paths = ["out/in", "out"];
    assert_eq!(kept.capture(&paths).await.unwrap(), given_up.give_up(&paths).await.unwrap());
    assert!(given_up.path("out/in/tool").exists(), "what can be run is copied");
    assert!(!given_up.path("out/in/large").exists());
    given_up.assert_sound().await;
}

#[tokio::test]
async fn what_somebody_else_holds_is_copied() {
    let world = World::new().await;
    let (linked, open) = (noise(1, LARGE), noise(2, LARGE));
    world.write("out/linked", &linked);
    world.write("out/open", &open);
    std::fs::hard_link(world.path("out/linked"), world.path("elsewhere")).unwrap();
    let writer = std::fs::File::options().write(true).open(world.path("out/open")).unwrap();
    let captured = world.give_up(&["out"]).await.unwrap().remove(0);
    assert_eq!(captured.files, 2);
    for (path, data) in [("out/linked", &linked), ("out/open", &open)] {
        let inode = std::fs::metadata(world.path(path)).unwrap().ino();
        assert_ne!(world.inode_of(data).await, inode, "{path}");
    }
    drop(writer);
    world.assert_sound().await;
}

#[tokio::test]
async fn a_capture_that_fails_takes_nothing_away() {
    let world = World::new().await;
    world.write("out/a", noise(1, LARGE));
    world.write("out/b", noise(2, LARGE));
    let path = world.path("out/b");
    world.plan(move || std::fs::write(path, noise(3, LARGE)).unwrap());
    let (named, _) = invalid(world.give_up(&["out"]).await.unwrap_err());
    assert_eq!(named, "out/b");
    assert_eq!(files_below(&world.path("out")).len(), 2);
    let captured = world.give_up(&["out"]).await.unwrap().remove(0);
    assert_eq!(captured.files, 2);
    world.assert_sound().await;
}

#[tokio::test]
async fn single_files_are_given_up_too() {
    let world = World::new().await;
    world.write("out/file", noise(1, LARGE));
    world.link("out/link", "file");
    let paths = strings(&["out/file", "out/link", "out/file"]);
    let captured = world.stager.capture_files(SHA256, &world.base, &paths, true).await.unwrap();
    assert_eq!((captured.files.len(), captured.symlinks.len()), (2, 1));
    assert!(!world.path("out/file").exists());
    assert_eq!(world.read(captured.files[0].digest).await.unwrap(), noise(1, LARGE));
    world.assert_sound().await;
}

#[tokio::test]
async fn a_slow_store_behind_gets_what_is_given_up() {
    let slow = MemoryStore::new(&MemoryOptions::new(64 << 20));
    let far: Arc<dyn BlobStore> = Arc::clone(&slow) as _;
    let tiered =
        |files: Arc<FilesystemStore>| TieredStore::new(files, far, TieredOptions::default()) as _;
    let world = World::before(tiered).await;
    let (large, small) = (noise(1, 3 << 20), noise(2, 100));
    world.write("out/large", &large);
    world.write("out/small", &small);
    world.give_up(&["out"]).await.unwrap();
    for data in [large, small] {
        let key = Key::blob(Digest::of(SHA256, &data));
        assert_eq!(slow.find_missing(&[key]).await.unwrap(), [false]);
    }
    world.assert_sound().await;
}
