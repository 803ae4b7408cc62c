//! A disk that is full because others write to it too, or that is smaller than the cap.
//!
//! Needs root, for a file system of its own; says so and does nothing without.

use std::process::Command;

use super::super::disk::{Call, Lasting};
use super::life::{in_process, settled};
use super::*;
use rustix::io::Errno;

const MIB: u64 = 1 << 20;
const CAP_BYTES: u64 = 64 * MIB;

/// A file system of its own; unmounted when dropped.
pub(super) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason printed, where nobody may mount.
    pub(super) fn mount(bytes: u64, inodes: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let limits = format!("size={bytes},nr_inodes={inodes}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &limits, "castellan-test"]).arg(directory.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(directory)),
            outcome => {
                eprintln!("skipped: cannot mount a tmpfs, which needs root: {outcome:?}");
                None
            }
        }
    }

    pub(super) fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    /// A file of somebody else; as long as there is room where `bytes` is too much.
    fn write_foreign(&self, bytes: u64) -> std::path::PathBuf {
        let path = self.0.path().join("foreign");
        let mut file = std::fs::File::create(&path).unwrap();
        for _ in 0..bytes / 4096 {
            if io::Write::write_all(&mut file, &[1; 4096]).is_err() {
                break;
            }
        }
        path
    }

    /// Files of somebody else until there can be no more.
    fn take_inodes(&self) -> Vec<std::path::PathBuf> {
        let paths = (0..).map(|number| self.0.path().join(format!("foreign-{number}")));
        paths.take_while(|path| std::fs::File::create(path).is_ok()).collect()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what a failed test has left open must not keep it.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// Blobs in few directories, each of which takes an inode for good.
fn blobs(seed: u64, len: usize) -> impl Iterator<Item = (Key, Bytes)> {
    (seed * 1_000_000..).map(move |it| blob(it, len)).filter(|it| it.0.digest.hash[0] < 8)
}

async fn puts(store: &FilesystemStore, blobs: impl Iterator<Item = (Key, Bytes)>) {
    for (number, (key, data)) in blobs.enumerate() {
        store.put(&key, data.clone()).await.unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(read(store, &key).await, Some(data));
    }
}

fn free_bytes(store: &FilesystemStore) -> u64 {
    store.shared.parts.disk.space().unwrap().free_bytes
}

async fn tick() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[test]
fn i15_writes_go_on_where_the_disk_is_smaller_than_the_cap() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let foreign = disk.write_foreign(3 * MIB);
        let store = open(&disk.root(), CAP_BYTES).await;
        puts(&store, blobs(1, 100_000).take(400)).await;
        settled(&store).await;
        check(&store);
        let stats = store.stats();
        assert!(stats.full_disks > 0 && stats.evictions > 300, "{stats:?}");
        assert!(stats.limit_bytes <= 5 * MIB && stats.entries > 30, "{stats:?}");
        puts(&store, blobs(2, 10_000).take(1_000)).await;
        puts(&store, blobs(3, 700_000).take(20)).await;
        tick().await;
        let squeezed = store.stats();
        assert!(squeezed.limit_bytes <= 5 * MIB, "{squeezed:?}");
        std::fs::remove_file(foreign).unwrap();
        tick().await;
        let relaxed = store.stats();
        assert!(relaxed.limit_bytes >= squeezed.limit_bytes + 2 * MIB, "{relaxed:?}");
        puts(&store, blobs(4, 10_000).take(500)).await;
        settled(&store).await;
        check(&store);
        let stats = store.stats();
        assert!(stats.charged_bytes() > 5 * MIB, "the room is used again: {stats:?}");
    });
}

#[test]
fn i15_what_shall_stay_free_stays_free() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let root = disk.root();
        let options = FilesystemOptions { min_free_bytes: 2 * MIB, ..options(&root, CAP_BYTES) };
        let store = open_with(options).await;
        tick().await;
        for round in 0..40 {
            puts(&store, blobs(round, 100_000).take(10)).await;
            tick().await;
            settled(&store).await;
            assert!(free_bytes(&store) >= 2 * MIB, "{round}: {:?}", store.stats());
        }
        let foreign = disk.write_foreign(4 * MIB);
        tick().await;
        settled(&store).await;
        assert!(free_bytes(&store) >= 2 * MIB, "{:?}", store.stats());
        puts(&store, blobs(50, 100_000).take(20)).await;
        std::fs::remove_file(foreign).unwrap();
        tick().await;
        check(&store);
    });
}

#[test]
fn i15_a_large_upload_that_meets_a_full_disk_midway_goes_on() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        for round in 0..4 {
            puts(&store, blobs(round, 20_000).take(350)).await;
            let (key, data) = blob(round, 5 << 20);
            let mut upload = begin(&store, &key, data.len() as u64).await;
            for chunk in data.chunks(300_000) {
                upload.write(data.slice_ref(chunk)).await.unwrap();
            }
            upload.commit().await.unwrap();
            assert_eq!(read(&store, &key).await, Some(data));
        }
        settled(&store).await;
        check(&store);
        assert!(store.stats().full_disks > 0);
    });
}

