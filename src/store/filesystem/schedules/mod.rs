//! The store under a model checker: `cargo test --lib --features shuttle schedules`.
//!
//! Method: each schedule opens a store in a new directory in memory, lets a few callers at it, and
//! looks at what is left. A schedule that fails is printed, and `shuttle::replay` runs it again.

use std::path::PathBuf;

use shuttle::future::{block_on, spawn};

use super::*;
use crate::digest::{Digest, DigestFunction};
use crate::store::BlobStoreExt as _;

const SCHEDULES: usize = 300;

/// A directory in memory, where there is one: thousands of stores are opened.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let home = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(home).unwrap()
}

fn blob(text: &'static str) -> (Key, Bytes) {
    let digest = Digest::of(DigestFunction::Sha256, text.as_bytes());
    (Key::blob(digest), Bytes::from_static(text.as_bytes()))
}

async fn read(store: &FilesystemStore, key: &Key) -> Option<Bytes> {
    store.get_all(key, u64::MAX).await.unwrap()
}

#[test]
fn two_uploads_at_once_are_both_there() {
    let schedule = || {
        block_on(async {
            let dir = scratch();
            let options = FilesystemOptions::new(dir.path(), Cap::Bytes(16 << 20));
            let store = FilesystemStore::open(options).await.unwrap();
            let uploads = ["one", "two"].map(|text| {
                let store = Arc::clone(&store);
                spawn(async move {
                    let (key, data) = blob(text);
                    store.put(&key, data.clone()).await.unwrap();
                    assert_eq!(read(&store, &key).await, Some(data));
                })
            });
            for upload in uploads {
                upload.await.unwrap();
            }
            for text in ["one", "two"] {
                let (key, data) = blob(text);
                assert_eq!(read(&store, &key).await, Some(data));
            }
            store.quiesce().await;
            store.shared.parts.index.lock(|index| index.check());
            store.shutdown().await.unwrap();
        });
    };
    shuttle::check_random(schedule, SCHEDULES);
}

#[test]
fn others_may_come_between_any_two_calls_to_the_file_system() {
    // Not the checker's: it counts over all schedules.
    static LATE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let schedule = || {
        let dir = scratch();
        let disk = Arc::new(Disk::open(dir.path()).unwrap());
        let contenders = [(); 2].map(|()| {
            let disk = Arc::clone(&disk);
            shuttle::thread::spawn(move || {
                let file = disk.create(disk::FileMode::Blob).unwrap();
                if !disk.exists("name").unwrap() && disk.link(&file, "name").is_err() {
                    LATE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            })
        });
        for contender in contenders {
            contender.join().unwrap();
        }
    };
    shuttle::check_random(schedule, SCHEDULES);
    let late = LATE.load(std::sync::atomic::Ordering::Relaxed);
    assert!(late > 0 && late < SCHEDULES, "{late} of {SCHEDULES}");
}
