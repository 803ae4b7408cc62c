//! What a farm of workers asks of pins: many files, many links, many processes at once.

use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

const EXT4: i64 = 0xef53;

fn directory(path: &Path) -> std::fs::File {
    std::fs::File::open(path).unwrap()
}

#[tokio::test]
async fn many_are_pinned_at_once_in_their_order() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 16 << 20).await;
    let blobs: Vec<_> = (0..1_500).map(|seed| blob(seed, 100)).collect();
    put_all(&store, &blobs).await;
    store.shutdown(Cleanup::Keep).await.unwrap();
    drop(store);
    // Nothing is verified, nothing is loaded.
    let store = open_soon(options(dir.path(), 16 << 20)).await;
    let absent_key = blob(9_999, 10).0;
    let wanted: Vec<_> = (0..3_000)
        .map(|at| match at % 1_600 {
            it if it < 1_500 => (blobs[it].0.digest, it % 10 == 0),
            _ => (absent_key.digest, false),
        })
        .collect();
    let target = directory(links.path());
    let pokes = || store.stats().evictor_pokes;
    for _ in 0..2 {
        let pinned = store.pin_files(&wanted).await.unwrap();
        for (at, (pinned, (digest, is_executable))) in pinned.iter().zip(&wanted).enumerate() {
            let Some(pinned) = pinned else {
                assert_eq!(*digest, absent_key.digest);
                continue;
            };
            assert_eq!(pinned.digest(), *digest);
            if at >= 1_600 {
                continue;
            }
            let name = at.to_string();
            assert_eq!(pinned.link_at(target.as_fd(), &name).unwrap(), LinkOutcome::Linked);
            let path = links.path().join(name);
            let mode = if *is_executable { 0o555 } else { 0o444 };
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
            std::fs::remove_file(path).unwrap();
        }
        let before = pokes();
        PinnedFile::release(pinned.into_iter().flatten().collect());
        assert!(pokes() - before <= 10, "not one for each");
    }
    assert_eq!(store.stats().variants, 150);
    let (large, data) = blob(77_777, 10 << 20);
    store.put(&large, data).await.unwrap();
    store.quiesce().await;
    assert!(store.stats().entries < 1_500, "nothing is pinned any more");
    check(&store);
}

#[tokio::test]
async fn a_pin_too_many_is_an_error_and_no_absence() {
    let dir = scratch();
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 1_000);
    store.put(&key, data.clone()).await.unwrap();
    let wanted = vec![(key.digest, false); usize::from(u16::MAX)];
    let pinned = store.pin_files(&wanted).await.unwrap();
    assert!(pinned.iter().all(Option::is_some));
    for is_executable in [false, true] {
        let outcome = store.pin_files(&[(key.digest, is_executable)]).await;
        assert!(matches!(outcome, Err(StoreError::NoSpace { .. })), "{outcome:?}");
    }
    PinnedFile::release(pinned.into_iter().flatten().collect());
    assert!(store.executable(key.digest).await.unwrap().is_some());
    assert_eq!(read(&store, &key).await, Some(data));
    check(&store);
}

#[tokio::test]
async fn a_text_and_an_executable_of_the_same_digest_are_two_files() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 50_000);
    store.put(&key, data.clone()).await.unwrap();
    let wanted = [(key.digest, false), (key.digest, true), (key.digest, false)];
    let pinned = store.pin_files(&wanted).await.unwrap();
    let target = directory(links.path());
    for (name, pinned) in ["text", "run", "again"].iter().zip(pinned.iter().flatten()) {
        assert_eq!(pinned.link_at(target.as_fd(), name).unwrap(), LinkOutcome::Linked);
    }
    let of = |name: &str| {
        let path = links.path().join(name);
        assert_eq!(std::fs::read(&path).unwrap(), data);
        let metadata = path.metadata().unwrap();
        (metadata.ino(), metadata.permissions().mode() & 0o7777)
    };
    assert_eq!((of("text").1, of("run").1), (0o444, 0o555));
    assert_eq!(of("text"), of("again"));
    assert_ne!(of("text").0, of("run").0);
    let outcome = pinned[0].as_ref().unwrap().link_at(target.as_fd(), "text");
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "nothing is replaced: {outcome:?}");
    drop(pinned);
    check(&store);
}

