//! Directories of other servers that a store starts on.

mod lies;
mod link;
mod moved;
mod purges;
mod walks;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::*;
use crate::former::tests::written as casblob;
use crate::store::filesystem::former::run_walk;

const CAP: u64 = 64 << 20;

fn name_of(key: &Key) -> String {
    format!("{}-{}", key.digest.hash_hex().as_str(), key.digest.size_bytes)
}

/// A file of a former server; a parent directory is made.
fn leave(root: &Path, path: &str, data: &[u8]) -> PathBuf {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, data).unwrap();
    path
}

/// A blob as `NativeLink` has it.
fn leave_blob(root: &Path, seed: u64, len: usize) -> (Key, Bytes, PathBuf) {
    let (key, data) = blob(seed, len);
    let path = leave(root, &format!("d/{}", name_of(&key)), &data);
    (key, data, path)
}

fn bucket_path(directory: &str, key: &Key, rest: &str) -> String {
    let hash = key.digest.hash_hex();
    format!("{directory}/{}/{}{rest}", &hash.as_str()[..2], hash.as_str())
}

/// A blob as bazel-remote has it.
fn leave_casblob(root: &Path, seed: u64, len: usize) -> (Key, Bytes, PathBuf) {
    let (key, data) = blob(seed, len);
    let rest = format!("-{len}-123456789");
    let encoded = casblob::compressed(&data, 1 << 20).unwrap();
    let path = leave(root, &bucket_path("cas.v2", &key, &rest), &encoded);
    (key, data, path)
}

fn adopting(root: &Path, adopt: Adopt) -> FilesystemOptions {
    let mut options = options(root, CAP);
    options.former.adopt = adopt;
    options
}

/// A store in which nothing goes on but evictions and syncs.
fn at_rest(options: &FilesystemOptions) -> FilesystemStore {
    let disk = disk::Disk::open(&options.root).unwrap();
    let shared = Arc::new(crate::store::filesystem::start::open(options, disk).unwrap());
    let (parts, closing) = (|| Arc::clone(&shared.parts), || shared.closing());
    let tasks = vec![
        sync::spawn("evictor", reclaim::run_evictor(parts(), closing())),
        sync::spawn("syncer", sync_rounds::run_syncer(parts(), closing())),
    ];
    FilesystemStore { shared, tasks: Mutex::new(tasks), stopping: Semaphore::new(1) }
}

fn begin_loading(store: &FilesystemStore) {
    let loading = loader::run_loader(Arc::clone(&store.shared.parts), store.shared.closing());
    sync::spawn("loader", loading);
}

fn begin_walk(store: &FilesystemStore) {
    let walk = run_walk(Arc::clone(&store.shared.parts), store.shared.closing());
    sync::spawn("take over", walk);
}

/// A store whose walk does not run.
fn without_walk(root: &Path, adopt: Adopt) -> FilesystemStore {
    let store = at_rest(&adopting(root, adopt));
    begin_loading(&store);
    store
}

/// Waits until everything is taken over.
async fn taken_over(store: &FilesystemStore) {
    until("the walk ends", || store.stats().former_directories == 0).await;
    store.quiesce().await;
}

/// The names below the directories of the former server.
fn former_names(root: &Path) -> Vec<String> {
    let is_former = |path: &String| {
        ["d/", "s/", "cas.v2/", "ac.v2/", "raw.v2/"].iter().any(|top| path.starts_with(top))
    };
    value_files(root).into_iter().filter(is_former).collect()
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

/// The ledger is what `du` shows, whatever is foreign.
fn assert_books(store: &FilesystemStore) {
    store.shared.parts.index.lock(|index| index.check());
    let stats = store.stats();
    assert_eq!(du(store.root()), stats.charged_bytes(), "I3: the ledger is what du shows");
    assert_eq!((stats.ledger_errors, stats.unread_bytes), (0, 0));
}
