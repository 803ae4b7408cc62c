//! Without a wire: the store in this process, and what the machine itself takes.
//!
//! The first rows say how far the figures of another machine may be compared with these.

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use castellan::digest::{Digest, DigestFunction};
use castellan::store::filesystem::{Cap, Cleanup, FilesystemOptions, FilesystemStore};
use castellan::store::{BlobStore as _, BlobStoreExt as _, Key};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::data::{Blob, Data};
use super::measure::{Amount, Report};

const FILES: usize = 2000;
const REPEATS: usize = 20;

pub(crate) async fn run(report: &mut Report, round: usize, directory: &Path, data: &Data) {
    machine(report, round, directory).await;
    let root = directory.join("store");
    let store = FilesystemStore::open(FilesystemOptions::new(root, Cap::Bytes(1 << 30)));
    let store = store.await.unwrap();
    let blobs = &data.small[0].blobs[..FILES];

    let steps = Amount::Steps(FILES as u64);
    let sample = sample(put_all(&store, blobs)).await;
    report.add_local(round, "store: put of 4 KiB", steps, sample);
    let sample = self::sample(get_all(&store, blobs)).await;
    report.add_local(round, "store: get of 4 KiB", steps, sample);

    let present: Vec<Key> = blobs.iter().map(|blob| Key::blob(blob.digest)).collect();
    let absent: Vec<Key> = data.absent.iter().copied().map(Key::blob).collect();
    for (name, keys) in [("present", present), ("absent", absent)] {
        let keys = &keys[..FILES];
        let sample = self::sample(find_all(&store, keys)).await;
        let steps = Amount::Steps((FILES * REPEATS) as u64);
        report.add_local(round, &format!("store: look-up of one key, {name}"), steps, sample);
    }
    store.shutdown(Cleanup::Keep).await.unwrap();
}

async fn machine(report: &mut Report, round: usize, directory: &Path) {
    const BYTES: usize = 64 << 20;
    let block = vec![1; 1 << 20];
    let amount = Amount::Bytes(BYTES as u64);
    for (name, function) in [("SHA256", DigestFunction::Sha256), ("BLAKE3", DigestFunction::Blake3)]
    {
        for size in [4 << 10, 1 << 20] {
            let hashing = async {
                for _ in 0..BYTES / size {
                    std::hint::black_box(Digest::of(function, &block[..size]));
                }
            };
            let sample = sample(hashing).await;
            let name = format!("machine: {name} of {} KiB", size >> 10);
            report.add_local(round, &name, amount, sample);
        }
    }
    let mut copy = block.clone();
    let copying = async {
        for _ in 0..BYTES / block.len() {
            copy.copy_from_slice(std::hint::black_box(&block));
            std::hint::black_box(&mut copy);
        }
    };
    report.add_local(round, "machine: memory copy", amount, sample(copying).await);
    let files = async {
        for number in 0..FILES {
            let mut file = File::create_new(directory.join(number.to_string())).unwrap();
            file.write_all(&block[..4096]).unwrap();
        }
    };
    let steps = Amount::Steps(FILES as u64);
    report.add_local(round, "machine: file of 4 KiB", steps, sample(files).await);
}

async fn put_all(store: &Arc<FilesystemStore>, blobs: &[Blob]) {
    for blob in blobs {
        store.put(&Key::blob(blob.digest), blob.messages[0].clone()).await.unwrap();
    }
}

async fn get_all(store: &Arc<FilesystemStore>, blobs: &[Blob]) {
    for blob in blobs {
        let data = store.get_all(&Key::blob(blob.digest), u64::MAX).await.unwrap();
        assert_eq!(data.unwrap().len() as u64, blob.digest.size_bytes);
    }
}

async fn find_all(store: &Arc<FilesystemStore>, keys: &[Key]) {
    for _ in 0..REPEATS {
        store.find_missing(keys).await.unwrap();
    }
}

/// Wall time, and CPU time of this process, in which nothing else is going on now.
async fn sample(work: impl Future<Output = ()>) -> (Duration, Duration) {
    let before = cpu_time();
    let start = Instant::now();
    work.await;
    (start.elapsed(), cpu_time().saturating_sub(before))
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}