#[tokio::test]
async fn links_end_in_what_the_caller_can_act_on() {
    let (dir, links) = (scratch(), scratch());
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 50_000);
    store.put(&key, data.clone()).await.unwrap();
    let target = directory(links.path());
    let mut first = store.linkable(key.digest).await.unwrap().unwrap();
    let mut second = store.linkable(key.digest).await.unwrap().unwrap();
    let faults = store.shared.parts.disk.faults();
    for (errno, outcome) in [
        (rustix::io::Errno::MLINK, LinkOutcome::OutOfLinks),
        (rustix::io::Errno::XDEV, LinkOutcome::CrossDevice),
    ] {
        faults.fail(disk::Call::Link, 1, errno, disk::Lasting::Once);
        assert_eq!(first.link_at(target.as_fd(), "a").unwrap(), outcome);
    }
    first = first.renewed().await.unwrap().unwrap();
    assert_eq!(first.link_at(target.as_fd(), "a").unwrap(), LinkOutcome::Linked);
    // The other one follows to the inode that is there already.
    assert_eq!(second.link_at(target.as_fd(), "b").unwrap(), LinkOutcome::OutOfLinks);
    let copy = std::fs::File::create(links.path().join("copy")).unwrap();
    assert!(second.copy_to(&copy, CopyBy::Any).unwrap());
    assert_eq!(std::fs::read(links.path().join("copy")).unwrap(), data);
    second = second.renewed().await.unwrap().unwrap();
    assert_eq!(second.link_at(target.as_fd(), "b").unwrap(), LinkOutcome::Linked);
    assert_eq!(store.stats().renewals, 1);
    store.purge(PurgeScope::All).await.unwrap();
    assert_eq!(first.link_at(target.as_fd(), "c").unwrap(), LinkOutcome::Left);
    assert!(!first.copy_to(&copy, CopyBy::Any).unwrap());
    assert!(second.renewed().await.unwrap().is_none());
    drop((first, second));
    check(&store);
}

#[tokio::test]
async fn an_executable_has_seventy_thousand_links() {
    let (dir, links) = (scratch(), scratch());
    if rustix::fs::statfs(links.path()).unwrap().f_type != EXT4 {
        eprintln!("skipped: needs a directory on ext4, see CASTELLAN_TEST_DIR");
        return;
    }
    let store = open(dir.path(), 8 << 20).await;
    let (key, data) = blob(1, 9_000);
    store.put(&key, data.clone()).await.unwrap();
    let mut pinned = store.executable(key.digest).await.unwrap().unwrap();
    let target = directory(links.path());
    for number in 0..70_000 {
        let name = number.to_string();
        match pinned.link_at(target.as_fd(), &name).unwrap() {
            LinkOutcome::Linked => {}
            LinkOutcome::OutOfLinks => {
                pinned = pinned.renewed().await.unwrap().unwrap();
                let linked = pinned.link_at(target.as_fd(), &name).unwrap();
                assert_eq!(linked, LinkOutcome::Linked);
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(store.stats().renewals, 1);
    for name in ["0", "64998", "64999", "69999"] {
        let path = links.path().join(name);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o555);
        assert_eq!(std::fs::read(path).unwrap(), data);
    }
    drop(pinned);
    assert_eq!(read(&store, &key).await, Some(data));
    store.quiesce().await;
    check(&store);
}

/// `CASTELLAN_TEST_RUNS` is how often.
#[test]
fn fresh_links_are_run_at_once_while_others_start_processes() {
    const THREADS: u64 = 32;
    let runs = std::env::var("CASTELLAN_TEST_RUNS").ok().and_then(|it| it.parse::<u64>().ok());
    let each = runs.unwrap_or(640).div_ceil(THREADS);
    let program = std::fs::read("/bin/true").unwrap();
    let (dir, links) = (scratch(), scratch());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(open(dir.path(), 256 << 20));
    let target = directory(links.path());
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (program, runtime, store, target) = (&program, &runtime, &store, &target);
            let links = links.path();
            threads.spawn(move || {
                for run in 0..each {
                    // A program of its own bytes, whose variant is made now.
                    let number = thread * each + run;
                    let data = Bytes::from([program.as_slice(), &number.to_le_bytes()].concat());
                    let digest = Digest::of(DigestFunction::Sha256, &data);
                    let pinned = runtime.block_on(async {
                        store.put(&Key::blob(digest), data).await.unwrap();
                        store.pin_files(&[(digest, true)]).await.unwrap().pop().flatten()
                    });
                    let name = number.to_string();
                    let linked = pinned.unwrap().link_at(target.as_fd(), &name).unwrap();
                    assert_eq!(linked, LinkOutcome::Linked);
                    match std::process::Command::new(links.join(&name)).status() {
                        Ok(status) => assert!(status.success()),
                        // A file system that runs nothing.
                        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                        Err(error) => panic!("{error}"),
                    }
                    std::fs::remove_file(links.join(&name)).unwrap();
                }
            });
        }
    });
    runtime.block_on(store.quiesce());
    check(&store);
}

#[tokio::test]
async fn many_who_are_out_of_links_at_once_share_one_fresh_file() {
    let dir = scratch();
    let store = open(dir.path(), 32 << 20).await;
    let (key, data) = blob(1, 3_000_000);
    store.put(&key, data).await.unwrap();
    let mut pinned = Vec::new();
    for _ in 0..16 {
        pinned.push(store.linkable(key.digest).await.unwrap().unwrap());
        pinned.push(store.executable(key.digest).await.unwrap().unwrap());
    }
    let mut callers = tokio::task::JoinSet::new();
    for pinned in pinned {
        callers.spawn(async move { pinned.renewed().await.unwrap().unwrap() });
    }
    let fresh = callers.join_all().await;
    assert!(fresh.iter().all(|it| it.path().exists()));
    assert_eq!(store.stats().renewals, 1);
    assert_eq!(store.shared.renewals.len(), 0, "I22");
    drop(fresh);
    store.quiesce().await;
    check(&store);
}