#[test]
fn i15_uploads_side_by_side_on_a_full_disk_all_succeed() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        let writers = (0..8).map(|seed| puts(&store, blobs(seed, 100_000).take(60)));
        futures_util::future::join_all(writers).await;
        settled(&store).await;
        check(&store);
    });
}

#[test]
fn i15_a_write_whose_room_others_take_is_tried_again() {
    for call in [Call::Create, Call::Write, Call::Link] {
        let dir = scratch();
        in_process(async {
            let store = open(dir.path(), CAP_BYTES).await;
            puts(&store, blobs(1, 100_000).take(40)).await;
            let fail = || {
                let faults = store.shared.parts.disk.faults();
                (1..5).for_each(|nth| faults.fail(call, nth, Errno::NOSPC, Lasting::Once));
            };
            fail();
            puts(&store, blobs(2, 100_000).take(1)).await;
            fail();
            let (key, data) = blob(3, 100_000);
            let mut upload = begin(&store, &key, data.len() as u64).await;
            upload.write(data.clone()).await.unwrap();
            upload.commit().await.unwrap();
            assert_eq!(read(&store, &key).await, Some(data));
            let (executable, _) = blobs(1, 100_000).nth(39).unwrap();
            fail();
            drop(store.executable(executable.digest).await.unwrap().unwrap());
            settled(&store).await;
            check(&store);
        });
    }
}

#[test]
fn i15_i19_a_start_on_a_disk_without_a_free_byte_works() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    let kept: Vec<_> = blobs(1, 50_000).take(40).collect();
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        puts(&store, kept.iter().cloned()).await;
    });
    let foreign = disk.write_foreign(u64::MAX);
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        assert!(free_bytes(&store) < 4096, "{}", free_bytes(&store));
        for (key, data) in &kept {
            assert_eq!(read(&store, key).await.as_ref(), Some(data));
        }
        puts(&store, blobs(2, 50_000).take(100)).await;
        settled(&store).await;
        check(&store);
        store.shutdown(Cleanup::Keep).await.unwrap();
    });
    std::fs::remove_file(foreign).unwrap();
    in_process(async { check(&*open(&disk.root(), CAP_BYTES).await) });
}

#[test]
fn i15_i19_a_start_on_a_disk_without_a_free_inode_works() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 200) else { return };
    let kept: Vec<_> = blobs(1, 1_000).take(40).collect();
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        puts(&store, kept.iter().cloned()).await;
    });
    let foreign = disk.take_inodes();
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        for (key, data) in &kept {
            assert_eq!(read(&store, key).await.as_ref(), Some(data));
        }
        puts(&store, blobs(2, 1_000).take(100)).await;
        settled(&store).await;
        check(&store);
        store.shutdown(Cleanup::Keep).await.unwrap();
    });
    for path in foreign {
        std::fs::remove_file(path).unwrap();
    }
    in_process(async { check(&*open(&disk.root(), CAP_BYTES).await) });
}

#[test]
fn i23_a_disk_with_nothing_left_to_evict_is_said_to_be_full_at_once() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let store = open(&disk.root(), CAP_BYTES).await;
        let free = free_bytes(&store);
        let foreign = disk.write_foreign(free - free % MIB + MIB);
        let (key, data) = blob(1, 700_000);
        // The first meets the full disk, and those after it know.
        assert!(store.put(&key, data.clone()).await.is_err());
        let began = tokio::time::Instant::now();
        let outcome = store.put(&key, data.clone()).await;
        let Err(StoreError::NoSpace { reason, .. }) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("disk"), "{reason}");
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for what cannot come");
        std::fs::remove_file(foreign).unwrap();
        tick().await;
        store.put(&key, data).await.unwrap();
    });
}

#[test]
fn i21_on_a_full_disk_old_promises_go_before_what_was_just_stored() {
    let Some(disk) = SmallDisk::mount(8 * MIB, 10_000) else { return };
    in_process(async {
        let root = disk.root();
        let options =
            FilesystemOptions { lease: Duration::from_mins(30), ..options(&root, CAP_BYTES) };
        let store = open_with(options).await;
        let promised: Vec<_> = blobs(1, 100_000).take(70).collect();
        puts(&store, promised.into_iter()).await;
        let keys: Vec<Key> = blobs(1, 100_000).take(70).map(|it| it.0).collect();
        store.find_missing(&keys).await.unwrap();
        let fresh: Vec<_> = blobs(2, 300_000).take(4).collect();
        puts(&store, fresh.iter().cloned()).await;
        for (key, data) in fresh {
            assert_eq!(read(&store, &key).await, Some(data));
        }
    });
}
