//! Captures of real directories, into a store of files on the same file system.
//!
//! Method: a store in between notes what is written, and does something to the worker's directory
//! between the look at it and the uploads.

#![expect(clippy::disallowed_methods, reason = "the tests play the worker")]

mod cancellation;
mod files;
mod give_up;
mod hostile;
mod trees;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use castellan_proto::v2;
use prost::Message as _;

use super::*;
use crate::cas::Cas;
use crate::digest::HASH_BYTES;
use crate::store::filesystem::{Cap, FilesystemOptions, FilesystemStore};
use crate::store::{
    BeginPut, BlobReader, BlobStore, ByteRange, Key, Purged, Selection, StoreError,
};

const SHA256: DigestFunction = DigestFunction::Sha256;

type Prank = Box<dyn FnOnce() + Send>;

/// Notes what is written, and plays one prank when it is asked what is missing.
struct Spy {
    behind: Arc<dyn BlobStore>,
    written: Mutex<Vec<Digest>>,
    prank: Mutex<Option<Prank>>,
}

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spy")
    }
}

#[async_trait]
impl BlobStore for Spy {
    async fn find_missing(&self, keys: &[Key]) -> Result<Vec<bool>, StoreError> {
        let prank = self.prank.lock().take();
        if let Some(prank) = prank {
            prank();
        }
        self.behind.find_missing(keys).await
    }

    async fn get(&self, key: &Key, range: ByteRange) -> Result<Option<BlobReader>, StoreError> {
        self.behind.get(key, range).await
    }

    async fn begin_put(&self, key: &Key, size_bytes: u64) -> Result<BeginPut, StoreError> {
        let begun = self.behind.begin_put(key, size_bytes).await?;
        if matches!(begun, BeginPut::Upload(_)) {
            self.written.lock().push(key.digest);
        }
        Ok(begun)
    }

    async fn put(&self, key: &Key, data: Bytes) -> Result<(), StoreError> {
        self.written.lock().push(key.digest);
        self.behind.put(key, data).await
    }

    async fn find_by_hash(
        &self,
        function: DigestFunction,
        hash: [u8; HASH_BYTES],
    ) -> Result<Option<Digest>, StoreError> {
        self.behind.find_by_hash(function, hash).await
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.behind.remove(key).await
    }

    async fn purge_selected(&self, selection: Selection) -> Result<Purged, StoreError> {
        self.behind.purge_selected(selection).await
    }

    fn max_blob_bytes(&self) -> u64 {
        self.behind.max_blob_bytes()
    }
}

/// A worker's directory and a store.
struct World {
    place: tempfile::TempDir,
    files: Arc<FilesystemStore>,
    spy: Arc<Spy>,
    stager: Arc<Stager>,
    base: Folder,
}

impl World {
    async fn new() -> Self {
        Self::before(|files| files as _).await
    }

    /// With what is made of the store of files as the instance's store.
    async fn before(wrap: impl FnOnce(Arc<FilesystemStore>) -> Arc<dyn BlobStore>) -> Self {
        let chosen = std::env::var_os("CASTELLAN_TEST_DIR").map(PathBuf::from);
        let place = tempfile::tempdir_in(chosen.unwrap_or_else(std::env::temp_dir)).unwrap();
        let options = FilesystemOptions {
            low_water_bytes: Some(0),
            lease: Duration::ZERO,
            scrub_bytes_per_second: 0,
            ..FilesystemOptions::new(place.path().join("store"), Cap::Bytes(256 << 20))
        };
        let files = FilesystemStore::open(options).await.unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        let behind = wrap(Arc::clone(&files));
        let spy = Arc::new(Spy { behind, written: Mutex::default(), prank: Mutex::default() });
        let store: Arc<dyn BlobStore> = Arc::clone(&spy) as _;
        let stager = Stager::new(Cas::new(store), Arc::clone(&files));
        let base = Folder::open_root(&place.path().join("work")).unwrap();
        Self { place, files, spy, stager, base }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.place.path().join("work").join(relative)
    }

    fn write(&self, relative: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn make_executable(&self, relative: &str) {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(relative), mode).unwrap();
    }

    fn link(&self, relative: &str, target: impl AsRef<Path>) {
        std::os::unix::fs::symlink(target, self.path(relative)).unwrap();
    }

