//! The disk by itself: what each call promises, and what becomes of it when calls fail.

#![expect(clippy::disallowed_methods, reason = "the tests play the others: programs and people")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::store::filesystem::tests::scratch;

fn faulty(root: &Path) -> (Disk, Arc<Faults>) {
    let disk = Disk::open(root).unwrap();
    let faults = Arc::clone(disk.faults());
    (disk, faults)
}

fn stored(disk: &Disk, path: &str, data: &[u8]) -> ReadFile {
    let file = disk.create(FileMode::Blob).unwrap();
    file.write_at(data, 0).unwrap();
    disk.link(&file, path).unwrap();
    disk.open_file(path).unwrap().unwrap()
}

fn text_of(file: &ReadFile) -> String {
    let mut buffer = vec![0; 100];
    let read = file.read_full(&mut buffer, 0).unwrap();
    String::from_utf8(buffer[..read].to_vec()).unwrap()
}

#[test]
fn a_failed_write_may_be_repeated_where_it_was() {
    let dir = scratch();
    let (disk, faults) = faulty(dir.path());
    let file = disk.create(FileMode::Blob).unwrap();
    file.write_at(b"hello ", 0).unwrap();
    faults.tear_writes();
    faults.fail(Call::Write, 1, Errno::NOSPC, Lasting::Once);
    let failed = file.write_at(b"world!", 6).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    disk.link(&file, "torn").unwrap();
    assert_eq!(std::fs::read(dir.path().join("torn")).unwrap(), b"hello wor");
    file.write_at(b"world!", 6).unwrap();
    file.sync().unwrap();
    disk.sync_directory(".").unwrap();
    assert_eq!(std::fs::read(dir.path().join("torn")).unwrap(), b"hello world!");
}

#[test]
fn faults_hit_the_call_they_name_once_or_for_good() {
    let dir = scratch();
    let (disk, faults) = faulty(dir.path());
    let before = faults.counts();
    faults.fail(Call::Stat, 2, Errno::ACCESS, Lasting::Once);
    let outcomes = [(); 3].map(|()| disk.exists("x").is_ok());
    assert_eq!(outcomes, [true, false, true]);
    faults.fail(Call::Stat, 1, Errno::ACCESS, Lasting::Sticky);
    assert_eq!([(); 2].map(|()| disk.exists("x").is_ok()), [false; 2]);
    assert!(disk.unlink("x").is_ok(), "another kind");
    faults.clear();
    assert!(disk.exists("x").is_ok());
    assert_eq!(faults.counts().of(Call::Stat), before.of(Call::Stat) + 6);
    assert_eq!(faults.counts().total(), before.total() + 7);
    let all: u64 = Call::ALL.iter().map(|call| faults.counts().of(*call)).sum();
    assert_eq!(all, faults.counts().total());
}

#[test]
fn a_crash_leaves_everything_as_it_is_but_the_lock() {
    let dir = scratch();
    let (mut disk, faults) = faulty(dir.path());
    disk.forget_unnamed_files().unwrap();
    let file = disk.create(FileMode::Blob).unwrap();
    let mut own = disk.begin_own("SNAPSHOT").unwrap();
    own.write_all(b"half").unwrap();
    faults.crash_at(2);
    file.write_at(b"x", 0).unwrap();
    assert!(!faults.is_crashed());
    assert_eq!(file.write_at(b"y", 1).unwrap_err().raw_os_error(), Some(5));
    assert!(faults.is_crashed());
    faults.clear();
    assert!(disk.exists("x").is_err(), "for good");
    drop((file, own, disk));
    assert_eq!(std::fs::read(dir.path().join("tmp/0")).unwrap(), b"x");
    assert!(dir.path().join("SNAPSHOT.new").exists());

    let disk = Disk::open(dir.path()).unwrap();
    assert!(!disk.exists("tmp/0").unwrap());
    assert!(!disk.exists("SNAPSHOT.new").unwrap(), "litter goes at the start");
}

#[test]
fn an_opening_that_crashes_anywhere_can_be_repeated() {
    let dir = scratch();
    for nth in 1.. {
        let faults = Arc::<Faults>::default();
        faults.crash_at(nth);
        let opened = Disk::open_with(dir.path(), Arc::clone(&faults));
        assert_eq!(opened.is_ok(), !faults.is_crashed(), "call {nth}");
        if opened.is_ok() {
            break;
        }
        drop(Disk::open(dir.path()).unwrap());
    }
}

#[test]
fn a_full_disk_is_not_mistaken_for_one_without_unnamed_files() {
    let dir = scratch();
    let faults = Arc::<Faults>::default();
    faults.fail(Call::Create, 1, Errno::NOSPC, Lasting::Sticky);
    let disk = Disk::open_with(dir.path(), Arc::clone(&faults)).unwrap();
    assert!(!disk.exists(TEMP_DIRECTORY).unwrap());
}

