//! Staging on real directories.

#![expect(clippy::disallowed_methods, reason = "the tests look behind the store, and at the clock")]

mod cancel;
mod far;
mod fetch;
mod hostile;
mod large;
mod modes;
mod pressure;
mod refused;
mod runs;
mod whole;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::digest::DigestFunction;
use crate::store::filesystem::{Cap, FilesystemOptions};
use crate::store::{BlobStore, Key};
use crate::trees::directory::{Directory, DirectoryEntry, FileEntry, Properties, SymlinkEntry};
use crate::trees::name::Name;
use crate::trees::on_disk::Folder;
use crate::trees::tree::Tree;

const SHA256: DigestFunction = DigestFunction::Sha256;
/// The longest wait of a test; nothing is measured by it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a tree is made of, as a test writes it and as it is found on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    File { data: Bytes, is_executable: bool },
    Symlink(String),
    Folder(Model),
}

type Model = BTreeMap<String, Item>;

fn text(text: &str) -> Item {
    Item::File { data: Bytes::copy_from_slice(text.as_bytes()), is_executable: false }
}

fn program(text: &str) -> Item {
    Item::File { data: Bytes::copy_from_slice(text.as_bytes()), is_executable: true }
}

fn symlink(target: &str) -> Item {
    Item::Symlink(target.to_owned())
}

fn folder<const N: usize>(items: [(&str, Item); N]) -> Item {
    Item::Folder(model(items))
}

fn model<const N: usize>(items: [(&str, Item); N]) -> Model {
    items.into_iter().map(|(name, item)| (name.to_owned(), item)).collect()
}

/// A tree with something of everything.
fn sample() -> Model {
    model([
        ("empty", folder([])),
        ("nothing", text("")),
        ("readme", text("read me")),
        ("link", symlink("src/main.c")),
        ("out of it", symlink("../../etc/passwd")),
        (
            "src",
            folder([
                ("main.c", text("int main() {}")),
                ("same", text("read me")),
                ("deep", folder([("er", folder([("est", text("the deepest"))]))])),
                ("\u{e9}\u{1}", text("odd names")),
            ]),
        ),
        (
            "bin",
            folder([
                ("run", program("#!/bin/sh\nexit 3\n")),
                ("run as text", text("#!/bin/sh\nexit 3\n")),
                ("nothing", program("")),
            ]),
        ),
    ])
}

/// A store, a stager on it, and a directory to stage in.
struct World {
    store_place: TempDir,
    place: TempDir,
    store: Arc<FilesystemStore>,
    stager: Arc<Stager>,
}

async fn store_in(place: &TempDir, cap_bytes: u64) -> Arc<FilesystemStore> {
    let options = FilesystemOptions {
        low_water_bytes: Some(0),
        lease: Duration::ZERO,
        scrub_bytes_per_second: 0,
        reserve_timeout: Duration::from_millis(500),
        ..FilesystemOptions::new(place.path(), Cap::Bytes(cap_bytes))
    };
    FilesystemStore::open(options).await.unwrap()
}

impl World {
    async fn new() -> Self {
        Self::with(256 << 20, tempfile::tempdir().unwrap()).await
    }

    async fn with(cap_bytes: u64, place: TempDir) -> Self {
        let store_place = tempfile::tempdir().unwrap();
        let store = store_in(&store_place, cap_bytes).await;
        let stager =
            Stager::new(Cas::new(Arc::clone(&store) as Arc<dyn BlobStore>), Arc::clone(&store));
        Self { store_place, place, store, stager }
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("target")
    }

    fn parent(&self) -> Folder {
        Folder::open_root(self.place.path()).unwrap()
    }

    async fn put(&self, data: &[u8]) -> Digest {
        put(&*self.store, data).await
    }

    async fn put_model(&self, model: &Model) -> Digest {
        let parts = Parts::of(model);
        for data in parts.blobs.values() {
            self.put(data).await;
        }
        parts.root
    }

    async fn stage_with(
        &self,
        root: TreeRoot,
        options: &StageOptions,
    ) -> Result<StagedTree, StageError> {
        let progress = Arc::new(Progress::default());
        self.stager.stage(root, self.parent(), "target", options, progress).await
    }

    async fn stage(&self, root: Digest) -> Result<StagedTree, StageError> {
        self.stage_with(TreeRoot::Directory(root), &StageOptions::default()).await
    }

    /// What is in the directory beside the target and in it, by name.
    fn litter(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

async fn put(store: &dyn BlobStore, data: &[u8]) -> Digest {
    let digest = Digest::of(SHA256, data);
    if !digest.is_empty() {
        store.put(&Key::blob(digest), Bytes::copy_from_slice(data)).await.unwrap();
    }
    digest
}

/// The blobs that a model is made of, the empty one not among them.
struct Parts {
    root: Digest,
    root_directory: Directory,
    directories: BTreeMap<Digest, Directory>,
    blobs: BTreeMap<Digest, Bytes>,
}

impl Parts {
    fn of(model: &Model) -> Self {
        let mut blobs = BTreeMap::new();
        let mut directories = BTreeMap::new();
        let (root, root_directory) = gather(model, &mut blobs, &mut directories);
        Self { root, root_directory, directories, blobs }
    }

    fn tree(&self) -> Vec<u8> {
        let children = self.directories.iter().filter(|(digest, _)| **digest != self.root);
        let children = children.map(|(digest, it)| (*digest, Arc::new(it.clone()))).collect();
        Tree { root: Arc::new(self.root_directory.clone()), children }.encode()
    }
}

fn gather(
    model: &Model,
    blobs: &mut BTreeMap<Digest, Bytes>,
    directories: &mut BTreeMap<Digest, Directory>,
) -> (Digest, Directory) {
    let mut directory = Directory::default();
    for (name, item) in model {
        let (name, properties) = (Name::new(name).unwrap(), Properties::default());
        match item {
            Item::File { data, is_executable } => {
                let (digest, is_executable) = (Digest::of(SHA256, data), *is_executable);
                blobs.insert(digest, data.clone());
                directory.files.push(FileEntry { name, digest, is_executable, properties });
            }
            Item::Symlink(target) => {
                let target = target.as_str().into();
                directory.symlinks.push(SymlinkEntry { name, target, properties });
            }
            Item::Folder(model) => {
                let (digest, _) = gather(model, blobs, directories);
                directory.directories.push(DirectoryEntry { name, digest });
            }
        }
    }
    let encoded = directory.encode();
    let digest = Digest::of(SHA256, &encoded);
    blobs.insert(digest, encoded.into());
    blobs.remove(&Digest::empty(SHA256));
    directories.insert(digest, directory.clone());
    (digest, directory)
}

/// What is on the disk.
fn read_back(path: &Path) -> Model {
    let mut found = Model::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let item = if kind.is_dir() {
            Item::Folder(read_back(&path))
        } else if kind.is_symlink() {
            Item::Symlink(
                std::fs::read_link(&path).unwrap().into_os_string().into_string().unwrap(),
            )
        } else {
            let is_executable = mode_of(&path) & 0o111 != 0;
            Item::File { data: std::fs::read(&path).unwrap().into(), is_executable }
        };
        found.insert(entry.file_name().into_string().unwrap(), item);
    }
    found
}

fn mode_of(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// The allocated bytes of a directory and everything below it, as `du` counts them.
fn du(path: &Path) -> u64 {
    let Ok(own) = std::fs::symlink_metadata(path) else { return 0 };
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    let below: u64 = below.map(|entry| du(&entry.path())).sum();
    own.blocks() * 512 + below
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}