    async fn capture(&self, paths: &[&str]) -> Result<Vec<CapturedDirectory>, StageError> {
        self.stager.capture_directories(SHA256, &self.base, &strings(paths), false).await
    }

    async fn capture_files(&self, paths: &[&str]) -> Result<CapturedFiles, StageError> {
        self.stager.capture_files(SHA256, &self.base, &strings(paths), false).await
    }

    /// What it is refused for: the entry and the problem.
    async fn refusal(&self, path: &str) -> (String, String) {
        invalid(self.capture(&[path]).await.unwrap_err())
    }

    async fn read(&self, digest: Digest) -> Option<Bytes> {
        self.stager.cas.read_all(digest, 64 << 20).await.unwrap()
    }

    async fn message<M: prost::Message + Default>(&self, digest: Digest) -> M {
        let encoded = self.read(digest).await.unwrap();
        let message = M::decode(&*encoded).unwrap();
        assert_eq!(message.encode_to_vec(), encoded, "canonical");
        message
    }

    /// What was written since this was asked last.
    fn written(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.spy.written.lock())
    }

    fn plan(&self, prank: impl FnOnce() + Send + 'static) {
        *self.spy.prank.lock() = Some(Box::new(prank));
    }

    /// Every stored blob has the bytes that its name says, and nothing is in flight.
    async fn assert_sound(&self) {
        let is_idle = || {
            let stats = self.files.stats();
            (stats.reserved_bytes, stats.dying_bytes, stats.ledger_errors) == (0, 0, 0)
        };
        for _ in 0..1_000_000 {
            if is_idle() {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(is_idle(), "{:?}", self.files.stats());
        for function in DigestFunction::ALL {
            let blobs = self.place.path().join("store/blobs").join(function.name());
            for path in files_below(&blobs) {
                let name = path.file_name().unwrap().to_str().unwrap();
                let data = std::fs::read(&path).unwrap();
                let digest = Digest::of(function, &data);
                let expected = format!("{}-{}.", digest.hash_hex().as_str(), data.len());
                assert!(name.starts_with(&expected), "{name}");
            }
        }
    }
}

fn strings(paths: &[&str]) -> Vec<String> {
    paths.iter().map(ToString::to_string).collect()
}

fn invalid(error: StageError) -> (String, String) {
    match error {
        StageError::Invalid { path, problem } => (path, problem),
        error => panic!("{error:?}"),
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn digest_of(wire: Option<&v2::Digest>, function: DigestFunction) -> Digest {
    let wire = wire.unwrap();
    Digest::parse(function, wire.hash.as_bytes(), wire.size_bytes).unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut data);
    data
}

/// What a path of a tree is.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(Vec<u8>, bool),
    Symlink(String),
}

/// A tree as the disk has it.
fn on_disk(folder: &Path, prefix: &str, into: &mut BTreeMap<String, Entry>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.metadata().unwrap();
        let found = if metadata.is_dir() {
            on_disk(&entry.path(), &format!("{path}/"), into);
            Entry::Directory
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            Entry::Symlink(target.to_str().unwrap().to_owned())
        } else {
            let is_executable = metadata.permissions().mode() & 0o100 != 0;
            Entry::File(std::fs::read(entry.path()).unwrap(), is_executable)
        };
        into.insert(path, found);
    }
}

/// A tree as the store has it.
async fn stored(world: &World, root: Digest) -> BTreeMap<String, Entry> {
    let function = root.function;
    let mut found = BTreeMap::new();
    let mut pending = vec![(root, String::new())];
    while let Some((digest, prefix)) = pending.pop() {
        let directory: v2::Directory = world.message(digest).await;
        assert_eq!(directory.node_properties, None);
        for node in directory.directories {
            let path = format!("{prefix}{}", node.name);
            pending.push((digest_of(node.digest.as_ref(), function), format!("{path}/")));
            found.insert(path, Entry::Directory);
        }
        for node in directory.files {
            assert_eq!(node.node_properties, None);
            let data = world.read(digest_of(node.digest.as_ref(), function)).await.unwrap();
            let entry = Entry::File(data.to_vec(), node.is_executable);
            found.insert(format!("{prefix}{}", node.name), entry);
        }
        for node in directory.symlinks {
            assert_eq!(node.node_properties, None);
            found.insert(format!("{prefix}{}", node.name), Entry::Symlink(node.target));
        }
    }
    found
}