#[test]
fn a_file_can_be_read_and_run_only_if_it_was_made_so() {
    let dir = scratch();
    let disk = Disk::open(dir.path()).unwrap();
    for (mode, bits) in [(FileMode::Blob, 0o444), (FileMode::Executable, 0o555)] {
        let file = disk.create(mode).unwrap();
        let name = format!("{bits:o}");
        disk.link(&file, &name).unwrap();
        let permissions = std::fs::metadata(dir.path().join(&name)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, bits);
    }
}

#[test]
fn a_copied_descriptor_of_the_writer_is_seen_until_it_is_closed() {
    let dir = scratch();
    let disk = Disk::open(dir.path()).unwrap();
    let file = disk.create(FileMode::Executable).unwrap();
    file.write_at(b"#!/bin/true\n", 0).unwrap();
    file.mark_writer().unwrap();
    disk.link(&file, "tool").unwrap();
    assert!(disk.has_writer("tool").unwrap());
    let inherited = file.inherited().unwrap();
    drop(file);
    assert!(disk.has_writer("tool").unwrap(), "a child still has it");
    drop(inherited);
    assert!(!disk.has_writer("tool").unwrap());
    assert!(!disk.has_writer("tool").unwrap(), "asking leaves nothing behind");
    assert!(disk.has_writer("missing").is_err());
}

#[test]
fn a_clone_has_the_bytes_or_says_that_there_are_none() {
    let dir = scratch();
    let (disk, faults) = faulty(dir.path());
    let source = stored(&disk, "source", &[7; 8192]);
    let copy = disk.create(FileMode::Executable).unwrap();
    let is_cloned = copy.clone_from(&source).unwrap();
    disk.link(&copy, "copy").unwrap();
    let copied = disk.open_file("copy").unwrap().unwrap();
    assert_eq!(copied.len_bytes(), if is_cloned { 8192 } else { 0 });
    faults.fail(Call::Clone, 1, Errno::IO, Lasting::Once);
    assert!(copy.clone_from(&source).is_err());
}

#[test]
fn a_read_file_knows_its_length_and_its_names() {
    let dir = scratch();
    let disk = Disk::open(dir.path()).unwrap();
    let file = stored(&disk, "one", b"hello");
    assert_eq!(file.len_bytes(), 5);
    disk.link_out("one", &dir.path().join("two")).unwrap();
    if let Cached::Done(cached) = disk.open_file_cached("one").unwrap() {
        assert_eq!(cached.unwrap().len_bytes(), 5);
    }
    let mut buffer = [0; 3];
    if let Cached::Done(read) = file.read_cached(&mut buffer, 3).unwrap() {
        assert_eq!(&buffer[..read], b"lo");
    }
    disk.sync().unwrap();
    file.drop_cached().unwrap();
    assert_eq!(text_of(&file), "hello");
    assert!(disk.open_file("none").unwrap().is_none());
}

#[test]
fn i6_a_link_out_of_the_store_replaces_nothing_and_follows_nothing() {
    let (dir, outside) = (scratch(), scratch());
    let disk = Disk::open(dir.path()).unwrap();
    let inode = |path: &Path| std::fs::symlink_metadata(path).unwrap().ino();
    stored(&disk, "value", b"hello");
    let target = outside.path().join("target");
    disk.link_out("value", &target).unwrap();
    assert_eq!(inode(&target), inode(&dir.path().join("value")));
    let again = disk.link_out("value", &target).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    std::os::unix::fs::symlink("nowhere", outside.path().join("planted")).unwrap();
    assert!(disk.link_out("value", &outside.path().join("planted")).is_err());
}

#[test]
fn the_space_of_a_file_system_adds_up() {
    let dir = scratch();
    let disk = Disk::open(dir.path()).unwrap();
    let space = disk.space().unwrap();
    assert!(space.free_bytes > 0 && space.free_inodes > 0, "{space:?}");
    assert!(space.block_size.is_power_of_two() && space.block_size >= 512, "{space:?}");
}

#[test]
fn the_identity_of_a_mount_is_the_same_until_it_is_mounted_anew() {
    let (dir, other) = (scratch(), scratch());
    let first = Disk::open(dir.path()).unwrap().identity().unwrap();
    assert_eq!(Disk::open(dir.path()).unwrap().identity().unwrap(), first);
    assert_eq!(Disk::open(other.path()).unwrap().identity().unwrap(), first);
    assert_eq!(first.boot, first.boot.trim());
}

#[test]
fn an_own_file_is_old_or_new_wherever_a_crash_comes() {
    let dir = scratch();
    Disk::open(dir.path()).unwrap().write_own("FORMAT", "old\n").unwrap();
    for nth in 1.. {
        let (disk, faults) = faulty(dir.path());
        faults.tear_writes();
        faults.crash_at(nth);
        let outcome = disk.write_own("FORMAT", "new\n");
        drop(disk);
        let text = Disk::open(dir.path()).unwrap().read_own("FORMAT").unwrap().unwrap();
        if outcome.is_ok() {
            assert_eq!(text, "new\n");
            break;
        }
        assert!(text == "old\n" || text == "new\n", "call {nth}: {text:?}");
        Disk::open(dir.path()).unwrap().write_own("FORMAT", "old\n").unwrap();
    }
}

#[test]
fn an_own_file_is_overwritten_where_there_is_no_room_for_another() {
    let dir = scratch();
    for call in [Call::WriteOwn, Call::SyncFile, Call::RenameOwn, Call::SyncDirectory] {
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let (disk, faults) = faulty(dir.path());
            disk.write_own("FORMAT", "a rather long old text\n").unwrap();
            faults.fail(call, 1, errno, Lasting::Once);
            disk.write_own("FORMAT", "new\n").unwrap();
            let text = disk.read_own("FORMAT").unwrap().unwrap();
            assert_eq!(text.trim_end(), "new", "{call:?}");
            assert!(!disk.exists("FORMAT.new").unwrap());
            faults.fail(call, 1, errno, Lasting::Once);
            disk.write_own("FORMAT", "a text that is longer than each before\n").unwrap();
            let text = disk.read_own("FORMAT").unwrap().unwrap();
            assert_eq!(text.trim_end(), "a text that is longer than each before", "{call:?}");
            disk.remove_own("FORMAT").unwrap();
            faults.fail(Call::WriteOwn, 1, errno, Lasting::Once);
            assert!(disk.write_own("FORMAT", "x").is_err(), "there is nothing to overwrite");
        }
    }
}

#[test]
fn another_failure_leaves_an_own_file_alone() {
    let dir = scratch();
    let (disk, faults) = faulty(dir.path());
    disk.write_own("FORMAT", "old\n").unwrap();
    faults.fail(Call::SyncFile, 1, Errno::IO, Lasting::Once);
    assert!(disk.write_own("FORMAT", "new\n").is_err());
    assert_eq!(disk.read_own("FORMAT").unwrap().unwrap(), "old\n");
    assert!(!disk.exists("FORMAT.new").unwrap());
}

#[test]
fn a_long_own_file_appears_whole_or_not_at_all() {
    let dir = scratch();
    let disk = Disk::open(dir.path()).unwrap();
    let part = vec![b'x'; 50_000];
    for is_committed in [false, true] {
        let mut new = disk.begin_own("SNAPSHOT").unwrap();
        for _ in 0..3 {
            new.write_all(&part).unwrap();
        }
        assert_eq!(new.written_bytes(), 150_000);
        assert!(disk.open_own("SNAPSHOT").unwrap().is_none());
        if is_committed {
            new.commit().unwrap();
        }
    }
    assert!(!disk.exists("SNAPSHOT.new").unwrap());
    assert_eq!(disk.open_own("SNAPSHOT").unwrap().unwrap().len_bytes(), 150_000);
    assert_eq!(disk.read_own("SNAPSHOT").unwrap().unwrap().len(), 150_000);
    disk.remove_own("SNAPSHOT").unwrap();
    disk.remove_own("SNAPSHOT").unwrap();
    assert!(disk.read_own("SNAPSHOT").unwrap().is_none());
}

#[test]
fn a_ring_has_its_size_and_its_blocks_from_the_start() {
    let dir = scratch();
    let (disk, faults) = faulty(dir.path());
    let ring = disk.open_ring("REMOVED", 100_000).unwrap();
    let taken = disk.allocated_at("REMOVED").unwrap();
    assert!(taken >= 100_000, "{taken}");
    ring.write_at(b"tail", 99_996).unwrap();
    assert!(ring.write_at(b"tail", 99_997).is_err(), "over the end");
    assert_eq!(disk.allocated_at("REMOVED").unwrap(), taken);
    faults.tear_writes();
    faults.fail(Call::WriteRing, 1, Errno::IO, Lasting::Once);
    assert!(ring.write_at(b"head", 0).is_err());
    drop(ring);

    let ring = disk.open_ring("REMOVED", 100_000).unwrap();
    let mut buffer = [1; 8];
    assert_eq!(ring.read_at(&mut buffer, 99_996).unwrap(), 4);
    assert_eq!(&buffer[..4], b"tail");
    assert_eq!(ring.read_at(&mut buffer, 0).unwrap(), 8);
    assert_eq!(&buffer, b"he\0\0\0\0\0\0");
    for len_bytes in [10, 200_000] {
        disk.open_ring("REMOVED", len_bytes).unwrap();
        assert_eq!(disk.open_own("REMOVED").unwrap().unwrap().len_bytes(), len_bytes);
    }
}
